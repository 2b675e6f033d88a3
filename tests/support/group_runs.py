"""Rounds of `secfpp` on shares, with two groups of five whose clients mean other things by the labels."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np

from secfpp.algorithms.base import ServerState
from secfpp.algorithms.secfpp import SecFPP
from secfpp.data.federated import FederatedDataset
from secfpp.data.icons import IconSettings, load_icons
from secfpp.models.backbone import Backbone
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import Arrays, Ask, Program, Replies
from secfpp.runtime.contexts import make_contexts
from secfpp.runtime.in_process import Dropouts, InProcessDriver
from secfpp.secure.clustering.secure_agreement import SecureAgreement
from secfpp.secure.means.secure_mean import SecureMean
from support.method_runs import make, shifted

DOMAINS = ("pixel", "sketch")
SEARCH = SecureAgreement(k_max=2, restarts=8, iterations=1, min_cluster_size=3)


@cache
def two_kinds() -> FederatedDataset:
    """Five clients of each domain."""
    settings = IconSettings(
        rho=1.0, shots=6, validation_shots=4, test_shots=2, clients_per_domain=5, domains=("sketch", "pixel")
    )
    return shifted(load_icons(settings, 0))


class GroupRun:
    """A run, round by round; refusals do not end it."""

    def __init__(self, backbone: Backbone, dropouts: Dropouts | None = None, **settings: Any) -> None:
        parts = {"clusterer": SEARCH, "aggregator": SecureMean(threshold=1, min_responders=3), "local_lr": 0.0}
        self.algorithm: SecFPP = make("secfpp", **{**parts, "min_gain": -99.0, **settings})
        self.contexts = make_contexts(two_kinds(), backbone, self.algorithm, 0)
        states = {name: self.algorithm.client_state(context) for name, context in self.contexts.items()}
        self.driver = InProcessDriver(self.algorithm, self.contexts, states, dropouts=dropouts, tolerant=True)
        self.server, self.number = ServerState(), 0

    def cohort(self, clients: Iterable[str] | None = None) -> Cohort:
        weights = dict.fromkeys(self.contexts if clients is None else clients, 1)
        return Cohort(weights, self.number, 0, 9, sampled=clients is not None)

    def round(self, clients: Iterable[str] | None = None) -> None:
        self.begin()
        self.server = self.driver.run(self.algorithm.round(self.server, self.cohort(clients)))

    def begin(self) -> None:
        """The next round, whatever is to happen in it."""
        self.number += 1
        self.driver.round_ = self.number

    def ask(self, step: str, payloads: dict[str, Arrays]) -> Replies:
        def asking() -> Program[Replies]:
            return (yield Ask(step, payloads))

        replies: Replies = self.driver.run(asking())
        return replies

    def members(self, client: str) -> tuple[str, ...]:
        """The group of a client."""
        assert self.server.assignment is not None
        return self.server.assignment.members(self.server.assignment.cluster_of[client])

    def base(self, client: str, slot: str) -> np.ndarray:
        return self.driver.states[client][f"{slot}.base"]

    def alike(self, slot: str) -> bool:
        """Whether all members of each group have the same base."""
        assert self.server.assignment is not None
        return all(
            np.array_equal(self.base(client, slot), self.base(self.members(client)[0], slot))
            for client in self.server.assignment.cluster_of
        )
