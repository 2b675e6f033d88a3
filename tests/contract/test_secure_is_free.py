"""On shares and in the clear a method learns the same, bit for bit."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from secfpp.algorithms.base import methods
from secfpp.algorithms.secfpp import SecFPP
from secfpp.algorithms.training import LocalTraining
from secfpp.data.federated import FederatedDataset, hold_out
from secfpp.data.icons import IconSettings, load_icons
from secfpp.runtime.contexts import make_contexts
from secfpp.runtime.trainer import RunResult, train
from secfpp.secure.clustering.plain_agreement import PlainAgreement
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.secure.polls.plain_poll import PlainPoll
from support.method_runs import LEARNING, make, shifted

AVERAGING = [
    name
    for name in LEARNING
    if not issubclass(methods()[name], SecFPP) and "aggregator" in {field.name for field in fields(methods()[name])}
]
SECURE = SecFPP(training=LocalTraining(steps=2, batch=8))
CLEAR = replace(
    SECURE, clusterer=PlainAgreement(), aggregator=PlainMean(min_responders=4, most_weight=0.5), poll=PlainPoll()
)
ARRAYS = ("prompts", "domain_prompts", "descriptors", "visual_weights", "visual_bias", "text_weight", "log_priors")


def run(data: FederatedDataset, backbone: Any, algorithm: SecFPP, seed: int) -> RunResult:
    return train(data, backbone, algorithm, method="secfpp", seed=seed, rounds=5)


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
def test_prompts_groups_and_figures_are_those_of_the_clear_run(seed: int, backbone: Any) -> None:
    settings = IconSettings(
        shots=8, validation_shots=4, test_shots=2, clients_per_domain=5, domains=("sketch", "pixel")
    )
    data = hold_out(shifted(load_icons(settings, seed)), 0.2, seed)
    secure, clear = (run(data, backbone, algorithm, seed) for algorithm in (SECURE, CLEAR))
    assert secure.assignment == clear.assignment and len(set(secure.assignment or ())) == 2
    for name in ARRAYS:
        assert getattr(secure, name) is not None
        np.testing.assert_array_equal(getattr(secure, name), getattr(clear, name), name)
    assert secure.why == clear.why
    assert all(np.array_equal(values, clear.metrics[name]) for name, values in secure.metrics.items())
    assert secure.rows == clear.rows
    assert secure.newcomer_assignment == clear.newcomer_assignment and set(clear.newcomer_assignment or ()) == {0, 1}
    assert all(np.array_equal(values, clear.newcomer_metrics[name]) for name, values in secure.newcomer_metrics.items())
    assert secure.costs.client_up > 10 * clear.costs.client_up


@pytest.mark.parametrize("name", AVERAGING)
@pytest.mark.parametrize("participation", [1.0, 0.7])
def test_averages_on_shares_are_those_in_the_clear(name: str, participation: float, backbone: Any) -> None:
    settings = IconSettings(
        shots=6, validation_shots=2, test_shots=2, clients_per_domain=5, domains=("sketch", "pixel")
    )
    data = hold_out(load_icons(settings, 0), 0.2, 0)
    few = {"k": 2} if name == "ifca_prompt" else {}  # so that enough clients choose each
    secure, clear = (
        train(
            data,
            backbone,
            make(name, aggregator=aggregator, **few),
            method=name,
            seed=0,
            rounds=3,
            participation=participation,
            force_wire=False,
        )
        for aggregator in (SecureMean(), PlainMean(min_responders=4, most_weight=0.5))
    )
    assert data.newcomers and len(secure.newcomers) == len(data.newcomers)
    np.testing.assert_array_equal(secure.prompts, clear.prompts)
    assert secure.rows == clear.rows and secure.assignment == clear.assignment
    for figures, others in ((secure.metrics, clear.metrics), (secure.newcomer_metrics, clear.newcomer_metrics)):
        assert all(np.array_equal(values, others[key]) for key, values in figures.items())
    assert not secure.refusals
    algorithm = make(name, **few)
    states = [algorithm.client_state(context) for context in make_contexts(data, backbone, algorithm, 0).values()]
    started = {array.tobytes() for state in states for array in state.arrays.values()}
    assert not {prompt.tobytes() for prompt in secure.prompts} <= started  # averages were made
