from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from secfpp.errors import CacheWarning
from secfpp.models.cache import FeatureCache

FEATURES = np.arange(6, dtype=np.float32).reshape(2, 3)


def never() -> np.ndarray:
    pytest.fail("computed although it is stored")


def test_what_was_stored_comes_back(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "not" / "yet")
    np.testing.assert_array_equal(cache.get("a", lambda: FEATURES), FEATURES)
    stored = cache.get("a", never)
    np.testing.assert_array_equal(stored, FEATURES)
    assert stored.dtype == np.float32
    assert [path.name for path in cache.folder.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("damage", ["cut", "empty", "flip", "other"])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage: str) -> None:
    cache = FeatureCache(tmp_path)
    cache.get("a", lambda: FEATURES)
    path = tmp_path / "a.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[:-5]
    elif damage == "empty":
        content = bytearray()
    elif damage == "flip":
        content[-1] ^= 1
    else:
        content = bytearray(b"something else altogether")
    path.write_bytes(content)
    computed: list[int] = []
    for _ in range(2):
        again = cache.get("a", lambda: (computed.append(1), FEATURES)[1])
        np.testing.assert_array_equal(again, FEATURES)
    assert computed == [1]


def test_a_failing_computation_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> np.ndarray:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        FeatureCache(tmp_path).get("a", fail)
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = FeatureCache(tmp_path / "file" / "features")
    with pytest.warns(CacheWarning, match="SECFPP_CACHE"):
        np.testing.assert_array_equal(cache.get("a", lambda: FEATURES), FEATURES)


def test_keys_tell_model_shape_and_content_apart() -> None:
    images = np.zeros((2, 4, 4, 3), np.uint8)
    changed = images.copy()
    changed[1, 2, 3, 0] = 1
    keys = [
        FeatureCache.key("m", images),
        FeatureCache.key("n", images),
        FeatureCache.key("m", changed),
        FeatureCache.key("m", images.reshape(2, 2, 8, 3)),
        FeatureCache.key("m", images.astype(np.int8)),
    ]
    assert len(set(keys)) == len(keys)
    assert FeatureCache.key("m", changed[:, ::-1]) == FeatureCache.key("m", np.ascontiguousarray(changed[:, ::-1]))
