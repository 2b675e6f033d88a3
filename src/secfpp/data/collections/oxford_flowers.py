"""Oxford 102 Flowers (Nilsback and Zisserman, 2008); the labels of its images are in a file of MATLAB."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from secfpp.data.collection import Listed
from secfpp.data.coop_layout import CoopLayout, read_json
from secfpp.data.holdings import Picture
from secfpp.errors import DataError


def unsplit(folder: Path, domain: str) -> list[Listed]:
    """``jpg/image_00001.jpg`` and so on, with labels from ``imagelabels.mat`` and names from ``cat_to_name.json``.

    Raises:
        DataError: a file that is missing or damaged, or a label without a name.
    """
    file = folder / "imagelabels.mat"
    labels, names = _labels(file), read_json(folder / "cat_to_name.json")
    if nameless := sorted({int(label) for label in labels} - {int(key) for key in names if key.isdecimal()}):
        raise DataError(f"{folder / 'cat_to_name.json'}: no name for the labels {nameless} of {file}: get both again")
    return [
        Listed(
            f"{file}, label {at}",
            Picture(folder / "jpg" / f"image_{at:05d}.jpg", str(names[str(label)])),
            int(label),
            domain,
        )
        for at, label in enumerate(labels, 1)
    ]


def _labels(file: Path) -> np.ndarray:
    """The label of each image, from 1; int [n]."""
    from scipy.io import loadmat

    try:
        labels = np.asarray(loadmat(file, variable_names=["labels"])["labels"]).ravel()
    except OSError as error:
        raise DataError(f"{file}: {error.strerror or error}; it has the label of each image") from error
    except Exception as error:  # SciPy raises whatever it stumbles over in damaged bytes
        raise DataError(f"{file}: not a file of MATLAB with labels, or damaged ({error}): get it again") from error
    if not np.issubdtype(labels.dtype, np.number) or not len(labels) or (labels != np.floor(labels)).any():
        raise DataError(f"{file}: labels are {labels.dtype} of shape {labels.shape}, not whole numbers: get it again")
    return labels.astype(np.int64)


LAYOUT = CoopLayout(
    "oxford_flowers",
    "flowers of 102 classes",
    "oxford_flowers",
    "jpg",
    "split_zhou_OxfordFlowers.json",
    unsplit,
    "a photo of a flower called {}",
)
DATASETS = (LAYOUT.dataset(),)
