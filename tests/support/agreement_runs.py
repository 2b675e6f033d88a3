"""Clients that disagree by groups, to be grouped by agreement, in the clear and on shares."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any, TypeVar

import numpy as np

from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import ClientState, Program
from secfpp.protocol.transcript import Transcript
from secfpp.runtime.in_process import InProcessDriver
from secfpp.secure.clustering.found import Found
from secfpp.secure.clustering.plain_agreement import PlainAgreement
from secfpp.secure.clustering.secure_agreement import SecureAgreement
from secfpp.secure.session import parties_in_memory
from support.secure_runs import OnAsk, OnReplies, between, names
from support.toy import Fate, Toy, toy_driver

R = TypeVar("R")
ANNOUNCE = "clusterer.announce"
TINY: dict[str, Any] = {"k_max": 2, "restarts": 4, "finalists": 2, "min_cluster_size": 3}
SECURE = SecureAgreement(**TINY)
COMPUTED = 3 * SECURE.iterations + 8
"""Exchanges of the computation: costs so small are compared in one exchange less than by default."""
EXCHANGES = 1 + 1 + COMPUTED
"""Keys and what is announced, sharing, the computation."""


def disagreeing(
    groups: int = 3, members: int = 8, seed: int = 0, dimensions: int = 96, strength: float = 0.7
) -> dict[str, ClientState]:
    """Clients with whole numbers, whose variance is 1 and 1/12 for rounding, and a part in common with their group."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, dimensions)) * strength
    order = rng.permutation(groups * members)
    return {
        client: ClientState(
            {
                "z": np.clip(np.rint(centres[i % groups] + rng.normal(size=dimensions)), -3, 3).astype(np.float32),
                "z.spread": np.array(1.08 * dimensions**0.5),
                "domain": np.array(i % groups),
            }
        )
        for client, i in zip(names(groups * members), order.tolist(), strict=True)
    }


def plain(settings: SecureAgreement) -> PlainAgreement:
    return PlainAgreement(**{key: value for key, value in asdict(settings).items() if key in PlainAgreement().__dict__})


class AgreementRun:
    """Clients with keys in memory, ready to be grouped or placed once."""

    def __init__(
        self,
        clients: int | dict[str, ClientState],
        clusterer: Any = SECURE,
        dropouts: Callable[[int, str, str], Fate] | None = None,
        theirs: Any = None,
        transcript: Transcript | None = None,
    ) -> None:
        few = disagreeing(2, (clients + 1) // 2, dimensions=24, strength=1.0) if isinstance(clients, int) else clients
        self.states = dict(sorted(few.items())[:clients]) if isinstance(clients, int) else clients
        self.clusterer = clusterer
        parties = parties_in_memory(self.states)
        self.driver: InProcessDriver = toy_driver(
            self.states, Toy(clusterer=theirs or clusterer), dropouts, parties, transcript=transcript
        )
        self.cohort = Cohort(dict.fromkeys(self.states, 1), 0, 0)

    def find(self, on_ask: OnAsk | None = None, on_replies: OnReplies | None = None) -> tuple[Found, Cohort]:
        return self._run(self.clusterer.find(self.cohort, "z"), on_ask, on_replies)

    def assign(self, on_ask: OnAsk | None = None, on_replies: OnReplies | None = None) -> Assignment:
        return self._run(self.clusterer.assign(self.cohort, "z", None), on_ask, on_replies)

    def place(
        self,
        assignment: Assignment,
        newcomers: Iterable[str],
        on_ask: OnAsk | None = None,
        on_replies: OnReplies | None = None,
    ) -> Assignment:
        return self._run(self.clusterer.place(self.cohort, "z", assignment, newcomers), on_ask, on_replies)

    def _run(self, program: Program[R], on_ask: OnAsk | None, on_replies: OnReplies | None) -> R:
        result: R = self.driver.run(between(program, on_ask, on_replies) if on_ask or on_replies else program)
        return result

    def expected(self, without: Iterable[str] = ()) -> Assignment:
        """What comes out in the clear for the others."""
        states = {client: state for client, state in self.states.items() if client not in set(without)}
        method = plain(self.clusterer)
        driver = toy_driver(states, Toy(clusterer=method), transcript=None)
        return driver.run(method.assign(Cohort(dict.fromkeys(states, 1), 0, 0), "z", None))

    def expected_places(
        self, assignment: Assignment, newcomers: Iterable[str], without: Iterable[str] = ()
    ) -> Assignment:
        """Where newcomers come in the clear."""
        states = {client: state for client, state in self.states.items() if client not in set(without)}
        method = plain(self.clusterer)
        cohort, new = Cohort(dict.fromkeys(states, 1), 0, 0), set(newcomers) - set(without)
        return toy_driver(states, Toy(clusterer=method), transcript=None).run(
            method.place(cohort, "z", assignment, new)
        )
