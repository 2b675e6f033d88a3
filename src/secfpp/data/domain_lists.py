"""Collections of several domains whose images are listed by files, one for each domain and part.

The lists are those of FedBN (Li et al., 2021), ``{domain}_{train,test}.pkl`` with paths and class names, or the ones of
DomainNet itself (Peng et al., 2019), ``{domain}_{train,test}.txt`` with lines ``domain/class/image.jpg number``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from secfpp.data.collection import Collection, CollectionSettings, Listed, collected, disagreements
from secfpp.data.holdings import Part, Picture, class_name
from secfpp.data.plain_pickle import read_plain_pickle
from secfpp.data.rules import raise_all, repeated
from secfpp.errors import DataError, Problem

LISTS: dict[str, Part] = {"train": "train", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class DomainSettings(CollectionSettings):
    """Settings of a collection of domains; the other settings are those of `CollectionSettings`.

    Attributes:
        domains: that are used.
        classes: that are used, in the order in which they are numbered; all if empty.
    """

    domains: tuple[str, ...]
    classes: tuple[str, ...] = ()

    def problems(self) -> list[Problem]:
        """All values that cannot work."""
        found = super().problems()
        if not self.domains or any(repeated(self.domains)):
            found.append(Problem("data.domains", self.domains, "name at least one domain, none twice"))
        if any(repeated([class_name(name) for name in self.classes])) or len(self.classes) == 1:
            found.append(Problem("data.classes", self.classes, "two or more, none twice; empty for all"))
        return found


@dataclass(frozen=True)
class Entry:
    """A line of a list: where it stands, the image with its class, and its number (None if the list has none)."""

    place: str
    picture: Picture
    number: int | None


def listed_by_files(folder: Path, domain: str) -> list[Entry] | None:
    """The entries of both lists of a domain; None where it has none.

    Raises:
        DataError: one list without the other, or one that is not as it should be.
    """
    for ending, read in ((".pkl", _pickled), (".txt", _lines)):
        files = {part: folder / f"{domain}_{name}{ending}" for name, part in LISTS.items()}
        there = [file for file in files.values() if file.is_file()]
        if len(there) == 1:
            (missing,) = set(files.values()) - set(there)
            raise DataError(f"{missing}: no such file, but {there[0].name} is there: complete the collection")
        if there:
            return [entry for part, file in files.items() for entry in read(file, folder, domain, part)]
    return None


def chosen(name: str, folder: Path, entries: Mapping[str, Sequence[Entry]], settings: DomainSettings) -> Collection:
    """The collection of the classes that are wanted.

    Args:
        name: of the collection.
        folder: where it lies, for messages.
        entries: of each domain.
        settings: which classes.

    Raises:
        DataError: a class of which no domain has an image; what `secfpp.data.collection.collected` refuses.
    """
    everything = [entry for own in entries.values() for entry in own]
    numbered = [(e.place, e.number, class_name(e.picture.label)) for e in everything if e.number is not None]
    raise_all(list(disagreements(numbered)))
    known = sorted({class_name(entry.picture.label) for entry in everything})
    wanted = [class_name(each) for each in settings.classes] or known
    if strange := sorted(set(wanted) - set(known)):
        raise DataError(f"{folder}: no image of {', '.join(strange)} (data.classes); known are {', '.join(known)}")
    number = {label: i for i, label in enumerate(wanted)}
    listed = [
        Listed(entry.place, entry.picture, number[label], domain)
        for domain, own in entries.items()
        for entry in own
        if (label := class_name(entry.picture.label)) in number
    ]
    return collected(name, listed, classes=wanted)


def _pickled(file: Path, folder: Path, domain: str, part: Part) -> list[Entry]:
    held = read_plain_pickle(file)
    if not hasattr(held, "__len__") or len(held) != 2 or isinstance(held, (str, bytes, dict)):
        raise DataError(f"{file}: holds {type(held).__name__}, not paths and class names: get it again")
    paths, names = (_texts(file, each) for each in held)
    if len(paths) != len(names):
        raise DataError(f"{file}: {len(paths)} paths but {len(names)} class names: get it again")
    places = [f"{file}, entry {at} (from 0)" for at in range(len(paths))]
    return _entries(folder, domain, part, places, paths, names, [None] * len(paths))


def _texts(file: Path, values: Any) -> list[str]:
    found = [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in values]
    if wrong := [value for value in found if not isinstance(value, str)]:
        raise DataError(f"{file}: {wrong[0]!r} among paths and class names, which are texts: get it again")
    return [str(value) for value in found]


def _lines(file: Path, folder: Path, domain: str, part: Part) -> list[Entry]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read ({error}): get it again") from error
    rows = [(f"{file}, line {at}", *line.rpartition(" ")[::2]) for at, line in enumerate(lines, 1) if line.strip()]
    raise_all(
        [
            f"{place}: {path!r} and {number!r}: should be domain/class/image and a number"
            for place, path, number in rows
            if not number.isdecimal() or len(PurePosixPath(path).parts) < 3
        ]
    )
    places, paths, numbers = ([row[i] for row in rows] for i in range(3))
    names = [PurePosixPath(path).parts[-2] for path in paths]
    return _entries(folder, domain, part, places, paths, names, [int(number) for number in numbers])


def _entries(
    folder: Path,
    domain: str,
    part: Part,
    places: Sequence[str],
    paths: Sequence[str],
    names: Sequence[str],
    numbers: Sequence[int | None],
) -> list[Entry]:
    """Entries of one list, whose paths may begin anywhere above the domain's folder.

    Raises:
        DataError: a path without the domain in it, or whose folder is that of another class than the list says.
    """
    problems: list[str] = []
    found: list[Entry] = []
    for place, path, name, number in zip(places, paths, names, numbers, strict=True):
        parts = PurePosixPath(path).parts
        below = parts[len(parts) - 1 - parts[::-1].index(domain) :] if domain in parts else ()
        if len(below) < 3 or ".." in below:
            problems.append(f"{place}: {path}: no path of the form {domain}/class/image: correct it")
        elif class_name(below[-2]) != class_name(name):
            problems.append(f"{place}: {path} is called {name!r}, but lies in {below[-2]}: get the list again")
        else:
            found.append(Entry(place, Picture(folder.joinpath(*below), name, part), number))
    raise_all(problems)
    return found
