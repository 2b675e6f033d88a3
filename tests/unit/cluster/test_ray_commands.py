"""The command line with Ray: a comparison on actors has the bits of one without them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from secfpp.cli.app import app
from secfpp.storage import read_arrays

pytestmark = [
    pytest.mark.slow,  # Ray starts in 8 s, actors in as many, once for the whole comparison
    pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray"),
]
CONFIG = """
rounds = 2
participation = 0.5
[data]
name = "icons"
clients_per_domain = 6
shots = 4
validation_shots = 2
test_shots = 2
[backbone]
name = "mini"
device = "cpu"
threads = 1
[method]
name = "promptfl"
training.steps = 1
[variants.secfpp-short]
base = "secfpp"
training.steps = 1
"""
METHODS = ("promptfl", "secfpp-short")


def compared(out: Path, *more: str) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of each method's cell."""
    command = ["compare", "c.toml", "--methods", ",".join(METHODS), "--seeds", "0", "--out", str(out), *more]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    return {name: read_arrays(out / "cells" / name / "0.safetensors")[0] for name in METHODS}


def test_a_comparison_on_actors_has_the_bits_of_one_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.toml").write_text(CONFIG)
    here, spread = compared(tmp_path / "here", "--workers", "1"), compared(tmp_path / "ray", "--engine", "ray")
    assert {"prompts", "metric.own"} <= here["promptfl"].keys()
    for name in METHODS:
        assert here[name].keys() == spread[name].keys()
        for slot, array in here[name].items():
            assert np.array_equal(array, spread[name][slot], equal_nan=array.dtype.kind == "f"), (name, slot)
