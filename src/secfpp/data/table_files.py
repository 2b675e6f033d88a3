"""Rows of a table of images: CSV, with commas, semicolons or tabs between, or Parquet."""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from secfpp.data.holdings import composed
from secfpp.errors import DataError, MissingExtraError

COLUMNS = ("path", "label", "client", "domain", "split", "group")
"""The columns that mean something; the first two must be there."""
REQUIRED = COLUMNS[:2]
ENDINGS = (".csv", ".tsv", ".parquet")
_SEPARATORS = (",", ";", "\t")


@dataclass(frozen=True)
class Rows:
    """The content of a table.

    Attributes:
        columns: those of `COLUMNS` that it has.
        ignored: its other columns.
        rows: where each row stands (``line 7``), and its values by column, without blanks around them.
    """

    columns: tuple[str, ...]
    ignored: tuple[str, ...]
    rows: tuple[tuple[str, Mapping[str, str]], ...]


def read_rows(file: Path) -> Rows:
    """The rows of a table by the ending of its name.

    Raises:
        DataError: no such file, another kind of file, or a column missing; names the file and what it has.
        MissingExtraError: Parquet, and the package that reads it is not installed.
    """
    if not file.is_file():
        raise DataError(f"data.file = {str(file)!r}: no such file: give a table, {', '.join(ENDINGS)}")
    if file.suffix.lower() not in ENDINGS:
        raise DataError(f"{file}: not called like a table: its name must end in one of {', '.join(ENDINGS)}")
    names, rows = _parquet(file) if file.suffix.lower() == ".parquet" else _csv(file)
    known = [name.strip().lower() for name in names]
    if missing := [name for name in REQUIRED if name not in known]:
        raise DataError(
            f"{file}: no column {' and no column '.join(map(repr, missing))}; it has {', '.join(names) or 'none'}, and "
            f"the columns that are read are {', '.join(COLUMNS)}: rename those that are meant"
        )
    if double := [name for name in COLUMNS if known.count(name) > 1]:
        raise DataError(f"{file}: two columns {double[0]!r}: keep one")
    lacking = [name for name in COLUMNS if name not in known]
    for name, own in zip(names, known, strict=True):
        if own not in COLUMNS and (near := get_close_matches(own, lacking, n=1, cutoff=0.8)):
            raise DataError(
                f"{file}: the column {name!r} is not read: rename it if {near[0]!r} is meant, or else remove it"
            )
    found = tuple(
        (place, {name: _value(name, text) for name, text in zip(known, values, strict=True) if name in COLUMNS})
        for place, values in rows
    )
    if not found:
        raise DataError(f"{file}: no row below its head: add one for each image")
    ignored = tuple(name for name, own in zip(names, known, strict=True) if own not in COLUMNS)
    return Rows(tuple(name for name in COLUMNS if name in known), ignored, found)


def _value(column: str, text: str) -> str:
    """A value without blanks around it, in composed Unicode; paths are as the disk writes them."""
    return text.strip() if column == "path" else composed(text.strip())


def _csv(file: Path) -> tuple[list[str], Iterator[tuple[str, list[str]]]]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not text in UTF-8 ({error.reason} at byte {error.start}): save it as such") from error
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from error
    separator = max(_SEPARATORS, key=lambda each: sum(name in COLUMNS for name in _head(text, each)))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        names = next(reader, [])
        rows = [(f"line {reader.line_num}", values) for values in reader if any(map(str.strip, values))]
    except csv.Error as error:
        raise DataError(f"{file}, line {reader.line_num}: not a line of a table: {error}") from error
    for place, values in rows:
        if len(values) != len(names):
            raise DataError(
                f"{file}, {place}: {len(values)} values, but the head has {len(names)}: put values with "
                f"{separator!r} in them between quotes"
            )
    return names, iter(rows)


def _head(text: str, separator: str) -> list[str]:
    return [name.strip().strip('"').lower() for name in text.lstrip().partition("\n")[0].split(separator)]


def _parquet(file: Path) -> tuple[list[str], Iterator[tuple[str, list[str]]]]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingExtraError("a table in Parquet", "parquet") from error
    try:
        names = list(parquet.read_schema(file).names)
        read = dict.fromkeys(name for name in names if name.strip().lower() in COLUMNS)
        table = parquet.read_table(file, columns=list(read))
        columns = {name: table.column(name).to_pylist() for name in read}
    except (OSError, ValueError, KeyError) as error:  # what pyarrow raises for damaged files, under other names too
        raise DataError(f"{file}: not Parquet, or damaged: {error}") from error
    rows = (
        (f"row {i + 1}", [_text(columns[name][i]) if name in columns else "" for name in names])
        for i in range(table.num_rows)
    )
    return names, rows


def _text(value: object) -> str:
    """A value as CSV would have it; whole numbers that a missing value has made fractions are whole again."""
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
