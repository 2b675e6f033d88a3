from __future__ import annotations

import numpy as np
import pytest

from secfpp.models.public_images import public_images


@pytest.mark.parametrize("size", [16, 48])
def test_images_are_varied_and_always_the_same(size: int) -> None:
    images = public_images(size, 12)
    assert images.shape == (12, size, size, 3)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, public_images(size, 12))
    assert len({image.tobytes() for image in images}) == 12
    assert all(len(np.unique(image)) > 1 for image in images)
    assert images.min() < 30
    assert images.max() > 225


def test_more_images_begin_with_the_same_ones() -> None:
    np.testing.assert_array_equal(public_images(24, 9)[:5], public_images(24, 5))
