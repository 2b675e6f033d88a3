"""The driver whose clients are in several processes, a chunk or more in each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol

from secfpp.cluster.clients import Answer, Chunks, Part
from secfpp.errors import ProtocolError
from secfpp.protocol import wire
from secfpp.protocol.program import Arrays, Ask, ClientId, ClientState, Program, ResolvedStep
from secfpp.protocol.transcript import Transcript
from secfpp.runtime.driver import R, SimulatingDriver, chunks, component_of, repeated


class Processes(Protocol):
    """Processes that hold a `secfpp.cluster.clients.Clients` each."""

    def call(self, method: str, arguments: Mapping[int, Sequence[Any]]) -> dict[int, Any]:
        """Call a method in some processes side by side, by number; what each returns.

        Raises:
            SecFPPError: what a method raised, or that a process ended.
        """


def spread(clients: Sequence[ClientId], newcomers: Sequence[ClientId], size: int, processes: int) -> list[Chunks]:
    """The chunks of each process: neighbours, as evenly as can be; no process is without any.

    Chunks are those that `InProcessDriver` makes of all clients, and of all newcomers.

    Args:
        clients: those that take part in training.
        newcomers: those that join after it.
        size: clients in a chunk, but for the last.
        processes: at most so many.
    """
    all_chunks = [tuple(chunk) for group in (clients, newcomers) for chunk in chunks(sorted(group), size)]
    count = min(processes, len(all_chunks))
    bounds = [len(all_chunks) * number // count for number in range(count + 1)]
    return [tuple(all_chunks[start:stop]) for start, stop in pairwise(bounds)]


class ClusterDriver(SimulatingDriver):
    """Carries a program's asks to processes: one call for each that is asked, and exchange.

    Costs and transcript are those of `InProcessDriver`; seconds are of work, the way to processes and back is not
    counted. States are fetched at the end of each program.

    Args:
        algorithm: the object whose components hold the steps.
        places: the chunks of each process.
        states: client to its state at the start.
        start: called before the first exchange; the processes, with their clients at the states that it is given as
            wire messages.
        chunk: clients per call of a batched step.
        transcript: see `Driver`.
    """

    def __init__(
        self,
        algorithm: object,
        places: Sequence[Chunks],
        states: Mapping[ClientId, ClientState],
        start: Callable[[Mapping[ClientId, bytes]], Processes],
        *,
        chunk: int,
        transcript: Transcript | None = None,
    ) -> None:
        super().__init__(algorithm, states, transcript=transcript, tolerant=True)
        self.states, self.chunk, self._start = dict(states), chunk, start
        self._place = {client: n for n, own in enumerate(places) for one in own for client in one}
        self._processes: Processes | None = None

    def run(self, program: Program[R]) -> R:
        """See `Driver.run`."""
        try:
            result = super().run(program)
        except ProtocolError:  # the round may be lost and the run go on
            self._fetch()
            raise
        self._fetch()
        return result

    def _fetch(self) -> None:
        if self._processes is not None:
            found = self._processes.call("states", dict.fromkeys(sorted(set(self._place.values())), ()))
            data = {client: own for place in found.values() for client, own in place.items()}
            self.states = {client: ClientState(wire.decode(data[client])) for client in self.states}

    def _deliver(
        self, asks: Mapping[str, Ask], steps: Mapping[str, ResolvedStep]
    ) -> Mapping[str, Mapping[ClientId, Arrays]]:
        if self._processes is None:
            self._processes = self._start({c: bytes(wire.encode(s.arrays)) for c, s in self.states.items()})
        sent = {label: self._encoded(asks[label]) for label in sorted(asks)}
        parts: dict[int, list[Part]] = {}
        for label, payloads in sent.items():
            by_place: dict[int, dict[ClientId, bytes]] = {}
            for client, data in payloads.items():
                by_place.setdefault(self._place[client], {})[client] = data
            for place, own in by_place.items():
                parts.setdefault(place, []).append(Part(label, asks[label].step, own))
        answers: dict[int, Answer] = self._processes.call(
            "answer", {place: (self.round_, tuple(own)) for place, own in sorted(parts.items())}
        )
        came: dict[str, dict[ClientId, bytes]] = {label: {} for label in sent}
        for answer in answers.values():
            for component, seconds in answer.seconds.items():
                self.costs.count_seconds(component, seconds)
            for label, own_replies in answer.replies.items():
                came[label].update(own_replies)
        return {label: self._taken(label, asks[label].step, steps[label], sent[label], came[label]) for label in sent}

    def _encoded(self, ask: Ask) -> dict[ClientId, bytes]:
        with self.costs.timed([component_of(ask.step)]):
            ready = repeated(ask.payloads.values())
            return {c: ready.get(id(own)) or bytes(wire.encode(own)) for c, own in sorted(ask.payloads.items())}

    def _taken(
        self,
        label: str,
        name: str,
        step: ResolvedStep,
        sent: Mapping[ClientId, bytes],
        came: Mapping[ClientId, bytes],
    ) -> dict[ClientId, Arrays]:
        """Count and record the messages of one ask in the order of `InProcessDriver`; the replies that are accepted."""
        replies: dict[ClientId, Arrays] = {}
        for clients in chunks(list(sent), self.chunk if step.many else 1):
            for client in clients:
                self._count(name, client, "down", len(sent[client]))
                self._record(sent[client], name, label, client, "down", True)
            for client in clients:
                started = time.perf_counter()
                arrived = wire.decode(came[client])
                self.costs.count_seconds(component_of(name), time.perf_counter() - started)
                self._count(name, client, "up", len(came[client]))
                self._record(came[client], name, label, client, "up", True)
                if self._accepted(client, name, arrived):
                    replies[client] = arrived
        return replies
