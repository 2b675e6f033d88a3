"""Who is left out where shares or answers in the check of updates do not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from secfpp.crypto.bounds import Challenge
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.fixed_point import FixedPoint
from secfpp.crypto.randomness import Stream
from secfpp.errors import ClientError, TamperError
from secfpp.protocol.program import Ask, Replies
from secfpp.protocol.refusals import BY_SERVER, left_out
from secfpp.secure.means.bounded import Verdict, bound_of, judged
from secfpp.secure.means.client import MeanRun, code_for
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.secure.tasks import Task
from secfpp.seeding import SystemEntropy
from support.secure_runs import OnReplies, SecureRun, changing, names

PROVE, CHECK, SUM = "aggregator.prove", "aggregator.check", "aggregator.sum"
CODEC = FixedPoint(2.5, 24)
ONE = np.array(1, np.uint64)


class Instance:
    """Answers of 16 holders about the proofs of `count` clients, T = 2."""

    def __init__(self, count: int, long: tuple[int, ...] = (), holders: int = 16) -> None:
        self.code = code_for(holders, 2)
        bound = bound_of(self.code, 3, CODEC)
        self.drawn = Challenge(bound, b"p" * 32, b"c" * 32)
        stream, shares, proofs = Stream.fresh(SystemEntropy()), [], []
        for i in range(count):
            vector = np.full(3 * bound.blocks, 1000 * (i + 1), np.int64)
            proof = bound.prove(b"p" * 32, [(vector, stream)])[0]
            vector[0] += 10**10 * (i in long)
            shares.append(self.code.encode(PrimeField.lift(vector).reshape(bound.blocks, -1), stream))
            proofs.append(self.code.encode(proof, stream))
        self.answers = {
            h: self.drawn.answers(np.stack([s[h] for s in shares]), np.stack([q[h] for q in proofs]))
            for h in range(holders)
        }

    def spoil(self, client: int, holder: int) -> None:
        self.answers[holder][client, 0] = PrimeField.add(self.answers[holder][client, 0], ONE)

    def judged(self) -> Verdict:
        return judged(self.answers, self.code, self.drawn, 2)


def test_all_is_well() -> None:
    assert Instance(5).judged() == Verdict(good=(0, 1, 2, 3, 4))


def test_who_is_too_long_is_found() -> None:
    assert Instance(5, long=(1, 4)).judged() == Verdict(good=(0, 2, 3), bad=(1, 4))


def test_a_holder_at_odds_with_one_client_is_dropped_and_nobody_is_blamed() -> None:
    instance = Instance(5, long=(1,))
    instance.spoil(3, 7)
    assert instance.judged() == Verdict(good=(0, 2, 3, 4), bad=(1,), dropped=(7,))


def test_a_holder_at_odds_with_more_than_may_collude_lies() -> None:
    instance = Instance(5)
    for client in (0, 2, 3):
        instance.spoil(client, 7)
    assert instance.judged() == Verdict(good=(0, 1, 2, 3, 4), dropped=(7,), liars=(7,))


def test_a_client_at_odds_with_more_than_may_collude_lies() -> None:
    instance = Instance(5)
    for holder in (0, 9, 15):
        instance.spoil(2, holder)
    assert instance.judged() == Verdict(good=(0, 1, 3, 4), bad=(2,))


def test_a_client_at_odds_with_two_is_left_out_unnamed() -> None:
    instance = Instance(5)
    instance.spoil(2, 0)
    instance.spoil(2, 9)
    assert instance.judged() == Verdict(good=(0, 1, 3, 4), doubtful=(2,))


def test_a_lying_holder_and_a_lying_client_together() -> None:
    instance = Instance(5, long=(0,))
    for client in range(5):
        instance.spoil(client, 7)
    for holder in (1, 2):
        instance.spoil(4, holder)
    assert instance.judged() == Verdict(good=(1, 2, 3), bad=(0,), doubtful=(4,), dropped=(7,), liars=(7,))


def test_whose_shares_fit_too_few_is_left_out() -> None:
    instance = Instance(5)
    for holder in range(4):
        instance.spoil(2, holder)
    assert instance.judged() == Verdict(good=(0, 1, 3, 4), doubtful=(2,))


def test_without_answers_to_spare_nobody_is_named() -> None:
    instance = Instance(5, long=(1,), holders=6)
    del instance.answers[4]
    assert len(instance.answers) == instance.code.required()
    assert instance.judged() == Verdict(good=(0, 2, 3, 4), doubtful=(1,))


def answering(change: Callable[[str, Elements], None], *holders: str) -> OnReplies:
    """Holders that answer something else about proofs."""

    def on_replies(ask: Ask, replies: Replies) -> Replies:
        if ask.step != CHECK:
            return replies
        told = {client: {k: a.copy() for k, a in reply.items()} for client, reply in replies.items()}
        for holder in holders:
            change(holder, told[holder]["answers"])
        return Replies(told, replies.missing, refuse=replies.refuse)

    return on_replies


def test_a_holder_that_answers_falsely_is_named_and_the_mean_is_right() -> None:
    run, plain = SecureRun(16, transcript=None, tolerant=True), SecureRun(16, PlainMean(), transcript=None)

    def lie(_: str, answers: Elements) -> None:
        answers[:, 0] = PrimeField.add(answers[:, 0], ONE)

    assert run.round(0, None, answering(lie, "c03")) == plain.round(0)
    assert run.bits() == plain.bits()
    assert {(one.by, one.party) for one in run.driver.refusals} == {(BY_SERVER, "c03")}


@pytest.mark.parametrize("group", [5, 16])
def test_a_holder_that_answers_falsely_about_one_client_harms_at_most_its_update(group: int) -> None:
    run = SecureRun(group, transcript=None, tolerant=True)

    def lie(_: str, answers: Elements) -> None:
        answers[1, 0] = PrimeField.add(answers[1, 0], ONE)

    # of five holders one answer is to spare: that somebody lies is seen, not who
    expected = run.clients if group == 16 else ["c00", "c02", "c03", "c04"]
    assert run.round(0, None, answering(lie, "c03")) == tuple(expected)
    assert left_out(run.driver.refusals, 2) == frozenset()
    assert len({run.driver.states[client]["p"].tobytes() for client in run.clients}) == 1


def test_a_client_that_deals_wrong_shares_spoils_no_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the check all sums are spoiled, and nobody can be named."""
    honest = MeanRun._seal_encoded

    def deal(self: MeanRun, blocks: Elements, stream: Stream, label: Any) -> Task[np.ndarray]:
        if self.name != "c02" or label.name != "aggregator.share":
            return (yield from honest(self, blocks, stream, label))
        code, self.__dict__["code"] = self.code, code_for(16, 4)  # a polynomial of higher degree
        try:
            other = np.zeros((self.code.blocks, blocks.shape[1]), np.uint64)
            other[: min(len(other), len(blocks))] = blocks[: len(other)]
            return (yield from honest(self, other, stream, label))
        finally:
            self.__dict__["code"] = code

    monkeypatch.setattr(MeanRun, "_seal_encoded", deal)
    run = SecureRun(16, transcript=None, tolerant=True)
    assert run.round(0) == tuple(client for client in run.clients if client != "c02")
    unchecked = SecureRun(16, SecureMean(bounded=False), transcript=None)
    with pytest.raises(ClientError, match="sums are not of one polynomial"):
        unchecked.round(0)


def test_seeds_that_were_not_committed_to_are_refused() -> None:
    """Else a server could have proofs opened at a place of its choice, or at two."""
    for step in (PROVE, CHECK):

        def other(message: dict[str, np.ndarray], step: str = step) -> None:
            key = "project" if step == PROVE else "check"
            message[key] = message[key] ^ np.uint8(1)

        with pytest.raises(ClientError, match="draws something else for") as caught:
            SecureRun(6).round(0, changing(step, "c02", other))
        assert isinstance(caught.value.__cause__, TamperError)


@pytest.mark.parametrize("step", [PROVE, CHECK])
def test_proofs_are_made_and_opened_once(step: str) -> None:
    run = SecureRun(6)
    asked: list[Ask] = []

    def again(ask: Ask, replies: Replies) -> Replies:
        if ask.step == step:
            asked.append(ask)
            run.driver._exchange(Ask(step, {"c02": ask.payloads["c02"]}))
        return replies

    with pytest.raises(ClientError, match="once"):
        run.round(0, None, again)
    assert len(asked) == 1


def test_who_drops_out_before_it_proves_is_out_of_the_mean_and_no_more() -> None:
    run, plain = SecureRun(8, transcript=None), SecureRun(8, PlainMean(), transcript=None)
    run.driver.dropouts = lambda round_, step, client: "before" if (step, client) == (PROVE, "c05") else None
    plain.driver.dropouts = lambda round_, step, client: (
        "before" if (step, client) == ("aggregator.share", "c05") else None
    )
    assert run.round(0) == plain.round(0) == tuple(client for client in names(8) if client != "c05")
    assert run.bits() == plain.bits()
