"""A run of a method as its parties saw it: every message with its content, and what clients held after each round."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from secfpp.algorithms.base import FederatedAlgorithm
from secfpp.algorithms.training import ClientContext
from secfpp.attacks.memory import Memory
from secfpp.data.federated import FederatedDataset
from secfpp.models.backbone import Backbone
from secfpp.privacy.ledger import PrivacyLedger, RunLedger
from secfpp.protocol import wire
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import Arrays, ClientState
from secfpp.protocol.transcript import Message, Transcript
from secfpp.runtime.contexts import make_contexts
from secfpp.runtime.in_process import Dropouts, InProcessDriver
from secfpp.runtime.privacy import figures, fingerprint

KEPT = ("method", "aggregator", "poll")
"""Components whose messages are kept whole; of others it is known what was sent, when and in which form."""
TRAINING = ("method.train", "method.personalize", "method.release")
"""Steps that train prompts, and that which adds noise to what was trained."""
MEASURE = "clusterer.measure"
"""The step in which holders of shares tell the server distances, if a clusterer opens such; kept whole too."""


@dataclass(frozen=True)
class Observed:
    """One run.

    Attributes:
        algorithm: the method.
        contexts: the clients by name.
        messages: everything that was sent, in order.
        states: every client's state before the first round and after each one.
        seconds: that the run took.
        privacy: what it released under differential privacy, see `secfpp.runtime.privacy.figures`; empty if nothing.
        memory: what clients had in memory.
    """

    algorithm: FederatedAlgorithm
    contexts: Mapping[str, ClientContext]
    messages: Sequence[Message]
    states: Sequence[Mapping[str, ClientState]]
    seconds: float
    privacy: Mapping[str, Any] = field(default_factory=dict)
    memory: Memory = field(default_factory=Memory)

    @property
    def rounds(self) -> int:
        """How many rounds it had."""
        return len(self.states) - 1

    @cached_property
    def _by_client(self) -> Mapping[tuple[str, str], Sequence[Message]]:
        found: dict[tuple[str, str], list[Message]] = {}
        for message in self.messages:
            if message.delivered:
                found.setdefault((message.client, message.step), []).append(message)
        return found

    def sent(self, step: str, client: str) -> list[Message]:
        """Messages between a client and the server that belong to a step and arrived, both ways, in order."""
        return list(self._by_client.get((client, step), ()))

    def trained_by(self, client: str, round_: int) -> list[tuple[str, Arrays]]:
        """The training steps that a client was asked for in a round, with what came with them."""
        asked = [
            message
            for step in TRAINING
            for message in self.sent(step, client)
            if message.direction == "down" and message.round == round_
        ]
        return [(message.step, content(message)) for message in sorted(asked, key=lambda m: m.exchange)]

    @cached_property
    def groups(self) -> list[tuple[str, ...]]:
        """Clients who hold the same averages after the last round, sorted; of a method without averages each alone."""
        slot = averaged_slot(self)
        if slot is None:
            return [(client,) for client in self.contexts]
        found: dict[bytes, list[str]] = {}
        for client in self.contexts:
            found.setdefault(self.states[-1][client][f"{slot}.base"].tobytes(), []).append(client)
        return [tuple(members) for members in found.values()]


def observe(
    dataset: FederatedDataset,
    backbone: Backbone,
    algorithm: FederatedAlgorithm,
    *,
    seed: int,
    rounds: int,
    ledger: Path | None = None,
    on_round: Callable[[int, int], None] | None = None,
    dropouts: Dropouts | None = None,
) -> Observed:
    """Run a method with all its clients, as `secfpp.runtime.trainer.train` does, and keep what parties see.

    Args:
        dataset: the clients.
        backbone: the frozen model.
        algorithm: the method.
        seed: of everything random in training.
        rounds: of which the method uses what it plans.
        ledger: where a method that promises differential privacy writes its releases down, begun anew; they are of an
            audit, and none of those in the data's own ledger.
        on_round: told after each round its number and how many there are.
        dropouts: who is away when, see `secfpp.runtime.in_process.InProcessDriver`; by default nobody.

    Raises:
        ConfigError: settings that these clients refuse.
        SecFPPError: what clients or protocol raise.
    """
    algorithm = algorithm.for_rounds(rounds)
    algorithm.require(len(dataset.clients))
    book = _ledger(dataset, algorithm, ledger)
    charged = None if book is None else RunLedger(book, f"audit, seed {seed}")
    contexts = make_contexts(dataset, backbone, algorithm, seed, charged)
    transcript = Transcript(keep_contents=lambda step: step == MEASURE or step.partition(".")[0] in KEPT)
    states = {name: algorithm.client_state(context) for name, context in contexts.items()}
    driver = InProcessDriver(algorithm, contexts, states, transcript=transcript, dropouts=dropouts)
    memory = Memory()

    def on_exchange(number: int, components: Sequence[str]) -> None:
        if "aggregator" in components:
            memory.look(driver)

    driver.on_exchange = on_exchange
    weights = {name: context.weight for name, context in contexts.items()}
    server, planned, kept, started = algorithm.server_state(), algorithm.planned(rounds), [states], time.perf_counter()
    for number in range(1, planned + 1):
        driver.round_ = number
        server = driver.run(algorithm.round(server, Cohort(weights, number, seed, planned)))
        kept.append(dict(driver.states))
        if on_round:
            on_round(number, planned)
    seconds, told = time.perf_counter() - started, figures(algorithm, driver.states, book)
    return Observed(algorithm, contexts, tuple(transcript), kept, seconds, told, memory)


def _ledger(dataset: FederatedDataset, algorithm: FederatedAlgorithm, path: Path | None) -> PrivacyLedger | None:
    """A new ledger, without a budget, for a method that needs one."""
    terms = algorithm.privacy_terms
    if terms is None:
        return None
    if path is None:
        raise ValueError(f"{algorithm.name} promises differential privacy: say where its releases are written down")
    return PrivacyLedger.open(path, fingerprint(dataset), replace(terms, budget=None), new=True)


def content(message: Message) -> Arrays:
    """What is in a message.

    Raises:
        ValueError: it was not kept.
    """
    if message.content is None:
        raise ValueError(f"the content of {message.step!r} was not kept: only that of {', '.join(KEPT)}")
    return wire.decode(message.content)


def averaged_slot(run: Observed) -> str | None:
    """The slot of the prompt that is averaged over clients; None if none is."""
    first: Collection[str] = next(iter(run.states[0].values())).arrays
    context = next(iter(run.contexts.values()))
    for slot in sorted(first):
        if f"{slot}.base" in first and run.states[0][context.client][slot].shape == context.start.shape:
            return slot
    return None


def averaged_rounds(run: Observed, client: str) -> list[int]:
    """The rounds in which a client was given a new average, from 1."""
    slot = averaged_slot(run)
    if slot is None:
        return []
    bases = [state[client][f"{slot}.base"] for state in run.states]
    return [r for r in range(1, len(bases)) if not np.array_equal(bases[r], bases[r - 1])]
