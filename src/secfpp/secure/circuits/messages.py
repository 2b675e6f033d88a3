"""What server and holders tell each other in a computation on shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.masks import masked
from secfpp.errors import FieldRangeError, ProtocolError, TamperError
from secfpp.protocol.fields import integer_in
from secfpp.protocol.program import Arrays, ClientId
from secfpp.secure.envelopes import ENVELOPES, packed, unpacked
from secfpp.secure.session import Joined

_COINS, _COMMITMENTS, _TALLIES = "coins", "commitments", "tallies"


@dataclass(frozen=True)
class Opened:
    """What became public in one exchange: `values`, flat, from answers of `responders`, numbers of holders, uint8."""

    responders: np.ndarray
    values: Elements


@dataclass(frozen=True)
class Told:
    """What a holder is told in one exchange.

    Args:
        attempt: the number of the computation.
        exchange: the number of the exchange.
        responders: numbers of the holders that answer it, uint8.
        since: the first exchange that this holder does not know.
        opened: what became public in that one and all later ones.
        coins: with what was opened in the exchange in which they were shown, the coins of its responders.
        commitments: with the coins, those of all holders.
        tallies: by exchange, what others say before it to this holder, sealed; see `secfpp.secure.circuits.tally`.
    """

    attempt: int
    exchange: int
    responders: np.ndarray
    since: int
    opened: Sequence[Opened]
    coins: Mapping[ClientId, np.ndarray] = field(default_factory=dict)
    commitments: Mapping[ClientId, np.ndarray] = field(default_factory=dict)
    tallies: Mapping[int, Mapping[ClientId, np.ndarray]] = field(default_factory=dict)

    def write(self, holders: Sequence[ClientId]) -> dict[str, np.ndarray]:
        """The message, among these holders."""
        message = {
            "attempt": np.array(self.attempt),
            "exchange": np.array(self.exchange),
            "responders": self.responders,
        }
        for number, opened in enumerate(self.opened, self.since):
            message[f"responders.{number}"], message[f"opened.{number}"] = opened.responders, opened.values
        for number, tallies in self.tallies.items():
            message |= packed(f"{_TALLIES}.{number}", tallies, holders)
        if self.coins:
            message |= packed(_COINS, self.coins, holders) | packed(_COMMITMENTS, self.commitments, holders)
        return message

    @classmethod
    def read(cls, message: Arrays, since: int, holders: Sequence[ClientId], step_name: str) -> Told:
        """What `write` wrote, for a holder that knows what was opened before `since`.

        Raises:
            ProtocolError: it is not that.
        """
        exchange, responders, opened = integer_in(message, "exchange"), message.get("responders"), []
        for number in range(since, exchange):
            of, values = message.get(f"responders.{number}"), message.get(f"opened.{number}")
            if of is None or values is None:
                raise ProtocolError(f"step {step_name!r}: what was opened in exchange {number} did not come with it")
            opened.append(Opened(of, values))
        if responders is None or responders.ndim != 1 or responders.dtype != np.uint8:
            raise ProtocolError(f"step {step_name!r}: a message without the holders that should answer")
        coins, commitments = (unpacked(name, message, holders, step_name) for name in (_COINS, _COMMITMENTS))
        tallies = {n: unpacked(f"{_TALLIES}.{n}", message, holders, step_name) for n in range(since, exchange + 1)}
        return cls(
            integer_in(message, "attempt"),
            exchange,
            responders,
            since,
            opened,
            coins,
            commitments,
            tallies,
        )


def let_go(message: dict[str, np.ndarray]) -> None:
    """Take the envelopes, which are large, out of a message."""
    message.pop(ENVELOPES, None)


def elements_in(reply: Arrays, name: str, size: int, holder: ClientId, step_name: str) -> Elements:
    """The `size` field elements `name` that a holder answered.

    Raises:
        TamperError: it answered something else.
    """
    vector = reply.get(name)
    if vector is None or vector.shape != (size,):
        raise TamperError(holder, step_name, f"{0 if vector is None else vector.size} values, {size} were expected")
    try:
        return PrimeField.checked(vector)
    except FieldRangeError as error:
        raise TamperError(holder, step_name, "an answer that holds no field elements") from error


@dataclass(frozen=True)
class Answering:
    """How a holder answers one exchange.

    Args:
        joined: its place.
        responders: numbers of the holders that answer, sorted.
        own: its own number.
        threshold: T.
        transcript: all that it was told; who was told something else has other pads.
    """

    joined: Joined
    responders: tuple[int, ...]
    own: int
    threshold: int
    transcript: bytes

    def masked(self, purpose: str, values: Sequence[Elements]) -> Elements:
        """Its shares `values` of what is opened, under pads for this purpose; see `secfpp.crypto.masks`."""
        channel, holders, label = self.joined.channel, self.joined.holders, self.joined.label(purpose, self.transcript)
        return masked(
            values, self.responders, self.own, self.threshold, lambda other: channel.pair_key(holders[other], label)
        )
