"""Settings of averages under noise that hides a client, and the integers that are averaged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from secfpp.algorithms.privacy import Privacy
from secfpp.algorithms.visual import ClassMeans
from secfpp.crypto.field import PrimeField
from secfpp.crypto.fixed_point import FixedPoint
from secfpp.errors import ConfigError
from secfpp.protocol.program import ClientState
from secfpp.secure.clustering.clusterer import OneCluster
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.secure.means.updates import encoded_update
from support.method_runs import make

PROMPTS = Privacy(mechanism="prompts", epsilon=4.0)
ROOM = SecureMean(clip=256.0, bits=16)
ALONE: dict[str, Any] = {
    "clusterer": OneCluster(),
    "class_means": ClassMeans(levels="own"),
    "descriptor": "features",
}


@pytest.mark.parametrize("bits", [8, 16, 20])
@pytest.mark.parametrize("magnitude", [1e-3, 1.0, 300.0])
def test_a_base_and_whole_steps_on_it_are_encoded_as_these_steps(bits, magnitude):
    draw = np.random.default_rng(bits)
    codec = FixedPoint(2.0 ** (26 - bits), bits)
    base = (magnitude * draw.standard_normal((4, 128))).astype(np.float32)
    integers = draw.integers(-(2**21), 2**21, (4, 128))
    state = ClientState({"prompt": base + integers * codec.step, "prompt.base": base})
    assert np.array_equal(PrimeField.lower(encoded_update(state, "prompt", codec, 1)), integers)


def test_a_single_precision_slot_holds_noise_of_sixteen_bits_exactly():
    draw = np.random.default_rng(0)
    base = (0.05 * draw.standard_normal((4, 128))).astype(np.float32)
    integers = draw.integers(-(2**22), 2**22, (4, 128))  # noise up to 64
    slot = (base + integers * 2.0**-16).astype(np.float32)
    codec = FixedPoint(2000.0, 16)
    state = ClientState({"prompt": slot, "prompt.base": base})
    assert np.array_equal(PrimeField.lower(encoded_update(state, "prompt", codec, 1)), integers)


def problems(**settings: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        make(settings.pop("name", "secfpp"), **{"privacy": PROMPTS, "aggregator": ROOM, **settings})
    return str(raised.value)


def test_settings_under_which_a_client_would_not_be_hidden_are_refused_with_the_remedy():
    said = problems()
    assert 'class_means.levels = \'group\': "own" or "none"' in said
    assert "clusterer.kind = 'secure_agreement': one or random" in said
    assert "aggregator.kind = 'plain': secure" in problems(name="promptfl", aggregator=PlainMean())
    assert "cluster_every = 1: 0" in problems(**ALONE, cluster_every=1)
    assert "joint = True: false" in problems(**ALONE, joint=True)
    assert "'prompts': none or class_means" in problems(name="class_means", aggregator=SecureMean())
    sums = replace(PROMPTS, mechanism="class_means")
    assert "'class_means': none or prompts" in problems(name="promptfl", privacy=sums)
    for wrong, key in (({"unit": "record"}, "unit"), ({"releases": 0}, "releases"), ({"present": 0.0}, "present")):
        with pytest.raises(ConfigError, match=rf"privacy\.{key} = "):
            replace(PROMPTS, **wrong)


@pytest.mark.parametrize(("rounds", "expected"), [(1, 1), (4, 1), (20, 5), (100, 10)])
def test_a_run_has_no_more_releases_than_allowed_and_noise_for_no_more_than_it_has(rounds: int, expected: int):
    algorithm = make("secfpp", privacy=PROMPTS, aggregator=ROOM, **{**ALONE, "effort": 0.5, "local_share": 0.5})
    assert algorithm.for_rounds(rounds).privacy == replace(PROMPTS, releases=expected)
    assert make("promptfl", privacy=PROMPTS, aggregator=ROOM).for_rounds(rounds).privacy.releases == min(rounds, 10)
    for other in (make("secfpp"), make("promptfl"), make("secfpp", privacy=replace(PROMPTS, mechanism="class_means"))):
        assert other.for_rounds(rounds) is other


@pytest.mark.parametrize(("members", "says"), [(5, True), (1000, False)])
def test_much_noise_is_told_before_training_with_what_would_do(members: int, says: bool):
    algorithm = make("promptfl", privacy=PROMPTS, aggregator=ROOM)
    told = algorithm.forewarn(members, 512)
    assert bool(told) is says
    if says:
        assert "epsilon = 4" in told and "5 clients" in told
        enough = int(told.partition("About ")[2].split()[0])
        assert algorithm.noise_in_clips(enough, 512) <= 3 < algorithm.noise_in_clips(enough // 2, 512)
    assert make("promptfl").forewarn(members, 512) == ""
