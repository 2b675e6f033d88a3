"""`secfpp rehearse`: sites in processes of their own, against a simulation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from secfpp.cli.app import app
from secfpp.deploy.rehearsal import differing, prepare, simulate
from secfpp.experiment.spec.config import parse_config

SMALL = ["--set", "rounds=2", "--set", "data.shots=4", "--set", "data.validation_shots=2", "--set", "data.test_shots=2"]


def test_sites_have_the_bits_of_a_simulation(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["rehearse", "--sites", "4", "--json", "--out", str(tmp_path / "kept"), *SMALL])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["differ"] == []
    assert told["costs_differ"] is False
    assert told["exchanges"] > 5
    for site in (tmp_path / "kept" / "sites").iterdir():
        assert (site / "prompt.safetensors").is_file()
        assert list((site / "log").glob("*.jsonl"))


def test_other_bits_are_found(tmp_path: Path) -> None:
    table = {"rounds": 2, "data": {"name": "icons", "shots": 4, "validation_shots": 2, "test_shots": 2}}
    rehearsal = prepare(tmp_path / "sites", parse_config(table), 4)
    states, _, _ = simulate(rehearsal)
    assert differing(rehearsal, states), "nothing is kept at the sites yet"
    planned = rehearsal.agreed.algorithm.planned(rehearsal.agreed.rounds)
    for name, site in rehearsal.sites.items():
        site.store(rehearsal.agreed).save(planned, states[name])
    assert differing(rehearsal, states) == ()
    odd, other = sorted(states)[:2]
    slot = next(slot for slot, array in states[odd].arrays.items() if array.dtype == np.float32 and array.size)
    changed = states[odd][slot].copy()
    changed.flat[0] = np.nextafter(changed.flat[0], np.float32(9))
    found = differing(rehearsal, {**states, odd: states[odd].replace(**{slot: changed})})
    assert found == (f"{odd}: {slot}",)
    assert other != odd


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sites", "99"], "--sites = 99: 2 to 30"),
        (["--engine", "pigeon"], "--engine = 'pigeon': one of"),
        (["--sites", "2"], "clusterer.min_cluster_size = 4"),
    ],
)
def test_what_cannot_be_rehearsed_is_refused(words: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["rehearse", *words, *SMALL])
    assert done.exit_code == 2
    assert said in done.output
