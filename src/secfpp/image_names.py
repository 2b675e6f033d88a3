"""Which files count as images: those whose ending belongs to a format that Pillow reads by itself."""

from __future__ import annotations

import os
from collections import Counter
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from secfpp.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

USUAL = ".jpg, .png, .tif, .webp and what else Pillow reads"
"""Endings, for messages."""
# Pillow knows these by name only, leaves their pixels to another program, or reads film.
_NOT_READ = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
_HEIF = {".heic", ".heics", ".heif", ".heifs", ".hif"}


@cache
def formats() -> tuple[str, ...]:
    """Names of the formats that are read, as Pillow calls them; those of ``secfpp[heif]`` if that is installed."""
    from PIL import Image

    if find_spec("pillow_heif") is not None:
        import_module("pillow_heif").register_heif_opener()
    Image.init()
    return tuple(sorted(set(Image.OPEN) - _NOT_READ))


@cache
def endings() -> frozenset[str]:
    """Endings of files that count as images, lower case, with the dot."""
    from PIL import Image

    read = {*formats(), "MPO"}  # several JPEGs in one file, opened by the format JPEG
    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in read)


def is_image_name(name: str) -> bool:
    """Whether a file of this name counts as an image: known ending, not hidden."""
    return not name.startswith(".") and Path(name).suffix.lower() in endings()


def find_images(path: Path) -> tuple[list[Path], Counter[str]]:
    """The image file `path`, or all image files below the folder `path`, sorted; and what else lies there, by ending.

    Hidden files and folders and links to folders do not count.

    Raises:
        DataError: there is no such file, or no image in the folder.
    """
    if path.is_file():
        return [path], Counter()
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    found, others = list[Path](), Counter[str]()
    for folder, inner, files in os.walk(path):
        inner[:] = [name for name in inner if not name.startswith(".")]
        found += [Path(folder, name) for name in files if is_image_name(name)]
        others.update(ending_of(name) for name in files if not name.startswith(".") and not is_image_name(name))
    if not found:
        there = f", but {counted(others)}" if others else ""
        raise DataError(f"{path}: no image in this folder (names that end in {USUAL}){there}")
    return sorted(found), others


def ending_of(name: str) -> str:
    """The ending by which a file that is no image is counted."""
    return Path(name).suffix.lower() or "without ending"


def counted(others: Mapping[str, int]) -> str:
    """Text such as ``41 .heic, 2 .txt``, the most frequent first, with what would make them readable."""
    listed = ", ".join(f"{n} {ending}" for ending, n in sorted(others.items(), key=lambda item: (-item[1], item[0])))
    return listed + (" (pip install 'secfpp[heif]' to read .heic)" if _HEIF & others.keys() else "")


def passed_over(others: Mapping[str, int]) -> str:
    """What a user is told of files that are no images; empty if there are none."""
    return f"files passed over, not images that can be read here: {counted(others)}" if others else ""
