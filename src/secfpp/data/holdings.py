"""Pictures on disk and whose they are, before any is opened: what surveys of folders and tables find."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from secfpp.images import ImageSource, Stored

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
SPELLINGS: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
"""How a part may be called, whatever the capitals."""
FEWEST = 3
"""Images of a class: one each for training, validation and test."""


@dataclass(frozen=True)
class Picture:
    """An image.

    Attributes:
        path: of its file, or of the one that it is stored in.
        label: name of its class.
        part: where the user put it; None leaves that to us.
        group: what it shares with others that must be on the same side of a split, such as a patient; may be empty.
        stored: where in that file, if it is no image file of its own.
    """

    path: Path
    label: str
    part: Part | None = None
    group: str = ""
    stored: Stored | None = None

    @property
    def source(self) -> ImageSource:
        """What it is read from."""
        return self.stored or self.path


@dataclass(frozen=True)
class Holding:
    """The pictures of a client, or of a domain (`client` is empty) that are yet to be dealt, sorted by path.

    Attributes:
        place: where they were found, for messages.
        domain: whose test images their client is measured on.
        client: its name.
        pictures: all of them, of any part.
    """

    place: str
    domain: str
    client: str
    pictures: tuple[Picture, ...]

    def by_class(self) -> dict[str, list[Picture]]:
        """Class -> its pictures, both in order."""
        found: dict[str, list[Picture]] = {}
        for picture in self.pictures:
            found.setdefault(picture.label, []).append(picture)
        return dict(sorted(found.items()))


def composed(name: str) -> str:
    """A name in composed Unicode: file systems and programs differ in how they write accents."""
    return unicodedata.normalize("NFC", name)


def class_name(text: str) -> str:
    """A class name as a model reads it: composed, underscores and runs of spaces as one space each."""
    return " ".join(composed(text).replace("_", " ").split())


def other_spellings(named: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Places of names that are those of others but for capitals: most likely one, and a model cannot tell them apart.

    Args:
        named: names, each with its place.

    Returns:
        Pairs of places: of the later name, and of the first.
    """
    first: dict[str, tuple[str, str]] = {}
    found: dict[str, tuple[str, str]] = {}
    for name, place in named:
        known, where = first.setdefault(name.casefold(), (name, place))
        if known != name:
            found.setdefault(name, (place, where))
    return list(found.values())
