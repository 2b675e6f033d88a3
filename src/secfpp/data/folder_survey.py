"""What lies in a folder of images, and everything that is wrong with it, before any image is opened."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from secfpp.errors import DataError
from secfpp.images import SUFFIXES, is_image_name

Layout = Literal["client/class", "domain/client/class", "domain/class", "class"]
FEWEST = 3
"""Images of a class: one each for training, validation and test."""
SHOWN = 10
"""Problems that one message names."""


@dataclass(frozen=True)
class Holding:
    """The images below one folder, by class: those of a client, or of a domain (`client` is empty) yet to be dealt."""

    folder: Path
    domain: str
    client: str
    images: dict[str, list[Path]]


def survey(root: Path, layout: Layout, min_classes: int = 2) -> tuple[list[Holding], int]:
    """Every client's or domain's images below `root`, and how many other files were passed over.

    Hidden files and folders do not count. Class names are folder names with underscores as spaces.

    Args:
        root: the top folder; may itself be a link.
        layout: what the levels of folders below it are.
        min_classes: fewest classes of a client.

    Raises:
        DataError: all that is wrong, at most `SHOWN` findings, each with its path and the remedy.
    """
    found = _Survey(layout, min_classes)
    return found.take(root), found.passed_over


@dataclass
class _Survey:
    """Reads the names of folders and files, and finds what is wrong with them."""

    layout: Layout
    min_classes: int
    problems: list[str] = field(default_factory=list)
    passed_over: int = 0

    def take(self, root: Path) -> list[Holding]:
        """See `survey`."""
        if not root.is_dir():
            raise DataError(f"data.root = {str(root)!r}: no such folder")
        holdings = list(self._holdings(root))
        if not holdings and not self.problems:
            levels = self.layout.upper()
            self.problems.append(f"{root}: no image; with layout {self.layout!r} they lie in {root}/{levels}/")
        self._one_spelling([(h.client or h.domain, h.folder) for h in holdings], "folders")
        self._one_spelling([(h.domain, h.folder.parent) for h in holdings if "/" in h.client], "domains")
        self._one_spelling([(name, h.folder / name) for h in holdings for name in h.images], "classes")
        if len({name for h in holdings for name in h.images}) == 1:
            self.problems.append(f"{root}: one class only, so there is nothing to tell apart: add another")
        if self.problems:
            more = f"; and {len(self.problems) - SHOWN} more problems" if len(self.problems) > SHOWN else ""
            raise DataError("\n".join(self.problems[:SHOWN]) + more)
        return holdings

    def _holdings(self, root: Path) -> Iterator[Holding]:
        if self.layout == "class":
            yield Holding(root, _name(root.resolve()), "", self._classes(root))
            return
        for first in self._folders(root):
            if self.layout == "domain/class":
                yield Holding(first, _name(first), "", self._classes(first))
            elif self.layout == "client/class":
                yield self._client(first, _name(first), _name(first))
            else:
                clients = self._folders(first)
                if not clients:
                    self.problems.append(f"{first}: no client folder in it: add some, or remove it")
                for second in clients:
                    yield self._client(second, _name(first), f"{_name(first)}/{_name(second)}")

    def _client(self, folder: Path, domain: str, client: str) -> Holding:
        images, least = self._classes(folder), self.min_classes
        if 0 < len(images) < least:
            self.problems.append(
                f"{folder}: a client with {len(images)} of the {least} classes that each needs at least: add images of "
                f"others, remove the client, or set data.min_classes = {len(images)}"
            )
        return Holding(folder, domain, client, images)

    def _classes(self, folder: Path) -> dict[str, list[Path]]:
        """Class name -> image files, of the class folders in `folder`."""
        found: dict[str, list[Path]] = {}
        for each in self._folders(folder):
            name = " ".join(_name(each).replace("_", " ").split())
            files = self._files(each)
            if not name or name in found:
                other = "not a name" if not name else "the same class as another folder beside it"
                self.problems.append(f"{each}: {other} (underscores count as spaces): rename the folder")
            elif not files:
                self.problems.append(f"{each}: no image ({', '.join(SUFFIXES)}): add some, or remove the folder")
            elif len(files) < FEWEST:
                self.problems.append(
                    f"{each}: {len(files)} of the {FEWEST} images that a class needs at least, one each for training, "
                    "validation and test: add some, or remove the folder"
                )
            else:
                found[name] = files
        if not found and not any(problem.startswith(str(folder)) for problem in self.problems):
            self.problems.append(f"{folder}: no class folder in it: add some, remove it, or set another data.layout")
        return found

    def _folders(self, folder: Path) -> list[Path]:
        entries = self._entries(folder)
        if loose := [path for path in entries if path.is_file() and is_image_name(path.name)]:
            self.problems.append(
                f"{loose[0]}: an image where layout {self.layout!r} expects folders: move it into one, or set "
                "another data.layout"
            )
        self.passed_over += sum(path.is_file() and not is_image_name(path.name) for path in entries)
        return [path for path in entries if path.is_dir()]

    def _files(self, folder: Path) -> list[Path]:
        files = []
        for path in self._entries(folder):
            if path.is_dir():
                self.problems.append(
                    f"{path}: a folder inside a class: move its images up, or set another data.layout than "
                    f"{self.layout!r}"
                )
            elif is_image_name(path.name):
                files.append(path)
            else:
                self.passed_over += 1
        return files

    def _entries(self, folder: Path) -> list[Path]:
        """What lies in a folder, sorted; hidden names left out, links and special files reported."""
        try:
            entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        except OSError as error:
            self.problems.append(f"{folder}: {error.strerror}: make it readable, or remove it")
            return []
        plain = []
        for path in entries:
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                self.problems.append(f"{path}: a link or special file: put the files themselves there")
            else:
                plain.append(path)
        return plain

    def _one_spelling(self, named: Sequence[tuple[str, Path]], what: str) -> None:
        """Names that differ in capitals only are most likely one, and a model cannot tell them apart."""
        first: dict[str, tuple[str, Path]] = {}
        for name, path in named:
            known, where = first.setdefault(name.casefold(), (name, path))
            if known != name or (what == "folders" and where != path):
                how = "but for capitals" if known != name else "but for how the disk writes accents"
                self.problems.append(f"{path}: the same as {where} {how}: call them alike or apart")


def _name(folder: Path) -> str:
    """The folder's name in composed Unicode: file systems differ in how they write accents."""
    return unicodedata.normalize("NFC", folder.name)
