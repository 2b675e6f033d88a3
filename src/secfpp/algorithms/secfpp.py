"""SecFPP: prompts personalised on two levels, after Hou, Li, Buyukates (arXiv 2505.22447).

P_i = P_G[s(i)] + P_L[i]: the domain part P_G is averaged inside client i's cluster, the local part P_L never leaves
the client. Past the paper (docs/decisions/0004 has the figures):

* Clients are clustered by the mean of class means of their frozen image features, which class skew does not disturb.
* The clusters have to prove useful: everybody trains in one group first, then the clusters' means are
  compared with the common one on the clients' own validation images.
* P_L is trained last, on a domain part that is finished, and it decides only how probability is divided among
  the classes a client knows; see `secfpp.models.scoring.redistributed`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from secfpp.algorithms.base import ClientContext, FederatedAlgorithm, ServerState, cross_entropy, log_priors, stacked
from secfpp.algorithms.usefulness import UsefulClusters
from secfpp.errors import ConfigError, Problem
from secfpp.models.scoring import Predictor
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import Arrays, Ask, ClientState, Program, batched, gather, step
from secfpp.secure.clustering.clusterer import Clusterer
from secfpp.secure.clustering.secure_kmeans import SecureKMeans
from secfpp.secure.means.aggregator import Aggregator
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.secure.means.updates import with_base
from secfpp.secure.session import with_keys


@dataclass(frozen=True, kw_only=True)
class SecFPP(UsefulClusters, FederatedAlgorithm):
    """A prompt per cluster of clients, and a private one per client on top of it.

    Attributes:
        clusterer: how clients are grouped.
        descriptor: what they are grouped by: ``features`` (mean of class means of their image features) or
            ``prompt`` (the change of their domain part against the public start).
        cluster_every: rounds between groupings; 0 groups once, and again when somebody is new.
        aggregator: how the mean inside a cluster is computed.
        domain_adjustment: weight of the client's log-prior in the logits that train the domain part (Menon et
            al., arXiv 2007.07314); 0 is plain cross-entropy.
        local_adjustment: the same for the local part.
        local_lr: learning rate of the local part; 0 leaves it out.
        local_share: share of the rounds, the last ones, in which the local part is trained, and nothing is sent.
        joint: train both parts in every round instead, on their sum.
        two_levels: predict with both prompts, see `secfpp.models.scoring.redistributed`; else with their sum alone.
        averaged_rounds: each part is the mean of what it was after this many rounds.
        familiar_share: how many images of a class make it familiar, see `secfpp.models.scoring.Predictor`.
        trust: weight of the sum of both parts against the domain part alone among familiar classes, 0..1.
    """

    name: ClassVar[str] = "secfpp"

    clusterer: Clusterer = field(default_factory=SecureKMeans)
    descriptor: Literal["features", "prompt"] = "features"
    cluster_every: int = 0
    aggregator: Aggregator = field(default_factory=SecureMean)
    domain_adjustment: float = 0.0
    local_adjustment: float = 0.5
    local_lr: float = 0.02
    local_share: float = 0.5
    joint: bool = False
    two_levels: bool = True
    averaged_rounds: int = 3
    familiar_share: float = 0.5
    trust: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = [
            Problem(name, getattr(self, name), "must not be negative")
            for name in ("local_lr", "familiar_share")
            if getattr(self, name) < 0
        ]
        if self.cluster_every < 0:
            problems.append(Problem("cluster_every", self.cluster_every, "a number of rounds, or 0 for once"))
        if self.common_rounds < 0:
            problems.append(Problem("common_rounds", self.common_rounds, "a number of rounds, or 0 for none"))
        if self.descriptor not in ("features", "prompt"):
            problems.append(Problem("descriptor", self.descriptor, "features or prompt"))
        if not 0 <= self.local_share < 1:
            problems.append(Problem("local_share", self.local_share, "a share of the rounds, in 0..1, 1 excluded"))
        if not 0 <= self.trust <= 1:
            problems.append(Problem("trust", self.trust, "in 0..1"))
        least = self.aggregator.min_responders
        smallest = getattr(self.clusterer, "min_cluster_size", least)
        if smallest < least:
            allowed = f"at most clusterer.min_cluster_size = {smallest}: else small groups have no average"
            problems.append(Problem("aggregator.min_responders", least, allowed))
        if self.averaged_rounds < 1:
            problems.append(Problem("averaged_rounds", self.averaged_rounds, "at least 1"))
        if problems:
            raise ConfigError(problems)

    def client_state(self, context: ClientContext) -> ClientState:
        """The start prompt as domain part, zero as local part, the descriptor for clustering."""
        described = self.descriptor == "features"
        nothing = np.zeros_like(context.start)
        arrays = {
            "local": nothing,
            "descriptor": feature_descriptor(context) if described else np.zeros(context.start.size, np.float32),
            "domain": np.array(context.group),
            "start": context.start,
            "domain_history": context.start[:0].reshape(0, *context.start.shape),
            "local_history": nothing[:0].reshape(0, *nothing.shape),
        }
        return with_base(ClientState(arrays), "domain_prompt", context.start)

    def domain_rounds(self, rounds: int) -> int:
        """How many of `rounds` train the domain part: the first ones, at least one; all if `rounds` is 0 (unknown)."""
        local = 0 if self.joint or not self.local_lr else round(self.local_share * rounds)
        return rounds - min(local, rounds - 1) if rounds else 0

    def round(self, state: ServerState, cohort: Cohort) -> Program[ServerState]:
        """Take local steps and average inside each cluster; in the last rounds only the former."""
        domain_rounds = self.domain_rounds(cohort.rounds)
        if cohort.sampled:
            yield from self._refresh(state.assignment, cohort)
        if cohort.rounds and cohort.round > domain_rounds:
            yield Ask("method.personalize", {client: {"round": np.array(cohort.round)} for client in cohort.clients})
            return state
        trained = yield from self.train_cohort(cohort, self.aggregator, self.clusterer)
        if state.assignment is None and self.aggregator.needs_keys:
            trained = yield from with_keys(trained)  # once for all that everybody takes part in
        assignment, proof = state.assignment, min(self.common_rounds, domain_rounds or self.common_rounds)
        if assignment is None and cohort.round < proof:
            yield from self.aggregator.mean(trained, "domain_prompt")
            return state
        if assignment is None or self._due(assignment, trained):
            found = yield from self._regroup(assignment, trained)
            if assignment is None and proof and found.k > 1:
                return ServerState((yield from self.prove(found, trained)))
            assignment = found
        yield from gather(self.cluster_means(assignment, trained))
        return ServerState(assignment)

    def _refresh(self, assignment: Assignment | None, cohort: Cohort) -> Program[None]:
        """Let those who missed a mean of their group, or of everybody while there are no groups, catch up."""
        if assignment is None:
            yield from self.aggregator.refresh(cohort, "domain_prompt")
            return
        groups = (set(cohort.clients) & set(assignment.members(s)) for s in range(assignment.k))
        programs = {
            f"cluster-{s}": self.aggregator.refresh(cohort.subset(g), "domain_prompt") for s, g in enumerate(groups)
        }
        yield from gather(programs)

    def _due(self, assignment: Assignment, cohort: Cohort) -> bool:
        somebody_new = bool(set(cohort.clients) - set(assignment.cluster_of))
        return somebody_new or (self.cluster_every > 0 and (cohort.round - 1) % self.cluster_every == 0)

    def _regroup(self, previous: Assignment | None, cohort: Cohort) -> Program[Assignment]:
        """A new partition; where it changes who belongs together, updates count from the public start again."""
        if previous is not None and previous.k == 1 and not self.cluster_every:  # groups were of no use
            return Assignment(dict.fromkeys({*previous.cluster_of, *cohort.clients}, 0))
        assignment = yield from self.clusterer.assign(cohort, "descriptor", previous)
        if previous is None:
            return assignment
        if not assignment.extends(previous):
            yield Ask("method.rebase", {client: {"round": np.array(cohort.round)} for client in cohort.clients})
            return assignment
        return assignment.with_absent(previous)

    @step
    def rebase(self, context: ClientContext, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Keep the domain part just trained, but count its update from the public start prompt."""
        fresh = with_base(state, "domain_prompt", state["start"], int(payload["round"]))
        forgotten = state["domain_history"][:0]
        return fresh.replace(domain_prompt=state["domain_prompt"], domain_history=forgotten), {}

    def local_update(
        self, contexts: Sequence[ClientContext], states: Sequence[ClientState], round_: int
    ) -> list[ClientState]:
        """Gradient steps on the domain part from its common base; if `joint`, on the local part as well."""
        start = {"domain_prompt": stacked(states, "domain_prompt.base")}
        fixed = torch.from_numpy(stacked(states, "local")).to(contexts[0].backbone.device)
        if self.joint and self.local_lr:
            start["local"] = stacked(states, "local")
        shift = self.domain_adjustment * log_priors(contexts, self.prior_smoothing) if self.domain_adjustment else None

        def loss(parameters: Mapping[str, Tensor], features: Tensor, labels: Tensor) -> Tensor:
            prompts = parameters["domain_prompt"] + parameters.get("local", fixed)
            return cross_entropy(contexts, prompts, features, labels, shift)

        trained, losses = self.training.fit(contexts, start, loss, round_=round_, rates={"local": self.local_lr})
        if self.descriptor == "prompt":
            trained["descriptor"] = (trained["domain_prompt"] - stacked(states, "start")).reshape(len(states), -1)
        return [
            state.replace(
                **{slot: values[i] for slot, values in trained.items()},
                loss=np.array(losses[i]),
                domain_history=self._remembered(state),
            )
            for i, state in enumerate(states)
        ]

    def _remembered(self, state: ClientState) -> np.ndarray:
        """Earlier bases and the present one (not the public start), as many as count beside the next one."""
        if int(state["domain_prompt.version"]) <= 1:
            return state["domain_history"]
        kept = np.concatenate([state["domain_history"], state["domain_prompt.base"][None]])
        return kept[len(kept) - min(len(kept), self.averaged_rounds - 1) :]

    @step
    def personalize(self, context: ClientContext, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Gradient steps on the local part alone; replies nothing."""
        return self.personalize_many([context], [state], [payload])[0]

    @batched(personalize)
    def personalize_many(
        self, contexts: Sequence[ClientContext], states: Sequence[ClientState], payloads: Sequence[Arrays]
    ) -> list[tuple[ClientState, Arrays]]:
        """`personalize` for several clients in one pass through the frozen encoder."""
        domain = np.stack([self.domain_part(state) for state in states])
        fixed = torch.from_numpy(domain).to(contexts[0].backbone.device)
        shift = self.local_adjustment * log_priors(contexts, self.prior_smoothing) if self.local_adjustment else None

        def loss(parameters: Mapping[str, Tensor], features: Tensor, labels: Tensor) -> Tensor:
            return cross_entropy(contexts, fixed + parameters["local"], features, labels, shift)

        trained, losses = self.training.fit(
            contexts,
            {"local": stacked(states, "local")},
            loss,
            round_=int(payloads[0]["round"]),
            rates={"local": self.local_lr},
        )
        return [
            (
                state.replace(
                    local=local,
                    local_history=np.concatenate([state["local_history"], local[None]])[-self.averaged_rounds :],
                    loss=np.array(value),
                ),
                {},
            )
            for state, local, value in zip(states, trained["local"], losses, strict=True)
        ]

    def domain_part(self, state: ClientState) -> np.ndarray:
        """P_G as the client uses it, float32 [n_ctx, text_dim]."""
        if self.joint:
            return state["domain_prompt"]
        part: np.ndarray = np.concatenate([state["domain_history"], state["domain_prompt.base"][None]]).mean(0)
        return part

    def personal_prompt(self, state: ClientState) -> np.ndarray:
        """Domain part plus local part."""
        history = state["local_history"]
        prompt: np.ndarray = self.domain_part(state) + (history.mean(0) if len(history) else state["local"])
        return prompt

    def prompts(self, state: ClientState) -> np.ndarray:
        """Personal and domain prompt, or the former alone."""
        personal = self.personal_prompt(state)
        return np.stack([personal, self.domain_part(state)]) if self.two_levels else personal[None]

    @property
    def predictor(self) -> Predictor:
        """How clients predict with their prompts."""
        return Predictor(self.class_prior, self.prior_smoothing, self.familiar_share, self.trust)


def feature_descriptor(context: ClientContext) -> np.ndarray:
    """Mean of the client's class means of image features minus the public mean, float32 [projection].

    Each class the client has counts once, so that class skew cancels.
    """
    features, labels = context.features.cpu().numpy(), context.labels.cpu().numpy()
    means = [features[labels == label].mean(0) for label in np.unique(labels)]
    descriptor: np.ndarray = np.mean(means, axis=0) - context.backbone.public_mean()
    return descriptor.astype(np.float32)
