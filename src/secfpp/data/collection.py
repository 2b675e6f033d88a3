"""Labelled images before anybody holds them: what readers of collections give, and how clients are made of it.

A reader says which images there are, of which domain, class and part. Everything after that is the same for all of
them: a part that the collection lacks is split off, shots are drawn, clients are dealt, images are read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, TypeVar

from secfpp.data.catalog import DatasetSpec
from secfpp.data.federated import FederatedDataset
from secfpp.data.holdings import PARTS, Holding, Part, Picture, class_name, other_spellings
from secfpp.data.own_images import OwnSettings, federated
from secfpp.data.rules import raise_all
from secfpp.data.splits import split
from secfpp.errors import ConfigError, DataError, Problem

ROOT_VARIABLE = "SECFPP_DATA_ROOT"
"""The environment variable that says where collections lie on this machine; it comes before `data.data_root`."""
SPLIT_SEED = 0
"""Of parts that a collection does not come with: the same in every run, whatever its seed."""


@dataclass(frozen=True)
class Listed:
    """An image as a collection lists it.

    Attributes:
        place: where that is said, for messages.
        picture: the image, its class as the collection spells it.
        number: of the class, which decides the order of classes.
        domain: that it is of.
    """

    place: str
    picture: Picture
    number: int
    domain: str


@dataclass(frozen=True)
class Collection:
    """Labelled images that nobody holds yet.

    Attributes:
        name: of the collection.
        classes: names as a model reads them, in the collection's own order, in which they are numbered.
        holdings: the images of each domain, in order; clients have no names yet.
        template: a hand-written prompt, with ``{}`` for the class at its end.
        facts: for the report.
    """

    name: str
    classes: tuple[str, ...]
    holdings: tuple[Holding, ...]
    template: str = "a photo of a {}"
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CollectionSettings(OwnSettings):
    """Where a collection lies, and how its images are shared out; the other settings are those of `OwnSettings`.

    Attributes:
        data_root: the folder with all collections; ``--data-root`` and the variable SECFPP_DATA_ROOT come before it.
        validation: share of each class's images for validation, where the collection does not say; the same in every
            run.
        test: share for the test, likewise.
        validation_shots: most validation images per class and domain; 0 is all.
        test_shots: most test images per class and domain; 0 is all.
        memory_gib: most memory for images, in GiB; more are kept in a file of the cache.
        template: a hand-written prompt with ``{}`` for the class at its end; the collection's own if empty.
    """

    spills: ClassVar[bool] = True
    data_root: str = ""
    test: float = 0.3
    validation_shots: int = 0
    test_shots: int = 0
    template: str = ""

    @property
    def most(self) -> dict[Part, int]:
        """Most images of each part per class and domain; 0 is all."""
        return {"train": self.shots, "validation": self.validation_shots, "test": self.test_shots}

    def problems(self) -> list[Problem]:
        """All values that cannot work."""
        return super().problems() + [
            Problem(f"data.{name}", getattr(self, name), "must be at least 0")
            for name in ("validation_shots", "test_shots")
            if getattr(self, name) < 0
        ]

    def folder(self, *names: str) -> Path:
        """The first of these folders that is there, below the root.

        Raises:
            ConfigError: nothing says where collections lie.
            DataError: there is none of them.
        """
        given = os.environ.get(ROOT_VARIABLE) or self.data_root
        if not given:
            allowed = f"the folder that holds {names[0]}/: say it here, by --data-root, or in {ROOT_VARIABLE}"
            raise ConfigError([Problem("data.data_root", given, allowed)])
        root = Path(given).expanduser()
        for name in names:
            if (root / name).is_dir():
                return root / name
        there = f"no folder {' or '.join(names)}" if root.is_dir() else "no such folder"
        raise DataError(f"{root}: {there}: put the collection there, or correct --data-root, {ROOT_VARIABLE}")


S = TypeVar("S", bound=CollectionSettings)


def dataset_of(name: str, description: str, settings: type[S], read: Callable[[S], Collection]) -> DatasetSpec:
    """The row of a collection: its reader, and the federated data set that is made of what it gives."""

    def load(chosen: S, seed: int) -> FederatedDataset:
        return deal(read(chosen), chosen, seed)

    return DatasetSpec(name, description, settings, load, read)


def collected(
    name: str,
    listed: Sequence[Listed],
    template: str = "a photo of a {}",
    facts: Mapping[str, object] | None = None,
    classes: Sequence[str] = (),
) -> Collection:
    """A collection of what it lists, checked; no image is opened.

    Args:
        name: of the collection.
        listed: its images.
        template: a hand-written prompt.
        facts: for the report.
        classes: all names in order, where there could be some without an image.

    Raises:
        DataError: every image that is not there, or is listed twice; a number with two names and a name with two
            numbers; names that differ in capitals only; each with its place.
    """
    problems: list[str] = []
    first: dict[object, Listed] = {}
    held: dict[str, list[Picture]] = {}
    for each in listed:
        label, source = class_name(each.picture.label), each.picture.source
        if isinstance(source, Path) and not source.is_file():
            problems.append(f"{each.place}: {source}: no such file: complete the collection")
        if (twin := first.setdefault(source, each)) is not each:
            parts = " and ".join(dict.fromkeys(one.picture.part or "all images" for one in (twin, each)))
            problems.append(f"{each.place}: {source} a second time (in {parts}), see {twin.place}: keep one")
        held.setdefault(each.domain, []).append(replace(each.picture, label=label))
    numbered = [(each.place, each.number, class_name(each.picture.label)) for each in listed]
    problems += disagreements(numbered)
    by_number = [label for _, _, label in sorted(numbered, key=lambda row: row[1])]
    names = tuple(dict.fromkeys([class_name(each) for each in classes] or by_number))
    problems += [f"class {a}: the same as {b} but for capitals" for a, b in other_spellings([(c, c) for c in names])]
    raise_all(problems)
    holdings = tuple(Holding(f"{name}, {domain}", domain, "", tuple(own)) for domain, own in held.items())
    return Collection(name, names, holdings, template, facts or {})


def unread(name: str, holdings: Sequence[Holding], classes: Sequence[str] = ()) -> Collection:
    """Holdings of whatever kind as a collection; classes are those of their images, sorted, if not given."""
    labels = sorted({picture.label for holding in holdings for picture in holding.pictures})
    return Collection(name, tuple(classes or labels), tuple(holdings))


def disagreements(numbered: Iterable[tuple[str, int, str]]) -> Iterator[str]:
    """What is wrong with numbers and names of classes that are listed side by side, as rows (place, number, name)."""
    names: dict[int, str] = {}
    numbers: dict[str, int] = {}
    for place, number, name in numbered:
        known = names.setdefault(number, name), numbers.setdefault(name, number)
        if known != (name, number):
            yield (
                f"{place}: class {number} is {name!r}, but elsewhere class {number} is {known[0]!r} and {name!r} is "
                f"class {known[1]}: numbers and names disagree, get the list again"
            )


def with_parts(collection: Collection, validation: float, test: float) -> Collection:
    """The same with a part for each image; what the collection does not say is split off, the same in every run."""
    holdings = []
    for holding, parts in zip(
        collection.holdings, split(collection.holdings, validation, test, SPLIT_SEED), strict=True
    ):
        pictures = (replace(picture, part=part) for picture, part in zip(holding.pictures, parts, strict=True))
        holdings.append(replace(holding, pictures=tuple(pictures)))
    return replace(collection, holdings=tuple(holdings))


def deal(collection: Collection, settings: CollectionSettings, seed: int) -> FederatedDataset:
    """The federated data set of a collection.

    Args:
        collection: its images.
        settings: how to share them out.
        seed: of shots and dealing; not of parts.

    Raises:
        DataError: a class without images for training or test, and what `secfpp.data.own_images.federated` refuses.
    """
    parted = with_parts(collection, settings.validation, settings.test)
    require_classes(parted)
    chosen = replace(settings, template=settings.template or collection.template)
    return federated(collection.name, parted.holdings, chosen, seed, collection.facts, collection.classes)


def require_classes(collection: Collection) -> None:
    """Refuse classes that nobody could learn, or be tested on.

    Raises:
        DataError: names each class and part.
    """
    counts = count(collection)
    raise_all(
        [
            f"{collection.name}: class {label!r} has no image for {'training' if part == 'train' else 'the test'}: add "
            "some, or take the class out"
            for part in ("train", "test")
            for label in collection.classes
            if not counts[part].get(label)
        ]
    )


def count(collection: Collection) -> dict[Part, dict[str, int]]:
    """Images of each class in each part."""
    found: dict[Part, dict[str, int]] = {part: dict.fromkeys(collection.classes, 0) for part in PARTS}
    for holding in collection.holdings:
        for picture in holding.pictures:
            found[picture.part or "train"][picture.label] += 1
    return found
