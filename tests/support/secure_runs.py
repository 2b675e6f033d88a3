"""Rounds of the secure mean with clients in memory, and ways to come between server and clients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pytest

from secfpp.errors import ClientError, TamperError
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import Ask, ClientState, Program, Replies, Request
from secfpp.runtime.in_process import InProcessDriver
from secfpp.secure.means.aggregator import Aggregator
from secfpp.secure.means.client import MeanRun
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.secure.means.updates import Base, Mean, with_base
from secfpp.secure.session import Party, parties_in_memory
from support.toy import Fate, Toy, toy_driver

OnAsk = Callable[[Ask], Ask]
OnReplies = Callable[[Ask, Replies], Replies]


def names(count: int) -> list[str]:
    return [f"c{i:02d}" for i in range(count)]


class SecureRun:
    """Clients whose local training adds their own random update, equal for equal `seed`, in every round."""

    def __init__(
        self,
        clients: int | Iterable[str],
        aggregator: Aggregator | None = None,
        *,
        size: int = 7,
        seed: int = 0,
        weights: Mapping[str, int] | None = None,
        dropouts: Callable[[int, str, str], Fate] | None = None,
        parties: Mapping[str, Party] | None = None,
        **driver: Any,
    ) -> None:
        self.clients = names(clients) if isinstance(clients, int) else sorted(clients)
        self.aggregator = aggregator or SecureMean()
        self.weights = dict(weights or {client: 1 + i for i, client in enumerate(self.clients)})
        self.rng = np.random.default_rng(seed)
        self.known: Base | None = None
        base = self.rng.normal(size=size).astype(np.float32)
        states = {client: with_base(ClientState(), "p", base) for client in self.clients}
        self.parties = parties or parties_in_memory(self.clients)
        toy = Toy(aggregator=self.aggregator)
        self.driver: InProcessDriver = toy_driver(states, toy, dropouts, self.parties, **driver)

    def train(self) -> None:
        for client in self.clients:
            state = self.driver.states[client]
            self.driver.states[client] = state.replace(p=state["p"] + self.update(state["p"].shape))

    def update(self, shape: tuple[int, ...]) -> np.ndarray:
        return (0.1 * self.rng.normal(size=shape)).astype(np.float32)

    def cohort(self, number: int = 0) -> Cohort:
        return Cohort(self.weights, number, 0)

    def round(
        self, number: int = 0, on_ask: OnAsk | None = None, on_replies: OnReplies | None = None
    ) -> tuple[str, ...]:
        """Train, then average; returns who is in the mean."""
        self.train()
        self.driver.round_ = number
        program = self.aggregator.mean(self.cohort(number), "p", self.known)
        made: Mean = self.driver.run(between(program, on_ask, on_replies))
        self.known = made.base or self.known
        return made.members

    def objections(self) -> set[tuple[str, str]]:
        """Who objects to whom."""
        return {(one.by, one.party) for one in self.driver.refusals}

    def bits(self) -> dict[str, dict[str, bytes]]:
        """All states, for comparison."""
        return {c: {k: a.tobytes() for k, a in self.driver.states[c].arrays.items()} for c in self.clients}

    def version(self, client: str) -> int:
        return int(self.driver.states[client]["p.version"])

    def settled(self, client: str) -> bool:
        return np.array_equal(self.driver.states[client]["p"], self.driver.states[client]["p.base"])

    def memory(self, client: str) -> MeanRun:
        """What this client keeps of the only run in progress."""
        session = self.parties[client].session
        assert session is not None
        (run,) = session.running.values()
        assert isinstance(run, MeanRun)
        return run


def between(program: Program[Any], on_ask: OnAsk | None = None, on_replies: OnReplies | None = None) -> Program[Any]:
    """A program whose single asks and their replies pass through somebody else's hands."""
    request: Request = next(program)
    while True:
        sent = on_ask(request) if on_ask and isinstance(request, Ask) else request
        replies = yield sent
        if on_replies and isinstance(sent, Ask):
            replies = on_replies(sent, replies)
        try:
            request = program.send(replies)
        except StopIteration as stop:
            return stop.value


def changing(
    step: str, client: str, change: Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray] | None]
) -> OnAsk:
    """Change what one client is sent in one step; `change` works on a copy, or returns another message."""

    def on_ask(ask: Ask) -> Ask:
        if ask.step != step or client not in ask.payloads:
            return ask
        message = {key: array.copy() for key, array in ask.payloads[client].items()}
        changed = change(message)
        return Ask(ask.step, {**ask.payloads, client: message if changed is None else changed})

    return on_ask


def answering(
    step: str, client: str, change: Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray] | None]
) -> OnReplies:
    """Change what one client replied in one step."""

    def on_replies(ask: Ask, replies: Replies) -> Replies:
        if ask.step != step or client not in replies:
            return replies
        message = {key: array.copy() for key, array in replies[client].items()}
        changed = change(message)
        changed = {**dict(replies.items()), client: message if changed is None else changed}
        return Replies(changed, replies.missing, refuse=replies.refuse)

    return on_replies


def everyone(step: str, change: Callable[[dict[str, np.ndarray]], None]) -> OnAsk:
    """Change what all clients are sent in one step."""

    def on_ask(ask: Ask) -> Ask:
        if ask.step != step:
            return ask
        copies = {client: dict(payload) for client, payload in ask.payloads.items()}
        for copy in copies.values():
            change(copy)
        return Ask(ask.step, copies)

    return on_ask


def refused(run: SecureRun, match: str, on_ask: OnAsk, number: int = 0) -> TamperError:
    """The tampering that a client noticed."""
    with pytest.raises(ClientError, match=match) as caught:
        run.round(number, on_ask)
    assert isinstance(caught.value.__cause__, TamperError)
    return caught.value.__cause__


def flip(bit: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(row: np.ndarray) -> np.ndarray:
        row[bit // 8 % len(row)] ^= np.uint8(1 << bit % 8)
        return row

    return change
