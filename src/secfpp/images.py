"""Images of the user: found on disk, read, and brought to one square size.

Every reader brings an image to RGB, upright, its shorter side to `size` pixels, the middle cut out, so that training
and prediction see the same pixels of the same file.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from secfpp.cachedir import VARIABLE
from secfpp.errors import DataError, DataWarning
from secfpp.grey_depth import (
    STATED,
    GreyWindow,
    eight_bit,
    is_deep,
    is_negative,
    largest_grey,
    largest_high_byte,
    largest_value,
    other_than_trained,
    require_used,
    require_window,
    window_for,
)
from secfpp.image_names import find_images, formats, passed_over
from secfpp.storage import roomy

if TYPE_CHECKING:
    from PIL.Image import Image

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


class Stored(Protocol):
    """An image that is no file of its own, such as a row of a table; its text names it in messages."""

    def content(self) -> bytes | np.ndarray:
        """The content of an image file, or pixels uint8 [height, width, 3]; its errors are a `DataError`."""
        ...


ImageSource: TypeAlias = "Path | Stored"
ImageLike: TypeAlias = "str | os.PathLike[str] | Image | np.ndarray"
"""A path of an image or folder, a Pillow image, or uint8 [height, width, 3]."""
ImagesLike: TypeAlias = "ImageLike | Sequence[ImageLike]"
"""One of them, several, or uint8 [n, height, width, 3]."""


def read_images(
    paths: Sequence[Path], size: int = SIZE, memory_gib: float = MEMORY_GIB, grey_window: GreyWindow | None = None
) -> np.ndarray:
    """The images as uint8 [n, size, size, 3], see `read_scaled`."""
    return read_scaled(paths, size, memory_gib, grey_window)[0]


def read_scaled(
    paths: Sequence[ImageSource],
    size: int = SIZE,
    memory_gib: float = MEMORY_GIB,
    grey_window: GreyWindow | None = None,
    trained: GreyWindow | None = None,
    spill: Path | None = None,
) -> tuple[np.ndarray, GreyWindow | None]:
    """The images as uint8 [n, size, size, 3], of animations the first picture; and the window of deep grey values.

    Args:
        paths: image files, or images that are stored elsewhere.
        size: side in pixels.
        memory_gib: most memory for them, in GiB.
        grey_window: grey values of more than 8 bits that are black and white; if not given, the range of the bits in
            use over all these images, of which a `DataWarning` tells.
        trained: the window of the training images, if they are known: it is taken where `grey_window` is not given, and
            a `DataWarning` tells where the images do not go with it.
        spill: a folder that takes those that do not fit in memory, in a file without a name, read as needed.

    Returns:
        The images, and the window by which some of them were scaled (None if there were none).

    Raises:
        ConfigError: a window between whose ends nothing lies.
        DataError: more than fit in `memory_gib`, or files that cannot be read; names each, at most `SHOWN`.
        DiskFullError: no room for them in `spill`.
    """
    require_window(grey_window)
    needed = len(paths) * size**2 * 3 / 2**30
    if needed > memory_gib and spill is None:
        raise DataError(
            f"{len(paths):,} images of {size} x {size} pixels need {needed:.1f} GiB of memory, more than the limit of "
            f"{memory_gib:g}: take fewer at a time, or smaller ones"
        )
    try:
        images = roomy((len(paths), size, size, 3), spill if needed > memory_gib else None)
    except OSError as error:
        raise DataError(
            f"{needed:.1f} GiB of images cannot be kept in {spill}: {error.strerror}: set {VARIABLE} to a folder that "
            f"can be written, or allow more memory than {memory_gib:g} GiB"
        ) from error
    deep, colours, values = dict[int, int](), dict[int, int](), dict[int, float]()
    stated = grey_window or trained

    def read(index: int) -> None:
        with _opened(paths[index], size) as image:
            if (high := largest_high_byte(image)) is not None:
                colours[index] = high
            if trained and is_deep(image):
                values[index] = largest_value(image)
            if stated is None and is_deep(image):
                deep[index] = largest_grey(image)
            else:
                images[index] = to_square(image, size, stated)

    def scale(index: int) -> None:
        with _opened(paths[index], size) as image:
            images[index] = to_square(image, size, window)

    _each(read, range(len(paths)))
    if colours:
        require_used(max(colours.values()), len(colours))
    _tell_other_depth(grey_window, trained, values.values())
    if not deep:
        return images, stated
    window = window_for(max(deep.values()))
    _each(scale, sorted(deep))
    warnings.warn(
        f"{len(deep)} of {len(paths)} images have grey values of more than 8 bits, {max(deep.values())} the largest: "
        f"0 is taken as black, {window[1]} as white; for other values state {STATED}",
        DataWarning,
        stacklevel=2,
    )
    return images, window


def _tell_other_depth(stated: GreyWindow | None, trained: GreyWindow | None, values: Collection[float]) -> None:
    if trained and (told := other_than_trained(stated, trained, values)):
        warnings.warn(told, DataWarning, stacklevel=3)


def read_small(sources: Sequence[ImageSource], size: int) -> tuple[np.ndarray, dict[int, str]]:
    """Images for a look at them, and those that cannot be read; deep grey values are scaled image by image.

    Args:
        sources: image files, or images that are stored elsewhere.
        size: side in pixels.

    Returns:
        uint8 [n, size, size, 3], black where there is a finding; and what is wrong, by position.
    """
    images = np.zeros((len(sources), size, size, 3), dtype=np.uint8)

    def read(index: int) -> None:
        with _opened(sources[index], size) as image:
            images[index] = to_square(image, size)

    return images, _failures(read, range(len(sources)))


def _each(task: Callable[[int], None], indices: Sequence[int]) -> None:
    """Run `task` for each index, several at a time.

    Raises:
        DataError: those of the tasks; its text has at most `SHOWN` of them, its `findings` all.
    """
    if broken := list(_failures(task, indices).values()):
        more = f"; and {len(broken) - SHOWN} more files" if len(broken) > SHOWN else ""
        raise DataError("\n".join(broken[:SHOWN]) + more, broken)


def _failures(task: Callable[[int], None], indices: Sequence[int]) -> dict[int, str]:
    """What went wrong, by index, where `task` is run for each of them, several at a time."""

    def problem(index: int) -> str:
        try:
            task(index)
        except DataError as error:
            return str(error)
        return ""

    with _no_size_warning(), ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        try:
            return {i: found for i, found in zip(indices, pool.map(problem, indices), strict=True) if found}
        except BaseException:
            pool.shutdown(cancel_futures=True)  # else an interrupted reader would first read all the rest
            raise


def read_content(
    content: bytes, size: int = SIZE, grey_window: GreyWindow | None = None, trained: GreyWindow | None = None
) -> tuple[np.ndarray, str]:
    """An image that is no file on this machine, as it would be read from one; for itself, whatever others come with it.

    Args:
        content: of an image file.
        size: side in pixels.
        grey_window: grey values of more than 8 bits that are black and white.
        trained: those of the training images, taken where `grey_window` is not given.

    Returns:
        uint8 [size, size, 3], and what is to be told of how deep grey values were read; mostly nothing.

    Raises:
        DataError: no image, one that is too large, or deep grey values without a window.
    """
    window = grey_window or trained
    with _no_size_warning(), _image(content, size) as image:
        if (high := largest_high_byte(image)) is not None:
            require_used(high, 1)
        if not is_deep(image):
            return to_square(image, size), ""
        if window is None:
            raise DataError(
                "its grey values have more than 8 bits, and nothing says which are black and white: state "
                "--grey-window LOW HIGH, or save it with 8 bits"
            )
        told = other_than_trained(grey_window, trained, [largest_value(image)]) if trained else ""
        return to_square(image, size, window), told


@contextmanager
def _opened(source: ImageSource, size: int) -> Iterator[Image]:
    """An image, opened but not yet decoded; whatever goes wrong is a `DataError` that names it."""
    try:
        content = source if isinstance(source, Path) else source.content()
        with _pixels(content) if isinstance(content, np.ndarray) else _image(content, size) as image:
            yield image
    except DataError as error:
        raise DataError(f"{source}: {error}. Replace or remove the file") from error


@contextmanager
def _pixels(pixels: np.ndarray) -> Iterator[Image]:
    from PIL import Image

    yield Image.fromarray(pixels)


@contextmanager
def _image(source: Path | bytes, size: int) -> Iterator[Image]:
    """An image, opened but not yet decoded; whatever goes wrong is a `DataError` that does not name it."""
    from PIL import Image

    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=formats()) as image:
            _require_modest(image)
            image.draft("RGB", (2 * size, 2 * size))  # a large JPEG is decoded at a fraction of its size
            yield image
    except DataError:
        raise
    except OSError as error:
        raise DataError(error.strerror or "damaged, or not an image") from error
    except Exception as error:  # decoders raise whatever they stumble over in damaged bytes
        raise DataError("damaged, or not an image") from error


def to_square(image: Image, size: int, grey_window: GreyWindow | None = None) -> np.ndarray:
    """A Pillow image as uint8 [size, size, 3]: upright, RGB on white, resized and cut to the middle.

    Args:
        image: in any mode.
        size: side in pixels.
        grey_window: grey values of more than 8 bits that are black and white; if not given, the range of the bits that
            this image uses.

    Raises:
        DataError: its values have no known range.
    """
    from PIL import Image, ImageOps

    upright = ImageOps.exif_transpose(image)
    if is_deep(upright):
        upright = eight_bit(upright, grey_window or window_for(largest_grey(upright)), is_negative(image))
    if "A" in upright.getbands() or "transparency" in upright.info:
        clear = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    fitted = ImageOps.fit(upright.convert("RGB"), (size, size), method=Image.Resampling.BICUBIC)
    return np.asarray(fitted, dtype=np.uint8)


def as_array(
    images: ImagesLike, size: int = SIZE, grey_window: GreyWindow | None = None, trained: GreyWindow | None = None
) -> np.ndarray:
    """Images of any accepted form as uint8 [n, height, width, 3].

    Arrays are taken as they are; files and Pillow images come as [n, size, size, 3]. A folder stands for all images
    below it; a `DataWarning` tells what else lies there.

    Args:
        images: see `ImagesLike`.
        size: side in pixels.
        grey_window: see `read_scaled`.
        trained: see `read_scaled`.

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
        return read_scaled(files_in([Path(images)]), size, grey_window=grey_window, trained=trained)[0]
    if isinstance(images, Image.Image):
        _tell_other_depth(grey_window, trained, _largest_values([images]))
        return to_square(images, size, grey_window or trained)[None]
    try:
        items = list(images)
    except TypeError:
        items = []
    if not items or not all(isinstance(item, (str, os.PathLike, Image.Image, np.ndarray)) for item in items):
        kinds = sorted({type(item).__name__ for item in items}) or [type(images).__name__]
        raise DataError(
            f"{', '.join(kinds)} given as images (of {len(items)}): give at least one path, Pillow image or uint8 array"
        )
    named = [Path(item) for item in items if isinstance(item, (str, os.PathLike))]
    if len(named) == len(items):
        return read_scaled(files_in(named), size, grey_window=grey_window, trained=trained)[0]
    _tell_other_depth(grey_window, trained, _largest_values(items))
    grey_window = grey_window or trained
    pictures = [item for item in items if isinstance(item, Image.Image) and is_deep(item)]
    if pictures and grey_window is None:
        grey_window = window_for(max(map(largest_grey, pictures)))
    parts = [as_array(item, size, grey_window) for item in items]
    if len({part.shape[1:] for part in parts}) > 1:
        parts = [np.stack([to_square(Image.fromarray(image), size) for image in part]) for part in parts]
    return np.concatenate(parts)


def _largest_values(items: Iterable[object]) -> list[float]:
    """The largest value of each deep one of those that are Pillow images."""
    from PIL import Image

    return [largest_value(item) for item in items if isinstance(item, Image.Image) and is_deep(item)]


def files_in(paths: Iterable[Path]) -> list[Path]:
    """The image files among `paths` and below those that are folders; a `DataWarning` tells what else lies there.

    Raises:
        DataError: no such file or folder, or a folder without an image.
    """
    files, others = list[Path](), Counter[str]()
    for path in paths:
        found, rest = find_images(path.expanduser())
        files += found
        others += rest
    if others:
        warnings.warn(passed_over(others), DataWarning, stacklevel=2)
    return files


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
