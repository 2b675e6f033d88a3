"""k-means on shares with clients in memory, and ways for some of them to be missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

import numpy as np

from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import Ask, ClientState
from secfpp.runtime.in_process import InProcessDriver
from secfpp.secure.clustering.found import Found
from secfpp.secure.clustering.plain_kmeans import PlainKMeans
from secfpp.secure.clustering.secure_kmeans import SecureKMeans
from secfpp.secure.session import parties_in_memory
from support.secure_runs import OnAsk, OnReplies, between, names
from support.toy import Fate, Toy, toy_driver

HELLO, REVEAL, DEAL, PROCEED = "session.hello", "session.reveal", "clusterer.deal", "clusterer.proceed"
TINY: dict[str, Any] = {
    "dimensions": 2,
    "bits": 6,
    "scale": 20.0,
    "k_max": 2,
    "restarts": 5,
    "finalists": 3,
    "min_cluster_size": 3,
}
SECURE = SecureKMeans(**TINY)
COMPUTED = 3 * SECURE.iterations + 5
"""Of the computation: costs so small are compared in one exchange less than by default."""
EXCHANGES = 1 + 1 + COMPUTED
"""Keys, sharing, the computation."""


def plain(settings: SecureKMeans) -> PlainKMeans:
    return PlainKMeans(**{key: value for key, value in asdict(settings).items() if key in PlainKMeans().__dict__})


def groups(count: int, seed: int = 0, spread: float = 0.3) -> dict[str, ClientState]:
    rng = np.random.default_rng(seed)
    centres = np.array([[1.0, 0.2], [-0.8, -0.5]])
    points = centres[np.arange(count) % 2] + spread * rng.normal(size=(count, 2))
    return {client: ClientState({"z": point}) for client, point in zip(names(count), points, strict=True)}


class Run:
    """Clients with keys in memory, ready to be clustered once."""

    def __init__(
        self,
        clients: int | dict[str, ClientState],
        clusterer: SecureKMeans = SECURE,
        dropouts: Callable[[int, str, str], Fate] | None = None,
        theirs: SecureKMeans | None = None,
    ) -> None:
        self.states = groups(clients) if isinstance(clients, int) else clients
        self.clusterer = clusterer
        parties = parties_in_memory(self.states)
        self.driver: InProcessDriver = toy_driver(
            self.states, Toy(clusterer=theirs or clusterer), dropouts, parties, transcript=None
        )
        self.cohort = Cohort(dict.fromkeys(self.states, 1), 0, 0)

    def find(self, on_ask: OnAsk | None = None, on_replies: OnReplies | None = None) -> tuple[Found, Cohort]:
        result: tuple[Found, Cohort] = self.driver.run(
            between(self.clusterer.find(self.cohort, "z"), on_ask, on_replies)
        )
        return result

    def assign(self, on_ask: OnAsk | None = None, on_replies: OnReplies | None = None) -> Assignment:
        program = self.clusterer.assign(self.cohort, "z", None)
        result: Assignment = self.driver.run(between(program, on_ask, on_replies) if on_ask or on_replies else program)
        return result

    def expected(self, without: Iterable[str] = ()) -> Assignment:
        """What k-means in the clear gives for the others."""
        states = {client: state for client, state in self.states.items() if client not in set(without)}
        method = plain(self.clusterer)
        driver = toy_driver(states, Toy(clusterer=method), transcript=None)
        return driver.run(method.assign(Cohort(dict.fromkeys(states, 1), 0, 0), "z", None))


class Missing:
    """Dropouts by the how-manieth ask of a step, from 0: client numbers; one ask may be repeated for others."""

    def __init__(self, step: str, *gone: set[int], fate: Fate = "before") -> None:
        self.step, self.gone, self.fate = step, gone, fate
        self.asked: Counter[str] = Counter()

    def __call__(self, round_: int, step: str, client: str) -> Fate:
        if step != self.step:
            return None
        number = self.asked[client]
        self.asked[client] += 1
        return self.fate if number < len(self.gone) and int(client[1:]) in self.gone[number] else None


class AtExchange:
    """Holders that do not answer an exchange of the computation, by its number."""

    def __init__(self, gone: dict[int, set[int]]) -> None:
        self.gone = gone
        self.asked: list[tuple[int, tuple[int, ...]]] = []
        self.missing: list[tuple[int, int]] = []
        self.exchange = -1

    def on_ask(self, ask: Ask) -> Ask:
        if ask.step == PROCEED:
            self.exchange = int(next(iter(ask.payloads.values()))["exchange"])
            self.asked.append((self.exchange, tuple(int(client[1:]) for client in ask.payloads)))
        return ask

    def __call__(self, round_: int, step: str, client: str) -> Fate:
        if step == PROCEED and int(client[1:]) in self.gone.get(self.exchange, ()):
            self.missing.append((self.exchange, int(client[1:])))
            return "after" if int(client[1:]) % 2 else "before"
        return None
