"""What each party saw of a run: every message with size and hash, its bytes on demand.

Cost tables, audits and leakage tests read it; the transcript itself decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, TypeVar

from secfpp.protocol.program import ClientId

SERVER = "server"
"""Name of the server in a transcript; clients go by their id."""

Direction = Literal["down", "up"]
Form = tuple[str, str, tuple[int, ...]]
K = TypeVar("K")


@dataclass(frozen=True)
class Message:
    """One message between the server and `client`.

    Args:
        exchange: number of the exchange (server to clients and back) it belongs to, from 0.
        round: the round.
        step: ``component.step``.
        label: which of several programs running side by side asked; empty for a single one.
        client: the client at the other end.
        direction: ``down`` from server to client, ``up`` back.
        size: bytes.
        sha256: hash of the bytes, hexadecimal.
        delivered: False if it was lost: sent, but not seen by its receiver.
        content: the bytes, if the transcript keeps them.
        arrays: name, type and shape of each array in it; a text has the type ``str``, its length as shape.
    """

    exchange: int
    round: int
    step: str
    label: str
    client: ClientId
    direction: Direction
    size: int
    sha256: str
    delivered: bool
    content: bytes | None
    arrays: tuple[Form, ...] = ()

    @property
    def component(self) -> str:
        """The part of `step` before the dot."""
        return self.step.partition(".")[0]

    @property
    def sender(self) -> str:
        """Who sent it."""
        return SERVER if self.direction == "down" else self.client

    @property
    def receiver(self) -> str:
        """Whom it was sent to."""
        return self.client if self.direction == "down" else SERVER

    def seen_by(self, party: str) -> bool:
        """True if `party` sent it or got it."""
        return party == self.sender or (self.delivered and party == self.receiver)


@dataclass(frozen=True)
class Total:
    """Sums over messages, lost ones included: they were sent and cost their sender."""

    messages: int
    size: int


class Transcript:
    """A growing list of messages, in the order they were sent.

    Args:
        keep_contents: keep the bytes of all messages, or of those for whose step it returns True.
    """

    def __init__(self, keep_contents: bool | Callable[[str], bool] = False) -> None:
        self._keep = keep_contents
        self._messages: list[Message] = []

    def record(
        self,
        data: bytes | bytearray,
        *,
        exchange: int,
        round_: int,
        step: str,
        label: str,
        client: ClientId,
        direction: Direction,
        delivered: bool = True,
    ) -> None:
        """Append one message with the bytes `data`; drivers call this."""
        keep = self._keep(step) if callable(self._keep) else self._keep
        digest = sha256(data).hexdigest()
        content = bytes(data) if keep else None
        self._take(
            Message(exchange, round_, step, label, client, direction, len(data), digest, delivered, content), data
        )

    def _take(self, message: Message, data: bytes | bytearray) -> None:
        self._messages.append(message)

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Message]:
        return iter(self._messages)

    def seen_by(self, party: str) -> tuple[Message, ...]:
        """Everything `party` (a client or `SERVER`) sent or received."""
        return tuple(message for message in self if message.seen_by(party))

    def totals(self, key: Callable[[Message], K]) -> dict[K, Total]:
        """Number and bytes of the messages per value of `key`, in order of first appearance.

        For example ``totals(lambda m: (m.component, m.direction))``.
        """
        found: dict[K, Total] = {}
        for message in self:
            old = found.get(key(message), Total(0, 0))
            found[key(message)] = Total(old.messages + 1, old.size + message.size)
        return found

    def digest(self) -> str:
        """Hash of all messages and their circumstances: equal for equal runs."""
        state = sha256()
        for m in self:
            facts = (m.exchange, m.round, m.step, m.label, m.client, m.direction, m.size, m.sha256, m.delivered)
            state.update(repr(facts).encode())
        return state.hexdigest()
