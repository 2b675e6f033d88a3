"""The driver that runs every client in this process: no server, no ports."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeVar

from secfpp.errors import ClientError, ProtocolError
from secfpp.protocol import refusals, wire
from secfpp.protocol.program import (
    Arrays,
    Ask,
    ClientId,
    ClientState,
    Joint,
    Program,
    Replies,
    ResolvedStep,
    resolve,
)
from secfpp.protocol.refusals import BY_SERVER, Refusal
from secfpp.protocol.transcript import Direction, Transcript
from secfpp.runtime.costs import Costs, Share

__all__ = ["Costs", "Dropouts", "InProcessDriver", "Share"]

R = TypeVar("R")
Dropouts = Callable[[int, str, ClientId], Literal["before", "after"] | None]


class InProcessDriver:
    """Carries a program's asks to clients that share this process, in sorted order of clients.

    Asks of a `Joint` make one exchange and run one after the other, sorted by label. Either way of carrying a
    message hands over fresh arrays: no party can change another's by writing into what it got or sent.

    The server's own work, what a program does between two exchanges, is timed too. It counts for the components
    whose replies it has just been given, in equal parts if several shared that exchange; what a program does before
    its first ask counts for those of that ask.

    Args:
        algorithm: the object whose components hold the steps.
        contexts: client to whatever its steps need; passed on as it is.
        states: client to its state at the start.
        round_: number of the round, for errors, dropouts and the transcript; set `round_` to change it.
        force_wire: pass every message through the wire format; else copy it and only measure it.
        dropouts: called with round, step and client for each ask: ``before``, the client never sees the
            ask; ``after``, its state changes but the reply is lost.
        chunk: clients per call of a batched step.
        transcript: where to record the messages, if anywhere.
        tolerant: go on where a party refuses what another one sent, see `secfpp.protocol.refusals`, and note it in
            `refusals`; else raise what it found.

    Attributes:
        states: client to its present state.
        refusals: what parties refused so far.
        costs: what all programs run so far cost.
        on_exchange: called before each exchange with its number in this run of a program, from 1, and the components
            that ask.
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
        self.algorithm, self.contexts, self.states = algorithm, dict(contexts), dict(states)
        self.round_, self.force_wire, self.dropouts = round_, force_wire, dropouts
        self.chunk, self.transcript, self.tolerant = chunk, transcript, tolerant
        self.costs = Costs()
        self.refusals: list[Refusal] = []
        self.on_exchange: Callable[[int, Sequence[str]], None] | None = None
        self._number = 0

    def run(self, program: Program[R]) -> R:
        """Run a program to its end and return its result.

        Raises:
            ClientError: a client's step failed; raised from the cause. States set before stay set.
            ProtocolError: a step or client that does not exist; or whatever the program raises.
        """
        try:
            self._number, started = 0, time.perf_counter()
            request = next(program)
            self.costs.split_seconds(_components(request), time.perf_counter() - started)
            while True:
                replies = self._exchange(request)
                with self.costs.timed(_components(request)):
                    request = program.send(replies)
                del replies  # may be large: not needed during the next exchange
        except StopIteration as stop:
            result: R = stop.value
            return result
        finally:
            program.close()

    def _exchange(self, request: Ask | Joint) -> Replies:
        asks = _asks(request)
        steps = {label: self._resolve(ask) for label, ask in asks.items()}
        if not any(ask.payloads for ask in asks.values()):
            replies = {label: Replies({}) for label in asks}
        else:
            self._number += 1
            if self.on_exchange:
                self.on_exchange(self._number, _components(request))
            self.costs.count_exchange(_components(request))
            replies = {label: self._carry(label, asks[label], steps[label]) for label in sorted(asks)}
        return replies[""] if isinstance(request, Ask) else Replies({}, joint=replies)

    def _resolve(self, ask: Ask) -> ResolvedStep:
        if strangers := sorted(ask.payloads.keys() - self.contexts.keys()):
            raise ProtocolError(f"step {ask.step!r} asks unknown clients: {', '.join(strangers)}")
        return resolve(self.algorithm, ask.step)

    def _carry(self, label: str, ask: Ask, step: ResolvedStep) -> Replies:
        """Deliver one ask, chunk by chunk, and collect the replies that arrive."""
        fates = {c: self.dropouts(self.round_, ask.step, c) if self.dropouts else None for c in sorted(ask.payloads)}
        with self.costs.timed([_component(ask.step)]):
            ready = _repeated(ask.payloads.values()) if self._needs_bytes else {}

        def ask_of(client: ClientId) -> Arrays:
            payload, delivered = ask.payloads[client], fates[client] != "before"
            return self._message(payload, ask.step, label, client, "down", delivered, ready.get(id(payload)))

        for client in (client for client, fate in fates.items() if fate == "before"):
            ask_of(client)
        replies: dict[ClientId, Arrays] = {}
        reached = [client for client, fate in fates.items() if fate != "before"]
        for clients in _chunks(reached, self.chunk if step.many else 1):
            results = self._call(ask.step, step, clients, [ask_of(client) for client in clients])
            for client, (state, reply) in zip(clients, results, strict=True):
                try:
                    arrived = self._message(reply, ask.step, label, client, "up", fates[client] != "after")
                except ProtocolError as error:
                    raise ClientError(client, self.round_, ask.step, error) from error
                self.states[client] = state
                if fates[client] != "after" and self._accepted(client, ask.step, arrived):
                    replies[client] = {name: array for name, array in arrived.items() if name != refusals.OBJECTS}
        missing = [client for client in fates if client not in replies]
        return Replies(replies, missing, refuse=partial(self._refuse, ask.step) if self.tolerant else None)

    def _refuse(self, step: str, client: ClientId, error: ProtocolError) -> None:
        """Note that the server refuses a reply."""
        self.refusals.append(Refusal(BY_SERVER, client, error.reason, self.round_, step))

    def _accepted(self, client: ClientId, step: str, reply: Arrays) -> bool:
        """Note what a client refuses or objects to; whether it did its step, and says something that can be read."""
        try:
            refused = refusals.read(reply, refusals.REFUSED, self.contexts)
            found = refused + refusals.read(reply, refusals.OBJECTS, self.contexts)
        except ProtocolError as error:
            if not self.tolerant:
                raise ClientError(client, self.round_, step, error) from error
            self._refuse(step, client, error)
            return False
        self.refusals += [Refusal(client, party, reason, self.round_, step) for party, reason in found]
        return not refused

    def _call(
        self, name: str, step: ResolvedStep, clients: Sequence[ClientId], received: Sequence[Arrays]
    ) -> list[tuple[ClientState, Arrays]]:
        """Run the step of one client, or of one chunk of clients, and check the form of what it returns."""
        contexts = [self.contexts[client] for client in clients]
        states = [self.states[client] for client in clients]
        try:
            with self.costs.timed([_component(name)]):
                if step.many:
                    results = step.many(contexts, states, received)
                else:
                    results = [step.one(contexts[0], states[0], received[0])]
            _check_results(results, clients)
        except ClientError:
            raise
        except ProtocolError as error:
            if not self.tolerant or step.many:
                raise ClientError(", ".join(clients), self.round_, name, error) from error
            return [(states[0], refusals.refusal(error))]
        except Exception as error:
            raise ClientError(", ".join(clients), self.round_, name, error) from error
        return results

    @property
    def _needs_bytes(self) -> bool:
        return self.force_wire or self.transcript is not None

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
        part, started = _component(step), time.perf_counter()
        if data is None and self._needs_bytes:
            data = wire.encode(arrays)
        size = wire.measure(arrays) if data is None else len(data)
        arrived = wire.decode(data) if data is not None and self.force_wire else wire.detach(arrays)
        self.costs.count_seconds(part, time.perf_counter() - started)
        if direction == "up":
            self.costs.count_up(part, client, size)
        elif delivered:
            self.costs.count_down(part, client, size)
        if data is not None and self.transcript is not None:
            self.transcript.record(
                data,
                exchange=self.costs.exchanges - 1,
                round_=self.round_,
                step=step,
                label=label,
                client=client,
                direction=direction,
                delivered=delivered,
            )
        return arrived


def _component(step: str) -> str:
    return step.partition(".")[0]


def _asks(request: Ask | Joint) -> Mapping[str, Ask]:
    return {"": request} if isinstance(request, Ask) else request.asks


def _components(request: Ask | Joint) -> list[str]:
    """The components that ask somebody; all of them, if nobody is asked."""
    asks = _asks(request).values()
    return sorted({_component(ask.step) for ask in asks if ask.payloads} or {_component(ask.step) for ask in asks})


def _repeated(payloads: Collection[Arrays]) -> dict[int, bytes]:
    """The bytes of those messages that several clients get, by the messages' `id`."""
    by_id = {id(payload): payload for payload in payloads}
    return {key: bytes(wire.encode(by_id[key])) for key, uses in Counter(map(id, payloads)).items() if uses > 1}


def _chunks(clients: Sequence[ClientId], size: int) -> Iterable[Sequence[ClientId]]:
    return (clients[start : start + size] for start in range(0, len(clients), size))


def _check_results(results: object, clients: Sequence[ClientId]) -> None:
    if not isinstance(results, list) or len(results) != len(clients):
        raise TypeError(f"a batched step returns a list with one (state, reply) for each of {len(clients)} clients")
    for result in results:
        good = isinstance(result, tuple) and len(result) == 2
        if not (good and isinstance(result[0], ClientState) and isinstance(result[1], Mapping)):
            raise TypeError("a step returns (ClientState, reply), where the reply maps names to arrays")
