"""A look at a data set before anything is trained on it: broken files, empty classes, imbalance, near duplicates.

What would stop a run is a problem; what it would run in spite of is a remark.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from secfpp.data.collection import Collection
from secfpp.data.federated import FederatedDataset, Split
from secfpp.data.holdings import PARTS
from secfpp.data.near_duplicates import NEAR, difference_hashes, near_pairs
from secfpp.errors import DataError
from secfpp.image_names import find_images
from secfpp.images import ImageSource, read_small, to_square

SIDE = 32
"""Side in pixels at which images are compared."""
MOST_TWINS = 10_000
"""Pairs of images that look the same after which no more are looked for."""
UNEVEN = 10
"""Times as many training images of a class as of another from which on that is remarked."""


@dataclass(frozen=True)
class Twins:
    """Two images that look the same and stand, or may come to stand, on two sides of a split.

    Attributes:
        first: where one is.
        second: where the other is.
        labels: their classes.
        bits: of 128 in which their hashes differ.
    """

    first: str
    second: str
    labels: tuple[str, str]
    bits: int


@dataclass
class Findings:
    """What a look found.

    Attributes:
        classes: class -> part -> images; the part is ``open`` where nobody has split them yet.
        problems: what stops a run, each with its place.
        twins: images that look the same.
        told: what else is to be remarked.
    """

    classes: dict[str, dict[str, int]]
    problems: list[str] = field(default_factory=list)
    twins: list[Twins] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    @property
    def images(self) -> int:
        """How many there are."""
        return sum(sum(parts.values()) for parts in self.classes.values())

    @property
    def imbalance(self) -> float | None:
        """Training images of the largest class, as a multiple of the smallest one's; None if one has none."""
        counts = [parts.get("train", 0) + parts.get("open", 0) for parts in self.classes.values()]
        fewest = min(counts, default=0)
        return max(counts) / fewest if fewest else None

    @property
    def remarks(self) -> list[str]:
        """What a run would start in spite of."""
        found = []
        if (ratio := self.imbalance) is not None and ratio >= UNEVEN:
            found.append(f"classes are uneven: the largest has {ratio:.1f} times the training images of the smallest")
        if self.twins:
            found.append(
                f"{len(self.twins)} pairs of images look the same and are, or may come, on two sides of a split"
            )
        if crossed := [pair for pair in self.twins if pair.labels[0] != pair.labels[1]]:
            found.append(f"{len(crossed)} of these pairs are of two classes: one of the labels is wrong")
        return found + self.told


def look_at_files(collection: Collection, most: int = NEAR) -> Findings:
    """A look at images where they lie; every one is opened.

    Args:
        collection: the images.
        most: bits in which images that look the same differ at most.
    """
    pictures = [picture for holding in collection.holdings for picture in holding.pictures]
    sources: list[ImageSource] = [picture.source for picture in pictures]
    images, broken = read_small(sources, SIDE)
    numbers = np.array([PARTS.index(picture.part) if picture.part else -1 for picture in pictures])
    found = _compared(
        images,
        numbers,
        [picture.label for picture in pictures],
        [str(source) for source in sources],
        collection.classes,
        most,
        set(broken),
    )
    found.problems += broken.values()
    for label, parts in found.classes.items():
        if not sum(parts.values()):
            found.problems.append(f"{collection.name}: class {label!r} has no image: add some, or take it out")
        elif (numbers >= 0).all():
            given = {PARTS[number] for number in set(numbers.tolist())}
            found.problems += [
                f"{collection.name}: class {label!r} has no image for {'the test' if part == 'test' else 'training'}"
                for part in ("train", "test")
                if part in given and not parts.get(part)
            ]
    return found


def broken_images(root: Path) -> list[str]:
    """What is wrong with images below a folder, whatever its levels; nothing where there is no image."""
    try:
        files, _ = find_images(root)
    except DataError:
        return []
    return list(read_small(files, SIDE)[1].values())


def look_at_arrays(dataset: FederatedDataset, most: int = NEAR) -> Findings:
    """A look at a data set that is made, not read; arguments as for `look_at_files`."""
    splits: list[tuple[str, int, Split]] = [
        (f"client {client.name!r}, {part} image", PARTS.index(part), split)
        for client in (*dataset.clients, *dataset.newcomers)
        for part, split in (("train", client.train), ("validation", client.validation))
    ]
    splits += [(f"domain {domain!r}, test image", PARTS.index("test"), split) for domain, split in dataset.test.items()]
    small = [to_square(Image.fromarray(image), SIDE) for _, _, split in splits for image in split.images]
    images = np.stack(small) if small else np.zeros((0, SIDE, SIDE, 3), dtype=np.uint8)
    return _compared(
        images,
        np.repeat([part for _, part, _ in splits], [len(split) for _, _, split in splits]),
        [dataset.classes[label] for _, _, split in splits for label in split.labels],
        [f"{place} {i} (from 0)" for place, _, split in splits for i in range(len(split))],
        dataset.classes,
        most,
    )


def _compared(
    images: np.ndarray,
    parts: np.ndarray,
    labels: Sequence[str],
    places: Sequence[str],
    classes: Sequence[str],
    most: int,
    broken: frozenset[int] | set[int] = frozenset(),
) -> Findings:
    counts: dict[str, Counter[str]] = {label: Counter() for label in classes}
    for label, part in zip(labels, parts.tolist(), strict=True):
        counts[label][PARTS[part] if part >= 0 else "open"] += 1
    hashes, telling = difference_hashes(images)
    telling[sorted(broken)] = False
    twins = [
        Twins(places[a], places[b], (labels[a], labels[b]), bits)
        for a, b, bits in near_pairs(hashes, telling, parts, most)
    ]
    return Findings({label: dict(own) for label, own in counts.items()}, twins=sorted(twins, key=lambda t: t.bits))
