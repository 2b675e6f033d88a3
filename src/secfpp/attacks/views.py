"""What an adversary reads of a run, from the messages that were sent and from what clients hold.

Every reader takes what is there: of a method whose uploads are sealed the server reads sealed bytes, as numbers, in the
way that it would read an open upload.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from secfpp.attacks.observed import Observed, averaged_slot, content
from secfpp.crypto.field import PrimeField
from secfpp.crypto.fixed_point import FixedPoint
from secfpp.protocol.fields import parsed
from secfpp.protocol.program import Arrays
from secfpp.secure.means.updates import clipped

SHARE = "aggregator.share"


@dataclass(frozen=True)
class Upload:
    """What a client sent for one average, as its server reads it.

    Attributes:
        round: in which.
        update: of the slot that is averaged, float64 of its shape.
        weight: what it counts.
        sealed: whether it was read from bytes that are sealed to others.
    """

    round: int
    update: np.ndarray
    weight: int
    sealed: bool


def uploads(run: Observed, client: str, slot: str | None = None) -> list[Upload]:
    """A client's uploads of a slot, by default of the prompt that is averaged, in the order of rounds."""
    slot = slot or averaged_slot(run)
    if slot is None or slot not in run.states[-1][client]:
        return []
    shape = run.states[-1][client][slot].shape
    aggregator = run.algorithm.aggregator  # type: ignore[attr-defined]
    codec, found = FixedPoint(aggregator.clip, aggregator.bits), []
    for round_, terms, reply in _shared(run, client):
        if terms["slot"] != slot:
            continue
        weight, sealed = terms["weights"][client], "update" not in reply
        encoded = as_numbers(reply["envelopes"], int(np.prod(shape))) if sealed else reply["update"]
        read = codec.decode(encoded % PrimeField.p, weight)
        read = clipped((read.mean(0) if sealed else read).reshape(shape), aggregator.clip)
        found.append(Upload(round_, read, weight, sealed))
    return found


def held_uploads(run: Observed, client: str, slot: str | None = None) -> list[Upload]:
    """The same as T holders of its shares read it together, who all are other clients; see `Shares.read`.

    Empty where nothing is shared, and where holders do not open shares before they add them
    (``aggregator.bounded = false``).
    """
    slot = slot or averaged_slot(run)
    if slot is None or slot not in run.states[-1][client]:
        return []
    shape, found = run.states[-1][client][slot].shape, []
    for key, shares in sorted(run.memory.held.items()):
        if (key.client, key.slot) == (client, slot):
            read = shares.read(int(np.prod(shape)), client)
            if read is not None:
                update = clipped(read.reshape(shape), shares.codec.bound)
                found.append(Upload(key.round, update, shares.weight, True))
    return found


def weights(run: Observed, client: str) -> dict[int, dict[str, int]]:
    """What every client of this client's average of prompts counts, by round."""
    slot, found = averaged_slot(run), dict[int, dict[str, int]]()
    members = next(group for group in run.groups if client in group)
    for member in members:
        for round_, terms, _ in _shared(run, member):
            if terms["slot"] == slot:
                found.setdefault(round_, {})[member] = terms["weights"][member]
    return found


def offered_classes(run: Observed, client: str, slot: str) -> np.ndarray | None:
    """Which classes the server let a client put into the sum of a slot, bool [n_cls]; None if it asked for none."""
    for message in run.sent("method.offer", client):
        if message.direction == "down" and str((payload := content(message))["slot"].item()) == slot:
            return np.asarray(payload["classes"], bool)
    return None


def told_classes(run: Observed, client: str) -> np.ndarray | None:
    """Which classes a client told the server in the clear that it has, bool [n_cls]; None if it told none."""
    for message in run.sent("poll.tell_bits", client):
        if message.direction == "up":
            return content(message)["bits"] > 0
    return None


def as_numbers(envelopes: np.ndarray, count: int) -> np.ndarray:
    """The end of each envelope, uint8 [n, bytes], as `count` numbers, again if too few: uint64 [n, count]."""
    width = min(envelopes.shape[1] // 8, count) * 8
    numbers = np.ascontiguousarray(envelopes[:, envelopes.shape[1] - width :]).view(np.uint64)
    return numbers[:, np.arange(count) % numbers.shape[1]]


def _shared(run: Observed, client: str) -> Iterator[tuple[int, Mapping[str, Any], Arrays]]:
    """Round, terms and reply of each average that a client gave something into."""
    for asked, sent in pairwise(run.sent(SHARE, client)):
        if asked.direction == "down" and sent.direction == "up" and asked.round == sent.round:
            payload = content(asked)
            if "about" in payload:
                told = parsed(payload["about"].item())
                told["weights"] = dict(zip(told["clients"], told["weights"], strict=True))
                yield sent.round, told, content(sent)
            else:
                told = {"slot": str(payload["slot"].item()), "weights": {client: int(payload["weight"])}}
                yield sent.round, told, content(sent)
