"""Polls among clients, holders and servers that do something else, or that look closely."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest

from secfpp.crypto.arithmetic import Shared
from secfpp.crypto.material import Material
from secfpp.crypto.sharing import LagrangeCode
from secfpp.errors import ClientError, TamperError
from secfpp.protocol.program import Ask, ClientState, Replies
from secfpp.secure.circuits import holder
from secfpp.secure.circuits.plan import Plan
from secfpp.secure.polls.circuit import Counting, MeanTest, encode
from secfpp.secure.polls.questions import AtLeast, Favours
from support.poll_runs import DEAL, PROCEED, PollRun, gainers, voters
from support.secure_runs import everyone
from support.telling_apart import distinguish, told_apart
from support.views import real_view

# ---- Who deals or answers falsely

BITS = voters(np.random.default_rng(0).integers(0, 2, (8, 5)))
GAINS = gainers(np.linspace(-0.2, 0.3, 8))
ASKS: dict[str, tuple[dict[str, ClientState], Callable[[PollRun], Any]]] = {
    "bits": (BITS, lambda run: run.at_least(3)),
    "gains": (GAINS, lambda run: run.favours()),
}
both = pytest.mark.parametrize("what", ASKS)


def run_with(monkeypatch: pytest.MonkeyPatch, what: str, villain: str, deal: Callable[..., Any]) -> None:
    honest = holder.deal
    monkeypatch.setattr(
        holder, "deal", lambda joined, *rest: (deal if joined.party.name == villain else honest)(joined, *rest)
    )
    states, ask = ASKS[what]
    ask(PollRun(states))


def test_a_poll_of_more_groups_than_there_are_clients_is_refused_before_room_is_made_for_it() -> None:
    def change(message: dict[str, np.ndarray]) -> None:
        facts = json.loads(message["about"].item())
        message["about"] = np.array(json.dumps({**facts, "groups": [0] * 8, "k": 10**9}, sort_keys=True))

    with pytest.raises(ClientError, match="a poll of 1000000000 groups, there are 8 clients"):
        PollRun(BITS).at_least(3, on_ask=everyone(DEAL, change))


@both
@pytest.mark.parametrize("forged", [2, 8, (1 << 61) - 2])
@pytest.mark.parametrize("villain", ["c00", "c06"])
def test_who_shares_something_else_than_bits_is_named(
    monkeypatch: pytest.MonkeyPatch, what: str, forged: int, villain: str
) -> None:
    """So that nobody counts for eight, or claims a gain of a hundred."""
    honest = holder.deal

    def deal(joined: Any, plan: Plan, own: np.ndarray) -> Any:
        return honest(joined, plan, np.concatenate([own[:-1], [np.uint64(forged)]]))

    with pytest.raises(TamperError, match="out of range: its input") as caught:
        run_with(monkeypatch, what, villain, deal)
    assert caught.value.party == villain


class Steeper(Plan):
    """Shares with a polynomial of one degree more."""

    @property
    def code(self) -> LagrangeCode:
        return LagrangeCode(self.holders, self.threshold + 1)


@both
def test_who_shares_with_a_higher_degree_is_named(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    honest = holder.deal
    with pytest.raises(TamperError, match="not of one polynomial of degree T") as caught:
        run_with(monkeypatch, what, "c06", lambda joined, plan, own: honest(joined, Steeper(**vars(plan)), own))
    assert caught.value.party == "c06"


@both
def test_a_holder_that_answers_wrongly_makes_no_answer(what: str) -> None:
    last = {"bits": 2, "gains": 3}[what]

    def lie(ask: Ask, replies: Replies) -> Replies:
        if ask.step != PROCEED or int(ask.payloads["c03"]["exchange"]) != last:
            return replies
        wrong = {**replies["c03"], "masked": (replies["c03"]["masked"] + np.uint64(3)) % np.uint64((1 << 61) - 1)}
        return Replies({**replies, "c03": wrong})

    run = PollRun(ASKS[what][0])
    with pytest.raises(TamperError, match="no answer: a holder answered wrongly"):
        run.at_least(3, on_replies=lie) if what == "bits" else run.favours(on_replies=lie)


@both
def test_dealing_again_is_refused_for_the_same_terms(what: str) -> None:
    states, _ = ASKS[what]
    run = PollRun(states)
    seen: list[Ask] = []

    def keep(ask: Ask) -> Ask:
        seen.extend([ask] if ask.step == DEAL else [])
        return ask

    run.at_least(3, on_ask=keep) if what == "bits" else run.favours(on_ask=keep)

    def again() -> Any:
        return (yield seen[0])

    with pytest.raises(Exception, match="joined before is offered again"):
        run.driver.run(again())


# ---- What the server and one holder see


def counting(bits: np.ndarray) -> tuple[Any, np.ndarray]:
    return Counting(AtLeast(len(bits), bits.shape[1], 3), 1, 5), bits


def judging(gains: list[int]) -> tuple[Any, np.ndarray]:
    shared = np.stack([encode(gain) for gain in gains]).astype(np.int64)
    return MeanTest(Favours.of(len(gains), 0.0, 0.2), 1, 5), shared


PAIRS = {
    # Client 0 is corrupt, so that it holds the same in both: counts of 3 and 6, of 2 and 0.
    "counts": (
        counting(np.array([[1, 0], [1, 1], [1, 1], [0, 0], [0, 0], [0, 0]])),
        counting(np.array([[1, 0], [1, 0], [1, 0], [1, 0], [1, 0], [1, 0]])),
    ),
    # T is above 0 in one and below in the other, significant in neither.
    "gains": (judging([30, 900, -600, 40, -350, 60]), judging([30, -900, -1000, -3, -800, -20])),
    "gains of the other answer": (judging([30, 40, 50, 20, 60, 30]), judging([30, 900, 700, 1000, 400, 800])),
}


def sample(circuit: Any, inputs: np.ndarray, runs: int, name: str) -> np.ndarray:
    """Each number's bits from the top and from further down, [runs, features]."""
    views = [real_view(circuit, inputs, (name, run))[0].numbers() for run in range(runs)]
    turned = [(np.stack(views) << np.uint64(k) & np.uint64((1 << 61) - 1)) / 2.0**61 for k in (0, 6, 20, 40)]
    return np.concatenate(turned, axis=1)


@pytest.mark.parametrize("pair", PAIRS)
def test_views_of_equal_answers_are_not_told_apart(pair: str) -> None:
    (circuit, one), (_, other) = PAIRS[pair]
    answers = [real_view(circuit, inputs, 0)[1].tolist() for inputs in (one, other)]
    assert answers[0] == answers[1]
    assert not np.array_equal(one, other) and np.array_equal(one[0], other[0])
    assert not told_apart(sample(circuit, one, 40, "one"), sample(circuit, other, 40, "other"))


def known(value: int) -> Any:
    """A pool's method that deals `value` only."""
    return lambda self, *about: Shared(np.full(about[-1], value, np.uint64), 1)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("mask", ["uniform", "integers"])
def test_views_without_a_mask_are_told_apart(pair: str, mask: str) -> None:
    (circuit, one), (_, other) = PAIRS[pair]
    with mock.patch.object(Material, mask, known(1)):
        right, p = distinguish(sample(circuit, one, 24, "one"), sample(circuit, other, 24, "other"))
    assert right >= 0.9, (right, p)


# ---- Who holds a rare class


def found_by_leaving(answer: Callable[[str | None], Any], clients: list[str]) -> set[str]:
    """Clients whose leaving changes what the server learns."""
    everybody = answer(None)
    return {client for client in clients if answer(client) != everybody}


@pytest.mark.parametrize(("holders", "found"), [(2, 0), (3, 3), (4, 0), (5, 0), (8, 0)])
def test_a_server_that_sees_counts_finds_who_holds_a_rare_class_and_one_that_sees_answers_does_not(
    holders: int, found: int
) -> None:
    """Every round another client is away. Exactly `least` holders are the exception: any of them changes the answer."""
    bits = (np.random.default_rng(1).permutation(8) < holders)[:, None]
    states = voters(bits)
    owners = {client for client, own in zip(states, bits, strict=True) if own.any()}

    def count(away: str | None) -> int:
        return sum(int(state["has"].sum()) for client, state in states.items() if client != away)

    def poll(away: str | None) -> bool:
        rest = {client: state for client, state in states.items() if client != away}
        return bool(PollRun(rest).at_least(3)[0].item())

    assert found_by_leaving(count, list(states)) == owners
    assert found_by_leaving(poll, list(states)) == (owners if found else set())
    assert len(owners) == found or not found


# ---- The wire


@both
def test_answers_are_the_same_without_the_wire_format(what: str) -> None:
    states, ask = ASKS[what]
    wired, direct = PollRun(states), PollRun(states)
    direct.driver.force_wire = False
    assert wired.driver.force_wire
    np.testing.assert_array_equal(ask(wired)[0], ask(direct)[0])
    assert wired.driver.costs.up == direct.driver.costs.up
