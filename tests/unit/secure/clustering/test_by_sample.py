"""Many clients grouped by a sample of them, on shares as in the clear."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from secfpp.errors import ClientError, ConfigError, DropoutError, ProtocolError, TamperError
from secfpp.protocol.program import Ask, Program
from secfpp.secure.circuits import server
from secfpp.secure.clustering import assigning, by_sample
from secfpp.secure.clustering.assigning import Centres, members_in
from secfpp.secure.clustering.secure_agreement import SecureAgreement
from support.agreement_runs import AgreementRun, disagreeing
from support.clustering_runs import DEAL, PROCEED, Run, groups
from support.clustering_runs import SECURE as K_MEANS

RETAIN = by_sample.RETAIN
SECURE = SecureAgreement(k_max=2, restarts=4, finalists=2, min_cluster_size=3, sample=12, committee=7)


def agreeing(clients: int = 24, strength: float = 1.0, changes: dict[str, Any] | None = None, **given: Any) -> Any:
    states = disagreeing(2, clients // 2, dimensions=24, strength=strength)
    return AgreementRun(states, replace(SECURE, **(changes or {})), **given)


@pytest.mark.parametrize(
    ("clients", "strength", "changes"),
    [
        (24, 1.0, {}),
        (24, 0.5, {}),
        (24, 0.0, {}),
        (14, 1.0, {}),  # all but two are searched
        (12, 1.0, {}),  # and here all
        (24, 1.0, {"committee": 16, "min_cluster_size": 4}),  # more holders than are in the sample
        (20, 1.0, {"committee": 20, "min_cluster_size": 5}),  # all clients hold shares
        (24, 1.0, {"threshold": "high", "min_cluster_size": 4}),
        (24, 0.7, {"k_max": 3}),
        (24, 1.0, {"security": "active"}),
        (24, 1.0, {"security": "active", "committee": 9}),
    ],
)
def test_groups_by_agreement_are_those_of_the_clear(clients: int, strength: float, changes: dict[str, Any]) -> None:
    run = agreeing(clients, strength, changes)
    assert run.assign() == run.expected()
    assert set(run.expected().cluster_of) == set(run.states)


@pytest.mark.parametrize("spread", [0.3, 0.9])
def test_groups_by_k_means_are_those_of_the_clear(spread: float) -> None:
    run = Run(groups(24, spread=spread), replace(K_MEANS, sample=12, committee=7))
    assert run.assign() == run.expected()


@pytest.mark.parametrize("security", ["passive", "active"])
def test_batches_change_nothing_and_take_an_exchange_each(security: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = agreeing(changes={"security": security})
    assert at_once.assign() == at_once.expected() and at_once.expected().k == 2
    monkeypatch.setattr(assigning, "BATCH", 2)
    run = agreeing(changes={"security": security})
    assert run.assign() == run.expected()
    assert run.driver.costs.exchanges == at_once.driver.costs.exchanges + 5


def test_who_does_not_share_is_left_out_of_its_batch_and_no_other_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assigning, "BATCH", 2)
    before: set[str] = set()
    gone: list[str] = []
    retained: list[str] = []

    def one(round_: int, step: str, client: str) -> Any:
        retained.extend([client] * (step == RETAIN))
        if step == DEAL and not retained:
            before.add(client)
        if step == DEAL and retained and client not in before and not gone:
            gone.append(client)
        return "before" if step == DEAL and client in gone else None

    whole, run = agreeing(), agreeing(dropouts=one)
    whole.assign()
    assert run.assign() == run.expected(gone) and len(gone) == 1
    assert run.driver.costs.exchanges <= whole.driver.costs.exchanges + 1


def test_a_holder_that_misses_exchanges_of_several_batches_is_replaced_in_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assigning, "BATCH", 2)
    retained: list[str] = []

    def one(round_: int, step: str, client: str) -> Any:
        retained.extend([client] * (step == RETAIN))
        return "before" if step == PROCEED and retained and client == min(retained) else None

    run = agreeing(changes={"committee": 9}, dropouts=one)
    assert run.assign() == run.expected()


def test_what_is_opened_are_the_pairs_of_the_sample_and_a_number_for_each_other_client() -> None:
    run = agreeing()
    found, left = run.find()
    assert found.k == 2 and len(found.labels) == len(left) == 24 and not found.sizes
    parties = [context.party for context in run.driver.contexts.values()]
    kept = [value for party in parties for value in party.session.running.values()]
    centres = [value for value in kept if isinstance(value, Centres)]
    assert len(centres) == 7  # whoever stood by, too
    assert all(len(one.assigned) in (0, 12) and one.sums.shape == (2, 24) for one in centres)


def test_holders_that_drop_out_on_the_way_change_nothing() -> None:
    count = [0]

    def some(round_: int, step: str, client: str) -> Any:
        count[0] += step == PROCEED
        return "before" if step == PROCEED and count[0] in (3, 90) else None

    run = agreeing(changes={"committee": 9}, dropouts=some)
    assert run.assign() == run.expected()
    assert count[0] > 90


def test_a_holder_that_keeps_nothing_of_the_search_is_replaced() -> None:
    gone: list[str] = []

    def lost(round_: int, step: str, client: str) -> Any:
        if step == RETAIN and not gone:
            gone.append(client)
        return "before" if step == RETAIN and client in gone else None

    run = agreeing(changes={"committee": 9}, dropouts=lost)
    with pytest.raises(ClientError, match="takes no part in attempt"):  # by a driver that tolerates, it is replaced
        run.assign()
    run = agreeing(changes={"committee": 9}, dropouts=lost)
    gone.clear()
    run.driver.tolerant = True
    assert run.assign() == run.expected()


def without(number: int, whom: Callable[[dict[str, Any]], str], gone: list[str]) -> Callable[[Ask], Ask]:
    """The dealing of this number without one client, which the terms give."""
    deals = [0]

    def change(ask: Ask) -> Ask:
        deals[0] += ask.step == DEAL
        if ask.step != DEAL or deals[0] != number:
            return ask
        gone.append(whom(json.loads(next(iter(ask.payloads.values()))["about"].item())))
        return Ask(ask.step, {client: given for client, given in ask.payloads.items() if client != gone[0]})

    return change


@pytest.mark.parametrize(("number", "part"), [(1, "sample"), (1, "holders"), (2, "newcomers")])
def test_clients_that_do_not_share_are_left_out(number: int, part: str) -> None:
    run, gone = agreeing(), list[str]()

    def whom(about: dict[str, Any]) -> str:
        names: list[str] = about[part]
        return next(name for name in names if part == "holders" or name not in about["holders"])

    found = run.assign(without(number, whom, gone))
    assert found == run.expected(gone) and gone[0] not in found.cluster_of


def test_without_a_holder_nobody_is_assigned() -> None:
    with pytest.raises(DropoutError, match="6 clients answered, at least 7 are needed"):
        agreeing().assign(without(2, lambda about: about["holders"][0], []))


def changing(task: str, **facts: Any) -> Any:
    """Terms of one task with other facts."""

    def change(ask: Ask) -> Ask:
        if ask.step != DEAL:
            return ask
        about = json.loads(next(iter(ask.payloads.values()))["about"].item())
        if about["task"] != task:
            return ask
        values = {name: value(about) if callable(value) else value for name, value in facts.items()}
        told = np.array(json.dumps({**about, **values}, sort_keys=True))
        return Ask(ask.step, {client: {**given, "about": told} for client, given in ask.payloads.items()})

    return change


@pytest.mark.parametrize(
    ("task", "facts", "said"),
    [
        ("search", {"sample": lambda about: [*about["sample"][1:], "zoe"]}, "not the one that the public seed gives"),
        ("search", {"sample": lambda about: about["sample"][:-1]}, "not the one that the public seed gives"),
        ("search", {"sample": 3}, "terms without a list of clients, 'sample'"),
        ("search", {"gone": lambda about: about["holders"][:1]}, "holders are not those|left out|no list"),
        ("assign", {"groups": lambda about: [0] * 12}, "two or more, of 3 sampled members"),
        ("assign", {"groups": lambda about: [0] * 11 + [1]}, "two or more, of 3 sampled members"),
        ("assign", {"groups": lambda about: [-1] + [0] * 11}, "without the groups of its clients"),
        ("assign", {"groups": [0]}, "without the groups of its clients"),
        ("assign", {"groups": None}, "without the groups of its clients"),
        ("assign", {"search": "none"}, "after no search"),
        ("assign", {"since": None}, "after no search"),
        ("assign", {"newcomers": lambda about: about["sample"][:3]}, "take no part, or that were searched"),
        ("assign", {"newcomers": []}, "take no part, or that were searched"),
        ("assign", {"newcomers": [["a"]]}, "terms without a list of clients, 'newcomers'"),
    ],
)
def test_terms_that_no_honest_server_sends_are_refused(task: str, facts: dict[str, Any], said: str) -> None:
    with pytest.raises(ClientError, match=said):
        agreeing().assign(changing(task, **facts))


def test_nobody_is_compared_with_other_groups_than_the_holders_were_told() -> None:
    turned = {"groups": lambda about: [1 - group for group in about["groups"]]}
    with pytest.raises(ClientError, match="to other groups than those that were found"):
        agreeing().assign(changing("assign", **turned))


@pytest.mark.parametrize(
    ("security", "where"),
    [("active", RETAIN), ("passive", PROCEED)],  # holders that do not verify are not told what is opened last
)
def test_who_verified_what_was_found_keeps_no_other_groups(security: str, where: str) -> None:
    def change(ask: Ask) -> Ask:
        if ask.step != RETAIN:
            return ask
        other = {c: {**told, "groups": np.roll(told["groups"], 1)} for c, told in ask.payloads.items()}
        return replace(ask, payloads=other)

    with pytest.raises(ClientError, match=rf"step '{where}'.* to other groups than those that were found"):
        agreeing(changes={"security": security}).assign(change)


@pytest.mark.parametrize("holders", [7, 9])
def test_who_verifies_keeps_no_groups_of_which_it_was_not_shown_the_end(
    holders: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that ends a search before holders are told what was opened could else tell them anything."""

    class Ending(server._Lead):
        def open(self, wanted: Any) -> Program[Any]:
            if wanted:
                return (yield from super().open(wanted))
            self.opened.append(self.opened[-1])
            return []

    def change(ask: Ask) -> Ask:
        if ask.step == RETAIN:
            told = {client: {**given, "groups": np.roll(given["groups"], 1)} for client, given in ask.payloads.items()}
            return replace(ask, payloads=told)
        changed: Ask = changing("assign", groups=lambda about: np.roll(about["groups"], 1).tolist())(ask)
        return changed

    monkeypatch.setattr(server, "_Lead", Ending)
    with pytest.raises(
        ClientError, match=rf"step '{RETAIN}'.* (not seen the end of|were told the same|verify what was)"
    ):
        agreeing(changes={"security": "active", "committee": holders}).assign(change)


@pytest.mark.parametrize("told", ["as it was", "falsely"])
def test_who_verifies_and_fell_behind_is_told_the_rest_with_the_groups(told: str) -> None:
    asked: list[str] = []
    late: list[str] = []

    def one(round_: int, step: str, client: str) -> Any:
        asked.append(step)
        if asked.count(PROCEED) == 31 and not late:
            late.append(client)
        return "before" if client in late and step == PROCEED and RETAIN not in asked else None

    def change(ask: Ask) -> Ask:
        if ask.step != RETAIN:
            return ask
        found = dict(ask.payloads[late[0]])
        last = f"opened.{int(found['exchange']) - 1}"
        if told == "falsely":
            found[last] = found[last] ^ np.uint64(1)
        return replace(ask, payloads={**ask.payloads, late[0]: found})

    run = agreeing(changes={"security": "active", "committee": 9}, dropouts=one)
    if told == "as it was":
        assert run.assign(change) == run.expected() and late
    else:
        with pytest.raises(ClientError, match=f"step '{RETAIN}': TamperError"):
            run.assign(change)


def test_clients_are_searched_once_in_a_round_all_of_them_or_a_sample() -> None:
    run = agreeing(20, changes={"committee": 20, "min_cluster_size": 5})
    run.assign()
    few = run.cohort.subset(list(run.states)[:12])
    with pytest.raises(ClientError, match=r"clusterer.group 'z'.*second time in one round"):
        run.driver.run(run.clusterer.find(few, "z"))


def test_nobody_is_compared_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    centres = Centres("z", ("a", "b"), (0, 1), np.zeros(2))  # type: ignore[arg-type]
    facts = {"slot": "z", "sample": ["a", "b"], "groups": [0, 1], "newcomers": ["c"]}
    centres.take(facts, PROCEED)
    centres.take({**facts, "newcomers": ["d"]}, PROCEED)
    with pytest.raises(TamperError, match="'c' is assigned a second time"):
        centres.take({**facts, "newcomers": ["e", "c"]}, PROCEED)


@pytest.mark.parametrize(
    "wrong", [np.zeros(11, np.int64), np.zeros(12, np.int64), np.arange(12), np.array(7), np.zeros((12, 1), np.int64)]
)
def test_groups_of_a_sample_that_are_too_few_or_too_small_are_not_kept(wrong: np.ndarray) -> None:
    def change(ask: Ask) -> Ask:
        if ask.step != RETAIN:
            return ask
        return Ask(ask.step, {client: {**given, "groups": wrong} for client, given in ask.payloads.items()})

    with pytest.raises(ClientError, match=r"1?[12] groups of a sample of 12|two or more, of 3 sampled members"):
        agreeing().assign(change)


def test_members_of_groups_are_read_strictly() -> None:
    assert members_in([0, 1, 0, 1], 2).tolist() == [[1, 0, 1, 0], [0, 1, 0, 1]]
    for groups_ in ([0, 2, 0, 2], [True, 0, 1, 0], [0.0, 1, 0, 1]):
        with pytest.raises(ProtocolError):
            members_in(groups_, 2)  # type: ignore[arg-type]


def test_what_holders_keep_of_batches_that_are_over_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assigning, "BATCH", 1)
    run = agreeing()
    run.assign()
    kept = [
        {value.joined.about["batch"] for value in party.session.running.values() if not isinstance(value, Centres)}
        for party in (context.party for context in run.driver.contexts.values())
    ]
    exchanges = 4  # of a batch: those that were not over when the last one began
    assert max(kept, key=len) == set(range(12 - exchanges, 12))


def test_room_is_asked_for_the_sample_alone() -> None:
    SecureAgreement().require(100_000)
    with pytest.raises(ConfigError, match="with 1000 clients a message"):
        SecureAgreement(sample=0).require(1000)
    assert assigning.BATCH + 16 < 1022
