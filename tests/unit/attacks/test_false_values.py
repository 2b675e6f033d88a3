"""A server that tells false values, or drops, swaps and repeats what holders say of them, alone and with holders.

Where openings are verified it sees nothing after it that depends on what it told, whatever exchange it lies in; where
they are not, it gets answers that it should not have.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from secfpp.crypto import replicated
from secfpp.crypto.arithmetic import Shared
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.material import Deal
from secfpp.crypto.sharing import LagrangeCode
from secfpp.errors import ClientError, SecFPPError
from secfpp.protocol.cohort import Assignment
from secfpp.protocol.program import Ask, Program
from secfpp.secure.circuits import checks, component, holder, server
from secfpp.secure.circuits.plan import Security, to_verify
from secfpp.secure.circuits.tally import Tally
from secfpp.secure.polls.circuit import Counting
from secfpp.secure.polls.questions import AtLeast
from secfpp.secure.polls.secure_poll import SecurePoll
from support.agreement_runs import SECURE, AgreementRun
from support.clustering_runs import SECURE as K_MEANS
from support.clustering_runs import Run
from support.envelopes import repack
from support.false_values import Lie, lying
from support.poll_runs import PollRun, gainers, voters
from support.secure_runs import OnAsk, changing

CLIENTS = 8
COUNTS = np.random.default_rng(3).integers(0, 2, (CLIENTS, 40))
NEEDED = 7
"""Holders that verify: 6 T + 1."""

Made = tuple[Any, Callable[..., object]]
"""A run, and what is done in it."""


def grouping(security: Security = "active") -> Made:
    run = AgreementRun(CLIENTS, replace(SECURE, security=security))
    return run, run.find


def k_means(security: Security = "active") -> Made:
    run = Run(CLIENTS, replace(K_MEANS, security=security))
    return run, run.find


def counting(security: Security = "active") -> Made:
    run = PollRun(voters(COUNTS), SecurePoll(security=security))
    return run, lambda *hands: run.at_least(3, None, *hands)


def favouring(security: Security = "active") -> Made:
    run = PollRun(gainers(np.linspace(-0.2, 0.4, CLIENTS)), SecurePoll(security=security))
    return run, lambda *hands: run.favours(0.0, 0.05, *hands)


def placing(security: Security = "active") -> Made:
    run = AgreementRun(CLIENTS, replace(SECURE, security=security))
    old = Assignment({client: number % 2 for number, client in enumerate(list(run.states)[:-1])})
    return run, lambda *hands: run.place(old, list(run.states)[-1:], *hands)


MAKERS = [grouping, k_means, counting, favouring, placing]


def decisive_exchanges(make: Callable[[], Made]) -> list[bool]:
    """Of an honest run, for every exchange whether something has to be verified before it; the last is the end."""
    found: list[bool] = []

    class Watching(server._Lead):
        def open(self, wanted: Any) -> Program[list[Elements]]:
            found.append(to_verify(len(self.opened), wanted))
            return (yield from super().open(wanted))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "_Lead", Watching)
        make()[1]()
    return found


class OneFalse:
    """Tells one element of one array of one exchange as one more than it was."""

    def __init__(self, exchange: int, array: int) -> None:
        self.exchange, self.array = exchange, array
        self.arrays, self.lied = 0, False

    def __call__(self, exchange: int, of: Shared, value: Elements) -> Elements:
        if exchange != self.exchange:
            return value
        self.arrays += 1
        if self.arrays <= self.array or self.lied or not value.size:
            return value
        self.lied = True
        told = value.copy().reshape(-1)
        told[-1] = PrimeField.add(told[-1:], np.ones(1, np.uint64))[0]
        return told.reshape(value.shape)


@pytest.mark.parametrize("make", MAKERS)
def test_a_false_value_in_any_exchange_ends_it_before_anything_decisive(make: Callable[[], Made]) -> None:
    decisive = decisive_exchanges(make)
    assert decisive[0] and decisive[-1]
    for exchange in range(len(decisive) - 1):
        for array in (0, 1, 2):
            lie = OneFalse(exchange, array)
            with pytest.MonkeyPatch.context() as patch:
                seen = lying(patch, lie)
                ended = _ends(make()[1])
            assert ended == lie.lied
            assert lie.lied or array  # there is not always another array to lie about
            if not ended:
                break
            assert len(seen) <= next(number for number in range(exchange + 1, len(decisive)) if decisive[number])


def _ends(find: Callable[..., object]) -> bool:
    """Whether it ends in an error."""
    try:
        find()
    except SecFPPError:
        return True
    return False


@pytest.mark.parametrize("make", [grouping, counting])
@pytest.mark.parametrize("victim", ["c00", "c06"])
def test_a_value_told_falsely_to_one_ends_it_too(make: Callable[[], Made], victim: str) -> None:
    decisive = decisive_exchanges(make)
    for exchange in range(len(decisive) - 1):
        told = False

        def tell(message: dict[str, np.ndarray], exchange: int = exchange) -> None:
            nonlocal told
            if (values := message.get(f"opened.{exchange}")) is not None and values.size:
                values[0] = PrimeField.add(values[:1], np.ones(1, np.uint64))[0]
                told = True

        def on_ask(ask: Ask) -> Ask:
            for step in ("proceed", "verify"):
                ask = changing(f"{ask.step.split('.')[0]}.{step}", victim, tell)(ask)
            return ask

        with pytest.MonkeyPatch.context() as patch:
            seen = lying(patch, lambda exchange, of, value: value)
            run, find = make()
            run.driver.tolerant = True
            with pytest.raises(SecFPPError):
                find(on_ask)
        assert told
        assert len(seen) <= next(number for number in range(exchange + 1, len(decisive)) if decisive[number])


def test_holders_who_lie_about_what_they_were_told_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Tally._shown

    def shown(self: Tally, transcript: bytes) -> Elements:
        own = honest(self, transcript)
        return PrimeField.add(own, np.ones_like(own)) if self._joined.party.name == "c02" else own

    monkeypatch.setattr(Tally, "_shown", shown)
    with pytest.raises(ClientError, match="or one of them lies"):
        counting()[1]()


def edited(edit: Callable[[dict[str, np.ndarray]], object], client: str = "c01") -> OnAsk:
    """Change what one client is told of tallies of the exchange, by sender."""

    def on_ask(ask: Ask) -> Ask:
        def change(message: dict[str, np.ndarray]) -> None:
            repack(message, edit, f"tallies.{int(message['exchange'])}")

        return changing(f"{ask.step.split('.')[0]}.proceed", client, change)(ask)

    return on_ask


def test_no_tally_may_be_missing_swapped_or_told_again() -> None:
    def drop(tallies: dict[str, np.ndarray]) -> None:
        del tallies["c03"]

    def swap(tallies: dict[str, np.ndarray]) -> None:
        tallies["c03"], tallies["c04"] = tallies["c04"], tallies["c03"]

    earlier: dict[str, np.ndarray] = {}

    def again(tallies: dict[str, np.ndarray]) -> None:
        tallies["c03"] = earlier.setdefault("c03", tallies["c03"])

    with pytest.raises(ClientError, match=f"{NEEDED - 1} holders verify what was told, less than {NEEDED}"):
        counting()[1](edited(drop))
    for edit in (swap, again):
        with pytest.raises(ClientError, match="an envelope"):
            counting()[1](edited(edit))


@pytest.mark.parametrize("first", [0, 1])
def test_a_server_that_skips_verifying_gets_no_answer(monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    honest = server._Lead._verify

    def skip(self: server._Lead) -> Program[None]:
        if len(self.opened) < first:
            yield from honest(self)

    monkeypatch.setattr(server._Lead, "_verify", skip)
    with pytest.raises(ClientError, match=f"1 holders verify what was told, less than {NEEDED}"):
        counting()[1]()


def spoiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """One client deals c03 another share of one random element than its polynomial has, and the server is silent."""
    honest, encode = holder.deal, LagrangeCode.encode

    def spoiled(self: LagrangeCode, data: Elements, stream: Any) -> Elements:
        shares = encode(self, data, stream)
        shares[3, -1:] = PrimeField.add(shares[3, -1:], np.ones(1, np.uint64))
        return shares

    def deal(joined: Any, plan: Any, own: Elements) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            if joined.party.name == "c01":
                patch.setattr(LagrangeCode, "encode", spoiled)
            return honest(joined, plan, own)

    monkeypatch.setattr(component.holder, "deal", deal)
    monkeypatch.setattr(checks, "blame", lambda *judged: None)


def test_holders_find_what_was_dealt_wrongly_before_anything_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two sets of responders open different values, and the difference is a multiple of one holder's share."""
    spoiling(monkeypatch)
    seen = lying(monkeypatch, lambda exchange, of, value: value)
    with pytest.raises(ClientError, match="not of degree T"):
        counting()[1]()
    assert not seen


def test_and_go_on_with_it_where_they_do_not_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    spoiling(monkeypatch)
    seen = lying(monkeypatch, lambda exchange, of, value: value)
    with suppress(SecFPPError):  # the answer can be none
        counting("passive")[1]()
    assert len(seen) == 3


def too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One client deals integers that make what is compared one less, where it deals integers."""
    shift = np.uint64(Counting(AtLeast(CLIENTS, COUNTS.shape[1], 3), 1, 5).comparator.factor)
    honest, make = holder.deal, Deal.make

    def made(self: Deal, stream: Any) -> Elements:
        dealt = make(self, stream)
        for (name, _), section in self.sections.items():
            if name == "integers":
                dealt[section] = PrimeField.sub(dealt[section], shift)
        return dealt

    def deal(joined: Any, plan: Any, own: Elements) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            if joined.party.name == "c01":
                patch.setattr(Deal, "make", made)
            return honest(joined, plan, own)

    monkeypatch.setattr(component.holder, "deal", deal)


@pytest.mark.parametrize("security", ["passive", "active"])
def test_a_holder_that_deals_integers_changes_what_is_asked_where_they_are_dealt(
    monkeypatch: pytest.MonkeyPatch, security: Security
) -> None:
    too_small(monkeypatch)
    answer, _ = counting(security)[1]()  # type: ignore[misc]
    wrong = answer[0] != (COUNTS.sum(0) >= 3)
    assert wrong.any() == (security == "passive")
    assert (COUNTS.sum(0)[wrong] == 2).all()


def test_different_keys_of_one_set_end_it_before_anything_decisive(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = replicated.dealt_keys

    def dealt(sets: Any, holders: int, dealer: int, made: Elements) -> Elements:
        keys = honest(sets, holders, dealer, made)
        if dealer == sets[0][0]:
            keys[sets[0][1]] = PrimeField.add(keys[sets[0][1]], np.ones_like(keys[0]))
        return keys

    monkeypatch.setattr(holder, "dealt_keys", dealt)
    seen = lying(monkeypatch, lambda exchange, of, value: value)
    with pytest.raises(ClientError, match="or one of them lies"):
        counting()[1]()
    assert len(seen) == 2


def one_less() -> Lie:
    """Differences are told as of a question for one client less."""
    comparator = Counting(AtLeast(CLIENTS, COUNTS.shape[1], 3), 1, 5).comparator
    shift = np.uint64(comparator.factor)

    def lie(exchange: int, of: Shared, value: Elements) -> Elements:
        return PrimeField.sub(value, shift) if exchange == 1 and value.shape == (COUNTS.shape[1],) else value

    return lie


def test_a_server_learns_who_few_have_where_openings_are_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told which bits two clients have, where all of them insist on three."""
    lying(monkeypatch, one_less())
    answer, _ = counting("passive")[1]()  # type: ignore[misc]
    assert answer[0].tolist() == (COUNTS.sum(0) >= 2).tolist() != (COUNTS.sum(0) >= 3).tolist()


def test_and_gets_no_answer_where_they_are_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = lying(monkeypatch, one_less())
    with pytest.raises(ClientError, match="told something else than was opened"):
        counting()[1]()
    assert len(seen) == 2
