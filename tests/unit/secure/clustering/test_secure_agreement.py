"""Groups by agreement on shares as clients and server run it: beside those in the clear, and with dropouts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from secfpp.errors import ClientError, ConfigError, DropoutError, FieldRangeError, ProtocolError, TamperError
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import Ask, ClientState
from secfpp.secure.clustering import agreement, secure_agreement
from secfpp.secure.clustering.secure_agreement import SecureAgreement
from secfpp.secure.session import greet, greeted
from support.agreement_runs import ANNOUNCE, COMPUTED, EXCHANGES, SECURE, AgreementRun, disagreeing
from support.clustering_runs import DEAL, HELLO, PROCEED, REVEAL, AtExchange, Missing
from support.secure_runs import answering, everyone
from support.toy import Fate


@pytest.mark.parametrize(
    ("clients", "changes"),
    [
        (6, {}),
        (9, {"threshold": "high", "min_cluster_size": 4}),
        (17, {"restarts": 2, "min_cluster_size": 4}),
        (8, {"k": 2, "min_cluster_size": 4}),
        (7, {"iterations": 1}),
        (12, {"largest": 1, "k_max": 4}),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_partition_is_that_in_the_clear(clients: int, changes: dict[str, Any], seed: int) -> None:
    states = disagreeing(2, (clients + 1) // 2, seed, dimensions=24, strength=1.2 * (1 - seed))
    run = AgreementRun(dict(sorted(states.items())[:clients]), replace(SECURE, **changes))
    assert run.assign() == run.expected()


@pytest.mark.slow
def test_the_default_finds_six_groups_of_five() -> None:
    states = disagreeing(6, 5, dimensions=576, strength=0.5)
    run = AgreementRun(states, SecureAgreement())
    assert run.assign() == run.expected()
    assert run.expected().k == 6
    assert run.driver.costs.exchanges == 18


def test_exchanges_are_those_of_the_formula() -> None:
    run, drawn = AgreementRun(6), AgreementRun(17, replace(SECURE, min_cluster_size=4))
    run.assign()
    drawn.assign()
    assert run.driver.costs.exchanges == EXCHANGES
    assert drawn.driver.costs.exchanges == EXCHANGES + 1


def test_with_keys_that_are_there_already_it_takes_as_many() -> None:
    run = AgreementRun(8)
    cohort = greeted(run.cohort, run.driver.run(_asked(greet(run.cohort))))
    before = run.driver.costs.exchanges
    assert run.driver.run(run.clusterer.assign(cohort, "z", None)) == run.expected()
    assert run.driver.costs.exchanges - before == EXCHANGES


def _asked(ask: Ask) -> Any:
    return (yield ask)


@pytest.mark.parametrize("exchange", range(COMPUTED))
def test_holders_that_drop_out_in_an_exchange_change_nothing(exchange: int) -> None:
    watch = AtExchange({exchange: {0, 3}})
    run = AgreementRun(8, dropouts=watch)
    assert run.assign(watch.on_ask) == run.expected()
    assert sorted(watch.missing) == [(exchange, 0), (exchange, 3)]


def test_holders_that_come_back_are_told_what_they_missed() -> None:
    watch = AtExchange({0: {0}, 2: {1}, 4: {2}, 5: {3, 4}, 6: {0}, 8: {1, 5}, 11: {6}})
    run = AgreementRun(8, dropouts=watch)
    assert run.assign(watch.on_ask) == run.expected()


@pytest.mark.parametrize("exchange", [0, 1, 7, COMPUTED - 1])
def test_too_few_holders_are_an_error_that_names_the_missing(exchange: int) -> None:
    watch = AtExchange({exchange: {0, 3, 7}})
    with pytest.raises(DropoutError, match="at least 6 are needed") as caught:
        AgreementRun(8, dropouts=watch).assign(watch.on_ask)
    assert set(caught.value.missing) == {"c00", "c03", "c07"}


@pytest.mark.parametrize("fate", ["before", "after"])
@pytest.mark.parametrize(("step", "clients"), [(HELLO, 8), (ANNOUNCE, 8), (DEAL, 8), (REVEAL, 18), (DEAL, 18)])
def test_who_is_missing_before_shares_are_complete_is_left_out(step: str, clients: int, fate: Fate) -> None:
    settings = replace(SECURE, min_cluster_size=4, restarts=2)
    run = AgreementRun(clients, settings, Missing(step, {1, 2}, fate=fate))
    assert run.assign() == run.expected(["c01", "c02"])


def test_too_few_clients_left_are_an_error() -> None:
    with pytest.raises((ConfigError, DropoutError), match="at least 6 are needed"):
        AgreementRun(6, dropouts=Missing(DEAL, {5})).assign()
    few = replace(SECURE, min_cluster_size=4)
    with pytest.raises(DropoutError, match="at least 4 are needed") as caught:
        AgreementRun(8, few, dropouts=Missing(HELLO, set(range(5)))).assign()
    assert caught.value.missing == tuple(f"c{i:02}" for i in range(5))
    with pytest.raises(DropoutError, match="0 clients answered"):
        AgreementRun(8, dropouts=Missing(ANNOUNCE, set(range(8)))).assign()


def test_with_too_few_left_for_two_groups_nothing_is_computed() -> None:
    run = AgreementRun(8, replace(SECURE, min_cluster_size=4), dropouts=Missing(DEAL, {3}))
    asked: list[str] = []

    def on_ask(ask: Ask) -> Ask:
        asked.append(ask.step)
        return ask

    assert set(run.assign(on_ask).cluster_of.values()) == {0}
    assert asked == [DEAL]


def test_whoever_cannot_be_grouped_is_refused_before_anything_is_sent() -> None:
    refused = [
        (AgreementRun(8, replace(SECURE, committee=5)), ConfigError, "at least 6 to hold shares"),
        (AgreementRun(2), ConfigError, "at most the 2 clients"),
        (AgreementRun(16), ConfigError, "at least 4: else 2 holders could"),
        (AgreementRun(8, replace(SECURE, dropouts=4)), ConfigError, "at least 10 to hold shares"),
        (AgreementRun(8, replace(SECURE, restarts=10**6)), ConfigError, r"clusterer\.restarts = 1000000: fewer"),
    ]
    for run, kind, reason in refused:
        with pytest.raises(kind, match=reason):
            run.assign()
        assert run.driver.costs.messages == 0


def test_descriptors_that_fit_no_message_or_no_exact_arithmetic_are_refused_before_anything_is_shared() -> None:
    many = {f"c{i:02}": ClientState({"z": np.zeros(10**6), "z.spread": np.array(3.0)}) for i in range(20)}
    run = AgreementRun(many, SecureAgreement(restarts=8, k_max=2))
    with pytest.raises(ConfigError, match="a message to a holder would have"):
        run.assign()
    assert run.driver.costs.exchanges == 1
    with pytest.raises(FieldRangeError, match="points of length up to"):
        replace(SECURE, sample=0).require_shape(10**4, 10**6)


def test_numbers_of_clients_that_settings_fit() -> None:
    for clients in (4, 7, 8, 30, 100, 10_000):
        SecureAgreement().require(clients)
    SecureAgreement(restarts=64, sample=0).require(320)
    with pytest.raises(ConfigError, match=r"clusterer.restarts = 192: fewer: with 350 clients"):
        SecureAgreement(sample=0).require(350)
    with pytest.raises(ConfigError, match=r"clusterer.k = 3: at most 2"):
        SecureAgreement(k=3).require(8)


def test_too_few_clients_for_two_groups_are_one_without_a_message() -> None:
    few = AgreementRun(5)
    assert few.assign() == Assignment(dict.fromkeys(few.states, 0))
    assert few.driver.costs.messages == 0


@pytest.mark.parametrize("changes", [{"min_cluster_size": 4}, {"iterations": 5}, {"largest": 2}, {"finalists": 3}])
def test_clients_share_nothing_under_other_settings_than_theirs(changes: dict[str, Any]) -> None:
    with pytest.raises(ClientError, match="other settings") as caught:
        AgreementRun(8, replace(SECURE, **changes), theirs=SECURE).assign()
    assert isinstance(caught.value.__cause__, ProtocolError) and caught.value.step == DEAL


def test_clients_that_do_not_agree_about_size_or_spread_are_named() -> None:
    for wrong in ({"z.spread": np.array(9.0)}, {"z": np.zeros(23)}):
        run = AgreementRun(8)
        run.driver.states["c05"] = run.driver.states["c05"].replace(**wrong)
        with pytest.raises(ProtocolError, match="client 'c05' tells of a descriptor of"):
            run.assign()


def changed_terms(**facts: Any) -> Any:
    def change(message: dict[str, np.ndarray]) -> None:
        message["about"] = np.array(json.dumps({**json.loads(message["about"].item()), **facts}, sort_keys=True))

    return everyone(DEAL, change)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"spread": 1.0}, "this client has one of"),
        ({"spread": 1}, "terms without 'spread'"),
        ({"dimensions": 23}, "this client has one of"),
        ({"dimensions": "24"}, "terms without 'dimensions'"),
        ({"threshold": 2}, "not what this client agreed to"),
        ({"task": "place"}, "terms without the groups"),
        ({"task": 3}, "terms without 'task'"),
        ({"task": "else"}, "terms without the groups"),
        ({"slot": "other"}, "no vector 'other'"),
    ],
)
def test_clients_share_nothing_on_terms_that_are_not_theirs(facts: dict[str, Any], reason: str) -> None:
    with pytest.raises(ClientError, match=reason) as caught:
        AgreementRun(8).assign(changed_terms(**facts))
    assert caught.value.step == DEAL


def test_wrong_answers_at_the_end_are_noticed() -> None:
    watch = AtExchange({})

    def change(message: dict[str, np.ndarray]) -> None:
        if watch.exchange == COMPUTED - 1:
            message["masked"][0] ^= np.uint64(5)

    with pytest.raises(TamperError, match="no partition: a holder answered wrongly"):
        AgreementRun(8).assign(watch.on_ask, answering(PROCEED, "c00", change))


def test_nothing_becomes_public_but_the_partition() -> None:
    found, _ = AgreementRun(8).find()
    assert found.labels is not None
    assert found.sizes == found.inertia == found.assignments == {}


# ---- Newcomers


def halves(run: AgreementRun, new: set[str]) -> Assignment:
    return Assignment({c: 1 - int(state["domain"]) for c, state in run.states.items() if c not in new})


@pytest.mark.parametrize("clients", [9, 19])
@pytest.mark.parametrize("threshold", ["standard", "high"])
def test_newcomers_come_where_they_come_in_the_clear(clients: int, threshold: Any) -> None:
    size = {9: 3, 19: 4}[clients] + 3 * (threshold == "high" and clients == 19)
    for seed in range(3):
        states = dict(sorted(disagreeing(2, 10, seed, dimensions=24, strength=0.3).items())[:clients])
        settings = replace(SECURE, threshold=threshold, min_cluster_size=max(size, 4 if threshold == "high" else 3))
        run, new = AgreementRun(states, settings), {"c02", "c05"}
        old = halves(run, new)
        if min(old.sizes) < settings.min_cluster_size:
            continue
        assert run.place(old, new) == run.expected_places(old, new)


def test_members_and_newcomers_may_drop_out() -> None:
    states, new = disagreeing(2, 8, dimensions=24), {"c02", "c05", "c09"}
    for step, fate in ((ANNOUNCE, "before"), (DEAL, "after"), (HELLO, "before")):
        run = AgreementRun(states, replace(SECURE, min_cluster_size=4), Missing(step, {2, 7}, fate=fate))  # type: ignore[arg-type]
        old = halves(run, new)
        assert run.place(old, new) == run.expected_places(old, new, ["c02", "c07"])


def test_a_group_that_loses_too_many_while_shares_are_dealt_cannot_be_joined() -> None:
    states, new = disagreeing(3, 5, dimensions=24), {"c02"}
    old = Assignment({c: int(state["domain"]) for c, state in states.items() if c not in new})
    gone = {int(c[1:]) for c in old.members(2)[:2]}
    run = AgreementRun(states, replace(SECURE, min_cluster_size=4), Missing(DEAL, gone))
    after = run.place(old, new)
    assert after == run.expected_places(old, new, [f"c{i:02}" for i in gone])
    assert after.cluster_of["c02"] != 2
    most = {int(c[1:]) for group in (1, 2) for c in old.members(group)[:2]}
    run = AgreementRun(states, replace(SECURE, min_cluster_size=4), Missing(DEAL, most))
    assert run.place(old, new).cluster_of["c02"] == 0  # the only one left: nothing to compute
    assert run.driver.costs.components["clusterer"].exchanges == 2 - 1 + 1


@pytest.mark.parametrize("exchange", range(4))
def test_holders_may_drop_out_while_newcomers_are_placed(exchange: int) -> None:
    watch = AtExchange({exchange: {0, 3}})
    run = AgreementRun(12, dropouts=watch)
    old = halves(run, {"c01"})
    assert run.place(old, {"c01"}, watch.on_ask) == run.expected_places(old, {"c01"})


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"groups": None}, "terms without the groups"),
        ({"groups": [0] * 12}, "two or more, of 3 members"),
        ({"groups": [0, -1] * 6}, "two or more, of 3 members"),
        ({"groups": [-1, 0, *[1, 0] * 4, 1, 2]}, "two or more, of 3 members"),
        ({"groups": [-1, 0, 1] * 3}, "two or more, of 3 members"),
        ({"groups": [-1, -2, *[0, 1] * 5]}, "terms without the groups"),
        ({"groups": [-1, True, *[0, 1] * 5]}, "terms without the groups"),
        ({"groups": [-1, 10**9, *[0, 1] * 5]}, "terms without the groups"),
        ({"newcomers": []}, "in none of the groups"),
        ({"newcomers": [5]}, "in none of the groups"),
        ({"newcomers": [-1]}, "in none of the groups"),
        ({"newcomers": [12]}, "terms without the groups"),
    ],
)
def test_clients_take_newcomers_in_on_terms_that_protect_them_only(facts: dict[str, Any], reason: str) -> None:
    run = AgreementRun(12)
    with pytest.raises(ClientError, match=reason):
        run.place(halves(run, {"c01"}), {"c01"}, changed_terms(**facts))


def test_wrong_answers_about_newcomers_are_noticed() -> None:
    watch = AtExchange({})

    def change(message: dict[str, np.ndarray]) -> None:
        if watch.exchange == 2:
            message["masked"][:] ^= np.uint64(5)

    run = AgreementRun(12)
    with pytest.raises(TamperError, match="no group: a holder answered wrongly"):
        run.place(halves(run, {"c01"}), {"c01"}, watch.on_ask, answering(PROCEED, "c00", change))


def test_too_few_to_hold_shares_of_newcomers_are_refused_before_anything_is_sent() -> None:
    states = dict(list(disagreeing(2, 3, dimensions=24).items())[:5])
    run = AgreementRun(states, replace(SECURE, min_cluster_size=3))
    old = Assignment({"c00": 0, "c01": 0, "c02": 0, "c03": 0})
    assert run.place(old, {"c04"}).cluster_of["c04"] == 0
    assert run.driver.costs.messages == 0
    two = Assignment({c: i % 2 for i, c in enumerate(list(states)[:4])})
    with pytest.raises(DropoutError, match="2 clients answered, at least 3"):
        run.place(two, {"c04"})
    assert run.driver.costs.messages == 0


def test_another_cohort_is_asked_for_nothing() -> None:
    run = AgreementRun(12)
    old = halves(run, {"c01", "c02"})
    watch = AtExchange({})
    after = run.driver.run(run.clusterer.place(Cohort({**run.cohort.weights}, 0, 0), "z", old, {"c01"}))
    assert "c02" not in after.cluster_of
    assert run.driver.costs.up.get("c02", 0) == 0 and watch.exchange == -1


def test_what_noise_reaches_is_known_before_clients_are_grouped() -> None:
    clusterer, facts = SecureAgreement(restarts=5), {"threshold": 1, "seed": 7, "round": 1, "spread": 2.0}
    agreement._noise.cache_clear()
    secure_agreement._estimate.cache_clear()
    clusterer.prepare(8, 24, 7)
    clusterer.grouping({**facts, "clients": list("abcdefgh"), "holders": list("abcdefgh"), "dimensions": 24})
    for known in (agreement._noise, secure_agreement._estimate):
        assert known.cache_info().misses == 1


def test_who_is_too_few_to_be_grouped_prepares_nothing() -> None:
    secure_agreement._estimate.cache_clear()
    for few in (2, 4, 5):
        SecureAgreement(min_cluster_size=3, k=1 if few == 5 else None).prepare(few, 24, 7)
    assert secure_agreement._estimate.cache_info().misses == 0
