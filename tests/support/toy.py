"""A toy algorithm whose steps count, scribble on what they get and fail, and clients to run it with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from secfpp.errors import ProtocolError
from secfpp.protocol.program import Arrays, Ask, ClientState, Program, batched, step
from secfpp.protocol.transcript import Transcript
from secfpp.runtime.in_process import InProcessDriver
from secfpp.secure.clustering.clusterer import Clusterer, OneCluster
from secfpp.secure.means.aggregator import Aggregator
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.session import Party, Session

Fate = Literal["before", "after"] | None


@dataclass(frozen=True)
class Context:
    """A client's context: its name, a log shared by all of them, and its keys if it has any."""

    client: str
    calls: list[tuple[str, ...]]
    party: Party | None = None


@dataclass(frozen=True)
class Toy:
    """One round is one call of `add`; `state["count"]` counts what a client was told to add."""

    session: ClassVar[Session] = Session()

    aggregator: Aggregator = field(default_factory=PlainMean)
    clusterer: Clusterer = field(default_factory=OneCluster)

    @step
    def add(self, context: Context, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        context.calls.append((context.client,))
        count = state["count"] + payload["by"]
        return state.replace(count=count), {"count": count}

    @step
    def add_together(self, context: Context, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        return self.add(context, state, payload)

    @batched(add_together)
    def add_many(
        self, contexts: list[Context], states: list[ClientState], payloads: list[Arrays]
    ) -> list[tuple[ClientState, Arrays]]:
        contexts[0].calls.append(tuple(context.client for context in contexts))
        counts = [state["count"] + payload["by"] for state, payload in zip(states, payloads, strict=True)]
        return [(state.replace(count=n), {"count": n}) for state, n in zip(states, counts, strict=True)]

    @step
    def add_or_refuse(self, context: Context, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        raise AssertionError("drivers call the other one")

    @batched(add_or_refuse)
    def add_or_refuse_many(
        self, contexts: list[Context], states: list[ClientState], payloads: list[Arrays]
    ) -> list[tuple[ClientState, Arrays] | Exception]:
        done = self.add_many(contexts, states, payloads)
        error = ProtocolError("nothing below 0 is added")
        return [error if payload["by"] < 0 else one for one, payload in zip(done, payloads, strict=True)]

    @step
    def scribble(self, context: Context, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Write into the payload, keep it, and reply with an array of the state itself."""
        payload["by"][...] = 99
        return state.replace(kept=payload["by"]), {"count": state["count"]}

    @step
    def fail(self, context: Context, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        if context.client == payload["victim"].item():
            raise ValueError("out of luck")
        return state, {}

    @step
    def misbehave(self, context: Context, state: ClientState, payload: Arrays) -> Any:
        wrong = {"none": None, "list": (state, [1]), "object": (state, {"x": np.array([None])}), "state": ({}, {})}
        return wrong[payload["how"].item()]

    def not_a_step(self, context: Context, state: ClientState, payload: Arrays) -> None:
        raise AssertionError("nobody may call this")


def adding(clients: Iterable[str], rounds: int, step_name: str = "method.add") -> Program[list[tuple[str, ...]]]:
    """Ask `clients` to add 1, `rounds` times; returns who answered each time."""
    answered = []
    for _ in range(rounds):
        replies = yield Ask(step_name, {client: {"by": np.array(1)} for client in clients})
        answered.append(tuple(replies))
    return answered


def toy_driver(
    states: Mapping[str, ClientState] | Iterable[str],
    algorithm: Any = None,
    dropouts: Callable[[int, str, str], Fate] | None = None,
    parties: Mapping[str, Party] | None = None,
    **settings: Any,
) -> InProcessDriver:
    """A driver for these clients, which count from 0 where no states are given; `parties` gives them keys."""
    if not isinstance(states, Mapping):
        states = {client: ClientState({"count": np.array(0)}) for client in states}
    calls: list[tuple[str, ...]] = []
    contexts = {client: Context(client, calls, (parties or {}).get(client)) for client in states}
    settings.setdefault("transcript", Transcript())
    return InProcessDriver(algorithm or Toy(), contexts, states, dropouts=dropouts, **settings)


def dropping(*fates: tuple[int, str, str, Fate]) -> Callable[[int, str, str], Fate]:
    """Dropouts by (round, step, client): fate."""
    table = {(round_, step_name, client): fate for round_, step_name, client, fate in fates}
    return lambda round_, step_name, client: table.get((round_, step_name, client))
