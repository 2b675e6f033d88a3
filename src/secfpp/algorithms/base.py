"""What a federated prompt method is: a frozen dataclass of settings, one program a round, a few steps.

A method is found by being in this package (or by an entry point of group ``secfpp.algorithms``); see
`methods`. Everything a client learns lives in its `ClientState`; the server keeps a partition at most.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from secfpp.algorithms import figures
from secfpp.algorithms.training import ClientContext, LocalTraining
from secfpp.algorithms.visual import ClassMeans, all_weighed
from secfpp.errors import ConfigError, Problem
from secfpp.models.prompt import SoftPrompt
from secfpp.models.scoring import Predictor, Visual, cosine_logits
from secfpp.plugins import offered
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import Arrays, Ask, ClientId, ClientState, Joint, Program, batched, step
from secfpp.secure.clustering.clusterer import Clusterer
from secfpp.secure.means.aggregator import Aggregator
from secfpp.secure.means.updates import Base, Mean
from secfpp.secure.session import Session, greet, greeted
from secfpp.settings import check_types

if TYPE_CHECKING:
    from secfpp.privacy.ledger import Terms

GROUP = "secfpp.algorithms"
"""The entry point group in which other packages offer methods."""


@dataclass(frozen=True)
class ServerState:
    """What the server keeps between rounds.

    Attributes:
        assignment: the partition, if the method has one.
        members: of how many clients everybody's class sums are, and then each group's, if they are shared.
        found: the partition that was found, also if its groups are not used.
        behind: clients with a group that missed what its members were told of its class sums.
        bases: what the last means left, by slot, and by group where there are several.
        chosen: which of several common prompts each client took when it last chose, where each takes one.
        spoiled: steps of this round in which somebody who cannot be named answered falsely; they cost the grouping.
    """

    assignment: Assignment | None = None
    members: tuple[int, ...] = ()
    found: Assignment | None = None
    behind: frozenset[ClientId] = frozenset()
    bases: Mapping[str, Base] = field(default_factory=dict)
    chosen: Mapping[ClientId, int] = field(default_factory=dict)
    spoiled: tuple[str, ...] = ()

    def after(self, means: Mapping[str, Mean]) -> ServerState:
        """The state in which these means were made, by the key of their base."""
        return replace(self, bases={**self.bases, **{key: mean.base for key, mean in means.items() if mean.base}})


@dataclass(frozen=True, kw_only=True)
class FederatedAlgorithm(ABC):
    """Base of all methods; fields are hyper-parameters.

    Attributes:
        prompt: shape and start of the soft prompt.
        training: optimiser settings of the local steps.
        class_prior: at prediction, add the log-prior of the declared target to the logits: the client's own
            smoothed class frequencies on its own distribution, nothing where classes are uniform.
        prior_smoothing: pseudo-images added to every class of the prior.
        class_means: what clients predict with beside their prompts.
    """

    name: ClassVar[str]
    trained: ClassVar[bool] = True
    told: ClassVar[str] = ""
    """What the server is told of a single client in the clear, whatever the method's parts are; in words."""
    session: ClassVar[Session] = Session()
    class_mean_levels: ClassVar[tuple[str, ...]] = ("none", "own")

    prompt: SoftPrompt = field(default_factory=SoftPrompt)
    training: LocalTraining = field(default_factory=LocalTraining)
    class_prior: bool = True
    prior_smoothing: float = 0.1
    class_means: ClassMeans = field(default_factory=ClassMeans)

    def __post_init__(self) -> None:
        check_types(self)
        if not self.prior_smoothing > 0:
            raise ConfigError([Problem("prior_smoothing", self.prior_smoothing, "must be positive")])
        if self.class_means.levels not in self.class_mean_levels:
            allowed = f"{self.name} knows {', '.join(self.class_mean_levels)}"
            raise ConfigError([Problem("class_means.levels", self.class_means.levels, allowed)])

    @property
    def privacy_terms(self) -> Terms | None:
        """What it promises under differential privacy; None if nothing: then its epsilon is infinite.

        Who promises something charges ``context.ledger`` before anything leaves that depends on images, but for what
        `not_covered` names.
        """
        return None

    @property
    def not_covered(self) -> tuple[str, ...]:
        """What leaves a client, depends on its images, and is no part of what `privacy_terms` promise; in words."""
        return ()

    def planned(self, rounds: int) -> int:
        """How many of `rounds` this method uses."""
        return rounds if self.trained else 0

    def for_rounds(self, rounds: int) -> Self:
        """This method as a run of so many `rounds` uses it: with what its settings leave to that."""
        return self

    def require(self, clients: int) -> None:
        """Refuse a number of clients in a round that the method's parts cannot group or average.

        Raises:
            ConfigError: says which setting does not fit.
        """
        for part in ("clusterer", "aggregator", "poll"):
            if hasattr(self, part):
                getattr(self, part).require(clients)

    def prepare(self, clients: int, classes: int, seed: int) -> None:
        """Compute now what rounds would have to wait for, of public numbers only; no result depends on it.

        Args:
            clients: who are likely to take part in a round.
            classes: how many there are.
            seed: of the run.
        """
        return

    def forewarn(self, clients: int, numbers: int) -> str:
        """What to tell before training about a choice of settings that is not likely to work; empty if nothing.

        Args:
            clients: who take part in a round.
            numbers: in a prompt.
        """
        return ""

    @abstractmethod
    def client_state(self, context: ClientContext) -> ClientState:
        """A client's state before the first round."""

    def server_state(self) -> ServerState:
        """The server's state before the first round."""
        return ServerState()

    @abstractmethod
    def round(self, state: ServerState, cohort: Cohort) -> Program[ServerState]:
        """One round of training with the clients of `cohort`."""

    def join(self, state: ServerState, cohort: Cohort, newcomers: frozenset[ClientId]) -> Program[ServerState]:
        """Take in clients after training: by default they train alone, as long as the others did.

        Args:
            state: the server's, after the last round.
            cohort: everybody; `cohort.round` is the one after the last.
            newcomers: those of them that took part in no round.
        """
        for number in range(1, cohort.rounds + 1):
            yield Ask("method.train", {client: {"round": np.array(number)} for client in sorted(newcomers)})
        return state

    def explain(
        self, contexts: Sequence[ClientContext], states: Sequence[ClientState], server: ServerState
    ) -> dict[str, Any]:
        """What the method's decisions rest on, as a simulator who knows everything sees it; JSON-ready.

        Args:
            contexts: the clients that took part.
            states: theirs, after training.
            server: the server's.
        """
        return {}

    @abstractmethod
    def personal_prompt(self, state: ClientState) -> np.ndarray:
        """The prompt a client predicts with, float32 [n_ctx, text_dim]."""

    def prompts(self, state: ClientState) -> np.ndarray:
        """All that a client predicts with, float32 [levels, n_ctx, text_dim].

        One level: the personal prompt. Two: the personal and the domain prompt, joined by
        `secfpp.models.scoring.redistributed` or by the predictor's pool.
        """
        return self.personal_prompt(state)[None]

    @property
    def predictor(self) -> Predictor:
        """How clients predict with their prompts."""
        return Predictor(self.class_prior, self.prior_smoothing)

    def visual(self, context: ClientContext, state: ClientState, texts: Tensor) -> Visual | None:
        """`visuals` of one client."""
        return self.visuals([context], [state], texts)

    def visuals(self, contexts: Sequence[ClientContext], states: Sequence[ClientState], texts: Tensor) -> Visual | None:
        """What clients predict with beside their prompts, if anything; computed by each from its own images alone.

        Args:
            contexts: the k clients.
            states: theirs.
            texts: class features of their `prompts`, float [k, levels, n_cls, projection].
        """
        levels = 1 if self.predictor.pool else texts.shape[1]
        found = [self.class_scorer(context, state, levels) for context, state in zip(contexts, states, strict=True)]
        scorers = [scorer for scorer in found if scorer is not None]
        return all_weighed(contexts, texts, Visual.stacked(scorers), self.predictor) if scorers else None

    def class_scorer(self, context: ClientContext, state: ClientState, levels: int) -> Visual | None:
        """Unweighted scores by class means on each level of the prompts, if the method has such."""
        return None if self.class_means.levels == "none" else self.class_means.scorer(context, levels)

    def local_update(
        self, contexts: Sequence[ClientContext], states: Sequence[ClientState], round_: int
    ) -> list[ClientState]:
        """Local training of one round, for clients that share a process."""
        raise ConfigError(f"the method {self.name!r} does not train")

    @step
    def train(self, context: ClientContext, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Local training; replies nothing, so that nothing private leaves with it."""
        return self.local_update([context], [state], int(payload["round"]))[0], {}

    @batched(train)
    def train_many(
        self, contexts: Sequence[ClientContext], states: Sequence[ClientState], payloads: Sequence[Arrays]
    ) -> list[tuple[ClientState, Arrays]]:
        """`train` for several clients in one pass through the frozen encoder."""
        return [(state, {}) for state in self.local_update(contexts, states, int(payloads[0]["round"]))]

    @step
    def measure(self, context: ClientContext, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Put the client's figures where they are averaged; replies nothing."""
        return figures.measured(context, state), {}

    @step
    def tell_figures(self, context: ClientContext, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Reply the mean of figures, which is nobody's own."""
        return state, figures.told(state)

    def train_cohort(self, cohort: Cohort, *parts: Aggregator | Clusterer) -> Program[Cohort]:
        """Local training; returns those who did it, with the round's keys if one of `parts` needs them."""
        if not any(part.needs_keys for part in parts):
            return cohort.subset((yield self.ask_to_train(cohort)))
        replies = yield Joint({"keys": greet(cohort), "train": self.ask_to_train(cohort)})
        return greeted(cohort.subset(replies.joint["train"]), replies.joint["keys"])

    def ask_to_train(self, cohort: Cohort) -> Ask:
        """The ask that starts a round's local training."""
        return Ask("method.train", {client: {"round": np.array(cohort.round)} for client in cohort.clients})


def cross_entropy(
    contexts: Sequence[ClientContext], prompts: Tensor, features: Tensor, labels: Tensor, shift: Tensor | None = None
) -> Tensor:
    """Mean cross-entropy of each client [k].

    Args:
        contexts: the k clients; they share backbone and class names.
        prompts: float [k, n_ctx, text_dim].
        features: float [k, batch, projection].
        labels: int64 [k, batch].
        shift: float [k, n_cls] added to the logits; log-priors give the logit-adjusted loss
            (Menon et al., arXiv 2007.07314).
    """
    texts = contexts[0].backbone.class_features(prompts, contexts[0].tokens)
    return text_cross_entropy(contexts, texts, features, labels, shift)


def text_cross_entropy(
    contexts: Sequence[ClientContext], texts: Tensor, features: Tensor, labels: Tensor, shift: Tensor | None = None
) -> Tensor:
    """`cross_entropy` where prompts are encoded already, as class features `texts` [k, n_cls, projection]."""
    return logit_cross_entropy(cosine_logits(features, texts, contexts[0].backbone.logit_scale), labels, shift)


def logit_cross_entropy(logits: Tensor, labels: Tensor, shift: Tensor | None = None) -> Tensor:
    """`cross_entropy` where logits [k, batch, n_cls] are there already."""
    if shift is not None:
        logits = logits + shift[:, None]
    return F.cross_entropy(logits.transpose(1, 2), labels, reduction="none").mean(1)


def stacked(states: Sequence[ClientState], slot: str) -> np.ndarray:
    """One slot of several clients, [k, ...]."""
    return np.stack([state[slot] for state in states])


def log_priors(contexts: Sequence[ClientContext], smoothing: float) -> Tensor:
    """The clients' smoothed class log-priors, float32 [k, n_cls], on the backbone's device."""
    return torch.from_numpy(np.stack([c.log_prior(smoothing) for c in contexts])).to(contexts[0].backbone.device)


@cache
def methods() -> dict[str, type[FederatedAlgorithm]]:
    """All methods by name: those in modules of this package, and what others offer as entry points of group `GROUP`.

    Raises:
        ConfigError: an entry point that is no method, or two methods of one name.
    """
    import secfpp.algorithms as package

    found: set[type[FederatedAlgorithm]] = set()
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    for place, method in offered(GROUP, "method"):
        if not (isinstance(method, type) and issubclass(method, FederatedAlgorithm) and "name" in vars(method)):
            raise ConfigError(f"{place} should be a class derived from secfpp.FederatedAlgorithm that has a name")
    waiting = [FederatedAlgorithm]
    while waiting:
        subclasses = waiting.pop().__subclasses__()
        waiting += subclasses
        found.update(c for c in subclasses if "name" in vars(c))
    by_name: dict[str, type[FederatedAlgorithm]] = {}
    for algorithm in sorted(found, key=lambda c: (c.name, c.__module__)):
        if algorithm.name in by_name:
            other = by_name[algorithm.name]
            raise ConfigError(
                f"two methods are named {algorithm.name!r}: {other.__module__} and {algorithm.__module__}"
            )
        by_name[algorithm.name] = algorithm
    return by_name


__all__ = [
    "ClientContext",
    "ClientId",
    "FederatedAlgorithm",
    "LocalTraining",
    "ServerState",
    "cross_entropy",
    "log_priors",
    "logit_cross_entropy",
    "methods",
    "stacked",
    "text_cross_entropy",
]
