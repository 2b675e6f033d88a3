"""Means of more clients than one batch or one message holds: the same bits, and the same checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from secfpp.errors import ClientError, TamperError
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import Ask, ClientState, Joint, Program, Request
from secfpp.protocol.transcript import Transcript
from secfpp.secure.means import batches
from secfpp.secure.means.cost import MeanCost
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.secure.means.updates import with_base
from secfpp.secure.session import parties_in_memory
from support.counting import texts
from support.long_updates import do_not_clip
from support.secure_runs import SecureRun, names
from support.toy import Toy, dropping, toy_driver

PLAIN = PlainMean(min_responders=4, most_weight=0.5)
SHARE, PROVE, CHECK, TAKE, RECEIVE = (f"aggregator.{name}" for name in ("share", "prove", "check", "take", "receive"))
Message = dict[str, np.ndarray]
COUNT = 50
"""Clients, in batches of 17, 17 and 16."""


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MOST", 20)


def together(program: Program[Any], change: Callable[[Ask], Ask]) -> Program[Any]:
    """A program whose asks, also those that travel with others, pass through somebody else's hands."""
    request: Request = next(program)
    while True:
        if isinstance(request, Joint):
            request = Joint({label: change(ask) for label, ask in request.asks.items()})
        else:
            request = change(request)
        replies = yield request
        try:
            request = program.send(replies)
        except StopIteration as stop:
            return stop.value


def drawn(run: SecureRun) -> list[str]:
    """Holders of the only run in progress."""
    return list(run.memory("c00").place.holders)


def test_batches_hold_everybody_once_and_holders_in_the_first() -> None:
    clients, holders = names(COUNT), names(COUNT)[3:35:2]
    found = batches.batches_of(clients, holders)
    assert sorted(client for batch in found for client in batch) == clients
    assert [len(batch) for batch in found] == batches.sizes_of(COUNT) == [17, 17, 16]
    assert set(found[0]) > set(holders)
    assert all(list(batch) == sorted(batch) for batch in found)
    numbers = {client: number for number, batch in enumerate(found) for client in batch}
    assert {client: batches.batch_of(client, clients, holders) for client in clients} == numbers
    assert batches.batches_of(clients[:20], clients[:16]) == [tuple(clients[:20])]
    assert {batches.batch_of(client, clients[:20], clients[:16]) for client in clients[:20]} == {0}


def test_messages_hold_as_many_envelopes_as_fit_and_one_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {client: np.zeros((16, 30), np.uint8) for client in names(7)}
    monkeypatch.setattr(batches, "LARGEST", 100)
    assert list(batches.portions(names(7), rows)) == [tuple(names(3)), tuple(names(6)[3:]), ("c06",)]
    assert list(batches.portions(names(2), rows, {c: np.zeros((16, 900), np.uint8) for c in rows})) == [
        ("c00",),
        ("c01",),
    ]
    assert list(batches.portions((), {})) == []


@pytest.mark.parametrize("portion", [1 << 26, 3000])
@pytest.mark.parametrize("bounded", [True, False])
def test_the_mean_in_batches_is_the_plain_means_bit_for_bit(
    bounded: bool, portion: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "LARGEST", portion)
    aggregators = SecureMean(bounded=bounded), PLAIN
    secure, plain = (SecureRun(COUNT, a, size=33, transcript=None) for a in aggregators)
    for number in range(2):
        assert secure.round(number) == plain.round(number) == tuple(names(COUNT))
        assert secure.bits() == plain.bits()


@pytest.mark.parametrize("portion", [1 << 26, 3000])
@pytest.mark.parametrize("bounded", [True, False])
def test_what_batches_cost(bounded: bool, portion: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "LARGEST", portion)
    aggregator, base = SecureMean(bounded=bounded), np.zeros(100, np.float32)
    states = {c: with_base(ClientState(), "p", base).replace(p=base + np.float32(0.1)) for c in names(COUNT)}
    driver = toy_driver(states, Toy(aggregator=aggregator), parties=parties_in_memory(states))
    driver.run(aggregator.mean(Cohort(dict.fromkeys(states, 1), 0, 0), "p"))
    cost = MeanCost(COUNT, 100, aggregator)
    holders = {m.client for m in driver.transcript or () if m.step == "aggregator.sum"}
    assert (cost.exchanges, cost.messages, cost.holders) == (
        driver.costs.exchanges,
        driver.costs.messages,
        len(holders),
    )
    for client in states:
        assert driver.costs.up[client] == cost.sent(client in holders)
        framing = texts(COUNT, cost.exchanges) + 60 * cost.messages / cost.holders
        assert 0 <= driver.costs.down[client] - cost.received(client in holders) <= framing


def test_a_message_with_envelopes_does_not_grow_with_the_number_of_clients() -> None:
    largest: dict[int, int] = {}
    for count in (20, 60):
        run = SecureRun(count, size=500, transcript=Transcript())
        run.round()
        sizes = [m.size for m in run.driver.transcript or () if m.step == CHECK and m.direction == "down"]
        largest[count] = max(sizes)
    assert largest[60] < largest[20] * 20 / 19 + 100  # of 20 clients a holder has its own share


@pytest.mark.parametrize("step", [SHARE, PROVE])
def test_who_drops_out_of_a_batch_is_out_of_the_mean_and_no_more(step: str) -> None:
    gone = names(COUNT)[::7]
    secure = SecureRun(COUNT, dropouts=dropping(*((0, step, client, "before") for client in gone)), transcript=None)
    plain = SecureRun(COUNT, PLAIN, dropouts=dropping(*((0, SHARE, client, "before") for client in gone)))
    left = tuple(client for client in names(COUNT) if client not in gone)
    if step == PROVE:  # some of these are holders, who go on to hold
        assert secure.round() == left
    else:
        assert secure.round() in (left, ())  # nobody's, if too many of those who dropped out were drawn
    plain.round()
    if secure.settled("c01") and secure.version("c01") > 1:
        assert {secure.bits()[c]["p"] for c in left} == {plain.bits()["c01"]["p"]}


@pytest.mark.parametrize("bounded", [True, False])
def test_a_holder_that_misses_a_batch_gives_no_sum(bounded: bool) -> None:
    """It lacks shares of some; the others go on as long as they are a quorum."""
    run, plain = (
        SecureRun(COUNT, SecureMean(bounded=bounded), transcript=None),
        SecureRun(COUNT, PLAIN, transcript=None),
    )
    seen: dict[str, int] = {}
    asked: set[str] = set()

    def change(ask: Ask) -> Ask:
        if ask.step == (CHECK if bounded else TAKE) and ask.payloads:
            seen["times"] = seen.get("times", 0) + 1
            if seen["times"] == 2:
                gone = drawn(run)[4]
                seen[gone] = 0
                return Ask(ask.step, {client: message for client, message in ask.payloads.items() if client != gone})
        if ask.step in ("aggregator.agree", "aggregator.sum"):
            asked.update(ask.payloads)
        return ask

    run.train()
    made = run.driver.run(together(run.aggregator.mean(run.cohort(), "p"), change))
    plain.round()
    assert made.members == tuple(names(COUNT))
    assert len(asked) == 15 and not asked & seen.keys()
    assert run.bits() == plain.bits()


def test_every_batch_has_seeds_of_its_own() -> None:
    """Else who shares in a later batch would know the signs for which it proves that it did not clip."""
    run, told = SecureRun(COUNT, transcript=None), dict[str, bytes]()

    def change(ask: Ask) -> Ask:
        if ask.step == PROVE:
            told.update({client: message["project"].tobytes() for client, message in ask.payloads.items()})
        return ask

    run.train()
    run.driver.run(together(run.aggregator.mean(run.cohort(), "p"), change))
    assert len(set(told.values())) == 3 and len(told) == COUNT

    other = SecureRun(COUNT, transcript=None)
    first: list[np.ndarray] = []

    def repeat(ask: Ask) -> Ask:
        if ask.step == PROVE and ask.payloads:
            first.append(next(iter(ask.payloads.values()))["project"])
            return Ask(PROVE, {client: {**message, "project": first[0]} for client, message in ask.payloads.items()})
        return ask

    other.train()
    with pytest.raises(ClientError, match="something else for 'project' than it committed to") as caught:
        other.driver.run(together(other.aggregator.mean(other.cohort(), "p"), repeat))
    assert isinstance(caught.value.__cause__, TamperError)


def test_holders_answer_about_one_batch_at_a_time() -> None:
    run = SecureRun(COUNT, transcript=None)

    def change(ask: Ask) -> Ask:
        if ask.step != CHECK or not ask.payloads:
            return ask
        clients = np.array('["' + '", "'.join(run.clients) + '"]')
        return Ask(CHECK, {holder: {**message, "clients": clients} for holder, message in ask.payloads.items()})

    run.train()
    with pytest.raises(ClientError, match="clients of 3 batches, of which each has seeds of its own"):
        run.driver.run(together(run.aggregator.mean(run.cohort(), "p"), change))


def test_who_does_not_clip_is_left_out_of_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    do_not_clip(monkeypatch, {3, 41}, 50.0)
    run = SecureRun(COUNT, transcript=None, tolerant=True)
    assert run.round() == tuple(client for client in names(COUNT) if client not in ("c02", "c40"))
    assert {one.party for one in run.driver.refusals} == {"c02", "c40"}


@pytest.mark.parametrize("known", [True, False])
def test_late_clients_of_all_batches_catch_up(known: bool) -> None:
    late = names(COUNT)[1::6]
    run = SecureRun(COUNT, dropouts=dropping(*((0, RECEIVE, client, "before") for client in late)), transcript=None)
    run.round(0)
    if not known:
        run.known = None
    assert run.round(1) == tuple(client for client in names(COUNT) if client not in late)
    assert len({run.driver.states[client]["p"].tobytes() for client in run.clients}) == 1


def test_late_clients_catch_up_also_if_no_holder_has_the_present_base() -> None:
    """Who does has keys of holders only, so keys are agreed on for the purpose."""
    run = SecureRun(COUNT, SecureMean(bounded=False), transcript=Transcript())
    run.round(0)
    old = {client: run.driver.states[client] for client in run.clients}
    run.round(1)
    plain = [client for client in run.clients if client != "c07"]
    for client in plain:
        run.driver.states[client] = old[client]
    for number in range(2, 40):
        before = len(run.driver.transcript or ())
        run.driver.states |= {client: old[client] for client in plain}
        run.driver.states["c07"], alone = run.driver.states["c07"], run.version("c07")
        assert run.round(number) == ()  # one update is no mean
        steps = {m.step for m in list(run.driver.transcript or ())[before:]}
        assert {run.version(client) for client in run.clients} == {alone}
        if "aggregator.show" in steps:
            return
    raise AssertionError("c07 was drawn 38 times")
