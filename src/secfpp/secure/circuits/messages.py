"""What server and holders tell each other in a computation on shares."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.masks import masked
from secfpp.errors import FieldRangeError, ProtocolError, TamperError
from secfpp.protocol.fields import integer_in
from secfpp.protocol.program import Arrays, ClientId
from secfpp.secure.key_lists import names_in
from secfpp.secure.session import Joined

APART = 512
"""More envelopes than this are stacked in a message."""
_ROWS, _SENDERS = "envelopes", "senders"
_FROM, _COIN, _COMMITMENT, _TALLY = "from", "coin", "commitment", "tally"


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
        envelopes: what all others dealt to this holder, until it has it.
        digests: with the envelopes, hashes of all that were dealt; where openings are verified.
        tallies: by exchange, what others say before it to this holder, sealed; see `secfpp.secure.circuits.tally`.
    """

    attempt: int
    exchange: int
    responders: np.ndarray
    since: int
    opened: Sequence[Opened]
    coins: Mapping[ClientId, np.ndarray] = field(default_factory=dict)
    commitments: Mapping[ClientId, np.ndarray] = field(default_factory=dict)
    envelopes: Mapping[ClientId, np.ndarray] = field(default_factory=dict)
    digests: np.ndarray | None = None
    tallies: Mapping[int, Mapping[ClientId, np.ndarray]] = field(default_factory=dict)

    def write(self) -> dict[str, np.ndarray]:
        """The message."""
        message = {
            "attempt": np.array(self.attempt),
            "exchange": np.array(self.exchange),
            "responders": self.responders,
            **enveloped(self.envelopes, self.digests),
        }
        for number, opened in enumerate(self.opened, self.since):
            message[f"responders.{number}"], message[f"opened.{number}"] = opened.responders, opened.values
        for number, tallies in self.tallies.items():
            message |= {f"{_TALLY}.{number}.{name}": sealed for name, sealed in tallies.items()}
        message |= {f"{_COIN}.{name}": coin for name, coin in self.coins.items()}
        return message | {f"{_COMMITMENT}.{name}": made for name, made in self.commitments.items()}

    @classmethod
    def read(cls, message: Arrays, since: int, step_name: str) -> Told:
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
        named = _named(message)
        tallies: dict[str, dict[str, np.ndarray]] = {str(number): {} for number in range(since, exchange + 1)}
        for place, sealed in named[_TALLY].items():
            before, _, name = place.partition(".")
            if before in tallies:
                tallies[before][name] = sealed
        return cls(
            integer_in(message, "attempt"),
            exchange,
            responders,
            since,
            opened,
            named[_COIN],
            named[_COMMITMENT],
            envelopes_in(message),
            message.get("digests"),
            {int(number): sealed for number, sealed in tallies.items()},
        )


def enveloped(envelopes: Mapping[ClientId, np.ndarray], digests: np.ndarray | None) -> dict[str, np.ndarray]:
    """Envelopes, by sender, as a message holds them, and hashes of all if there are such.

    Of more than `APART`, those of the usual length are rows of one array: a message holds no more than 1,024.
    """
    message: dict[str, np.ndarray] = {} if digests is None else {"digests": digests}
    if len(envelopes) > APART:
        usual = Counter(envelope.size for envelope in envelopes.values()).most_common(1)[0][0]
        senders = sorted(client for client, envelope in envelopes.items() if envelope.size == usual)
        message[_ROWS] = np.stack([envelopes[client] for client in senders])
        message[_SENDERS] = np.array(json.dumps(senders))
        envelopes = {client: envelope for client, envelope in envelopes.items() if envelope.size != usual}
    return message | {f"{_FROM}.{client}": envelope for client, envelope in envelopes.items()}


def envelopes_in(message: Arrays) -> dict[ClientId, np.ndarray]:
    """Undoes `enveloped`.

    Raises:
        ProtocolError: it is not that.
    """
    found = _named(message)[_FROM]
    if _ROWS in message:
        rows, names = message[_ROWS], names_in({"clients": message.get(_SENDERS)}, "deal")
        if rows.ndim != 2 or len(names) != len(rows) or not found.keys().isdisjoint(names):
            raise ProtocolError("envelopes that do not come with their senders, each once")
        found |= dict(zip(names, rows, strict=True))
    return found


def let_go(message: dict[str, np.ndarray]) -> None:
    """Take the envelopes, which are large, out of a message."""
    for name in [name for name in message if name in (_ROWS, _SENDERS) or name.startswith(f"{_FROM}.")]:
        del message[name]


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


def _named(message: Arrays) -> dict[str, dict[str, np.ndarray]]:
    """What a message holds by what comes before the first point of its name, and by the rest of that."""
    found: dict[str, dict[str, np.ndarray]] = {kind: {} for kind in (_FROM, _COIN, _COMMITMENT, _TALLY)}
    for key, array in message.items():
        kind, point, name = key.partition(".")
        if point and kind in found:
            found[kind][name] = array
    return found
