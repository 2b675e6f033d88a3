"""The driver that runs every client in this process: no server, no ports."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

from secfpp.errors import ClientError, ProtocolError
from secfpp.paging import paged
from secfpp.protocol import wire
from secfpp.protocol.program import Arrays, Ask, ClientId, ClientState, ResolvedStep
from secfpp.protocol.transcript import Direction, Transcript
from secfpp.runtime.costs import Costs, Share
from secfpp.runtime.driver import SimulatingDriver, called, chunks, component_of, repeated
from secfpp.runtime.shared_arrays import SharedArrays

__all__ = ["Costs", "Dropouts", "InProcessDriver", "Share"]

_LARGEST = 1 << 23
"""Bytes of messages that clients of one call get, beside those of the first: so few large ones are there at once."""
Dropouts = Callable[[int, str, ClientId], Literal["before", "after"] | None]


class InProcessDriver(SimulatingDriver):
    """Carries a program's asks to clients that share this process.

    Either way of carrying a message hands over fresh arrays: no party can change another's by writing into what it
    got or sent. Large arrays of states that are equal are there once, of very many clients on disk, and nobody can
    write to them.

    Args:
        algorithm: the object whose components hold the steps.
        contexts: client to whatever its steps need; passed on as it is.
        states: client to its state at the start.
        round_: see `Driver`, for dropouts too.
        force_wire: pass every message through the wire format; else copy it and only measure it.
        dropouts: called with round, step and client for each ask: ``before``, the client never sees the
            ask; ``after``, its state changes but the reply is lost.
        chunk: clients per call of a batched step.
        transcript: see `Driver`.
        tolerant: see `Driver`.

    Attributes:
        states: client to its present state.
    """

    def __init__(
        self,
        algorithm: object,
        contexts: Mapping[ClientId, Any],
        states: Mapping[ClientId, ClientState],
        *,
        round_: int = 0,
        force_wire: bool = True,
        dropouts: Dropouts | None = None,
        chunk: int = 8,
        transcript: Transcript | None = None,
        tolerant: bool = False,
    ) -> None:
        if contexts.keys() != states.keys():
            odd = ", ".join(sorted(contexts.keys() ^ states.keys()))
            raise ProtocolError(f"clients with only one of context and state: {odd}; each needs both")
        if chunk < 1:
            raise ProtocolError(f"chunk = {chunk}: at least one client per call is needed")
        super().__init__(algorithm, contexts, round_=round_, transcript=transcript, tolerant=tolerant)
        self._shared = SharedArrays(len(states))
        self.contexts = dict(contexts)
        self.states = {client: self._shared.of(state) for client, state in states.items()}
        self.force_wire, self.dropouts, self.chunk = force_wire, dropouts, chunk

    def _deliver(
        self, asks: Mapping[str, Ask], steps: Mapping[str, ResolvedStep]
    ) -> Mapping[str, Mapping[ClientId, Arrays]]:
        return {label: self._carry(label, asks[label], steps[label]) for label in sorted(asks)}

    def _carry(self, label: str, ask: Ask, step: ResolvedStep) -> dict[ClientId, Arrays]:
        """Deliver one ask, chunk by chunk, and collect the replies that arrive."""
        fates = {c: self.dropouts(self.round_, ask.step, c) if self.dropouts else None for c in sorted(ask.payloads)}
        with self.costs.timed([component_of(ask.step)]):
            ready = repeated(ask.payloads.values(), checksum=self._recorded) if self._needs_bytes else {}

        def ask_of(client: ClientId) -> Arrays:
            payload, delivered = ask.payloads[client], fates[client] != "before"
            return self._message(payload, ask.step, label, client, "down", delivered, ready.get(id(payload)))

        for client in (client for client, fate in fates.items() if fate == "before"):
            ask_of(client)
        replies: dict[ClientId, Arrays] = {}
        reached = [client for client, fate in fates.items() if fate != "before"]
        for clients in paged(_portions(ask, reached, self.chunk if step.many else 1)):
            results = self._call(ask.step, step, clients, [ask_of(client) for client in clients])
            for client, (state, reply) in zip(clients, results, strict=True):
                try:
                    arrived = self._message(reply, ask.step, label, client, "up", fates[client] != "after")
                except ProtocolError as error:
                    raise ClientError(client, self.round_, ask.step, error) from error
                self.states[client] = self._shared.of(state)
                if fates[client] != "after" and self._accepted(client, ask.step, arrived):
                    replies[client] = arrived
                    if ask.arrived:
                        ask.arrived(client)
        return replies

    def _call(
        self, name: str, step: ResolvedStep, clients: Sequence[ClientId], received: Sequence[Arrays]
    ) -> list[tuple[ClientState, Arrays]]:
        """Run the step of one client, or of one chunk of clients, and check the form of what it returns."""
        contexts = [self.contexts[client] for client in clients]
        states = [self.states[client] for client in clients]
        with self.costs.timed([component_of(name)]):
            return called(clients, self.round_, name, step, contexts, states, received, tolerant=self.tolerant)

    @property
    def _recorded(self) -> bool:
        return self.transcript is not None

    @property
    def _needs_bytes(self) -> bool:
        return self.force_wire or self._recorded

    def _message(
        self,
        arrays: Arrays,
        step: str,
        label: str,
        client: ClientId,
        direction: Direction,
        delivered: bool,
        data: bytes | bytearray | None = None,
    ) -> Arrays:
        """Count and record one message, whose bytes may be at hand; return it as its receiver gets it."""
        started = time.perf_counter()
        if data is None and self._needs_bytes:
            data = wire.encode(arrays, checksum=self._recorded)
        if data is not None and self.force_wire:
            arrived, size = wire.decode(data, checksum=False), len(data)
        else:
            arrived, size = wire.detach(arrays)
        self.costs.count_seconds(component_of(step), time.perf_counter() - started)
        if direction == "up" or delivered:
            self._count(step, client, direction, size)
        if data is not None:
            self._record(data, step, label, client, direction, delivered)
        return arrived


def _portions(ask: Ask, clients: Sequence[ClientId], size: int) -> Iterator[Sequence[ClientId]]:
    """Consecutive clients, `size` of them at a time, or fewer whose messages are large."""
    for chunk in chunks(clients, size):
        ends = [0]
        held = 0
        for place, client in enumerate(chunk if size > 1 else ()):
            own = sum(getattr(array, "nbytes", 0) for array in ask.payloads[client].values())
            if place and held + own > _LARGEST:
                ends.append(place)
                held = 0
            held += own
        yield from (chunk[start:end] for start, end in pairwise([*ends, len(chunk)]))
