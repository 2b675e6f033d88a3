"""Images that look the same: difference hashes, and pairs that are near by them.

A hash says of each two neighbours on a coarse grid which one is brighter (N. Krawetz, "Kind of Like That", 2013), along
rows and along columns. Copies that were saved again, resized or brightened change a few bits of 128.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

CELLS = 8
"""Rows and columns of differences; a hash has ``2 * CELLS ** 2`` bits."""
NEAR = 10
"""Bits in which two images differ at most that are taken for one."""
FLAT = 4.0
"""Grey levels between neighbours, of 255, that an image must have somewhere for its hash to say anything."""
TIE = 0.5
"""Grey levels up to which neighbours count as equal, whatever rounding made of them."""
_ROWS = 256
_GREY = np.array([0.299, 0.587, 0.114])


def difference_hashes(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of images, and which of them say anything.

    Args:
        images: uint8 [n, height, width, 3].

    Returns:
        uint64 [n, 2], bits along rows and along columns; bool [n], False for images without structure.
    """
    height, width = images.shape[1:3]
    hashes = np.zeros((len(images), 2), dtype=np.uint64)
    telling = np.zeros(len(images), dtype=bool)
    for start in range(0, len(images), _ROWS):
        part = slice(start, start + _ROWS)
        grey = images[part] @ _GREY
        along_rows = np.diff(_averages(CELLS, height) @ grey @ _averages(CELLS + 1, width).T, axis=2)
        along_columns = np.diff(_averages(CELLS + 1, height) @ grey @ _averages(CELLS, width).T, axis=1)
        for i, steps in enumerate((along_rows, along_columns)):
            bits = np.packbits((steps > TIE).reshape(len(grey), -1), axis=1)
            hashes[part, i] = bits.view(">u8")[:, 0]
            telling[part] |= np.abs(steps).max((1, 2)) >= FLAT
    return hashes, telling


def _averages(cells: int, pixels: int) -> np.ndarray:
    """Weights [cells, pixels] of means over equal stretches of a line, parts of pixels by their share."""
    edges = np.linspace(0, pixels, cells + 1)
    low, high = edges[:-1, None], edges[1:, None]
    at = np.arange(pixels)
    weights: np.ndarray = np.clip(np.minimum(high, at + 1) - np.maximum(low, at), 0, None) / (high - low)
    return weights


def near_pairs(
    hashes: np.ndarray, comparable: np.ndarray, parts: np.ndarray, most: int = NEAR
) -> Iterator[tuple[int, int, int]]:
    """Pairs of images that look the same and may stand on two sides of a split.

    Args:
        hashes: as `difference_hashes` gives them.
        comparable: those to look at.
        parts: int [n], the part of each image; a negative one is not settled, and such images may come apart.
        most: bits in which a pair differs at most.

    Yields:
        Two positions, rising, and the bits in which they differ.
    """
    chosen = np.flatnonzero(comparable)
    part = parts[chosen]
    signs = _signs(hashes[chosen])
    for start in range(0, len(chosen), _ROWS):
        rows = slice(start, start + _ROWS)
        rest = slice(start, None)
        agreeing = signs[rows] @ signs[rest].T  # a product of matrices is faster than counting bits
        for row, column in np.argwhere(agreeing >= signs.shape[1] - 2 * most):
            if column > row and (part[start + row] != part[start + column] or part[start + row] < 0):
                bits = (signs.shape[1] - int(agreeing[row, column])) // 2
                yield int(chosen[start + row]), int(chosen[start + column]), bits


def _signs(hashes: np.ndarray) -> np.ndarray:
    """Bits as -1 and 1, float32 [n, 128]: exact in the products of `near_pairs`."""
    bits = np.unpackbits(np.ascontiguousarray(hashes).view(np.uint8).reshape(len(hashes), -1), axis=1)
    signs: np.ndarray = 2 * bits.astype(np.float32) - 1
    return signs
