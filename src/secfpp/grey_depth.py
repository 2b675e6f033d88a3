"""Grey values of more than 8 bits, brought to 8.

A file with 16 bits often holds values of fewer, 12 from most cameras and scanners, and does not say so. How many are in
use can be seen over many images only, so that it is decided once for all that are read together.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from secfpp.errors import ConfigError, DataError, Problem

if TYPE_CHECKING:
    from PIL.Image import Image

GreyWindow: TypeAlias = tuple[float, float]
"""The values that are black and white; what lies between is scaled, what lies beyond is cut."""
DEPTHS = (8, 10, 12, 14, 16)
"""Bits that are told apart."""
STATED = "grey_window = [LOW, HIGH] (--grey-window LOW HIGH of a command)"
STATE_IT = f"state which values are black and white, {STATED}, or save it with 8 bits"
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # a tag of TIFF, and a value of it
_HIGH_BYTE = re.compile(r";16[BLN]")  # how Pillow calls colours of which it keeps the upper 8 of 16 bits


def is_deep(image: Image) -> bool:
    """Whether the image has grey values of more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def largest_grey(image: Image) -> int:
    """The largest value of a deep image.

    Raises:
        DataError: floating-point, negative or 32-bit values, whose range cannot be told.
    """
    if image.mode == "F":
        raise DataError(f"its values are floating-point numbers of unknown range; {STATE_IT}")
    values = np.asarray(image)
    if values.size and (values.min() < 0 or values.max() > 0xFFFF):
        raise DataError(f"its values go from {values.min()} to {values.max()}, more than 16 bits hold; {STATE_IT}")
    return int(values.max(initial=0))


def window_for(largest: int) -> GreyWindow:
    """Black and white of the fewest of `DEPTHS` that hold the value `largest`."""
    return _whole(next(bits for bits in DEPTHS if largest < 2**bits))


def largest_value(image: Image) -> float:
    """The largest value of a deep image, of whatever range."""
    return float(np.nan_to_num(np.asarray(image, np.float64), nan=0.0).max(initial=0))


def other_than_trained(stated: GreyWindow | None, trained: GreyWindow, largest: Collection[float]) -> str:
    """What to tell of deep images that are read otherwise than those in training; nothing if there is nothing to tell.

    Args:
        stated: the window by which they are read, if it is not that of training.
        trained: the window of the training images.
        largest: the largest value of each image; none if no image is deep.
    """
    learned = f"in training {trained[0]:g} was black and {trained[1]:g} white"
    if stated is not None and tuple(stated) != trained and largest:
        return f"grey values are read with {stated[0]:g} as black and {stated[1]:g} as white, as stated; {learned}"
    beyond = [value for value in largest if value > trained[1]]
    if stated is None and beyond and trained in [_whole(depth) for depth in DEPTHS]:
        return (
            f"{len(beyond)} of {len(largest)} images have grey values up to {max(beyond):g}, and {learned}: what is "
            f"above is cut; if these images use more bits, state {STATED}"
        )
    return ""


def _whole(depth: int) -> GreyWindow:
    return 0, 2**depth - 1


def window_problems(window: GreyWindow | None, key: str = "grey_window") -> list[Problem]:
    """What is wrong with a window that was stated."""
    if window is None or (window[0] < window[1] and np.isfinite(window).all()):
        return []
    return [Problem(key, list(window), "two values, that of black below that of white, e.g. [0, 4095]")]


def require_window(window: GreyWindow | None) -> None:
    """Refuse a window between whose ends nothing lies.

    Raises:
        ConfigError: with the remedy.
    """
    if problems := window_problems(window):
        raise ConfigError(problems)


def is_negative(image: Image) -> bool:
    """Whether a deep image, as it was opened, says that its lowest value is white, as X-ray images may.

    Pillow turns values of 8 bits round by itself, and leaves deeper ones as they are.
    """
    return is_deep(image) and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO


def eight_bit(image: Image, window: GreyWindow, negative: bool = False) -> Image:
    """A deep image scaled to 8 bits between the ends of `window`, turned round if it is `negative`."""
    from PIL import Image

    low, high = window
    scaled = (np.asarray(image).astype(np.float64) - low) * (255 / (high - low))
    bright = np.rint(np.nan_to_num(scaled, nan=0.0).clip(0, 255)).astype(np.uint8)
    return Image.fromarray(255 - bright if negative else bright)


def largest_high_byte(image: Image) -> int | None:
    """The largest upper byte of a file with 16-bit colours, of which Pillow reads no more; None if it has no such.

    To be called before the pixels are loaded.
    """
    kinds = [tile[3] if isinstance(tile[3], str) else str(tile[3]) for tile in getattr(image, "tile", ())]
    if is_deep(image) or not any(map(_HIGH_BYTE.search, kinds)):
        return None
    bands = [band for band in image.split() if band.mode == "L"]
    colours = bands[:-1] if "A" in image.getbands() else bands
    return max(int(np.asarray(band).max(initial=0)) for band in colours)


def require_used(largest: int, count: int) -> None:
    """Refuse 16-bit colours that would come out dark.

    Args:
        largest: upper byte over all files.
        count: how many files there are.

    Raises:
        DataError: the upper two bits, or more, are in use nowhere.
    """
    if largest < 2**6:
        bits = 8 + largest.bit_length()
        raise DataError(
            f"{count} images have colours of 16 bits of which at most {bits} are in use; the upper 8 alone are read, "
            "so that they would be dark: save them with 8 bits a colour"
        )
