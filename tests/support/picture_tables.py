"""Tables of small PNG files, as users have them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

from support.picture_folders import COLOURS, picture

Row = dict[str, str]


def rows_of(
    root: Path,
    clients: Sequence[str] = ("north", "south"),
    labels: Sequence[str] = ("cat", "dog"),
    images: int = 6,
    **columns: str,
) -> list[Row]:
    """A row for each of `images` images of each class of each client, written below `root`, all of other colours.

    `columns` are further ones; their values may name ``{client}``, ``{label}`` and ``{i}``.
    """
    rows = []
    for number, client in enumerate(clients):
        for label in labels:
            for i in range(images):
                path = f"images/{client}-{label}-{i:02d}.png"
                picture(
                    root / path, [min(255, value + i + 60 * number // 2) for value in COLOURS.get(label, (90, 90, 90))]
                )
                named = {"client": client, "label": label, "i": i}
                more = {column: value.format(**named) for column, value in columns.items()}
                rows.append({"path": path, "label": label, "client": client, **more})
    return rows


def write_table(file: Path, rows: Iterable[Row], separator: str = ",") -> Path:
    """Write rows as text; the first one's columns are the table's."""
    listed = list(rows)
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, list(listed[0]), delimiter=separator)
        writer.writeheader()
        writer.writerows(listed)
    return file
