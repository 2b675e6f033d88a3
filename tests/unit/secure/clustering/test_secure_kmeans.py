"""k-means on shares as clients and server run it: beside k-means in the clear, and with dropouts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from secfpp.errors import ClientError, ConfigError, DropoutError, FieldRangeError, ProtocolError
from secfpp.protocol import wire
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import Ask
from secfpp.secure.clustering.secure_kmeans import SecureKMeans
from support.clustering_runs import (
    COMPUTED,
    DEAL,
    EXCHANGES,
    HELLO,
    PROCEED,
    REVEAL,
    SECURE,
    AtExchange,
    Missing,
    Run,
    groups,
)
from support.secure_runs import names
from support.toy import Fate


@pytest.mark.parametrize(
    ("clients", "changes"),
    [
        (6, {}),
        (8, {"reveal": "assignments"}),
        (9, {"threshold": "high", "min_cluster_size": 4}),
        (17, {"restarts": 2, "min_cluster_size": 4}),
        (8, {"k": 2, "min_cluster_size": 4}),
        (7, {"iterations": 1, "pull": 3}),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_partition_is_that_of_k_means_in_the_clear(clients: int, changes: dict[str, Any], seed: int) -> None:
    run = Run(groups(clients, seed, 0.3 if seed else 0.9), replace(SECURE, **changes))
    assert run.assign() == run.expected()


def test_exchanges_are_those_of_the_formula() -> None:
    run, drawn = Run(6), Run(17, replace(SECURE, min_cluster_size=4))
    run.assign()
    drawn.assign()
    assert run.driver.costs.exchanges == EXCHANGES
    assert drawn.driver.costs.exchanges == EXCHANGES + 1
    assert run.driver.costs.components["session"].exchanges == 1


def test_a_round_has_fresh_seeds_and_the_same_round_the_same() -> None:
    first = Run(8).find()[0]
    again = Run(8).find()[0]
    assert {k: sorted(v) for k, v in first.sizes.items()} == {k: sorted(v) for k, v in again.sizes.items()}
    assert first.inertia == again.inertia


def test_only_needed_holders_are_asked() -> None:
    watch = AtExchange({})
    Run(10, dropouts=watch).assign(watch.on_ask)
    assert {len(asked) for _, asked in watch.asked} == {6}
    assert [exchange for exchange, _ in watch.asked] == list(range(COMPUTED))


@pytest.mark.parametrize("exchange", range(COMPUTED))
def test_holders_that_drop_out_in_an_exchange_change_nothing(exchange: int) -> None:
    watch = AtExchange({exchange: {0, 3}})
    run = Run(8, dropouts=watch)
    assert run.assign(watch.on_ask) == run.expected()
    assert sorted(watch.missing) == [(exchange, 0), (exchange, 3)]


def test_holders_that_come_back_are_told_what_they_missed() -> None:
    watch = AtExchange({0: {0}, 2: {1}, 4: {2}, 5: {3, 4}, 6: {0}, 8: {1, 5}})
    run = Run(8, dropouts=watch)
    assert run.assign(watch.on_ask) == run.expected()
    returned = {number for exchange, asked in watch.asked if exchange == 5 for number in asked}
    assert returned & {0, 1, 2}


@pytest.mark.parametrize("exchange", [0, 1, 5, 3 * SECURE.iterations + 3])
def test_too_few_holders_are_an_error_that_names_the_missing(exchange: int) -> None:
    watch = AtExchange({exchange: {0, 3, 7}})
    with pytest.raises(DropoutError, match="at least 6 are needed") as caught:
        Run(8, dropouts=watch).assign(watch.on_ask)
    assert caught.value.step == PROCEED
    assert set(caught.value.missing) == {"c00", "c03", "c07"}


@pytest.mark.parametrize("fate", ["before", "after"])
@pytest.mark.parametrize(("step", "clients"), [(HELLO, 8), (DEAL, 8), (REVEAL, 18), (DEAL, 18)])
def test_who_is_missing_before_shares_are_complete_is_left_out(step: str, clients: int, fate: Fate) -> None:
    settings = replace(SECURE, min_cluster_size=4, restarts=2)
    run = Run(clients, settings, Missing(step, {1, 2}, fate=fate))
    assert run.assign() == run.expected(["c01", "c02"])


def test_clients_that_are_no_holders_may_go_after_sharing() -> None:
    clusterer = replace(SECURE, committee=6, dropouts=0)
    watch = AtExchange({})
    run = Run(9, clusterer, watch)
    assert run.assign(watch.on_ask) == run.expected()
    assert len({number for _, asked in watch.asked for number in asked}) == 6


def test_too_few_clients_left_are_an_error() -> None:
    with pytest.raises((ConfigError, DropoutError), match="at least 6 are needed"):
        Run(6, dropouts=Missing(DEAL, {5})).assign()
    few = replace(SECURE, min_cluster_size=4)
    with pytest.raises(DropoutError, match="at least 4 are needed") as caught:
        Run(8, few, dropouts=Missing(HELLO, set(range(5)))).assign()
    assert caught.value.missing == tuple(names(5))


def test_whoever_cannot_be_clustered_is_refused_before_anything_is_sent() -> None:
    refused = [
        (Run(8, replace(SECURE, committee=5)), ConfigError, "at least 6 to hold shares"),
        (Run(2), ConfigError, "at most the 2 clients"),
        (Run(16), ConfigError, "at least 4: else 2 holders could"),
        (Run(8, replace(SECURE, bits=16, pull=900)), FieldRangeError, "points of length up to 32767"),
        (Run(8, replace(SECURE, dropouts=4)), ConfigError, "at least 10 to hold shares"),
    ]
    for run, kind, reason in refused:
        with pytest.raises(kind, match=reason):
            run.assign()
        assert run.driver.costs.messages == 0


def test_too_few_clients_for_two_clusters_are_one_without_a_message() -> None:
    few = Run(5)
    assert few.assign() == Assignment(dict.fromkeys(few.states, 0))
    assert few.driver.costs.messages == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"threshold": "high", "compare_bits": 20}, r'compare_bits = 20: only with threshold = "standard"'),
        ({"committee": 3}, "4 to 100"),
        ({"committee": 101}, "4 to 100"),
        ({"dropouts": -1}, "must not be negative"),
        ({"bits": 1}, r"clusterer\.bits"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        replace(SECURE, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"reveal": "assignments"},
        {"min_cluster_size": 4},
        {"threshold": "high", "min_cluster_size": 4},
        {"iterations": 5},
    ],
)
def test_clients_share_nothing_under_other_settings_than_theirs(changes: dict[str, Any]) -> None:
    with pytest.raises(ClientError, match="other settings") as caught:
        Run(8, replace(SECURE, **changes), theirs=SECURE).assign()
    assert isinstance(caught.value.__cause__, ProtocolError)
    assert caught.value.step == DEAL


def test_a_search_that_fits_no_message_is_refused_before_anything_is_sent() -> None:
    clusterer = SecureKMeans(sample=0)
    program = clusterer.assign(Cohort({f"c{i:03}": 1 for i in range(140)}, 1, 0), "z", None)
    with pytest.raises(
        ConfigError,
        match=r"clusterer\.restarts = 192: fewer: with 140 clients a message to a holder would have \d+ MiB",
    ):
        next(program)
    few = replace(clusterer, k=8, restarts=1)
    first = next(few.assign(Cohort({f"c{i:03}": 1 for i in range(100)}, 1, 0), "z", None))
    assert isinstance(first, Ask) and first.step == "session.hello"


def test_with_too_few_left_for_two_clusters_nothing_is_computed() -> None:
    clusterer = replace(SECURE, min_cluster_size=4)
    run = Run(8, clusterer, dropouts=Missing(DEAL, {3}))
    asked: list[str] = []

    def on_ask(ask: Ask) -> Ask:
        asked.append(ask.step)
        return ask

    assert set(run.assign(on_ask).cluster_of.values()) == {0}
    assert asked == [HELLO, DEAL]


def test_who_stood_by_gets_no_larger_message_than_others() -> None:
    """What was dealt is as large as a message may be, so it does not come with what was opened since."""

    def largest(dropouts: Missing | None) -> int:
        sizes: list[int] = []

        def on_ask(ask: Ask) -> Ask:
            sizes.extend(wire.measure(payload) for payload in ask.payloads.values())
            return ask

        run = Run(8, dropouts=dropouts)
        assert run.assign(on_ask) == run.expected()
        return max(sizes)

    assert largest(Missing(PROCEED, *[set()] * 7, {1})) <= largest(None)


@pytest.mark.parametrize(
    ("settings", "clients", "said"),
    [
        ({"committee": 5}, 8, r"clusterer.committee = 5: at least 6 to hold shares$"),
        ({"dropouts": 7}, 8, r"clients = 8: at least 13 to hold shares, or clusterer.dropouts = 2$"),
        ({"threshold": "high", "min_cluster_size": 5}, 24, r"clusterer.min_cluster_size = 5: at least 7"),
        ({"min_cluster_size": 9}, 8, r"clusterer.min_cluster_size = 9: at most the 8 clients of a round"),
        ({"k": 3}, 8, r"clusterer.k = 3: at most 2"),
        ({"restarts": 10**6}, 8, r"clusterer.restarts = 1000000: fewer"),
        ({"restarts": 10**6, "k": 2}, 12, r"clusterer.restarts = 1000000: fewer"),
        ({"sample": 0}, 136, r"clusterer.restarts = 192: fewer: with 136 clients"),
    ],
)
def test_numbers_of_clients_that_settings_do_not_fit(settings: dict[str, Any], clients: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SecureKMeans(**settings).require(clients)


def test_numbers_of_clients_that_settings_fit() -> None:
    for clients in (4, 7, 8, 30, 10_000):
        SecureKMeans().require(clients)
    SecureKMeans(k=1, restarts=10**6).require(100)
