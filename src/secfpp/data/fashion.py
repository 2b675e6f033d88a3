"""Fashion-MNIST: 70,000 pictures of ten kinds of clothing, as Debian's package dataset-fashion-mnist installs them.

One source, so that clients differ in who has which classes and in nothing else. Training and validation images are from
the 60,000 of the training files, test images from the 10,000 of the test files, as its makers split them (Xiao, Rasul
and Vollgraf, arXiv 1708.07747).
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from secfpp.data.catalog import DatasetSpec
from secfpp.data.federated import FederatedDataset
from secfpp.data.sources import SourceSettings, choose, share_out
from secfpp.errors import DataError, Problem
from secfpp.seeding import derive

CLASSES = ("t shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
"""In the order of the files' labels."""
SIDE = 28
"""Side in pixels of the pictures."""
PACKAGE = "dataset-fashion-mnist"
FILES = {"train": "train", "test": "t10k"}
_UNSIGNED_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class FashionSettings(SourceSettings):
    """Settings of Fashion-MNIST; there are 6,000 training and 1,000 test images of a class.

    Attributes:
        root: the folder with the four files, gzipped or not.
        shots: training images per class.
        validation_shots: validation images per class, other ones of the training file.
        test_shots: test images per class.
        clients_per_domain: clients.
        label_shift: of no use here; a single source has nobody to differ from.
    """

    root: str = "/usr/share/datasets/fashion-mnist"
    shots: int = 500
    validation_shots: int = 100
    test_shots: int = 100
    clients_per_domain: int = 20

    def problems(self) -> list[Problem]:
        """All values that cannot work."""
        found = super().problems()
        if self.label_shift:
            found.append(Problem("data.label_shift", self.label_shift, "there is one source here: leave it at 0"))
        return found


def load_fashion(settings: FashionSettings, seed: int) -> FederatedDataset:
    """The federated data set of one seed.

    Raises:
        DataError: the package is not installed, a file is not as it should be, or too few images for the settings.
    """
    root = Path(settings.root).expanduser()
    pictures: dict[str, np.ndarray] = {}
    facts: dict[str, object] = {}
    for side, name in FILES.items():
        images = read_idx(root, f"{name}-images-idx3-ubyte", (SIDE, SIDE))
        labels = read_idx(root, f"{name}-labels-idx1-ubyte", ())
        if len(images) != len(labels) or labels.max(initial=0) >= len(CLASSES):
            raise DataError(
                f"{root}: {len(images)} images and {len(labels)} labels up to {labels.max(initial=0)} of {name!r}: "
                f"not Fashion-MNIST; reinstall {PACKAGE}"
            )
        facts[f"images for {side}"] = len(labels)
        wanted = {part: n for part, n in settings.images.items() if (part == "test") == (side == "test")}
        rows = choose(labels.astype(np.int64), CLASSES, wanted, f"{root}, {name}", derive(seed, "fashion", side))
        pictures |= {part: np.repeat(images[own][..., None], 3, axis=-1) for part, own in rows.items()}
    return share_out("fashion", CLASSES, {"fashion": pictures}, settings, seed, facts)


def read_idx(root: Path, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """What a file in the IDX format holds, uint8 [n, *shape].

    The format (LeCun, Cortes and Burges, MNIST): two zero bytes, the type of numbers, how many dimensions, each of
    these as four bytes, the most significant first, then the numbers.

    Args:
        root: the folder.
        name: of the file, which may end in ``.gz``.
        shape: of one item.

    Raises:
        DataError: no such file, or another content; names it.
    """
    file = next((f for f in (root / f"{name}.gz", root / name) if f.is_file()), None)
    if file is None:
        raise DataError(
            f"{root}: no {name}.gz there: apt-get install {PACKAGE}, or set data.root to the folder with the files"
        )
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{file}: {error}; reinstall {PACKAGE}") from error
    head = 4 + 4 * (1 + len(shape))
    sizes = tuple(int(size) for size in np.frombuffer(data[4:head], ">u4")) if len(data) >= head else ()
    right = data[:4] == bytes((0, 0, _UNSIGNED_BYTES, 1 + len(shape))) and sizes[1:] == shape
    if not sizes or not right or len(data) != head + sizes[0] * int(np.prod(shape)):
        raise DataError(f"{file}: not an IDX file of unsigned bytes {['n', *shape]}, or cut off; reinstall {PACKAGE}")
    return np.frombuffer(data, np.uint8, offset=head).reshape(sizes)


DATASETS = (
    DatasetSpec(
        "fashion",
        "70,000 pictures of clothing, as Debian's dataset-fashion-mnist installs them: one domain, many clients",
        FashionSettings,
        load_fashion,
    ),
)
