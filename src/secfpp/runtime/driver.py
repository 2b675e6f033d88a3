"""The server's side of every way to run a protocol: asks out, replies in, costs and refusals noted.

A driver differs from another in how messages are delivered, and in nothing else.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

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
from secfpp.runtime.costs import Costs

R = TypeVar("R")


class Driver(ABC):
    """Carries a program's asks to clients, in sorted order of clients, and its replies back.

    Asks of a `Joint` make one exchange; a client does them one after the other, sorted by label.

    The server's own work, what a program does between two exchanges, is timed too. It counts for the components
    whose replies it has just been given, in equal parts if several shared that exchange; what a program does before
    its first ask counts for those of that ask.

    Args:
        algorithm: the object whose components hold the steps.
        clients: who may be asked.
        round_: number of the round, for errors and the transcript; set `round_` to change it.
        transcript: where to record the messages, if anywhere.
        tolerant: go on where a party refuses what another one sent, see `secfpp.protocol.refusals`, and note it in
            `refusals`; else raise what it found.

    Attributes:
        refusals: what parties refused so far.
        costs: what all programs run so far cost.
        on_exchange: called before each exchange with its number in this run of a program, from 1, and the components
            that ask.
    """

    def __init__(
        self,
        algorithm: object,
        clients: Iterable[ClientId],
        *,
        round_: int = 0,
        transcript: Transcript | None = None,
        tolerant: bool = False,
    ) -> None:
        self.algorithm, self.clients = algorithm, frozenset(clients)
        self.round_, self.transcript, self.tolerant = round_, transcript, tolerant
        self.costs = Costs()
        self.refusals: list[Refusal] = []
        self.on_exchange: Callable[[int, Sequence[str]], None] | None = None
        self._number = 0

    @abstractmethod
    def _deliver(
        self, asks: Mapping[str, Ask], steps: Mapping[str, ResolvedStep]
    ) -> Mapping[str, Mapping[ClientId, Arrays]]:
        """The replies to the asks of one exchange, by label; those that `_accepted` accepts."""

    def run(self, program: Program[R]) -> R:
        """Run a program to its end and return its result.

        Raises:
            ClientError: a client's step failed; raised from the cause. States set before stay set.
            ProtocolError: a step or client that does not exist; or whatever the program raises.
        """
        try:
            self._number, started = 0, time.perf_counter()
            request = next(program)
            self.costs.split_seconds(components_of(request), time.perf_counter() - started)
            while True:
                replies = self._exchange(request)
                with self.costs.timed(components_of(request)):
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
                self.on_exchange(self._number, components_of(request))
            self.costs.count_exchange(components_of(request))
            arrived = self._deliver(asks, steps)
            replies = {label: self._replies(ask, arrived.get(label, {})) for label, ask in asks.items()}
        return replies[""] if isinstance(request, Ask) else Replies({}, joint=replies)

    def _replies(self, ask: Ask, arrived: Mapping[ClientId, Arrays]) -> Replies:
        own = {c: {name: array for name, array in r.items() if name != refusals.OBJECTS} for c, r in arrived.items()}
        missing = [client for client in sorted(ask.payloads) if client not in arrived]
        return Replies(own, missing, refuse=partial(self._refuse, ask.step) if self.tolerant else None)

    def _resolve(self, ask: Ask) -> ResolvedStep:
        if strangers := sorted(ask.payloads.keys() - self.clients):
            raise ProtocolError(f"step {ask.step!r} asks unknown clients: {', '.join(strangers)}")
        return resolve(self.algorithm, ask.step)

    def _refuse(self, step: str, client: ClientId, error: ProtocolError) -> None:
        """Note that the server refuses a reply."""
        self.refusals.append(Refusal(BY_SERVER, client, error.reason, self.round_, step))

    def _accepted(self, client: ClientId, step: str, reply: Arrays) -> bool:
        """Note what a client refuses or objects to; whether it did its step, and says something that can be read."""
        try:
            refused = refusals.read(reply, refusals.REFUSED, self.clients)
            found = refused + refusals.read(reply, refusals.OBJECTS, self.clients)
        except ProtocolError as error:
            if not self.tolerant:
                raise ClientError(client, self.round_, step, error) from error
            self._refuse(step, client, error)
            return False
        self.refusals += [Refusal(client, party, reason, self.round_, step) for party, reason in found]
        return not refused

    def _record(
        self, data: bytes | bytearray, step: str, label: str, client: ClientId, direction: Direction, delivered: bool
    ) -> None:
        if self.transcript is not None:
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

    def _count(self, step: str, client: ClientId, direction: Direction, size: int) -> None:
        """Count one message that was on a client's link."""
        count = self.costs.count_up if direction == "up" else self.costs.count_down
        count(component_of(step), client, size)


class SimulatingDriver(Driver):
    """A driver that knows what only clients know in the field.

    Attributes:
        states: client to its state, as it is after a program.
    """

    states: dict[ClientId, ClientState]


def called(
    clients: Sequence[ClientId],
    round_: int,
    name: str,
    step: ResolvedStep,
    contexts: Sequence[Any],
    states: Sequence[ClientState],
    received: Sequence[Arrays],
    *,
    tolerant: bool,
) -> list[tuple[ClientState, Arrays]]:
    """Run the step of one client, or of one chunk of clients; each one's new state and reply.

    Args:
        clients: their names; all other sequences follow them.
        round_: for errors.
        name: the step's.
        step: what to run.
        contexts: of the clients.
        states: before the step.
        received: what each was sent.
        tolerant: reply that a message was refused, where the step says which client finds that.

    Raises:
        ClientError: the step failed; raised from the cause.
    """

    def failed(place: int, error: Exception) -> tuple[ClientState, Arrays]:
        if not (tolerant and isinstance(error, ProtocolError)):
            raise ClientError(clients[place], round_, name, error) from error
        return states[place], refusals.refusal(error)

    try:
        return step.call(contexts, states, received, failed)
    except ClientError:
        raise
    except ProtocolError as error:
        if not tolerant or step.many:
            raise ClientError(", ".join(clients), round_, name, error) from error
        return [(states[0], refusals.refusal(error))]
    except Exception as error:
        raise ClientError(", ".join(clients), round_, name, error) from error


def chunks(clients: Sequence[ClientId], size: int) -> Iterable[Sequence[ClientId]]:
    """Consecutive clients, `size` at a time; the last may be fewer."""
    return (clients[start : start + size] for start in range(0, len(clients), size))


def component_of(step: str) -> str:
    """The component that a step belongs to."""
    return step.partition(".")[0]


def components_of(request: Ask | Joint) -> list[str]:
    """The components that ask somebody; all of them, if nobody is asked."""
    asks = _asks(request).values()
    return sorted({component_of(a.step) for a in asks if a.payloads} or {component_of(a.step) for a in asks})


def repeated(payloads: Collection[Arrays], *, checksum: bool = True) -> dict[int, bytes]:
    """The bytes of those messages that several clients get, by the messages' `id`; for `checksum` see `wire.encode`."""
    by_id = {id(payload): payload for payload in payloads}
    return {
        key: bytes(wire.encode(by_id[key], checksum=checksum))
        for key, uses in Counter(map(id, payloads)).items()
        if uses > 1
    }


def _asks(request: Ask | Joint) -> Mapping[str, Ask]:
    return {"": request} if isinstance(request, Ask) else request.asks
