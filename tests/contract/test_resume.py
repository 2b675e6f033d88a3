"""A run that is killed and goes on ends like one that was never interrupted."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from secfpp.errors import DataError
from secfpp.runtime.trainer import train
from support.method_runs import TRAINED, make
from support.stopping import stopped

ROUNDS = 4
SCRIPT = """
import os, signal, sys
from pathlib import Path
from secfpp import storage
from secfpp.algorithms.base import methods
from secfpp.algorithms.training import LocalTraining
from secfpp.data.icons import IconSettings, load_icons
from secfpp.models.backbone import load_backbone
from secfpp.runtime.trainer import train

name, path, point, count = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
calls = 0

def die(*args):
    global calls
    calls += 1
    if calls == count:
        os.kill(os.getpid(), signal.SIGKILL)

rename = os.replace
def replace(source, target):
    if Path(target) == path and point == "before rename":
        die()
    rename(source, target)
    if Path(target) == path and point == "after rename":
        die()
storage.os.replace = replace
dropouts = (lambda *args: die()) if point == "in a round" else None
data = load_icons(
    IconSettings(shots=6, validation_shots=2, test_shots=2, clients_per_domain=4, domains=("sketch", "pixel")), 0
)
algorithm = methods()[name](training=LocalTraining(steps=2, batch=8), effort=1.0)
model = load_backbone("mini", device="cpu")
train(data, model, algorithm, method=name, seed=0, rounds=4, checkpoint=path, dropouts=dropouts)
"""


def run(dataset, backbone, name, rounds=ROUNDS, **options):
    return train(dataset, backbone, make(name), method=name, seed=0, rounds=rounds, **options)


def assert_same(a, b):
    assert np.array_equal(a.prompts, b.prompts) and a.rows == b.rows and a.assignment == b.assignment
    assert a.metrics.keys() == b.metrics.keys()
    assert all(np.array_equal(a.metrics[name], b.metrics[name], equal_nan=True) for name in a.metrics)
    assert a.costs.up == b.costs.up and a.costs.down == b.costs.down and a.costs.exchanges == b.costs.exchanges
    assert a.costs.components == b.costs.components


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("at", [1, 3])
def test_stopping_between_rounds_changes_no_bit(name, at, dataset, backbone, tmp_path):
    path = tmp_path / "run.safetensors"
    stopped(
        min(at, make(name).planned(ROUNDS)),
        lambda on_round: run(dataset, backbone, name, checkpoint=path, on_round=on_round),
    )
    assert path.stat().st_mode & 0o777 == 0o600
    resumed = run(dataset, backbone, name, checkpoint=path)
    assert_same(resumed, run(dataset, backbone, name))
    assert_same(run(dataset, backbone, name, checkpoint=path), resumed)  # nothing left to do: only measured again


@pytest.mark.parametrize(
    ("point", "count"),
    [
        ("before rename", 1),
        ("after rename", 2),
        ("in a round", 20),
        pytest.param("before rename", 3, marks=pytest.mark.slow),
        pytest.param("after rename", 4, marks=pytest.mark.slow),
        *[pytest.param("in a round", n, marks=pytest.mark.slow) for n in (1, 33, 61)],
    ],
)
def test_a_killed_run_goes_on(point, count, dataset, backbone, tmp_path):
    path = tmp_path / "run.safetensors"
    command = [sys.executable, "-c", SCRIPT, "secfpp", str(path), point, str(count)]
    killed = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the killed process: bits are promised for equal numbers of threads
    try:
        assert_same(run(dataset, backbone, "secfpp", checkpoint=path), run(dataset, backbone, "secfpp"))
    finally:
        torch.set_num_threads(before)


def test_a_checkpoint_of_other_settings_or_a_damaged_one_is_refused(dataset, backbone, tmp_path):
    path = tmp_path / "run.safetensors"
    run(dataset, backbone, "promptfl", rounds=1, checkpoint=path)
    with pytest.raises(DataError, match="other settings, data or model"):
        run(dataset, backbone, "coop_local", rounds=1, checkpoint=path)
    with pytest.raises(DataError, match="other settings, data or model"):
        run(dataset, backbone, "promptfl", rounds=2, checkpoint=path)
    fewer = replace(dataset, clients=dataset.clients[1:])
    with pytest.raises(DataError, match="other settings, data or model"):
        run(fewer, backbone, "promptfl", rounds=1, checkpoint=path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match="delete it"):
        run(dataset, backbone, "promptfl", rounds=1, checkpoint=path)
