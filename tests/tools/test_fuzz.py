from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from secfpp.protocol import wire
from secfpp.secure import key_lists


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    path = Path(__file__).parents[2] / "tools" / "fuzz.py"
    spec = importlib.util.spec_from_file_location("fuzz", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module
    spec.loader.exec_module(module)
    return module


def test_damaged_messages_give_errors_of_this_package_only(fuzz: ModuleType) -> None:
    outcomes, finding = fuzz.run(seconds=5.0, seed=1)
    assert finding is None
    assert outcomes["WireError"] > 100 and outcomes["ProtocolError"] > 100 and outcomes["TamperError"] > 0


def test_an_unguarded_reader_is_found(fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_text", lambda raw, what: raw.decode())
    _, finding = fuzz.run(seconds=20.0, seed=0)
    assert finding is not None and "UnicodeDecodeError" in finding


def test_bytes_of_another_type_are_none(fuzz: ModuleType) -> None:
    import numpy as np

    assert key_lists.as_bytes(np.array([np.nan])) == b""
