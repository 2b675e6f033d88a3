from __future__ import annotations

import gc
from mmap import mmap
from pathlib import Path

import numpy as np
import pytest

from secfpp import paging
from secfpp.storage import roomy

STATUS = Path("/proc/self/status")
SIZE = 1 << 25


def test_what_was_given_back_has_the_same_bits_when_it_is_used(tmp_path: Path) -> None:
    array = roomy((SIZE // 8,), tmp_path, np.dtype(np.float64))
    array[:] = np.arange(len(array))
    paging.give_back()
    array[7] = np.nan  # written to a page that was given back
    paging.give_back()
    assert np.isnan(array[7]) and array[-1] == len(array) - 1 and array[:7].tolist() == list(range(7))


@pytest.mark.skipif(not STATUS.exists(), reason="this system does not say what a process has in memory of files")
def test_what_was_given_back_is_in_the_process_no_more(tmp_path: Path) -> None:
    def of_files() -> int:
        lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
        return 1024 * sum(int(lines[name].split()[0]) for name in ("RssFile", "RssShmem"))

    array, before = roomy((SIZE,), tmp_path), of_files()
    for _ in range(2):
        array[:] = 1
        assert of_files() - before > 0.9 * SIZE
        paging.give_back()
        assert of_files() - before < 0.1 * SIZE


def test_a_file_that_nothing_is_in_any_more_is_forgotten(tmp_path: Path) -> None:
    gc.collect()
    before = len(paging._MAPS)
    view = roomy((8, 8), tmp_path)[2:4]
    assert isinstance(view.base.base if view.base is not None else None, mmap)
    assert len(paging._MAPS) == before + 1
    del view
    assert len(paging._MAPS) == before


@pytest.mark.parametrize(("count", "given"), [(0, 1), (1, 1), (5, 2), (6, 3), (7, 3)])
def test_memory_is_given_back_between_items_and_behind_the_last(
    count: int, given: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(paging, "give_back", lambda: calls.append(1))
    assert list(paging.paged(range(count), every=3)) == list(range(count))
    assert len(calls) == given


@pytest.mark.parametrize(
    "array",
    [
        np.arange(300, dtype=np.float32).reshape(3, 100),
        np.asfortranarray(np.arange(300).reshape(3, 100)),
        np.arange(300, dtype=np.int16)[::-3],
        np.zeros((0, 4)),
        np.array(2.5),
        np.array([True, False]),
    ],
    ids=["C", "Fortran", "strided", "empty", "number", "bool"],
)
def test_pieces_are_the_bytes_in_order(array: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "PIECE", 16)
    found = list(paging.pieces(array))
    assert b"".join(found) == array.tobytes() and all(len(piece) <= 16 for piece in found)
