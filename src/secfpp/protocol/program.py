"""Programs and steps: the two sides of a protocol, free of any transport.

A *program* is the server's side, a generator: it yields an `Ask` (or several at once, a
`Joint`) and is resumed with the `Replies`. A *step* is a client's side: a method marked with
`step` on a component of the run's algorithm. A driver carries asks to clients; see
`secfpp.runtime`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np

from secfpp.errors import ProtocolError, ReplyError

ClientId = str
Arrays = Mapping[str, np.ndarray]
R = TypeVar("R")
V = TypeVar("V")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Ask:
    """One question: `step` is ``component.step``, `payloads` holds one message per client asked.

    Those asked are asked nothing more in this round if it is their `last`: a driver may have them commit it at once.
    A driver that delivers one message after the other may tell `arrived` of each client whose reply is there, so that
    what is large in its message need not be kept until all have replied.
    """

    step: str
    payloads: Mapping[ClientId, Arrays]
    last: bool = False
    arrived: Callable[[ClientId], None] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Joint:
    """Several asks that travel in one exchange, by label."""

    asks: Mapping[str, Ask]


class Replies(Mapping[ClientId, Arrays]):
    """What came back from an `Ask`: possibly fewer clients than were asked (`missing`).

    The program decides whether the rest is enough. For a `Joint`, `joint` holds one
    `Replies` per label and the mapping itself is empty. `refuse` is told of replies that no honest client sends, see
    `readable`; by default it raises the error.
    """

    def __init__(
        self,
        replies: Mapping[ClientId, Arrays],
        missing: Sequence[ClientId] = (),
        joint: Mapping[str, Replies] | None = None,
        refuse: Callable[[ClientId, ProtocolError], None] | None = None,
    ) -> None:
        self._replies = dict(sorted(replies.items()))
        self.missing = tuple(sorted(missing))
        self.joint = dict(joint or {})
        self._refuse = refuse

    def refuse(self, client: ClientId, error: ProtocolError) -> None:
        """Note that this reply is none of an honest client; raises the error where nothing is noted."""
        if self._refuse is None:
            raise error
        self._refuse(client, error)

    def readable(self, read: Callable[[ClientId, Arrays], V]) -> dict[ClientId, V]:
        """What `read` makes of the replies; those that it refuses with a `ProtocolError` are left out."""
        found: dict[ClientId, V] = {}
        for client, reply in self.items():
            try:
                found[client] = read(client, reply)
            except ProtocolError as error:
                self.refuse(client, error)
        return found

    def alike(self, read: Callable[[ClientId, Arrays], V], form: Callable[[V], object]) -> dict[ClientId, V]:
        """As `readable`, and those left out whose `form` is not that of most."""
        found = self.readable(read)
        usual = self.usual({client: form(value) for client, value in found.items()})
        return {client: found[client] for client in usual}

    def usual(self, forms: Mapping[ClientId, object]) -> list[ClientId]:
        """The clients with the form that most have; the others are refused."""
        usual = Counter(forms.values()).most_common(1)[0][0] if forms else None
        for client, odd in forms.items():
            if odd != usual:
                what = f"sent something of another form than most: {odd}, not {usual}"
                self.refuse(client, ReplyError(client, what))
        return [client for client, own in forms.items() if own == usual]

    def __getitem__(self, client: ClientId) -> Arrays:
        return self._replies[client]

    def __iter__(self) -> Iterator[ClientId]:
        return iter(self._replies)

    def __len__(self) -> int:
        return len(self._replies)


Request = Ask | Joint
Program = Generator[Request, Replies, R]


def gather(programs: Mapping[str, Program[R]], *, staggered: bool = False) -> Program[dict[str, R]]:
    """Run independent programs side by side, all their open asks in one exchange.

    Labels name the programs; a `Joint` inside another becomes ``outer/inner``. A program that
    ends early just stops asking.

    Args:
        programs: by label.
        staggered: begin each an exchange after the one before it, so that no two are at the same point.

    Returns:
        Each program's result, by label.
    """
    results: dict[str, R] = {}
    waiting: dict[str, Request] = {}
    to_begin = iter(programs)

    def advance(label: str, replies: Replies | None) -> None:
        try:
            program = programs[label]
            waiting[label] = next(program) if replies is None else program.send(replies)
        except StopIteration as stop:
            waiting.pop(label, None)
            results[label] = stop.value

    def begin() -> None:
        for label in to_begin:
            advance(label, None)
            if staggered and label in waiting:
                return

    begin()
    while waiting:
        asks: dict[str, Ask] = {}
        for label, request in waiting.items():
            if isinstance(request, Ask):
                asks[label] = request
            else:
                asks.update({f"{label}/{inner}": ask for inner, ask in request.asks.items()})
        replies = yield Joint(asks)
        for label, request in list(waiting.items()):
            if isinstance(request, Ask):
                advance(label, replies.joint[label])
            else:
                inner = {name: replies.joint[f"{label}/{name}"] for name in request.asks}
                advance(label, Replies({}, joint=inner))
        begin()
    return {label: results[label] for label in programs}


def staggered(programs: Sequence[Program[R]]) -> Program[list[R]]:
    """Run the programs of batches, each an exchange behind the one before it; their results in order."""
    if len(programs) == 1:
        return [(yield from programs[0])]
    return list((yield from gather({f"{n:06d}": one for n, one in enumerate(programs)}, staggered=True)).values())


def ending(program: Program[R], step: str) -> Program[R]:
    """The same program, whose asks of `step` are the last ones of the round."""
    replies = None
    while True:
        try:
            request = next(program) if replies is None else program.send(replies)
        except StopIteration as stop:
            result: R = stop.value
            return result
        if isinstance(request, Ask) and request.step == step:
            request = replace(request, last=True)
        replies = yield request


@dataclass(frozen=True)
class ClientState:
    """What a client keeps between rounds: named arrays (prompts; counters as 0-d arrays)."""

    arrays: Arrays = field(default_factory=dict)

    def __getitem__(self, slot: str) -> np.ndarray:
        return self.arrays[slot]

    def __contains__(self, slot: object) -> bool:
        return slot in self.arrays

    def replace(self, **arrays: np.ndarray) -> ClientState:
        """A copy with some slots set."""
        return ClientState({**self.arrays, **arrays})


def step(handler: F) -> F:
    """Mark a method ``(self, context, state, payload) -> (state, reply)`` as a client's step."""
    handler.__secfpp_step__ = True  # type: ignore[attr-defined]
    return handler


def batched(one: Callable[..., Any]) -> Callable[[F], F]:
    """Give the step `one` a second implementation for many clients that share a process.

    The decorated method takes ``(self, contexts, states, payloads)`` (sequences in sorted client
    order) and returns a list of ``(state, reply)``, each as the single step would give it; or the error that it
    would raise for that client, where the others go on.
    """

    def mark(many: F) -> F:
        one.__secfpp_many__ = many  # type: ignore[attr-defined]
        return many

    return mark


@dataclass(frozen=True)
class ResolvedStep:
    """A step found on an algorithm: `one` handles a client, `many` (if any) several at once."""

    one: Callable[..., tuple[ClientState, Arrays]]
    many: Callable[..., list[tuple[ClientState, Arrays] | Exception]] | None

    def call(
        self,
        contexts: Sequence[Any],
        states: Sequence[ClientState],
        payloads: Sequence[Arrays],
        failed: Callable[[int, Exception], tuple[ClientState, Arrays]] | None = None,
    ) -> list[tuple[ClientState, Arrays]]:
        """Run it for one client, or for several if there is `many`; returns each one's state and reply.

        Args:
            contexts: of the clients.
            states: before the step.
            payloads: what each was sent.
            failed: what counts for a client, by its place, whose step fails where others go on; None raises its error.

        Raises:
            TypeError: the step returns something else.
            Exception: whatever a step raises.
        """
        many, one = self.many, self.one
        found: Any = many(contexts, states, payloads) if many else [one(contexts[0], states[0], payloads[0])]
        for place, result in enumerate(found if isinstance(found, list) else ()):
            if isinstance(result, Exception):
                if failed is None:
                    raise result
                found[place] = failed(place, result)
        _check_results(found, len(contexts))
        results: list[tuple[ClientState, Arrays]] = found
        return results


def resolve(algorithm: object, name: str) -> ResolvedStep:
    """Find ``component.step``: `component` is a field of `algorithm`, or ``method`` for itself.

    Raises:
        ProtocolError: nothing of that name is a step (a client may be asked for nothing else).
    """
    component, _, handler_name = name.partition(".")
    target = algorithm if component == "method" else getattr(algorithm, component, None)
    handler = getattr(type(target), handler_name, None) if is_dataclass(target) else None
    if target is None or not getattr(handler, "__secfpp_step__", False):
        raise ProtocolError(f"unknown step {name!r}: {type(algorithm).__name__} offers no such step")
    assert handler is not None
    many = getattr(handler, "__secfpp_many__", None)
    return ResolvedStep(handler.__get__(target), many.__get__(target) if many else None)


def _check_results(results: object, count: int) -> None:
    if not isinstance(results, list) or len(results) != count:
        raise TypeError(f"a batched step returns a list with one (state, reply) for each of {count} clients")
    for result in results:
        good = isinstance(result, tuple) and len(result) == 2
        if not (good and isinstance(result[0], ClientState) and isinstance(result[1], Mapping)):
            raise TypeError("a step returns (ClientState, reply), where the reply maps names to arrays")
