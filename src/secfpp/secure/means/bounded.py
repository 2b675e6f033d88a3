"""The server's side of the check that every update of a secure mean is clipped; see `secfpp.crypto.bounds`.

Clients prove it for signs that the server draws once all updates of their batch are shared, and holders open the proofs
at a point that it draws once these are shared too. What it draws for each batch it committed to in the terms, so that
all holders answer the same; a server that tells a client in advance can have a long update passed.

What holders open are codewords. An answer that is off the others' is the holder's fault, or the client dealt it a wrong
share: of these two, the one that more others are at odds with is left out.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

import numpy as np

from secfpp.crypto.bounds import SEED_BYTES, Bound, Challenge, challenge
from secfpp.crypto.channel import ENVELOPE_OVERHEAD
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.fixed_point import FixedPoint
from secfpp.crypto.sharing import LagrangeCode
from secfpp.errors import FieldRangeError, ReplyError, TamperError
from secfpp.protocol.program import Arrays, Ask, ClientId, Program, Replies
from secfpp.secure.means.batches import Intake, portions
from secfpp.secure.means.relay import Rows
from secfpp.secure.means.updates import not_clipped
from secfpp.secure.message_sizes import ELEMENT

PROVE, CHECK = "aggregator.prove", "aggregator.check"


@dataclass(frozen=True)
class Seeds:
    """What the server draws for one batch: for the signs of projections, and for where proofs are opened."""

    project: bytes = field(default_factory=lambda: secrets.token_bytes(SEED_BYTES))
    check: bytes = field(default_factory=lambda: secrets.token_bytes(SEED_BYTES))


def committed(seeds: Sequence[Seeds]) -> dict[str, list[str]]:
    """What all are told in advance of the seeds of batches."""
    return {name: [commitment(getattr(one, name)) for one in seeds] for name in ("project", "check")}


def commitment(seed: bytes) -> str:
    """What is shown of a seed in advance."""
    return sha256(b"secfpp/seed/1\0" + seed).hexdigest()


@lru_cache(maxsize=64)
def bound_of(code: LagrangeCode, length: int, codec: FixedPoint) -> Bound:
    """What is proven of updates whose shares have `length` numbers.

    Raises:
        FieldRangeError: updates of this length cannot be checked.
    """
    return Bound(code.blocks, length, codec.most_squares(code.blocks * length))


class Checked(NamedTuple):
    """What came of a check.

    Attributes:
        members: whose updates are clipped.
        holders: who answered and is at odds with nobody of these.
    """

    members: tuple[ClientId, ...] = ()
    holders: tuple[ClientId, ...] = ()


def checked(
    intake: Intake, number: int, code: LagrangeCode, codec: FixedPoint, seeds: Seeds, least: int
) -> Program[None]:
    """Have everybody in a batch prove that its update is clipped; who fails, or proves nothing, is left out.

    Nobody is left if fewer than `least` prove it, or too few holders answer.
    """
    relay = intake.relay
    members, shared = yield from intake.shared(number)
    if len(members) < least:
        return
    drawn = {"attempt": relay.attempt, "project": np.frombuffer(seeds.project, np.uint8)}
    proving = yield Ask(PROVE, dict.fromkeys(members, drawn))
    proofs = relay.rows(proving, "envelopes", relay.holders)
    proven = tuple(client for client in members if client in proofs)
    if len(proven) < least:
        return
    length = next(iter(shared.values())).shape[1] - ENVELOPE_OVERHEAD
    drawn["check"] = np.frombuffer(seeds.check, np.uint8)
    found = challenge(bound_of(code, length // ELEMENT - 2, codec), seeds.project, seeds.check)
    for portion in portions(proven, shared, proofs):
        sealed = {
            key: {client: rows[client] for client in portion}
            for key, rows in (("envelopes", shared), ("proofs", proofs))
        }
        told = yield from _verdict(intake, proving, drawn, portion, sealed, code, found, codec)
        intake.keep(told.holders, told.members)


def _verdict(
    intake: Intake,
    proving: Replies,
    drawn: Arrays,
    proven: Sequence[ClientId],
    sealed: Mapping[str, Rows],
    code: LagrangeCode,
    drawn_for: Challenge,
    codec: FixedPoint,
) -> Program[Checked]:
    """Have holders answer about some clients' proofs, and judge."""
    relay, bound = intake.relay, drawn_for.bound
    if len(intake.holders) < code.required():
        return Checked()
    common = {**drawn, "clients": np.array(json.dumps(proven))}
    answering = yield Ask(CHECK, {h: {**common, **relay.for_holder(h, sealed)} for h in intake.holders})

    def answer_in(client: ClientId, reply: Arrays) -> Elements:
        array = reply.get("answers")
        if array is None or array.shape != (len(proven), bound.answer) or array.dtype != np.uint64:
            raise ReplyError(client, "sent no answers about proofs")
        try:
            return PrimeField.checked(array)
        except FieldRangeError as error:
            raise ReplyError(client, "sent answers about proofs that are no field elements") from error

    answers = answering.readable(answer_in)
    if len(answers) < code.required():
        return Checked()
    numbers = {relay.holders.index(holder): rows for holder, rows in answers.items()}
    found = judged(numbers, code, drawn_for, code.threshold)
    for number in found.liars:
        answering.refuse(relay.holders[number], _at_odds(relay.holders[number]))
    for number in found.bad:
        proving.refuse(proven[number], not_clipped(proven[number], codec.bound))
    for _ in found.doubtful:
        answering.refuse("", _at_odds(""))
    return Checked(
        tuple(proven[number] for number in found.good),
        tuple(relay.holders[number] for number in sorted(numbers) if number not in found.dropped),
    )


def _at_odds(party: ClientId) -> TamperError:
    who = f"{party!r}'s shares or answers" if party else "shares or answers of some"
    return TamperError(party or None, CHECK, f"{who} do not fit those of others in the check of updates")


@dataclass(frozen=True)
class Verdict:
    """Clients and holders by number.

    Attributes:
        good: clients whose proof holds.
        bad: those whose proof does not, or whose shares do not fit more holders than may collude.
        doubtful: other clients that are left out.
        dropped: holders that are left out.
        liars: those of `dropped` who are at odds with more clients than may collude.
    """

    good: tuple[int, ...] = ()
    bad: tuple[int, ...] = ()
    doubtful: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()
    liars: tuple[int, ...] = ()


def judged(answers: Mapping[int, Elements], code: LagrangeCode, drawn: Challenge, threshold: int) -> Verdict:
    """Whose updates are clipped, from what holders answered.

    Args:
        answers: by number of the holder [n, answer].
        code: of the shares.
        drawn: what they answered to.
        threshold: how many may collude.
    """
    numbers = range(len(next(iter(answers.values()))))
    unclear: set[int] = set()
    accused: set[int] = set()
    dropped: dict[int, int] = {}
    if not _one_polynomial(answers, code):
        wrong = {i: code.liars({holder: rows[i] for holder, rows in answers.items()}) for i in numbers}
        unclear = {i for i, holders in wrong.items() if holders is None}
        pairs = {(i, holder) for i, holders in wrong.items() for holder in holders or ()}
        while pairs:
            clients, holders = Counter(i for i, _ in pairs), Counter(holder for _, holder in pairs)
            (client, odds), (holder, others) = clients.most_common(1)[0], holders.most_common(1)[0]
            if others >= odds and len(answers) - len(dropped) > code.required():
                dropped[holder] = others
                pairs = {pair for pair in pairs if pair[1] != holder}
            else:
                (accused if odds > threshold else unclear).add(client)
                pairs = {pair for pair in pairs if pair[0] != client}
    left = {holder: rows for holder, rows in answers.items() if holder not in dropped}
    kept = [i for i in numbers if i not in unclear | accused]
    passed: Sequence[bool] = (
        drawn.good(code.decode({holder: rows[kept] for holder, rows in left.items()})).tolist() if kept else []
    )
    failed = {i for i, good in zip(kept, passed, strict=True) if not good}
    sure = len(answers) - code.required() >= threshold
    return Verdict(
        tuple(i for i in kept if i not in failed),
        tuple(sorted(accused | (failed if sure else set()))),
        tuple(sorted(unclear | (set() if sure else failed))),
        tuple(sorted(dropped)),
        tuple(sorted(holder for holder, others in dropped.items() if others > threshold)),
    )


def _one_polynomial(answers: Mapping[int, Elements], code: LagrangeCode) -> bool:
    try:
        code.decode(answers)
    except TamperError:
        return False
    return True
