"""Data sets in the formats of Hugging Face: a folder or a Parquet file on this disk, or a name of the hub.

Read with `datasets` (``secfpp[data]``). Without ``download = true`` nothing is fetched: of the hub only what is in its
cache already. Images stay encoded where they lie until they are needed.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from secfpp.cachedir import sub_cache
from secfpp.data.collection import ROOT_VARIABLE, Collection, CollectionSettings, Listed, collected, dataset_of
from secfpp.data.holdings import SPELLINGS, Part, Picture
from secfpp.errors import DataError, DataWarning, MissingExtraError, Problem
from secfpp.image_names import find_images


@dataclass(frozen=True, kw_only=True)
class HuggingFaceSettings(CollectionSettings):
    """Which data set, and which of its columns; the other settings are those of `CollectionSettings`.

    Attributes:
        dataset: a folder or a Parquet file, from here or below `data_root`; or a name of the hub.
        config: of a data set that has several.
        revision: of a data set of the hub, a branch, tag or commit.
        image: the column of images; the only one if empty.
        label: the column of classes, names or numbers; the only one with named numbers if empty.
        domain: the column of domains; all are of one if empty.
        classes: the names of the classes in order, where labels are numbers without names.
        download: whether to fetch from the hub what is not on this disk.
    """

    dataset: str
    config: str = ""
    revision: str = ""
    image: str = ""
    label: str = ""
    domain: str = ""
    classes: tuple[str, ...] = ()
    download: bool = False

    def problems(self) -> list[Problem]:
        """All values that cannot work."""
        empty = [] if self.dataset else [Problem("data.dataset", "", "a folder, a Parquet file, or a name of the hub")]
        return super().problems() + empty

    def place(self) -> Path | None:
        """What `dataset` is on this disk, if it is there."""
        roots = ["", os.environ.get(ROOT_VARIABLE) or self.data_root]
        paths = [Path(root).expanduser() / Path(self.dataset).expanduser() for root in dict.fromkeys(roots)]
        return next((path for path in paths if path.exists()), None)


@dataclass(frozen=True)
class Cell:
    """An encoded image in a column of a table."""

    place: str
    row: int
    column: Any = field(compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.place}, row {self.row} (from 0)"

    def content(self) -> bytes:
        """The content of the image file.

        Raises:
            DataError: there is none.
        """
        cell = self.column[self.row]
        if cell and cell["bytes"]:
            return bytes(cell["bytes"])
        if not cell or not cell["path"]:
            raise DataError("no image in it")
        try:
            return Path(cell["path"]).read_bytes()
        except OSError as error:
            raise DataError(f"{cell['path']}: {error.strerror}") from error


def read(settings: HuggingFaceSettings) -> Collection:
    """The images of all splits that are called like parts.

    Raises:
        MissingExtraError: `datasets` is not installed.
        DataError: no such data set, columns that are not there or cannot be told apart, or labels without a name.
    """
    splits = _splits(settings)
    place = settings.place() or Path(settings.dataset)
    listed: list[tuple[Cell, str, Part | None, str]] = []
    order: list[str] = []
    for name, table in splits.items():
        whose = f"{settings.dataset}, {name}"
        image = _column(whose, table, "image", settings.image, "Image")
        label = _column(whose, table, "label", settings.label, "ClassLabel")
        domains = table[settings.domain] if settings.domain and _has(whose, table, settings.domain) else None
        encoded = table.cast_column(image, importlib.import_module("datasets").Image(decode=False))[image]
        part: Part | None = None if len(splits) == 1 else SPELLINGS[name.lower()]
        known = settings.classes or getattr(table.features[label], "names", ())
        labels = _labels(whose, table[label], label, known)
        order += known
        for row, named in enumerate(labels):
            domain = place.stem if domains is None else str(domains[row])
            listed.append((Cell(whose, row, encoded), named, part, domain))
    number = {label: i for i, label in enumerate(dict.fromkeys(order or sorted({named for _, named, _, _ in listed})))}
    return collected(
        place.stem,
        [
            Listed(str(cell), Picture(place, named, part, stored=cell), number[named], domain)
            for cell, named, part, domain in listed
        ],
        classes=list(number),
        facts={"data set": settings.dataset, "splits": ", ".join(splits)},
    )


def _splits(settings: HuggingFaceSettings) -> Mapping[str, Any]:
    """Table by split, of those that are called like parts."""
    try:
        library = importlib.import_module("datasets")
    except ImportError as error:
        raise MissingExtraError("the data set 'huggingface'", "data") from error
    place = settings.place()
    try:
        with _offline(library, settings.download and place is None):
            loaded = _loaded(library, settings, place)
    except (ConnectionError, FileNotFoundError) as error:
        raise DataError(
            f"{settings.dataset}: neither on this disk nor in the cache of Hugging Face ({error}): correct "
            "data.dataset, or allow data.download = true"
        ) from error
    except Exception as error:  # the library raises whatever it stumbles over
        raise DataError(f"{settings.dataset}: cannot be read as a data set: {type(error).__name__}: {error}") from error
    found = dict(loaded) if isinstance(loaded, Mapping) else {"train": loaded}
    if place is not None:
        _require_all_images(place, sum(map(len, found.values())))
    others = [name for name in found if name.lower() not in SPELLINGS]
    known = {name: table for name, table in found.items() if name not in others and len(table)}
    if not known:
        raise DataError(f"{settings.dataset}: splits {', '.join(found) or 'none'}, but no train, validation or test")
    if others:
        warnings.warn(f"{settings.dataset}: splits not used: {', '.join(others)}", DataWarning, stacklevel=4)
    return known


def _require_all_images(place: Path, rows: int) -> None:
    """Refuse a folder of which the library left images out: it takes a class ``train`` or ``test_tube`` for a split.

    Raises:
        DataError: names the folder, and what reads it.
    """
    try:
        images = len(find_images(place)[0]) if place.is_dir() else 0
    except DataError:  # no image: tables of encoded ones
        return
    if images > rows:
        raise DataError(
            f"{place}: only {rows} of its {images} images were found: folders whose names hold train, test, validation "
            'or the like are taken for splits; read it with name = "folder", which takes them as they are'
        )


def _loaded(library: Any, settings: HuggingFaceSettings, place: Path | None) -> Any:
    if place is None:
        return library.load_dataset(settings.dataset, settings.config or None, revision=settings.revision or None)
    if (place / "dataset_dict.json").is_file() or (place / "state.json").is_file():
        return library.load_from_disk(str(place))
    cache = str(sub_cache("images"))
    if place.is_file():
        return library.load_dataset("parquet", data_files={"train": str(place)}, cache_dir=cache)
    return library.load_dataset(str(place.absolute()), settings.config or None, cache_dir=cache)


@contextmanager
def _offline(library: Any, download: bool) -> Iterator[None]:
    """Nothing reaches the network in the ``with`` block, unless asked for; nor is its progress drawn."""
    before, shown = library.config.HF_HUB_OFFLINE, library.is_progress_bar_enabled()
    library.config.HF_HUB_OFFLINE = before or not download
    library.disable_progress_bars()
    try:
        yield
    finally:
        library.config.HF_HUB_OFFLINE = before
        if shown:
            library.enable_progress_bars()


def _has(place: str, table: Any, column: str) -> bool:
    if column not in table.column_names:
        raise DataError(f"{place}: no column {column!r}; it has {', '.join(table.column_names)}")
    return True


def _column(place: str, table: Any, what: str, named: str, kind: str) -> str:
    """The column that is named, or the only one of a kind."""
    if named and _has(place, table, named):
        return named
    found: list[str] = [name for name, feature in table.features.items() if type(feature).__name__ == kind]
    if len(found) != 1:
        raise DataError(
            f"{place}: {', '.join(found) or 'no column'} could be the {what}: say it in data.{what}; it has "
            f"{', '.join(table.column_names)}"
        )
    return found[0]


def _labels(place: str, values: Sequence[object], column: str, known: Sequence[str]) -> list[str]:
    """The name of each row's class.

    Raises:
        DataError: a number without a name, or no value.
    """
    found: list[str] = []
    for row, value in enumerate(values):
        if isinstance(value, str) and value.strip() and not known:
            found.append(value)
        elif isinstance(value, int) and 0 <= value < len(known):
            found.append(known[value])
        else:
            names = f"{len(known)} names" if known else "no names: give them in order in data.classes"
            raise DataError(f"{place}, row {row} (from 0): {column} = {value!r}, of which there are {names}")
    return found


DATASETS = (
    dataset_of(
        "huggingface",
        "a data set in a format of Hugging Face, on this disk or of the hub (secfpp[data])",
        HuggingFaceSettings,
        read,
    ),
)
