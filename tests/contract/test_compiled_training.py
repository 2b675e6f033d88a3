"""Methods train with compiled blocks as without, where PyTorch traces them and runs what it traced."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from secfpp.algorithms.privacy import Privacy
from secfpp.algorithms.training import LocalTraining
from secfpp.data.federated import FederatedDataset
from secfpp.models import compiling
from secfpp.models.backbone import Backbone, load_backbone
from secfpp.runtime.trainer import train
from secfpp.secure.means.plain_mean import PlainMean
from support.method_runs import make

METHODS = ("coop_local", "promptfl", "fedpgp", "secfpp")


@pytest.fixture(scope="module")
def compiled() -> Iterator[Backbone]:
    """The embedded model, of which PyTorch traces forward and backward passes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiling, "BACKEND", "aot_eager")
        patch.setattr(compiling, "_lacking", lambda device: "")
        patch.setattr(logging.getLogger("torch.__trace"), "disabled", True)  # pytest would keep it
        torch._dynamo.reset()
        yield load_backbone("mini", device="cpu", compile=True)
    torch._dynamo.reset()


@pytest.mark.parametrize("name", METHODS)
def test_a_run_finds_the_same(name: str, dataset: FederatedDataset, backbone: Backbone, compiled: Backbone) -> None:
    counters.clear()
    plain, fast = (train(dataset, model, make(name), method=name, seed=0, rounds=2) for model in (backbone, compiled))
    assert not counters["graph_break"]
    np.testing.assert_allclose(fast.prompts, plain.prompts, atol=1e-4)
    for metric, values in plain.metrics.items():
        np.testing.assert_allclose(fast.metrics[metric], values, err_msg=metric)


@pytest.mark.parametrize("mechanism", ["dpsgd", "central"])
def test_steps_under_differential_privacy_are_taken(
    mechanism: Any, dataset: FederatedDataset, compiled: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECFPP_LEDGERS", str(tmp_path))
    step, mean = LocalTraining(steps=1, batch=8, optimizer="sgd", momentum=0.0), PlainMean(clip=20.0, bits=32)
    privacy = Privacy(mechanism=mechanism, epsilon=60.0, releases=3, clip=2.0)
    algorithm = make("promptfl", training=step, aggregator=mean, privacy=privacy)
    assert np.isfinite(train(dataset, compiled, algorithm, method="promptfl", seed=0, rounds=1).prompts).all()
