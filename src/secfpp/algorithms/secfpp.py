"""SecFPP: prompts personalised on two levels, after Hou, Li, Buyukates (arXiv 2505.22447).

P_i = P_G[s(i)] + P_L[i]: the domain part is averaged inside client i's cluster, the local part
never leaves the client. Past the paper: clients are clustered by the mean of class means of their frozen image
features, which class skew does not disturb; both parts are trained on a class-balanced objective, and
the client's class frequencies act through a private log-prior instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from secfpp.algorithms.base import ClientContext, FederatedAlgorithm, ServerState, cross_entropy, log_priors, stacked
from secfpp.errors import ConfigError, Problem
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import Arrays, Ask, ClientState, Program, gather, step
from secfpp.secure.aggregation import Aggregator, PlainMean, with_base
from secfpp.secure.clustering import Clusterer, PlainKMeans


@dataclass(frozen=True, kw_only=True)
class SecFPP(FederatedAlgorithm):
    """A prompt per cluster of clients plus a small private prompt per client.

    Attributes:
        clusterer: how clients are grouped.
        descriptor: what they are grouped by: ``features`` (mean of class means of their image features) or
            ``prompt`` (the change of their domain part against the public start).
        cluster_every: rounds between groupings; 0 groups in the first round, and again when somebody is new.
        aggregator: how the mean inside a cluster is computed.
        local_lr: learning rate of the private part; 0 leaves it out.
        logit_adjustment: weight of the client's log-prior in the training logits (Menon et al., arXiv 2007.07314).
    """

    name: ClassVar[str] = "secfpp"

    clusterer: Clusterer = field(default_factory=PlainKMeans)
    descriptor: Literal["features", "prompt"] = "features"
    cluster_every: int = 0
    aggregator: Aggregator = field(default_factory=lambda: PlainMean(min_responders=4))
    local_lr: float = 0.003
    logit_adjustment: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = []
        if self.local_lr < 0:
            problems.append(Problem("local_lr", self.local_lr, "must not be negative"))
        if self.cluster_every < 0:
            problems.append(Problem("cluster_every", self.cluster_every, "a number of rounds, or 0 for once"))
        if self.descriptor not in ("features", "prompt"):
            problems.append(Problem("descriptor", self.descriptor, "features or prompt"))
        if problems:
            raise ConfigError(problems)

    def client_state(self, context: ClientContext) -> ClientState:
        """The start prompt as domain part, zero as local part, the descriptor for clustering."""
        described = self.descriptor == "features"
        arrays = {
            "local": np.zeros_like(context.start),
            "descriptor": feature_descriptor(context) if described else np.zeros(context.start.size, np.float32),
            "domain": np.array(context.domain),
            "start": context.start,
        }
        return with_base(ClientState(arrays), "domain_prompt", context.start)

    def round(self, state: ServerState, cohort: Cohort) -> Program[ServerState]:
        """Take local steps, group if need be, average inside each cluster."""
        replies = yield self.ask_to_train(cohort)
        trained = cohort.subset(replies)
        assignment = state.assignment
        if assignment is None or self._due(assignment, trained):
            assignment = yield from self._regroup(assignment, trained)
        groups = {
            f"cluster-{cluster}": trained.subset(set(assignment.members(cluster)) & set(replies))
            for cluster in range(assignment.k)
        }
        yield from gather({label: self.aggregator.mean(group, "domain_prompt") for label, group in groups.items()})
        return ServerState(assignment)

    def _due(self, assignment: Assignment, cohort: Cohort) -> bool:
        somebody_new = bool(set(cohort.clients) - set(assignment.cluster_of))
        return somebody_new or (self.cluster_every > 0 and (cohort.round - 1) % self.cluster_every == 0)

    def _regroup(self, previous: Assignment | None, cohort: Cohort) -> Program[Assignment]:
        """A new partition; where it changes who belongs together, updates count from the public start again."""
        assignment = yield from self.clusterer.assign(cohort, "descriptor", previous)
        if previous is not None and not _extends(assignment, previous):
            yield Ask("method.rebase", {client: {"round": np.array(cohort.round)} for client in cohort.clients})
        return assignment

    @step
    def rebase(self, context: ClientContext, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Keep the domain part just trained, but count its update from the public start prompt."""
        fresh = with_base(state, "domain_prompt", state["start"], int(payload["round"]))
        return fresh.replace(domain_prompt=state["domain_prompt"]), {}

    def local_update(
        self, contexts: Sequence[ClientContext], states: Sequence[ClientState], round_: int
    ) -> list[ClientState]:
        """Gradient steps on both parts, the domain part from its common base."""
        shift = self.logit_adjustment * log_priors(contexts, self.prior_smoothing) if self.logit_adjustment else None
        start = {"domain_prompt": stacked(states, "domain_prompt.base")}
        fixed = torch.from_numpy(stacked(states, "local")).to(contexts[0].backbone.device)
        if self.local_lr:
            start["local"] = stacked(states, "local")

        def loss(parameters: Mapping[str, Tensor], features: Tensor, labels: Tensor) -> Tensor:
            prompts = parameters["domain_prompt"] + parameters.get("local", fixed)
            return cross_entropy(contexts, prompts, features, labels, shift)

        rates = {"local": self.local_lr}
        trained, losses = self.training.fit(contexts, start, loss, round_=round_, rates=rates)
        if self.descriptor == "prompt":
            trained["descriptor"] = (trained["domain_prompt"] - stacked(states, "start")).reshape(len(states), -1)
        return [
            state.replace(**{slot: values[i] for slot, values in trained.items()}, loss=np.array(losses[i]))
            for i, state in enumerate(states)
        ]

    def personal_prompt(self, state: ClientState) -> np.ndarray:
        """Domain part plus local part."""
        prompt: np.ndarray = state["domain_prompt"] + state["local"]
        return prompt


def feature_descriptor(context: ClientContext) -> np.ndarray:
    """Mean of the client's class means of image features minus the public mean, float32 [projection].

    Each class the client has counts once, so that class skew cancels.
    """
    features, labels = context.features.cpu().numpy(), context.labels.cpu().numpy()
    means = [features[labels == label].mean(0) for label in np.unique(labels)]
    descriptor: np.ndarray = np.mean(means, axis=0) - context.backbone.public_mean()
    return descriptor.astype(np.float32)


def _extends(new: Assignment, old: Assignment) -> bool:
    """Whether the clients that both partitions know are grouped alike in both."""
    pairs = {(new.cluster_of[c], old.cluster_of[c]) for c in new.cluster_of if c in old.cluster_of}
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
