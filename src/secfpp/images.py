"""Images of the user: found on disk, read, and brought to one square size.

Every reader brings an image to RGB, upright, its shorter side to `size` pixels, the middle cut out, so that training
and prediction see the same pixels of the same file.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from secfpp.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
SIZE = 224
"""Side in pixels that images are read at where nothing else is said; what most CLIP models take."""
MOST_PIXELS = 100_000_000
"""Pixels of the largest image that is decoded."""
MEMORY_GIB = 4.0
"""Most memory for images that are held at once, where nothing else is said."""
THREADS = 8
"""Most images that are decoded at once; decoders run outside Python's lock."""
SHOWN = 10
"""Broken files that one message names."""

ImageLike: TypeAlias = "str | os.PathLike[str] | Image | np.ndarray"
"""A path of an image or folder, a Pillow image, or uint8 [height, width, 3]."""
ImagesLike: TypeAlias = "ImageLike | Sequence[ImageLike]"
"""One of them, several, or uint8 [n, height, width, 3]."""


def find_images(path: Path) -> list[Path]:
    """The image file `path`, or all image files below the folder `path`, sorted.

    Hidden files and folders, links to folders, and files that are not called like images are passed over.

    Raises:
        DataError: there is no such file, or no image in the folder.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    found = []
    for folder, inner, files in os.walk(path):
        inner[:] = [name for name in inner if not name.startswith(".")]
        found += [Path(folder, name) for name in files if is_image_name(name)]
    if not found:
        raise DataError(f"{path}: no image in this folder (names that end in {', '.join(SUFFIXES)})")
    return sorted(found)


def is_image_name(name: str) -> bool:
    """Whether a file of this name counts as an image: known ending, not hidden."""
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def read_images(paths: Sequence[Path], size: int = SIZE, memory_gib: float = MEMORY_GIB) -> np.ndarray:
    """The images as uint8 [n, size, size, 3]; of animations the first picture.

    Raises:
        DataError: more than fit in `memory_gib`, or files that cannot be read; names each, at most `SHOWN`.
    """
    needed = len(paths) * size**2 * 3 / 2**30
    if needed > memory_gib:
        raise DataError(
            f"{len(paths):,} images of {size} x {size} pixels need {needed:.1f} GiB of memory, more than the limit of "
            f"{memory_gib:g}: take fewer at a time, or smaller ones"
        )
    images = np.empty((len(paths), size, size, 3), dtype=np.uint8)

    def read(index: int) -> str:
        try:
            images[index] = read_image(paths[index], size)
        except DataError as error:
            return str(error)
        return ""

    with _no_size_warning(), ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        try:
            broken = [problem for problem in pool.map(read, range(len(paths))) if problem]
        except BaseException:
            pool.shutdown(cancel_futures=True)  # else an interrupted reader would first read all the rest
            raise
    if broken:
        more = f"; and {len(broken) - SHOWN} more files" if len(broken) > SHOWN else ""
        raise DataError("\n".join(broken[:SHOWN]) + more)
    return images


def read_image(path: Path, size: int) -> np.ndarray:
    """One image file as uint8 [size, size, 3].

    Raises:
        DataError: it is missing, damaged, too large, or its values have no known range; names the file.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            _require_modest(image)
            image.draft("RGB", (2 * size, 2 * size))  # a large JPEG is decoded at a fraction of its size
            return to_square(image, size)
    except OSError as error:
        what = error.strerror or "damaged, or not an image"
        raise DataError(f"{path}: {what}. Replace or remove the file") from error
    except Exception as error:  # decoders raise whatever they stumble over in damaged bytes
        what = str(error) if isinstance(error, DataError) else "damaged, or not an image"
        raise DataError(f"{path}: {what}. Replace or remove the file") from error


def to_square(image: Image, size: int) -> np.ndarray:
    """A Pillow image as uint8 [size, size, 3]: upright, RGB on white, resized and cut to the middle.

    Raises:
        DataError: its values have no known range.
    """
    from PIL import Image, ImageOps

    upright = _eight_bit(ImageOps.exif_transpose(image))
    if "A" in upright.getbands() or "transparency" in upright.info:
        clear = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    fitted = ImageOps.fit(upright.convert("RGB"), (size, size), method=Image.Resampling.BICUBIC)
    return np.asarray(fitted, dtype=np.uint8)


def as_array(images: ImagesLike, size: int = SIZE) -> np.ndarray:
    """Images of any accepted form as uint8 [n, height, width, 3].

    Arrays are taken as they are; files and Pillow images come as [n, size, size, 3]. A folder stands for all images
    below it.

    Raises:
        DataError: an array of another shape or number type, a value that is no image, or a file that cannot be read.
    """
    from PIL import Image

    if isinstance(images, np.ndarray):
        array = images[None] if images.ndim == 3 else images
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] != 3:
            raise DataError(
                f"an array of {images.dtype} and shape {images.shape} is no image: "
                "give uint8 [height, width, 3] or [n, height, width, 3] with RGB values"
            )
        return array
    if isinstance(images, (str, os.PathLike)):
        return read_images(find_images(Path(images).expanduser()), size)
    if isinstance(images, Image.Image):
        return to_square(images, size)[None]
    try:
        items = list(images)
    except TypeError:
        items = []
    if not items or not all(isinstance(item, (str, os.PathLike, Image.Image, np.ndarray)) for item in items):
        kinds = sorted({type(item).__name__ for item in items}) or [type(images).__name__]
        raise DataError(
            f"{', '.join(kinds)} given as images (of {len(items)}): give at least one path, Pillow image or uint8 array"
        )
    named = [Path(item).expanduser() for item in items if isinstance(item, (str, os.PathLike))]
    if len(named) == len(items):
        return read_images([path for each in named for path in find_images(each)], size)
    parts = [as_array(item, size) for item in items]
    if len({part.shape[1:] for part in parts}) > 1:
        parts = [np.stack([to_square(Image.fromarray(image), size) for image in part]) for part in parts]
    return np.concatenate(parts)


def _eight_bit(image: Image) -> Image:
    """16-bit grey values scaled to 8 bits, anything else as it is; Pillow would clip them."""
    from PIL import Image

    if image.mode == "F":
        raise DataError("its values are floating-point numbers of unknown range; save it with 8 or 16 bits")
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image).astype(np.int64)
    if values.size and (values.min() < 0 or values.max() > 0xFFFF):
        raise DataError("its values are 32-bit numbers of unknown range; save it with 8 or 16 bits")
    return Image.fromarray((values >> 8).astype(np.uint8))


def _require_modest(image: Image) -> None:
    if image.width * image.height > MOST_PIXELS:
        raise DataError(f"{image.width} x {image.height} pixels, at most {MOST_PIXELS:,} in all are read; shrink it")


@contextmanager
def _no_size_warning() -> Iterator[None]:
    """Pillow warns of large images before `_require_modest` can judge them."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield
