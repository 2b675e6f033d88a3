"""k-means on shares among clients, holders and servers that do something else."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from secfpp.crypto import material
from secfpp.crypto.field import PrimeField
from secfpp.crypto.material import Deal
from secfpp.crypto.sharing import LagrangeCode
from secfpp.errors import ClientError, ProtocolError, TamperError
from secfpp.protocol.program import Ask, Program, Replies, Request
from secfpp.secure.circuits import holder, server
from secfpp.secure.circuits.plan import Plan
from secfpp.secure.clustering.layout import Layout
from support.clustering_runs import COMPUTED, DEAL, PROCEED, SECURE, Missing, Run, groups
from support.envelopes import repack
from support.secure_runs import answering, changing, everyone

Forge = Callable[[Layout, np.ndarray], np.ndarray]


def too_large_bit(layout: Layout, bits: np.ndarray) -> np.ndarray:
    return np.concatenate([[np.uint64(2)], bits[1:]])


def too_long(layout: Layout, bits: np.ndarray) -> np.ndarray:
    far = np.ones_like(bits)
    far[layout.dimensions * layout.bits :] = 0
    return far


def wrong_slack(layout: Layout, bits: np.ndarray) -> np.ndarray:
    other = bits.copy()
    other[-1] ^= np.uint64(1)
    return other


def huge(layout: Layout, bits: np.ndarray) -> np.ndarray:
    return np.full_like(bits, (1 << 61) - 2)


@pytest.mark.parametrize("forge", [too_large_bit, too_long, wrong_slack, huge])
@pytest.mark.parametrize("villain", ["c00", "c06"])
def test_who_shares_an_impossible_descriptor_is_named(
    monkeypatch: pytest.MonkeyPatch, forge: Forge, villain: str
) -> None:
    honest = holder.deal

    def deal(joined: Any, plan: Any, own: np.ndarray) -> Any:
        layout = SECURE.layout({})
        return honest(joined, plan, forge(layout, own) if joined.party.name == villain else own)

    monkeypatch.setattr(holder, "deal", deal)
    with pytest.raises(TamperError, match="out of range") as caught:
        Run(8).assign()
    assert caught.value.party == villain


@pytest.mark.parametrize("villain", ["c00", "c06"])
def test_who_deals_something_else_than_permutations_is_named(monkeypatch: pytest.MonkeyPatch, villain: str) -> None:
    """They would show sizes in an order that others could undo."""
    honest, made = holder.deal, material.Deal.make

    def scaled(self: Deal, stream: Any) -> np.ndarray:
        dealt = made(self, stream)
        dealt[self.sections["permutations", 2]] *= np.uint64(1000)
        return dealt

    def deal(joined: Any, plan: Any, own: np.ndarray) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            if joined.party.name == villain:
                patch.setattr(material.Deal, "make", scaled)
            return honest(joined, plan, own)

    monkeypatch.setattr(holder, "deal", deal)
    with pytest.raises(TamperError, match="out of range: its input, or permutations") as caught:
        Run(8).assign()
    assert caught.value.party == villain


class Steeper(Plan):
    """Shares with a polynomial of one degree more."""

    @property
    def code(self) -> LagrangeCode:
        return LagrangeCode(self.holders, self.threshold + 1)


@pytest.mark.parametrize("villain", ["c00", "c06"])
def test_who_shares_with_a_higher_degree_is_named(monkeypatch: pytest.MonkeyPatch, villain: str) -> None:
    honest = holder.deal

    def deal(joined: Any, plan: Any, own: np.ndarray) -> Any:
        return honest(joined, Steeper(**vars(plan)) if joined.party.name == villain else plan, own)

    monkeypatch.setattr(holder, "deal", deal)
    with pytest.raises(TamperError, match="not of one polynomial of degree T") as caught:
        Run(8).assign()
    assert caught.value.party == villain


def test_a_holder_that_lies_in_the_checks_is_found_out() -> None:
    """Its answer is masked, so a lie spoils all checks alike, and nobody can tell whose it was."""

    def lie(message: dict[str, np.ndarray]) -> None:
        if "checks" in message:
            message["checks"] = (message["checks"] + np.uint64(1)) % np.uint64((1 << 61) - 1)

    with pytest.raises(TamperError, match="no check fits") as caught:
        Run(8).assign(on_replies=answering(PROCEED, "c02", lie))
    assert caught.value.party is None


def test_other_coins_said_later_change_no_answer() -> None:
    """Else two sets of coins would give combinations of what a client shared."""
    answers: list[Replies] = []

    def again(program: Program[Any]) -> Program[Any]:
        ask = next(program)
        while True:
            replies = yield ask
            if isinstance(ask, Ask) and ask.step == PROCEED and "checks" in next(iter(replies.values()), {}):
                forged = {
                    holder: {name: a ^ 1 if name == "coins" else a for name, a in payload.items()}
                    for holder, payload in ask.payloads.items()
                }
                answers.extend([replies, (yield Ask(PROCEED, forged))])
            try:
                ask = program.send(replies)
            except StopIteration as stop:
                return stop.value

    run = Run(8)
    run.driver.run(again(run.clusterer.find(run.cohort, "z")))
    first, second = answers
    assert all(np.array_equal(first[holder]["checks"], second[holder]["checks"]) for holder in first)


def test_a_holder_that_shows_another_coin_is_found() -> None:
    def other(message: dict[str, np.ndarray]) -> None:
        if "coin" in message:
            message["coin"] = message["coin"] ^ 1

    with pytest.raises(ClientError) as caught:
        Run(8).assign(on_replies=answering(PROCEED, "c02", other))
    assert isinstance(caught.value.__cause__, TamperError)
    assert caught.value.__cause__.party in ("c02", None)


@pytest.mark.parametrize("seed", range(4))
def test_honest_parties_are_never_blamed(seed: int) -> None:
    run = Run(groups(7, seed, 1.5))
    assert run.assign() == run.expected()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda reply: {"coin": reply["coin"]}, "0 values, .* were expected"),
        (lambda reply: {**reply, "masked": reply["masked"][1:]}, "were expected"),
        (lambda reply: {**reply, "masked": np.full_like(reply["masked"], (1 << 64) - 1)}, "no field elements"),
        (lambda reply: {**reply, "masked": reply["masked"].astype(np.float64)}, "no field elements"),
    ],
)
def test_answers_of_no_holder_are_refused_by_name(change: Any, reason: str) -> None:
    with pytest.raises(TamperError, match=reason) as caught:
        Run(8).assign(on_replies=answering(PROCEED, "c01", change))
    assert caught.value.party == "c01"


def test_a_holder_that_refused_what_it_was_told_still_answers_the_checks() -> None:
    """An error leaves the checks where they were, so nobody can make a holder skip them."""
    genuine: list[Ask] = []

    def forge(ask: Ask) -> Ask:
        if not any("coins" in payload for payload in ask.payloads.values()):
            return ask
        genuine.append(ask)
        forged = {name: a ^ 1 if name == "coins" else a for name, a in ask.payloads["c00"].items()}
        return Ask(ask.step, {**ask.payloads, "c00": forged})

    def again() -> Program[Replies]:
        return (yield genuine[0])

    run = Run(8)
    with pytest.raises(ClientError, match=r"not what was committed to|not the one that this client showed"):
        run.assign(forge)
    replies = run.driver.run(again())
    assert "c00" in replies and all("checks" in reply for reply in replies.values())


def test_envelopes_that_were_changed_are_refused() -> None:
    def change(message: dict[str, np.ndarray]) -> None:
        repack(message, lambda found: found["c02"].__setitem__(5, 0xFF ^ found["c02"][5]))

    with pytest.raises(ClientError) as caught:
        Run(8).assign(changing(PROCEED, "c00", change))
    cause = caught.value.__cause__
    assert isinstance(cause, TamperError) and cause.party == "c02"


Twice = Callable[[Ask], Ask]


def repeating(program: Program[Any], step: str, number: int, change: Twice = lambda ask: ask) -> Program[Any]:
    """Ask one ask of `step` a second time, changed; the first replies count. Returns both replies."""
    request: Request = next(program)
    count = -1
    while True:
        assert isinstance(request, Ask)
        replies = yield request
        count += request.step == step
        if count == number and request.step == step:
            second: Replies = yield change(request)
            return replies, second
        request = program.send(replies)


def test_shares_are_dealt_once_for_the_same_terms() -> None:
    run = Run(8)
    with pytest.raises(ClientError, match="joined before is offered again"):
        run.driver.run(repeating(run.clusterer.find(run.cohort, "z"), DEAL, 0))


def test_an_exchange_that_is_repeated_gets_the_same_answers() -> None:
    run = Run(8)
    first, second = run.driver.run(repeating(run.clusterer.find(run.cohort, "z"), PROCEED, 3))
    for client in first:
        assert first[client]["masked"].tolist() == second[client]["masked"].tolist()


def test_fewer_holders_than_a_quorum_answer_nothing() -> None:
    run = Run(8)

    def fewer(ask: Ask) -> Ask:
        chosen = sorted(ask.payloads)[:5]
        numbers = np.array([int(client[1:]) for client in chosen], np.uint8)
        return Ask(ask.step, {client: {**ask.payloads[client], "responders": numbers} for client in chosen})

    with pytest.raises(ClientError, match="5 holders should answer, less than the quorum of 6"):
        run.driver.run(repeating(run.clusterer.find(run.cohort, "z"), PROCEED, 3, fewer))


@pytest.mark.parametrize("responders", [[0, 1, 2, 3, 4, 99], [1, 0, 2, 3, 4, 5], [0, 0, 1, 2, 3, 4], []])
def test_lists_of_responders_that_are_none_are_refused(responders: list[int]) -> None:
    def change(message: dict[str, np.ndarray]) -> None:
        message["responders"] = np.array(responders, np.uint8)

    with pytest.raises(ClientError, match=r"no list of holders|less than the quorum"):
        Run(8).assign(changing(PROCEED, "c00", change))


def test_an_exchange_that_is_over_is_not_answered_again() -> None:
    run = Run(8)

    def earlier(ask: Ask) -> Ask:
        return Ask(ask.step, {c: {**p, "exchange": np.array(1)} for c, p in ask.payloads.items()})

    with pytest.raises(ClientError, match="an exchange that is over is asked for again"):
        run.driver.run(repeating(run.clusterer.find(run.cohort, "z"), PROCEED, 3, earlier))


@pytest.mark.parametrize("exchange", [2, 3, 5])
@pytest.mark.parametrize("victims", [{"c00"}, {"c00", "c01", "c02"}])
def test_holders_who_were_told_different_values_open_nothing(exchange: int, victims: set[str]) -> None:
    """Their pads do not cancel any more: what the server adds up is noise, and no partition comes out."""

    def lie(ask: Ask) -> Ask:
        if ask.step != PROCEED:
            return ask
        copies = {client: dict(payload) for client, payload in ask.payloads.items()}
        for client in victims:
            if f"opened.{exchange}" in copies[client]:
                told = copies[client][f"opened.{exchange}"].copy()
                told[0] = (int(told[0]) + 1) % ((1 << 61) - 1)
                copies[client][f"opened.{exchange}"] = told
        return Ask(ask.step, copies)

    with pytest.raises(ProtocolError, match=r"a holder answered wrongly|of one polynomial|square of a random"):
        Run(8).find(lie)


@pytest.mark.parametrize("exchange", range(2, COMPUTED))
def test_a_holder_that_answers_wrongly_by_a_constant_is_found_out_or_changes_nothing(exchange: int) -> None:
    def lie(ask: Ask, replies: Replies) -> Replies:
        if ask.step != PROCEED or int(ask.payloads["c03"]["exchange"]) != exchange:
            return replies
        wrong = {**replies["c03"], "masked": (replies["c03"]["masked"] + np.uint64(3)) % np.uint64((1 << 61) - 1)}
        return Replies({**replies, "c03": wrong})

    run = Run(8)
    with suppress(TamperError):
        assert run.assign(on_replies=lie) == run.expected()


def test_holders_who_were_told_different_values_before_the_checks_find_out() -> None:
    def lie(message: dict[str, np.ndarray]) -> None:
        if "opened.0" in message:
            message["opened.0"][0] ^= np.uint64(1)

    with pytest.raises(ProtocolError):
        Run(8).find(changing(PROCEED, "c00", lie))


def test_a_committee_that_the_randomness_does_not_give_is_refused() -> None:
    def favour(message: dict[str, np.ndarray]) -> None:
        about = json.loads(message["about"].item())
        spare = sorted(set(about["clients"]) - set(about["holders"]))
        about["holders"] = sorted([*about["holders"][1:], spare[0]])
        message["about"] = np.array(json.dumps(about, sort_keys=True))

    settings = replace(SECURE, min_cluster_size=4)
    with pytest.raises(ClientError, match="the holders are not those that the joint randomness gives"):
        Run(18, settings).assign(everyone(DEAL, favour))


def test_a_lower_threshold_than_agreed_is_refused() -> None:
    def lower(message: dict[str, np.ndarray]) -> None:
        about = json.loads(message["about"].item())
        about["threshold"] -= 1
        message["about"] = np.array(json.dumps(about, sort_keys=True))

    settings = replace(SECURE, min_cluster_size=4)
    with pytest.raises(ClientError, match="threshold 1, which is not what this client agreed to"):
        Run(16, settings).assign(everyone(DEAL, lower))


def test_errors_and_memory_hold_no_secret() -> None:
    run = Run(8)
    run.driver.run(repeating(run.clusterer.find(run.cohort, "z"), PROCEED, 1))
    secrets = {str(v) for state in run.states.values() for v in state["z"].tolist()}
    shown = " ".join(repr(context) for context in run.driver.contexts.values())
    assert not any(secret in shown for secret in secrets)


@pytest.mark.parametrize("exchange", range(2, 9))
def test_wrong_shares_of_a_holder_that_stood_by_make_no_partition(
    monkeypatch: pytest.MonkeyPatch, exchange: int
) -> None:
    """It took no part in the checks, and answers from one exchange on: what comes out is noise, and is refused."""
    honest = holder.deal

    def deal(joined: Any, plan: Any, own: np.ndarray) -> Any:
        return honest(joined, Wrong(**vars(plan)) if joined.party.name == "c00" else plan, own)

    monkeypatch.setattr(holder, "deal", deal)
    gone = Missing(PROCEED, *[set()] * exchange, {1})
    with pytest.raises((TamperError, ProtocolError, ClientError)):
        Run(8, dropouts=gone).assign()


class Wrong(Plan):
    """Deals wrong shares to the last two holders, who stand by."""

    @property
    def code(self) -> LagrangeCode:
        return Off(self.holders, self.threshold)


class Off(LagrangeCode):
    def encode(self, secrets: np.ndarray, stream: Any) -> np.ndarray:
        shares = super().encode(secrets, stream).copy()
        shares[-2:] = PrimeField.add(shares[-2:], np.uint64(12345))
        return shares


@pytest.mark.parametrize("size", [11, 24])
def test_clients_insist_on_their_committee(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """A server that draws fewer holders, or takes everybody, could have more of them than T."""
    terms, with_keys = server.terms, server.with_keys
    monkeypatch.setattr(server, "terms", lambda part, cohort, about, *_, **__: terms(part, cohort, about, size))
    monkeypatch.setattr(server, "with_keys", lambda cohort, _: with_keys(cohort, size))
    with pytest.raises(ClientError, match=f"24 clients with up to {size} holders of shares"):
        Run(24, replace(SECURE, min_cluster_size=4)).assign()
