"""Synthetic images that everybody can make: what a model sees in no data at all.

Their mean feature is the public centre that descriptors are measured from.
"""

from __future__ import annotations

import numpy as np

from secfpp.seeding import derive


def public_images(size: int, count: int = 96) -> np.ndarray:
    """uint8 [count, size, size, 3]: smooth colour noise, gradients and simple shapes in turn.

    The drawing depends on `size` and `count` only.
    """
    rng = derive(0, "public-images").numpy()
    painters = (_noise, _gradient, _shapes)
    images = [painters[i % len(painters)](size, rng) for i in range(count)]
    return np.round(255 * np.stack(images).clip(0, 1)).astype(np.uint8)


def _noise(size: int, rng: np.random.Generator) -> np.ndarray:
    """Random colours on a coarse grid, interpolated linearly."""
    cells = int(rng.integers(2, 9))
    grid = rng.random((cells, cells, 3))
    weights = _interpolation(size, cells)
    return np.asarray(np.einsum("ya,xb,abc->yxc", weights, weights, grid, optimize=True))


def _interpolation(size: int, cells: int) -> np.ndarray:
    """Linear interpolation from `cells` values to `size` places, [size, cells]."""
    places = np.linspace(0, cells - 1, size)
    return np.asarray(np.clip(1 - np.abs(places[:, None] - np.arange(cells)), 0, 1))


def _gradient(size: int, rng: np.random.Generator) -> np.ndarray:
    """One colour fading into another along a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:size, 0:size] / max(size - 1, 1) - 0.5
    share = (x * np.cos(angle) + y * np.sin(angle) + 0.71) / 1.42
    start, end = rng.random((2, 3))
    return np.asarray(start + share[..., None] * (end - start))


def _shapes(size: int, rng: np.random.Generator) -> np.ndarray:
    """One to four discs, boxes and half planes on a plain ground."""
    y, x = np.mgrid[0:size, 0:size] / size
    image = np.broadcast_to(rng.random(3), (size, size, 3)).copy()
    for _ in range(int(rng.integers(1, 5))):
        (cx, cy), radius, colour = rng.uniform(0.2, 0.8, 2), rng.uniform(0.1, 0.35), rng.random(3)
        regions = (
            (x - cx) ** 2 + (y - cy) ** 2 < radius**2,
            (np.abs(x - cx) < radius) & (np.abs(y - cy) < radius / 2),
            (x - cx) + (y - cy) > radius,
        )
        image[regions[int(rng.integers(len(regions)))]] = colour
    return image
