from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from secfpp.errors import ClientError, ConfigError, DropoutError, FieldRangeError, ProtocolError
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import ClientState
from secfpp.secure.clustering.plain_agreement import PlainAgreement
from support.agreement_runs import disagreeing
from support.toy import Toy, dropping, toy_driver


def assign(states: dict[str, ClientState], clusterer: PlainAgreement, seed: int = 0, **settings: Any) -> Assignment:
    cohort = Cohort(dict.fromkeys(states, 1), 0, seed)
    return toy_driver(states, Toy(clusterer=clusterer), **settings).run(clusterer.assign(cohort, "z", None))


def truth(states: dict[str, ClientState]) -> Assignment:
    return Assignment.from_labels(list(states), [int(state["domain"]) for state in states.values()])


def test_groups_that_disagree_are_found() -> None:
    found = [
        assign(disagreeing(seed=seed), PlainAgreement(), seed) == truth(disagreeing(seed=seed)) for seed in range(8)
    ]
    assert sum(found) >= 7


def test_clients_with_nothing_in_common_are_one_group() -> None:
    ks = [assign(disagreeing(seed=seed, strength=0), PlainAgreement(), seed).k for seed in range(20)]
    assert ks.count(1) >= 17


def test_a_fixed_k_is_kept_whatever_is_there() -> None:
    assert assign(disagreeing(), PlainAgreement(k=3)) == truth(disagreeing())
    assert assign(disagreeing(strength=0), PlainAgreement(k=2)).k == 2


def test_no_group_is_below_the_minimum() -> None:
    states = disagreeing(4, 3, strength=1.5)
    assert min(assign(states, PlainAgreement()).sizes) >= 4
    assert assign(states, PlainAgreement(min_cluster_size=3)) == truth(states)


def test_it_does_not_depend_on_the_wire() -> None:
    assert assign(disagreeing(), PlainAgreement()) == assign(disagreeing(), PlainAgreement(), force_wire=False)


def test_whoever_is_missing_is_left_out() -> None:
    states = disagreeing()
    gone = dropping((0, "clusterer.describe", "c03", "before"), (0, "clusterer.describe", "c10", "after"))
    rest = {client: state for client, state in states.items() if client not in ("c03", "c10")}
    assert assign(states, PlainAgreement(), dropouts=gone) == truth(rest)
    few = disagreeing(1, 5)
    with pytest.raises(DropoutError, match="at least 4"):
        assign(
            few, PlainAgreement(), dropouts=dropping(*[(0, "clusterer.describe", c, "before") for c in list(few)[:2]])
        )


def test_real_numbers_are_rounded_and_cut_off_and_long_descriptors_shortened() -> None:
    clusterer = PlainAgreement()
    assert clusterer.described(np.array([0.4, -1.6, 9.0, *np.zeros(13)])).tolist() == [0, -2, 3, *[0] * 13]
    assert clusterer.radius(600) == 60
    for descriptor in (np.full(600, 3.0), np.full(600, -99.0), np.resize([3, -3, 2], 600)):
        short = clusterer.described(descriptor)
        assert 40**2 < int(short.astype(int) @ short) <= 60**2
    assert not clusterer.described(np.zeros(5)).any()
    for largest in (1, 2):
        extreme = np.resize([largest, -largest], 77)
        assert PlainAgreement(largest=largest).described(extreme).tolist() == extreme.tolist()


def test_what_is_not_finite_is_refused() -> None:
    with pytest.raises(FieldRangeError, match="lower the learning rate"):
        PlainAgreement().described(np.array([1.0, np.nan]))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"z.spread": np.array(9.0)}, r"client 'c05' tells of a descriptor of \(96, 9.0\), most tell of \(96, 10.58"),
        ({"z": np.zeros(95)}, r"of \(95, 10.58"),
        ({"z.spread": np.array(0.0)}, "no positive number 'z.spread'"),
        ({"z.spread": np.array(np.nan)}, "no positive number 'z.spread'"),
        ({"z.spread": np.ones(2)}, "no positive number 'z.spread'"),
        ({"z": np.zeros((8, 12))}, "no vector 'z'"),
    ],
)
def test_all_clients_need_the_same_size_and_spread(wrong: dict[str, np.ndarray], reason: str) -> None:
    states = disagreeing()
    states["c05"] = states["c05"].replace(**wrong)
    with pytest.raises((ProtocolError, ClientError), match=reason):
        assign(states, PlainAgreement())


def test_a_client_without_a_spread_is_an_error() -> None:
    states = disagreeing()
    states["c00"] = ClientState({"z": states["c00"]["z"]})
    with pytest.raises(ClientError, match=r"no positive number 'z\.spread'"):
        assign(states, PlainAgreement())


@pytest.mark.parametrize(("settings", "key"), [({"largest": 0}, "largest"), ({"k_max": 0}, "k_max")])
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^clusterer\.{key} = {settings[key]}: "):
        PlainAgreement(**settings)
