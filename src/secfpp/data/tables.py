"""A data set from a table of the user's: a row for each image, which says whose it is and what is on it.

Columns: ``path`` and ``label``; if wanted ``client`` (else images are dealt to simulated ones), ``domain`` (else each
client is its own), ``split`` (train, val or test; else images are split here) and ``group`` (a patient, an object: what
must not be on two sides of a split). Everything that can be wrong with the table is found before an image is opened.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from secfpp.data.catalog import DatasetSpec
from secfpp.data.collection import Collection, unread
from secfpp.data.federated import FederatedDataset
from secfpp.data.holdings import FEWEST, SPELLINGS, Holding, Part, Picture, class_name, other_spellings
from secfpp.data.own_images import OwnSettings, federated
from secfpp.data.rules import raise_all, range_rule, repeated
from secfpp.data.table_files import ENDINGS, Rows, read_rows
from secfpp.errors import DataWarning, Problem
from secfpp.image_names import is_image_name


@dataclass(frozen=True, kw_only=True)
class TableSettings(OwnSettings):
    """Which table, and how its images are shared out; the other settings are those of `OwnSettings`.

    Attributes:
        file: the table, .csv, .tsv or .parquet.
        root: the folder that paths in it are relative to; the table's own if empty.
        classes: the names of the classes, where labels are their numbers from 0; empty where labels are names.
    """

    file: str
    root: str = ""
    classes: tuple[str, ...] = ()

    def problems(self) -> list[Problem]:
        """All values that cannot work."""
        found = super().problems()
        if not self.file:
            found.append(Problem("data.file", self.file, "the table with the images"))
        for first, second in repeated(self.classes):
            allowed = f"classes {first} and {second} (from 0) have the same name: say in it what tells them apart"
            found.append(Problem("data.classes", self.classes[second], allowed))
        return found


def is_table(path: str | os.PathLike[str]) -> bool:
    """Whether a file is called like a table; folders may be called so too."""
    return Path(path).suffix.lower() in ENDINGS and not Path(path).expanduser().is_dir()


def load_table(source: str | os.PathLike[str] | TableSettings, seed: int = 0) -> FederatedDataset:
    """The federated data set that a table describes; the same for the same files, settings and seed.

    Args:
        source: the table, or settings.
        seed: of the split, where the table has none, and of the partition, where it names no clients.

    Raises:
        ConfigError: settings that cannot work.
        DataError: rows that cannot be used, a group in two parts, too few images or too many, or files that cannot be
            read; names table and line with the remedy.
        MissingExtraError: a table in Parquet, and the package that reads it is not installed.
    """
    settings = source if isinstance(source, TableSettings) else TableSettings(file=os.fspath(source))
    file = Path(settings.file).expanduser()
    table, holdings = _taken(file, settings, stacklevel=3)
    facts = {"table": file.name, "columns": ", ".join(table.columns)}
    return federated(file.stem, holdings, settings, seed, facts, settings.classes)


def table_holdings(settings: TableSettings) -> list[Holding]:
    """The pictures of each client of a table, or of each domain if it names no clients; errors as for `load_table`."""
    return _taken(Path(settings.file).expanduser(), settings, stacklevel=3)[1]


def _taken(file: Path, settings: TableSettings, stacklevel: int) -> tuple[Rows, list[Holding]]:
    table = read_rows(file)
    if table.ignored:
        warnings.warn(f"{file}: columns not used: {', '.join(table.ignored)}", DataWarning, stacklevel=stacklevel)
    root = Path(settings.root).expanduser() if settings.root else file.parent
    return table, _Reading(file, root, table, settings).take()


@dataclass
class _Reading:
    """Makes pictures of rows, and finds what is wrong with them."""

    file: Path
    root: Path
    table: Rows
    settings: TableSettings
    problems: list[str] = field(default_factory=list)

    def take(self) -> list[Holding]:
        """The pictures of each client, or of each domain yet to be dealt."""
        held: dict[tuple[str, str], list[Picture]] = {}
        first_path: dict[Path, str] = {}
        domain_of: dict[str, tuple[str, str]] = {}
        named: dict[str, list[tuple[str, str]]] = {"label": [], "client": [], "domain": []}
        for line, row in self.table.rows:
            place = f"{self.file}, {line}"
            before = len(self.problems)
            path, part = self._path(place, row["path"]), self._part(place, row)
            client, domain = (self._filled(place, row, column) for column in ("client", "domain"))
            label = self._label(place, row)
            if (known := first_path.setdefault(path, line)) != line:
                self.problems.append(f"{place}: the image {row['path']!r} a second time, see {known}: keep one")
            domain = domain or client or self.file.stem
            where, other = domain_of.setdefault(client, (line, domain))
            if client and other != domain:
                self.problems.append(
                    f"{place}: client {client!r} in domain {domain!r}, but in {other!r} in {where}: a client has one"
                )
            if len(self.problems) == before:
                held.setdefault((domain, client), []).append(Picture(path, label, part, row.get("group", "")))
                for column, name in (("label", label), ("client", client), ("domain", domain)):
                    named[column].append((name, place))
        for each in named.values():
            for place, first in other_spellings(each):
                self.problems.append(f"{place}: a name of {first} but for capitals: call them alike or apart")
        holdings = [
            Holding(self._whose(*key), *key, tuple(sorted(held[key], key=lambda picture: picture.path)))
            for key in sorted(held)
        ]
        self._enough(holdings)
        raise_all(self.problems)
        return holdings

    def _path(self, place: str, text: str) -> Path:
        path = self.root / text
        if not text:
            self.problems.append(f"{place}: no path: give that of an image, or remove the row")
        elif not is_image_name(path.name):
            self.problems.append(
                f"{place}: {path}: not called like an image that can be read: convert it, or remove it"
            )
        elif not path.is_file():
            self.problems.append(f"{place}: {path}: no such file: correct it, or set data.root to where they lie")
        return path

    def _part(self, place: str, row: Mapping[str, str]) -> Part | None:
        if "split" not in row:
            return None
        if (part := SPELLINGS.get(row["split"].lower())) is None:
            self.problems.append(f"{place}: split = {row['split']!r}: one of train, val and test in every row")
        return part

    def _filled(self, place: str, row: Mapping[str, str], column: str) -> str:
        """A value that all rows have, if the table has the column."""
        if row.get(column) == "":
            self.problems.append(f"{place}: no {column}, but the table has that column: fill it in, or leave it out")
        return row.get(column, "")

    def _label(self, place: str, row: Mapping[str, str]) -> str:
        text, classes = row["label"], self.settings.classes
        if not classes:
            if not (name := class_name(text)):
                self.problems.append(f"{place}: label = {text!r}: a name (underscores count as spaces)")
            return name
        if text.isdecimal() and int(text) < len(classes):
            return classes[int(text)]
        whose = f"client {row['client']!r}, " if row.get("client") else ""
        rule = range_rule(len(classes))
        self.problems.append(f"{place}: {whose}image {row['path']!r}, label = {text!r}: {rule} (data.classes)")
        return ""

    def _whose(self, domain: str, client: str) -> str:
        return f"{self.file}, " + (f"client {client!r}" if client else f"domain {domain!r}")

    def _enough(self, holdings: Sequence[Holding]) -> None:
        """Enough classes, and enough images of each where they are split one by one."""
        labels = {picture.label for holding in holdings for picture in holding.pictures}
        if len(labels) == 1:
            self.problems.append(f"{self.file}: one class only, so there is nothing to tell apart: add another")
        if not self.settings.classes and all(map(str.isdecimal, labels)):
            said = f"{self.file}: labels are numbers, of which a model knows nothing: name the classes in data.classes"
            warnings.warn(said, DataWarning, stacklevel=5)
        one_by_one = not {"split", "group"} & set(self.table.columns)
        for holding in holdings:
            classes, least = holding.by_class(), self.settings.min_classes
            if holding.client and len(classes) < least:
                self.problems.append(
                    f"{holding.place}: {len(classes)} of the {least} classes that each client needs at least: add "
                    f"images of others, remove the client, or set data.min_classes = {len(classes)}"
                )
            self.problems += [
                f"{holding.place}, class {label!r}: {len(pictures)} of the {FEWEST} images that a class needs, "
                "one each for training, validation and test: add some, remove the rows, or give the table a split"
                for label, pictures in classes.items()
                if one_by_one and len(pictures) < FEWEST
            ]


def survey_table(settings: TableSettings) -> Collection:
    """The images of a table before they are split, dealt or read; errors as for `load_table`."""
    return unread(Path(settings.file).stem, table_holdings(settings), settings.classes)


DATASETS = (
    DatasetSpec(
        "table",
        "your own images, in a table by client and class (CSV, Parquet)",
        TableSettings,
        load_table,
        survey_table,
    ),
)
