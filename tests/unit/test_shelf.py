from __future__ import annotations

import errno
import gc
from pathlib import Path

import numpy as np
import pytest

from secfpp import paging, shelf
from secfpp.errors import CacheWarning
from secfpp.shelf import Rows, Shelf, together

LARGE = paging.IN_MEMORY + 1


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SECFPP_CACHE", str(tmp_path))
    monkeypatch.setattr(shelf, "_FILE", 1000)
    return tmp_path


def files() -> int:
    gc.collect()
    return len(paging._MAPS)


def arrays() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        rng.standard_normal((3, 5)),
        np.array([np.nan, -0.0], np.float32),
        np.asfortranarray(rng.integers(9, size=(7, 4))),
        np.array(3),
        rng.integers(256, size=(2, 3, 3, 3), dtype=np.uint8),
        np.array([True]),
        rng.standard_normal(1000),
    ]


def test_little_stays_as_it_is() -> None:
    kept, before = Shelf(), files()
    assert all(kept.keep(array, paging.IN_MEMORY) is array for array in arrays())
    assert files() == before


def test_much_is_on_disk_with_the_same_bits_in_files_without_a_name(folder: Path) -> None:
    kept, before = Shelf(), files()
    found = [kept.keep(array, LARGE) for array in arrays()]
    paging.give_back()
    for own, array in zip(found, arrays(), strict=True):
        assert own.tobytes() == array.tobytes() and own.dtype == array.dtype and own.shape == array.shape
        assert own.flags.writeable and own.flags.aligned
    assert not any(np.shares_memory(a, b) for i, a in enumerate(found) for b in found[:i])
    assert files() == before + 2  # the small ones share one
    assert list(folder.iterdir()) == []


def test_a_file_ends_with_the_last_array_in_it() -> None:
    kept, before = Shelf(), files()
    found = [kept.keep(np.full(100, i), LARGE) for i in range(4)]  # two hold 800 bytes more than a file has
    assert files() == before + 4
    del found[0]
    assert files() == before + 3
    del kept
    assert files() == before + 3 and [own[-1] for own in found] == [1, 2, 3]
    found.clear()
    assert files() == before


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "not allowed"), OSError(errno.ENOSPC, "no room")])
def test_without_room_on_disk_it_is_memory_and_told(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    before = files()
    with pytest.warns(CacheWarning, match=rf"{LARGE:,} bytes are kept in memory: .*SECFPP_CACHE"):
        found = Shelf().keep(np.arange(5), LARGE)
    assert found.tolist() == [0, 1, 2, 3, 4] and files() == before


@pytest.mark.parametrize("limit", [0, paging.IN_MEMORY])
def test_rows_come_in_parts(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "IN_MEMORY", limit)
    whole, before = np.arange(60, dtype=np.int16).reshape(10, 2, 3), files()
    rows = Rows(10)
    for part in (whole[:4], whole[4:5], whole[5:]):
        rows.add(part)
    assert np.array_equal(rows.array, whole) and rows.array.dtype == whole.dtype
    assert np.array_equal(together([whole[:7], whole[:0], whole[7:]]), whole)
    assert files() == before + (not limit)


def test_rows_of_another_shape_are_refused() -> None:
    rows = Rows(3)
    rows.add(np.zeros((1, 2, 2)))
    with pytest.raises(ValueError, match="shape"):
        rows.add(np.zeros((2, 1, 2)))
    with pytest.raises(ValueError, match="shape"):
        together([np.zeros((1, 2)), np.zeros((1, 1))])


def test_what_is_decided_by_is_what_all_rows_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "IN_MEMORY", 79)
    before = files()
    small, large = Rows(9), Rows(10)
    small.add(np.zeros((1, 1)))
    large.add(np.zeros((1, 1)))
    assert files() == before + 1
