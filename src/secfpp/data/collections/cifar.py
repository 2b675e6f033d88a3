"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009) in their makers' version for Python: pickles, which are not run.

Images stay at their 32 pixels; the model's own processing enlarges and normalises them, with its own statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from secfpp.data.collection import Collection, CollectionSettings, Listed, collected, dataset_of
from secfpp.data.holdings import Part, Picture
from secfpp.data.plain_pickle import read_plain_pickle
from secfpp.errors import DataError

SIDE = 32


@dataclass(frozen=True)
class Version:
    """Where one of the two lies: its folder, files by part, the file and key of its names, the key of labels."""

    name: str
    folder: str
    files: dict[str, Part]
    meta: str
    names: str
    labels: str
    n_classes: int


VERSIONS = (
    Version(
        "cifar10",
        "cifar-10-batches-py",
        {**{f"data_batch_{i}": "train" for i in range(1, 6)}, "test_batch": "test"},
        "batches.meta",
        "label_names",
        "labels",
        10,
    ),
    Version(
        "cifar100",
        "cifar-100-python",
        {"train": "train", "test": "test"},
        "meta",
        "fine_label_names",
        "fine_labels",
        100,
    ),
)


@dataclass(frozen=True, kw_only=True)
class CifarSettings(CollectionSettings):
    """Settings of CIFAR; the other settings are those of `CollectionSettings`.

    Attributes:
        size: side in pixels that images are brought to; the model enlarges them.
        validation: share of each class's training images for validation.
    """

    size: int = SIDE
    validation: float = 0.1


@dataclass(frozen=True)
class Row:
    """An image in a file of CIFAR."""

    file: Path
    number: int
    pixels: np.ndarray = field(compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.file}, image {self.number} (from 0)"

    def content(self) -> np.ndarray:
        """Its pixels, uint8 [32, 32, 3]."""
        return self.pixels


def reader(version: Version) -> Callable[[CifarSettings], Collection]:
    """What reads one of the two."""

    def read(settings: CifarSettings) -> Collection:
        folder = settings.folder(version.folder)
        names = _names(folder / version.meta, version)
        listed: list[Listed] = []
        for name, part in version.files.items():
            file = folder / name
            images, labels = _images(file, version)
            listed += [
                Listed(
                    f"{file}, image {i}",
                    Picture(file, names[label], part, stored=Row(file, i, image)),
                    label,
                    version.name,
                )
                for i, (image, label) in enumerate(zip(images, labels, strict=True))
            ]
        return collected(version.name, listed, classes=names)

    return read


def _names(file: Path, version: Version) -> list[str]:
    table = _table(file, version.names)
    names = table[version.names]
    if (
        not isinstance(names, list)
        or len(names) != version.n_classes
        or not all(isinstance(name, str) and name for name in names)
    ):
        raise DataError(f"{file}: {version.names} are not {version.n_classes} names: get {version.folder} again")
    return names


def _images(file: Path, version: Version) -> tuple[np.ndarray, list[int]]:
    """Images uint8 [n, 32, 32, 3] and labels of one file."""
    table = _table(file, "data", version.labels)
    data, labels = table["data"], table[version.labels]
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape != (len(labels), 3 * SIDE**2):
        what = f"{data.dtype} of shape {data.shape}" if isinstance(data, np.ndarray) else type(data).__name__
        raise DataError(f"{file}: data are {what}, not uint8 of {len(labels)} x {3 * SIDE**2}: get it again")
    for i, label in enumerate(labels):
        if not isinstance(label, int) or not 0 <= label < version.n_classes:
            raise DataError(f"{file}, image {i}: label {label!r}, not a number from 0 to {version.n_classes - 1}")
    return data.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1), labels


def _table(file: Path, *keys: str) -> dict[str, Any]:
    """The dict in a file, by keys that may have been written as bytes."""
    table = read_plain_pickle(file)
    if not isinstance(table, dict):
        raise DataError(f"{file}: holds {type(table).__name__}, not a dict: get it again")
    found = {key.decode("latin-1") if isinstance(key, bytes) else key: value for key, value in table.items()}
    if missing := [key for key in keys if not hasattr(found.get(key), "__len__")]:
        raise DataError(f"{file}: no {' and no '.join(missing)} in it, but {sorted(map(str, found))}: get it again")
    return found


DATASETS = tuple(
    dataset_of(
        version.name,
        f"photos of {version.n_classes} classes, 32 pixels, in {version.folder}/ below data_root",
        CifarSettings,
        reader(version),
    )
    for version in VERSIONS
)
