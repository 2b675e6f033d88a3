from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from secfpp.data.near_duplicates import CELLS, NEAR, _averages, difference_hashes, near_pairs


def scenes(n: int, side: int = 64, seed: int = 0) -> np.ndarray:
    """Images with structure at all scales, as photos have it."""
    rng = np.random.default_rng(seed)
    total = np.zeros((n, side, side, 3))
    for scale in (4, 8, 16, 32):
        coarse = rng.normal(size=(n, scale, scale, 3))
        total += np.stack([np.asarray(_resized(one, side)) for one in coarse]) * 60 / scale**0.5
    return np.clip(127 + total, 0, 255).astype(np.uint8)


def _resized(image: np.ndarray, side: int) -> np.ndarray:
    channels = [Image.fromarray(image[..., c].astype(np.float32)).resize((side, side)) for c in range(3)]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


def saved_again(image: Image.Image, quality: int) -> Image.Image:
    file = BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(BytesIO(file.getvalue()))


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.bitwise_count(difference_hashes(a)[0] ^ difference_hashes(b)[0]).sum(1)


CHANGES = {
    "saved with quality 40": lambda image: saved_again(image, 40),
    "half as large": lambda image: image.resize((32, 32)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "grey": lambda image: image.convert("L").convert("RGB"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_near(change: str) -> None:
    images = scenes(60)
    copies = np.stack([np.asarray(CHANGES[change](Image.fromarray(image))) for image in images])
    assert (distance(images, copies) <= NEAR).mean() > 0.95


def test_other_images_are_far() -> None:
    hashes, telling = difference_hashes(scenes(400))
    assert telling.all()
    assert list(near_pairs(hashes, telling, np.full(400, -1))) == []


@given(st.integers(1, 40), st.integers(1, 40))
def test_a_mean_over_stretches_keeps_the_mean(cells: int, pixels: int) -> None:
    weights = _averages(cells, pixels)
    np.testing.assert_allclose(weights.sum(1), 1)
    np.testing.assert_allclose(weights.mean(0), 1 / pixels)


def test_bits_say_which_neighbour_is_brighter() -> None:
    ramp = np.broadcast_to(np.arange(72, dtype=np.uint8)[None, None, :, None], (1, 72, 72, 3))
    rows, columns = difference_hashes(ramp)[0][0]
    assert rows == 2 ** (CELLS * CELLS) - 1 and columns == 0
    rows, columns = difference_hashes(ramp.transpose(0, 2, 1, 3))[0][0]
    assert rows == 0 and columns == 2 ** (CELLS * CELLS) - 1


def test_flat_images_say_nothing() -> None:
    plain = np.full((2, 20, 20, 3), 200, dtype=np.uint8)
    plain[1, :, 10:] = 202
    assert difference_hashes(plain)[1].tolist() == [False, False]


def test_pairs_are_those_that_may_come_apart() -> None:
    hashes = np.array([[0, 0], [0, 1], [0, 3], [7, 0], [0, 0]], dtype=np.uint64)
    everything = np.ones(5, dtype=bool)
    parts = np.array([0, 0, 1, 1, -1])
    assert list(near_pairs(hashes, everything, parts, 2)) == [(0, 2, 2), (0, 4, 0), (1, 2, 1), (1, 4, 1), (2, 4, 2)]
    assert list(near_pairs(hashes, np.array([1, 0, 1, 1, 0], dtype=bool), parts, 3)) == [(0, 2, 2), (0, 3, 3)]


def test_blocks_lose_no_pair() -> None:
    rng = np.random.default_rng(1)
    hashes = rng.integers(0, 2**63, (700, 2), dtype=np.uint64)
    hashes[650] = hashes[3]
    hashes[300] = hashes[299]
    found = list(near_pairs(hashes, np.ones(700, dtype=bool), np.full(700, -1)))
    assert found == [(3, 650, 0), (299, 300, 0)]
