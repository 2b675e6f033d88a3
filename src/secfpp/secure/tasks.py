"""Steps of several clients that share a process, side by side, so that their arithmetic is done in one call.

A *task* is one client's step as a generator: it yields the `Work` that can be done for several at once, and goes on
with its own result. What each keeps secret stays in its task; only arrays of numbers lie beside each other for a while.
Alone, on a machine of its own, a client runs the same code with one row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

from secfpp.protocol.program import Arrays, ClientState, batched, step

Done = tuple[ClientState, Arrays]
R = TypeVar("R")
_MOST = 1 << 19
"""Numbers that are worked on at once, of one client at least: more of them are not faster together."""


@dataclass(frozen=True)
class Work:
    """Arithmetic of one client.

    Attributes:
        way: takes `common`, then the `own` of each client in a list; returns each one's result in order.
        common: what all have in common who are worked on at once.
        own: of this client.
        shape: of that; only what is of one shape is worked on at once.
    """

    way: Callable[..., Iterable[Any]]
    common: tuple[Hashable, ...]
    own: Any
    shape: tuple[int, ...]


Task = Generator[Work, Any, R]


def side_by_side(tasks: Sequence[Task[R]]) -> list[R | Exception]:
    """What each task returns, or the error with which it ends; others go on."""
    results: dict[int, R | Exception] = {}
    waiting: dict[int, Work] = {}

    def advance(number: int, value: Any) -> None:
        waiting.pop(number, None)
        try:
            waiting[number] = tasks[number].send(value)
        except StopIteration as stop:
            results[number] = stop.value
        except Exception as error:
            results[number] = error

    for number in range(len(tasks)):
        advance(number, None)
    while waiting:
        for numbers in _alike(waiting):
            first = waiting[numbers[0]]
            done = first.way(*first.common, [waiting[number].own for number in numbers])
            for number, value in zip(numbers, done, strict=True):
                advance(number, value)
    return [results[number] for number in range(len(tasks))]


def step_of_many(task: Callable[..., Task[Done]]) -> Callable[..., Done]:
    """A client's step, for one or several, of a method ``(self, context, state, payload)`` that is a task."""

    @wraps(task)
    def one(self: object, context: object, state: ClientState, payload: Arrays) -> Done:
        (done,) = side_by_side([task(self, context, state, payload)])
        if isinstance(done, Exception):
            raise done
        return done

    @batched(one)
    def many(self: object, *of_clients: Sequence[Any]) -> list[Done | Exception]:
        return side_by_side([task(self, *own) for own in zip(*of_clients, strict=True)])

    return step(one)


def _alike(waiting: dict[int, Work]) -> Iterator[list[int]]:
    """Numbers of those whose work is done at once."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for number, work in waiting.items():
        groups.setdefault((work.way, work.common, work.shape), []).append(number)
    for numbers in groups.values():
        width = max(1, _MOST // max(math.prod(waiting[numbers[0]].shape), 1))
        for start in range(0, len(numbers), width):
            yield numbers[start : start + width]
