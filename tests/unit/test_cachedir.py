from __future__ import annotations

from pathlib import Path

import pytest

from secfpp.cachedir import cache_root, cache_sizes, clear_cache, sub_cache
from secfpp.errors import ConfigError


def fill(root: Path) -> None:
    (root / "features" / "deep").mkdir(parents=True)
    (root / "features" / "deep" / "a").write_bytes(bytes(10))
    (root / "features" / "b").write_bytes(bytes(5))
    (root / "icons").mkdir()
    (root / "icons" / "c").write_bytes(bytes(7))
    (root / "mine").write_bytes(bytes(100))


def test_the_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECFPP_CACHE", str(tmp_path / "here"))
    assert cache_root() == tmp_path / "here"
    assert sub_cache("icons") == tmp_path / "here" / "icons"
    assert sub_cache("icons", tmp_path) == tmp_path / "icons"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECFPP_CACHE", "relative")
    assert cache_root() == tmp_path / "relative"
    monkeypatch.delenv("SECFPP_CACHE")
    assert cache_root().name == "secfpp"
    assert cache_root().is_absolute()


def test_sizes_are_counted_by_folder(tmp_path: Path) -> None:
    assert cache_sizes(tmp_path) == {"features": 0, "icons": 0, "images": 0, "noise": 0}
    fill(tmp_path)
    assert cache_sizes(tmp_path) == {"features": 15, "icons": 7, "images": 0, "noise": 0}


def test_clearing_removes_what_was_asked_for_and_nothing_else(tmp_path: Path) -> None:
    fill(tmp_path)
    assert clear_cache("icons", tmp_path) == 7
    assert cache_sizes(tmp_path) == {"features": 15, "icons": 0, "images": 0, "noise": 0}
    assert clear_cache(root=tmp_path) == 15
    assert clear_cache(root=tmp_path) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one of features, icons"):
        clear_cache("../x", tmp_path)
