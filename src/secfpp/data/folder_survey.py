"""What lies in a folder of images, and everything that is wrong with it, before any image is opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

from secfpp.data.holdings import FEWEST, SPELLINGS, Holding, Picture, class_name, composed, other_spellings
from secfpp.data.rules import raise_all
from secfpp.errors import DataError
from secfpp.image_names import USUAL, counted, ending_of, find_images, is_image_name, passed_over

Layout = Literal[
    "client/class",
    "domain/client/class",
    "domain/class",
    "class",
    "split/class",
    "split/client/class",
    "split/domain/class",
    "split/domain/client/class",
    "client/split/class",
    "domain/split/class",
    "domain/split/client/class",
    "domain/client/split/class",
]
"""The levels of folders below the top one."""


def survey(root: Path, layout: Layout, min_classes: int = 2) -> tuple[list[Holding], Counter[str]]:
    """Every client's or domain's images below `root`, and how many other files lie there, by ending.

    Hidden files and folders do not count. Class names are folder names with underscores as spaces.

    Args:
        root: the top folder; may itself be a link.
        layout: what the levels of folders below it are.
        min_classes: fewest classes of a client.

    Raises:
        DataError: all that is wrong, at most `secfpp.data.rules.SHOWN` findings, each with its path and the remedy.
    """
    found = _Survey(root, layout, min_classes)
    return found.take(), found.others


def guess_layout(root: Path) -> Layout:
    """The layout that the names and depth of folders suggest; of clients, where it could be clients or domains.

    Raises:
        DataError: no such folder, or no image in it.
    """
    images, _ = find_images(root)
    above = [path.relative_to(root).parts[:-1] for path in images]
    depth = min(4, max(map(len, above)))
    names = [{parts[level].lower() for parts in above if len(parts) > level} for level in range(depth)]
    split = [level for level, found in enumerate(names[:-1]) if found <= SPELLINGS.keys()][:1]
    kinds = {1: ["class"], 2: ["client", "class"]}.get(depth - len(split), ["domain", "client", "class"])
    for level in split:
        kinds = [*kinds[:level], "split", *kinds[level:]]
    return cast(Layout, "/".join(kinds))


@dataclass
class _Survey:
    """Reads the names of folders and files, and finds what is wrong with them."""

    root: Path
    layout: Layout
    min_classes: int
    problems: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    holdings: dict[tuple[str, str], Holding] = field(default_factory=dict)

    def take(self) -> list[Holding]:
        """See `survey`."""
        if not self.root.is_dir():
            raise DataError(f"data.root = {str(self.root)!r}: no such folder")
        levels = self.layout.split("/")
        self._walk(self.root, levels, {})
        found = [self.holdings[key] for key in sorted(self.holdings)]
        if not found and not self.problems:
            there = f"; {passed_over(self.others)}" if self.others else ""
            wanted = "/".join(map(str.upper, levels))
            self.problems.append(
                f"{self.root}: no image; with layout {self.layout!r} they lie in {self.root}/{wanted}/{there}"
            )
        for holding in found:
            self._enough_classes(holding)
        self._one_spelling([(h.client or h.domain, h.place) for h in found])
        self._one_spelling([(h.domain, h.place) for h in found if h.client not in ("", h.domain)])
        self._one_spelling([(p.label, str(p.path.parent)) for h in found for p in h.pictures])
        if len({p.label for h in found for p in h.pictures}) == 1:
            self.problems.append(f"{self.root}: one class only, so there is nothing to tell apart: add another")
        raise_all(self.problems)
        return found

    def _walk(self, folder: Path, levels: Sequence[str], above: dict[str, str]) -> None:
        """Take in what lies below `folder`, whose folders are of the level ``levels[0]``."""
        level, rest = levels[0], levels[1:]
        before = len(self.problems)
        folders = self._folders(folder)
        if "split" not in self.layout and self._are_parts(folders):
            better = "/".join([*self.layout.split("/")[: -len(levels)], "split", *(rest or ["class"])])
            self.problems.append(
                f"{folder}: folders {', '.join(each.name for each in folders)} where layout {self.layout!r} expects "
                f"those of a {level}: set data.layout = {better!r}, or another with 'split'"
            )
            return
        if not folders and folder != self.root and len(self.problems) == before:
            self.problems.append(f"{folder}: no {level} folder in it: add some, remove it, or set another data.layout")
        first: dict[str, Path] = {}
        for each in folders:
            name = _name(each, level)
            if not name or name in first:
                self.problems.append(f"{each}: {_misnamed(level, first.get(name))}")
                continue
            first[name] = each
            if level == "class":
                self._class(each, name, above)
            else:
                self._walk(each, rest, {**above, level: name, f"{level} folder": str(each)})

    def _class(self, folder: Path, label: str, above: dict[str, str]) -> None:
        before = self.others.copy()
        files = self._files(folder)
        part = above.get("split")
        if not files:
            there = f", but {counted(others)}" if (others := self.others - before) else ""
            self.problems.append(f"{folder}: no image ({USUAL}){there}: add some, or remove the folder")
            return
        if part is None and len(files) < FEWEST:
            self.problems.append(
                f"{folder}: {len(files)} of the {FEWEST} images that a class needs at least, one each for training, "
                "validation and test: add some, or remove the folder"
            )
            return
        client, domain = above.get("client", ""), above.get("domain", "")
        if client and domain:
            client = f"{domain}/{client}"
        place = above.get("client folder") or above.get("domain folder") or str(self.root)
        domain = domain or client or composed(self.root.resolve().name)
        key = (domain, client)
        held = self.holdings.get(key, Holding(place, domain, client, ()))
        pictures = (Picture(path, label, SPELLINGS[part] if part else None) for path in files)
        self.holdings[key] = Holding(held.place, domain, client, (*held.pictures, *pictures))

    def _enough_classes(self, holding: Holding) -> None:
        classes = len(holding.by_class())
        if holding.client and classes < self.min_classes:
            self.problems.append(
                f"{holding.place}: a client with {classes} of the {self.min_classes} classes that each needs at least: "
                f"add images of others, remove the client, or set data.min_classes = {classes}"
            )

    def _are_parts(self, folders: Sequence[Path]) -> bool:
        named = {SPELLINGS.get(each.name.lower()) for each in folders}
        return len(folders) > 1 and "train" in named and None not in named

    def _folders(self, folder: Path) -> list[Path]:
        entries = self._entries(folder)
        if loose := [path for path in entries if path.is_file() and is_image_name(path.name)]:
            self.problems.append(
                f"{loose[0]}: an image where layout {self.layout!r} expects folders: move it into one, or set "
                "another data.layout"
            )
        self.others.update(ending_of(p.name) for p in entries if p.is_file() and not is_image_name(p.name))
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
                self.others[ending_of(path.name)] += 1
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

    def _one_spelling(self, named: Sequence[tuple[str, str]]) -> None:
        for place, first in other_spellings(named):
            self.problems.append(f"{place}: the same as {first} but for capitals: call them alike or apart")


def _name(folder: Path, level: str) -> str:
    """The name that a folder gives to what is in it; empty if it gives none."""
    if level == "split":
        return SPELLINGS.get(folder.name.lower(), "")
    return class_name(folder.name) if level == "class" else composed(folder.name)


def _misnamed(level: str, twin: Path | None) -> str:
    """What is wrong with a folder that has no name of its own; `twin` is the one that has it."""
    if level == "split":
        what = "the same part as another folder beside it" if twin else "not one of train, val and test"
        return f"{what}: rename the folder"
    if level == "class":
        what = "the same class as another folder beside it" if twin else "not a name"
        return f"{what} (underscores count as spaces): rename the folder"
    return f"the same as {twin} but for how the disk writes accents: call them alike or apart"
