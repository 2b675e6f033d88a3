"""The pictures of one style of the icon benchmark: what they show, who holds them, what is tested."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from secfpp.data.conventions import Convention
from secfpp.data.dealing import PARTS as HELD
from secfpp.data.dealing import USUAL_MINIMUM
from secfpp.data.federated import ClientData, Split
from secfpp.data.glyphs import Glyph, rasterise
from secfpp.data.partitions.base import Held, Pool
from secfpp.data.pools import Drawings, DrawingSplit
from secfpp.data.styles import SIDE, render
from secfpp.paging import paged
from secfpp.seeding import Seed, derive
from secfpp.shelf import Shelf

if TYPE_CHECKING:
    from secfpp.data.icons import IconSettings

PARTS = ("train", "validation", "test")


class IconStyle:
    """One style's clients, and which concept each picture shows.

    Attributes:
        name: the style.
        labels: the label names.
        tables: the conventions that occur in it, by the style whose own each is.
        followed: the key in `tables` of each client's.
        tested: concepts of the test; a picture of one serves all conventions.
    """

    def __init__(
        self,
        name: str,
        labels: Sequence[str],
        tables: dict[str, Convention],
        followed: Sequence[str],
        settings: IconSettings,
        root: Seed,
    ) -> None:
        self.name, self.labels, self.settings, self.root = name, labels, settings, root
        self.names = [f"{name}-{i}" for i in range(len(followed))]
        self.followed = followed
        self.tables = {own: tables[own] for own in tables if own in followed}
        self.number = {own: f"c{i}" for i, own in enumerate(tables, start=1)}
        shots = {"train": settings.shots, "validation": settings.validation_shots, "test": settings.test_shots}
        self.target = {part: np.repeat(np.arange(len(labels), dtype=np.int64), n) for part, n in shots.items()}
        self.tested = list(dict.fromkeys(table[label] for table in self.tables.values() for label in labels))

    @cached_property
    def held(self) -> Held:
        """Which images each client holds, where clients of the style follow several conventions."""
        labels = {part: self.target[part] for part in HELD}
        shots = {"train": self.settings.shots, "validation": self.settings.validation_shots}
        minimum = {part: min(USUAL_MINIMUM, n) for part, n in shots.items()}
        seed = derive(self.root, "partition", self.name)
        pool = Pool(labels, len(self.labels), self.names, seed, self.settings.alpha, minimum)
        return self.settings.partition.split(pool)

    def render(self, split: DrawingSplit, part: str) -> np.ndarray:
        """Pictures uint8 [n, 48, 48, 3]: of each, a drawing of its concept at random, then a glyph of that."""
        drawings: dict[str, Drawings] = getattr(split, part)
        rng = derive(self.root, "glyphs", self.name, part).numpy()
        glyphs: list[Glyph] = []
        for concept in self._concepts(part):
            drawing = drawings[concept][rng.integers(len(drawings[concept]))]
            glyphs.append(drawing[rng.integers(len(drawing))])
        known = sorted(set(glyphs))
        masks = rasterise(known)
        row = {glyph: i for i, glyph in enumerate(known)}
        seed = derive(self.root, "render", self.name, part)
        return render(masks[[row[glyph] for glyph in glyphs]], self.name, seed, self.settings.style_strength)

    def size(self, part: str) -> int:
        """Bytes of the pictures of a part."""
        return len(self._concepts(part)) * SIDE**2 * 3

    def _concepts(self, part: str) -> list[str]:
        """What each picture of a part shows."""
        if part == "test":
            return [concept for concept in self.tested for _ in range(self.settings.test_shots)]
        if len(self.tables) == 1:
            table = next(iter(self.tables.values()))
            return [table[self.labels[label]] for label in self.target[part].tolist()]
        shown = [""] * len(self.target[part])
        for own, images in zip(self.followed, self.held[part], strict=True):
            for image in images:
                shown[image] = self.tables[own][self.labels[self.target[part][image]]]
        return shown

    def splits(self, images: dict[str, np.ndarray]) -> dict[str, Split]:
        """The style's images of each part, where all its clients follow one convention."""
        return {part: Split(images[f"{self.name}.{part}"], self.target[part]) for part in PARTS}

    def clients(self, images: dict[str, np.ndarray], shelf: Shelf) -> list[ClientData]:
        """The style's clients, each with its convention; their pictures are kept on the shelf."""
        found, total = [], sum(array.nbytes for array in images.values())
        for i, (name, own) in enumerate(zip(paged(self.names), self.followed, strict=True)):
            train, validation = (
                Split(
                    shelf.keep(images[f"{self.name}.{part}"][self.held[part][i]], total),
                    self.target[part][self.held[part][i]],
                )
                for part in HELD
            )
            found.append(ClientData(name, self._domain(own), train, validation, self.number[own]))
        return found

    def tests(self, images: dict[str, np.ndarray]) -> dict[str, Split]:
        """The style's test images as each of its conventions names them."""
        place = {concept: i for i, concept in enumerate(self.tested)}
        shots, target, found = self.settings.test_shots, self.target["test"], {}
        for own, table in self.tables.items():
            rows = np.array([place[table[label]] for label in self.labels])
            chosen = (rows[:, None] * shots + np.arange(shots)).ravel()
            found[self._domain(own)] = Split(images[f"{self.name}.test"][chosen], target)
        return found

    def _domain(self, own: str) -> str:
        return f"{self.name}/{self.number[own]}"
