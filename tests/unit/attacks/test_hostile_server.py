"""A server that does not follow the protocol: it makes up weights, rounds and committees, and asks twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secfpp.errors import ClientError, DataError, DropoutError, ProtocolError, TamperError
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientState, Program
from secfpp.secure import committee, session
from secfpp.secure.ledger import Ledger
from secfpp.secure.means import secure_mean
from secfpp.secure.means.aggregator import capped
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.secure.session import greet, greeted, terms, with_keys
from support.agreement_runs import AgreementRun
from support.secure_runs import SecureRun, names
from support.toy import Context, Toy, dropping, toy_driver

HELLO, REVEAL = "session.hello", "session.reveal"


class Weighing(Context):
    """A client that knows how many images it has."""

    weight: int


def weighing(run: SecureRun) -> None:
    for client, context in run.driver.contexts.items():
        own = Weighing(context.client, context.calls, context.party)
        object.__setattr__(own, "weight", run.weights[client])
        run.driver.contexts[client] = own


def mean_of(run: SecureRun, weights: Mapping[str, int], aggregator: Any = None) -> tuple[str, ...]:
    run.train()
    program = (aggregator or run.aggregator).mean(Cohort(weights, 0, 0), "p")
    return tuple(run.driver.run(program).members)


def test_a_mean_of_one_is_not_had_by_weights() -> None:
    """{victim: 10^8, others: 1} is its update to seven digits."""
    run = SecureRun(5, SecureMean(most_weight=1.0), transcript=None)
    weighing(run)
    with pytest.raises(ClientError, match=r"'c02'.*this client has weight 100000000, it has 3 images"):
        mean_of(run, {**dict.fromkeys(run.clients, 1), "c02": 10**8})
    before = run.driver.states["c00"]["p.base"].copy()
    loose = SecureRun(5, SecureMean(most_weight=1.0), transcript=None)
    mean_of(loose, {**dict.fromkeys(loose.clients, 1), "c02": 10**8})
    assert np.abs(loose.driver.states["c00"]["p"] - before).max() > 1e-3


def test_a_client_allows_nobody_most_of_a_mean() -> None:
    run = SecureRun(5, transcript=None)
    weights = {**dict.fromkeys(run.clients, 1), "c02": 5}
    with pytest.raises(ClientError, match=r"one client has weight 5 of 9, more than the share of 0.5"):
        mean_of(run, weights, SecureMean(most_weight=0.6))


def test_an_honest_server_counts_the_largest_less() -> None:
    assert capped({"a": 7, "b": 2, "c": 1}, 0.5) == {"a": 3, "b": 2, "c": 1}
    assert capped({"a": 9, "b": 9, "c": 1, "d": 1}, 0.3) == {"a": 1, "b": 1, "c": 1, "d": 1}
    assert capped({"a": 7, "b": 1}, 0.5) == {"a": 7, "b": 1}
    assert capped({"a": 3, "b": 2, "c": 1}, 0.5) == {"a": 3, "b": 2, "c": 1}
    weights = {"c00": 1, "c01": 2, "c02": 90, "c03": 4, "c04": 5}
    runs = [SecureRun(5, a, weights=weights, transcript=None) for a in (SecureMean(), PlainMean(most_weight=0.5))]
    for run in runs:
        weighing(run)
        run.round(0)
    assert runs[0].bits() == runs[1].bits()


def overlapping(run: SecureRun) -> None:
    """Means over {all but one}, in rounds of which no client sees that nothing was trained between them."""
    run.train()
    for number, gone in enumerate(run.clients):
        weights = {client: 1 for client in run.clients if client != gone}
        run.driver.round_ = number
        program = run.aggregator.mean(Cohort(weights, number, 0), "p")
        request = next(program)
        while True:  # until the sums are given, and never told that it is over
            replies = yield_to(run, request)
            request = program.send(replies)
            if getattr(request, "step", "") == "aggregator.receive":
                break


def yield_to(run: SecureRun, request: Any) -> Any:
    def once_() -> Program[Any]:
        return (yield request)

    return run.driver.run(once_())


def test_one_update_is_in_one_mean() -> None:
    """Four overlapping means of the same updates would give four single ones."""
    with pytest.raises(ClientError, match=r"round 1.*the update of 'p' was given before, and nothing trained since"):
        overlapping(SecureRun(6, transcript=None))


def test_and_is_in_several_where_nobody_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secure_mean, "marked_as_given", lambda state, slot: state)
    overlapping(SecureRun(6, transcript=None))


def test_rounds_only_go_up() -> None:
    run = SecureRun(4, transcript=None)
    run.round(3)
    run.train()
    with pytest.raises(ClientError, match="round 2, drawing 1, after round 3, drawing 1: rounds only go up"):
        run.driver.run(run.aggregator.mean(run.cohort(2), "p"))


def test_what_was_given_is_known_after_a_restart(tmp_path: Path) -> None:
    run = SecureRun(4, transcript=None)
    path = tmp_path / "c01.round.json"
    run.parties["c01"].ledger = Ledger.at(path)
    run.round(5)
    assert path.stat().st_mode & 0o777 == 0o600
    run.parties["c01"].ledger, run.parties["c01"].session = Ledger.at(path), None
    for client in run.clients:  # the server starts the round again; the others have lost their memory altogether
        if client != "c01":
            run.parties[client].ledger, run.parties[client].session = Ledger(), None
    run.train()
    with pytest.raises(ClientError, match=r"'c01'.*share of p.*second time in one round"):
        run.driver.run(run.aggregator.mean(run.cohort(5), "p"))
    with pytest.raises(ClientError, match="round 4, drawing 1, after round 5, drawing 1: rounds only go up"):
        run.driver.run(run.aggregator.mean(run.cohort(4).subset(["c01"]), "p"))
    for party in run.parties.values():  # where all is forgotten, it is given again
        party.ledger, party.session = Ledger(), None
    run.train()
    run.driver.run(run.aggregator.mean(run.cohort(5), "p"))


def test_it_is_on_disk_before_it_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.json"
    ledger = Ledger.at(path)
    ledger.begin(0, 0)
    monkeypatch.setattr("secfpp.storage.os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        ledger.once("deed")
    monkeypatch.undo()
    assert Ledger.at(path).done == set()


@pytest.mark.parametrize("content", ["", "[]", '{"round": 1}', '{"round": "x", "draw": 0, "done": []}'])
def test_a_ledger_that_cannot_be_read_stops_the_client(content: str, tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"cannot be read.*only if that round is over"):
        Ledger.at(path)


class Drawing:
    """Clients of whom a committee is drawn."""

    def __init__(self, count: int = 20, **driver: Any) -> None:
        self.parties = session.parties_in_memory(names(count))
        self.driver = toy_driver({c: ClientState() for c in self.parties}, Toy(), parties=self.parties, **driver)
        self.cohort = Cohort(dict.fromkeys(names(count), 1), 0, 0)

    def keys(self) -> Cohort:
        found: Cohort = self.driver.run(with_keys(self.cohort))
        return found

    def join(self, client: str, agreed: Any) -> session.Joined:
        return session.join(self.driver.contexts[client], "aggregator", agreed)


def test_randomness_that_does_not_suit_the_server_is_not_left_out() -> None:
    """It knows all of it before it says who dropped out, and could choose among as many committees as clients."""
    run = Drawing()
    cohort = run.keys()
    without = {client: own for client, own in cohort.keys.items() if client != "c19"}
    ground = replace(cohort.subset(names(19)), keys=without)
    with pytest.raises(TamperError, match="not all that was committed to before any of it was shown"):
        run.join("c00", terms("aggregator", ground, {}))
    dropped = cohort.subset(names(19))  # that a client drops out later changes no more than its seat
    seats = [set(json.loads(terms("aggregator", c, {})["about"].item())["holders"]) for c in (cohort, dropped)]
    assert len(seats[1] - seats[0]) == len(seats[0] & {"c19"})
    assert run.join("c00", terms("aggregator", dropped, {})).holders == tuple(sorted(seats[1]))


def test_who_does_not_show_its_randomness_costs_one_more_draw_and_no_third_is_given() -> None:
    run = Drawing(dropouts=dropping((0, REVEAL, "c03", "after")))
    cohort = run.keys()
    assert cohort.clients == tuple(client for client in names(20) if client != "c03")
    assert cohort.draw == 1
    assert run.join("c00", terms("aggregator", cohort, {})).clients == cohort.clients
    with pytest.raises(ClientError, match="drawing 3, after round 0, drawing 2: rounds only go up, with 2 drawings"):
        run.driver.run(asking(replace(run.cohort, draw=2)))
    with pytest.raises(ClientError, match="drawing 1, after round 0, drawing 2"):
        run.driver.run(asking(run.cohort))


def test_a_second_time_that_somebody_does_not_show_ends_the_round() -> None:
    seen: list[str] = []

    def fates(round_: int, step: str, client: str) -> Any:
        if step == REVEAL:
            seen.append(client)
        return "before" if step == REVEAL and client == ("c03" if len(seen) < 21 else "c05") else None

    with pytest.raises(DropoutError, match="c05"):
        Drawing(dropouts=fates).keys()
    run = SecureRun(20, dropouts=fates, transcript=None)
    seen.clear()
    assert run.round(0) == ()


def asking(cohort: Cohort) -> Program[Cohort]:
    return greeted(cohort, (yield greet(cohort)))


def test_the_next_in_order_takes_a_missing_seat() -> None:
    clients, nonces = names(30), {client: client.encode() * 4 for client in names(30)}
    drawn = committee.draw(clients, nonces, 16)
    for gone in drawn[:4]:
        left = committee.draw([client for client in clients if client != gone], nonces, 16)
        assert len(set(left) - set(drawn)) == 1
        assert set(drawn) - set(left) == {gone}


def test_what_two_draws_are_worth_to_a_server() -> None:
    """It sees the first committee, and can spoil it once: so the risk is that of the better of two."""
    bad = 10
    single = 1 - sum(comb(bad, k) * comb(90, 16 - k) for k in range(3)) / comb(100, 16)
    assert committee.corruption_risk(100, 16, 2, 0.1) == pytest.approx(single)
    assert committee.corruption_risk(100, 16, 2, 0.1, draws=2) == pytest.approx(1 - (1 - single) ** 2)


def test_parties_remember_by_round() -> None:
    ledger = Ledger()
    ledger.begin(1, 0)
    ledger.once("x")
    ledger.begin(1, 1)
    with pytest.raises(TamperError, match="second time"):
        ledger.once("x")
    ledger.begin(2, 0)
    ledger.once("x")


def test_the_public_seed_is_that_of_the_run() -> None:
    """Seeds decide where a search starts, and what descriptors are projected on: the server does not choose them."""

    class Seeded(Context):
        seed: int = 5

    states, parties = {c: ClientState() for c in names(3)}, session.parties_in_memory(names(3))
    driver = toy_driver(states, Toy(), None, parties)
    keyed = driver.run(with_keys(Cohort(dict.fromkeys(names(3), 1), 0, 0)))
    own, free = Seeded("c00", [], parties["c00"]), Context("c01", [], parties["c01"])
    session.join(own, "aggregator", terms("aggregator", keyed, {"seed": 5}))
    with pytest.raises(ProtocolError, match="terms with the public seed 6, this run's is 5"):
        session.join(own, "aggregator", terms("aggregator", keyed, {"seed": 6}))
    session.join(free, "aggregator", terms("aggregator", keyed, {"seed": 6}))  # it knows of no seed


def test_terms_with_a_smaller_t_than_a_client_insists_on_are_refused() -> None:
    """A server that says that few are there has fewer holders, who can withstand fewer colluding ones."""
    run = Drawing(6)
    keyed = run.keys()
    run.parties["c00"].least_colluding = 2
    for least in (1, "2", 2.0, True):
        with pytest.raises(ProtocolError, match=rf"terms with T = {least!r}, this client insists on 2 or more"):
            run.join("c00", terms("aggregator", keyed, {"threshold": least}))
    run.join("c00", terms("aggregator", keyed, {"threshold": 2}))
    run.join("c01", terms("aggregator", keyed, {"threshold": 1}))


def test_who_held_shares_in_a_grouping_is_not_told_of_another_one_in_its_round() -> None:
    """It would forget with whom it was grouped, and let clients of other groups into its own."""
    run = AgreementRun(8)
    run.find()
    before = {client: context.party.session.met for client, context in run.driver.contexts.items()}
    assert set(before.values()) == {frozenset(run.states)}
    few = run.cohort.subset(list(run.states)[:6])
    with pytest.raises(ClientError, match=r"clusterer.group 'z'.*second time in one round"):
        run.driver.run(run.clusterer.find(few, "z"))
    assert {client: context.party.session.met for client, context in run.driver.contexts.items()} == before
