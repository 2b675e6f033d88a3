import errno
import json
import os
from mmap import mmap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save

from secfpp import paging
from secfpp.errors import CacheWarning, DiskFullError
from secfpp.storage import atomic_write, cached_arrays, read_arrays, read_record, roomy, write_record


class Maker:
    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(self.calls)}


def test_arrays_are_computed_once(tmp_path):
    make, path = Maker(), tmp_path / "deep" / "x.safetensors"
    first, second = cached_arrays(path, make), cached_arrays(path, make)
    assert make.calls == 1 and sorted(second) == ["a", "b"]
    assert all(np.array_equal(first[n], second[n]) and first[n].dtype == second[n].dtype for n in first)
    assert first["b"].shape == second["b"].shape == ()  # a counter stays 0-d


@pytest.mark.parametrize("damage", [lambda b: b[:40], lambda b: b"", lambda b: b[:-1] + bytes([b[-1] ^ 1])])
def test_a_damaged_file_is_made_again(tmp_path, damage):
    make, path = Maker(), tmp_path / "x.safetensors"
    cached_arrays(path, make)
    path.write_bytes(damage(path.read_bytes()))
    assert cached_arrays(path, make)["b"].item() == 2
    assert cached_arrays(path, make)["b"].item() == 2 and make.calls == 2


def test_a_folder_that_cannot_be_written_only_warns(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(CacheWarning, match="SECFPP_CACHE"):
        assert cached_arrays(tmp_path / "file" / "x.safetensors", Maker())["b"].item() == 1


def test_a_write_that_fails_leaves_the_old_file_and_no_draft(tmp_path, monkeypatch):
    path = tmp_path / "x"
    atomic_write(path, b"old")
    monkeypatch.setattr("os.replace", lambda *a: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        atomic_write(path, b"new")
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["x"]
    assert path.stat().st_mode & 0o777 == 0o600


def no_room(number: int) -> object:
    def write(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return write


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_names_the_folder_and_the_bytes_that_are_missing(tmp_path, monkeypatch, number):
    path = tmp_path / "x"
    atomic_write(path, b"old")
    monkeypatch.setattr("os.fsync", no_room(number))
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=2500))
    with pytest.raises(DiskFullError) as full:
        atomic_write(path, b"n" * 1_234_500)
    assert f"no room left in {tmp_path} for x: 1,232,000 bytes more are needed" in str(full.value)
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["x"]
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=2**40))
    with pytest.raises(DiskFullError, match=r"for y: 7 bytes more are needed"):  # a quota: what is free says nothing
        atomic_write(tmp_path / "new" / "y", b"content")


def test_a_write_that_fails_for_another_reason_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", no_room(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        atomic_write(tmp_path / "x", b"new")


def test_a_full_cache_costs_time_only(tmp_path, monkeypatch):
    monkeypatch.setattr("os.replace", no_room(errno.ENOSPC))
    with pytest.warns(CacheWarning, match="bytes more are needed"):
        assert cached_arrays(tmp_path / "x.safetensors", Maker())["b"].item() == 1


def test_room_in_a_file_ends_with_the_array(tmp_path):
    folder = tmp_path / "deep"
    held, spilt = roomy((3, 4), None), roomy((3, 4), folder)
    assert not isinstance(held.base, mmap) and isinstance(spilt.base, mmap)
    assert held.shape == spilt.shape == (3, 4) and held.dtype == spilt.dtype == np.uint8
    spilt[1] = 7
    assert spilt.sum() == 28 and list(folder.iterdir()) == []
    assert roomy((0, 4), folder).shape == (0, 4)


def test_room_that_a_disk_does_not_have_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(DiskFullError, match="for images: 200 bytes more are needed"):
        roomy((30, 40), tmp_path)
    assert list(tmp_path.iterdir()) == []


def record() -> dict[str, np.ndarray]:
    """An array of every number type that such files have, and odd forms."""
    kinds = ("?", "u1", "i1", "i2", "u2", "f2", "i4", "u4", "f4", "c8", "f8", "i8", "u8")
    whole = np.arange(24).reshape(4, 6) % 2
    odd = {
        "fortran": np.asfortranarray(whole),
        "strided": whole[::2, ::-1],
        "empty": whole[:0],
        "big": whole.astype(">i4"),
    }
    return {**{f"of {kind}": whole[:3].astype(kind) for kind in kinds}, **odd, "größe": np.array(2.5)}


def test_a_record_is_written_in_pieces_with_the_bytes_of_the_usual_writer(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(paging, "PIECE", 16)
    path, about = tmp_path / "x", {"format": "made-up-1", "name": "Zoë"}
    write_record(path, record(), about)
    usual = {name: np.asarray(array, array.dtype.newbyteorder("<"), order="C") for name, array in record().items()}
    assert path.read_bytes() == save(usual, metadata={"secfpp": json.dumps(about)})
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("limit", [0, paging.IN_MEMORY])
def test_a_large_file_may_stay_where_it_is(tmp_path: Path, limit: int, monkeypatch) -> None:
    monkeypatch.setattr(paging, "IN_MEMORY", limit)
    path = tmp_path / "x"
    path.write_bytes(save({"a": np.arange(7), "b": np.array(2.5, np.float32)}, metadata={"secfpp": '{"format": "f"}'}))
    held, about = read_record(path, "f", mapped=True)
    copied, _ = read_arrays(path)
    write_record(path, {"a": np.zeros(7)}, {"format": "f"})  # who has the old file goes on with it
    paging.give_back()
    assert about == {"format": "f"} and sorted(held) == sorted(copied) == ["a", "b"]
    for name, array in copied.items():
        assert held[name].tobytes() == array.tobytes() and held[name].dtype == array.dtype
        assert held[name].shape == array.shape and isinstance(held[name].base, mmap) == (limit == 0)
        assert held[name].flags.writeable == (limit > 0)


def test_a_number_type_that_no_file_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SafetensorError, match="odd: a safetensors file cannot hold complex128"):
        write_record(tmp_path / "x", {"odd": np.zeros(2, np.complex128)}, {"format": "f"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [lambda b: b[:40], lambda b: b"", lambda b: b[:-1] + bytes([b[-1] ^ 1])])
def test_a_damaged_file_that_would_stay_where_it_is_is_made_again(tmp_path: Path, damage, monkeypatch) -> None:
    monkeypatch.setattr(paging, "IN_MEMORY", 0)
    make, path = Maker(), tmp_path / "x.safetensors"
    cached_arrays(path, make, mapped=True)
    path.write_bytes(damage(path.read_bytes()))
    assert cached_arrays(path, make, mapped=True)["b"].item() == 2
    again = cached_arrays(path, make, mapped=True)
    assert again["b"].item() == 2 and make.calls == 2 and isinstance(again["a"].base, mmap)
