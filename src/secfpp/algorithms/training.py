"""Local training: gradient steps on prompts, for one client or for many in one pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from secfpp.data.federated import ClientData
from secfpp.errors import ConfigError, Problem, SecFPPError
from secfpp.models.pools import looks
from secfpp.models.scoring import smoothed_log_prior
from secfpp.protocol.program import ClientState
from secfpp.secure.session import Party
from secfpp.seeding import derive

if TYPE_CHECKING:
    from secfpp.models.backbone import Backbone, ClassTokens
    from secfpp.privacy.ledger import RunLedger

Loss = Callable[[Mapping[str, Tensor], Tensor, Tensor], Tensor]
"""(parameters [k, ...], features [k, batch, dim], labels [k, batch]) -> loss of each client [k]."""


@dataclass(frozen=True)
class ClientContext:
    """What a client has at hand and never saves: data, frozen model, class names, public seed and start prompt.

    `template` is the data set's hand-written prompt, with ``{}`` for the class name. `group` is the number of the
    client's true group, known to simulations only. `party` holds the client's keys; steps on shares need it. `ledger`
    is where releases are written down that are differentially private. `figures` measures the client for an average
    with others, see `secfpp.algorithms.figures`.
    """

    client: str
    data: ClientData
    group: int
    backbone: Backbone
    tokens: ClassTokens
    seed: int
    start: np.ndarray
    template: str
    party: Party | None = field(default=None, repr=False)
    ledger: RunLedger | None = field(default=None, repr=False)
    figures: Callable[[ClientState], Sequence[float]] | None = field(default=None, repr=False)

    @cached_property
    def features(self) -> Tensor:
        """Features of the training images, float32 [n, projection]."""
        return self.backbone.features(self.data.train.images)

    @cached_property
    def validation_features(self) -> Tensor:
        """Features of the validation images, float32 [n, projection]."""
        return self.backbone.features(self.data.validation.images)

    @cached_property
    def looks(self) -> Tensor:
        """Training images with their patches, float32 [n, 1 + patches, projection], see `secfpp.models.pools.looks`."""
        return looks(self.backbone, self.data.train.images)

    @cached_property
    def validation_looks(self) -> Tensor:
        """Validation images with their patches, float32 [n, 1 + patches, projection]."""
        return looks(self.backbone, self.data.validation.images)

    @cached_property
    def labels(self) -> Tensor:
        """Labels of the training images, int64 [n]."""
        return torch.from_numpy(self.data.train.labels).to(self.backbone.device)

    @cached_property
    def histogram(self) -> np.ndarray:
        """Training images per class, int64 [n_cls]."""
        return self.data.train.histogram(len(self.tokens.names))

    @property
    def weight(self) -> int:
        """The client's weight in averages: its training images."""
        return len(self.data.train)

    def log_prior(self, smoothing: float) -> np.ndarray:
        """The client's smoothed class log-prior, float32 [n_cls]; private."""
        return smoothed_log_prior(self.histogram, smoothing)


@dataclass(frozen=True, kw_only=True)
class LocalTraining:
    """Optimiser settings of a round's local steps; the optimiser starts anew each round.

    Attributes:
        steps: gradient steps per round.
        batch: images per step, drawn with replacement.
        optimizer: ``adam`` or ``sgd``.
        lr: learning rate.
        momentum: of sgd.
        weight_decay: added to the gradient (coupled).
    """

    steps: int = 5
    batch: int = 64
    optimizer: Literal["adam", "sgd"] = "adam"
    lr: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        problems = [
            Problem(f"training.{n}", v, "at least 1")
            for n, v in (("steps", self.steps), ("batch", self.batch))
            if v < 1
        ]
        if self.optimizer not in ("adam", "sgd"):
            problems.append(Problem("training.optimizer", self.optimizer, "adam or sgd"))
        if not self.lr > 0:
            problems.append(Problem("training.lr", self.lr, "must be positive"))
        if not 0 <= self.momentum < 1:
            problems.append(Problem("training.momentum", self.momentum, "in 0..1, 1 excluded"))
        if self.weight_decay < 0:
            problems.append(Problem("training.weight_decay", self.weight_decay, "must not be negative"))
        if problems:
            raise ConfigError(problems)

    def fit(
        self,
        contexts: Sequence[ClientContext],
        parameters: Mapping[str, np.ndarray],
        loss: Loss,
        *,
        round_: int,
        rates: Mapping[str, float] | None = None,
        patches: bool = False,
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Train every client's parameters on its own data, all clients side by side.

        Client losses are summed and nothing is shared between clients, so each one's result is what
        it would be alone, up to float rounding of the batched matrix products.

        Args:
            contexts: the k clients.
            parameters: name -> start values float32 [k, ...].
            loss: per-client loss.
            round_: the round, which decides the batches drawn.
            rates: learning rate of single parameters instead of `lr`.
            patches: give the loss `ClientContext.looks` [k, batch, 1 + patches, dim] instead of features.

        Returns:
            The trained parameters and each client's mean loss over the steps [k].

        Raises:
            SecFPPError: the loss is not finite; names the client.
        """
        device = contexts[0].backbone.device
        trained = {name: torch.tensor(value, device=device).requires_grad_() for name, value in parameters.items()}
        groups = [{"params": [tensor], "lr": (rates or {}).get(name, self.lr)} for name, tensor in trained.items()]
        optimiser = self.optimiser(groups)
        draws = [self.draws(context, round_) for context in contexts]
        total = np.zeros(len(contexts))
        for number in range(self.steps):
            picks = [torch.from_numpy(draw[number]).to(device) for draw in draws]
            seen = [c.looks if patches else c.features for c in contexts]
            features = torch.stack([own[pick] for own, pick in zip(seen, picks, strict=True)])
            labels = torch.stack([c.labels[pick] for c, pick in zip(contexts, picks, strict=True)])
            losses = loss(trained, features, labels)
            optimiser.zero_grad(set_to_none=True)
            losses.sum().backward()
            optimiser.step()
            total += losses.detach().double().cpu().numpy()
        if not np.isfinite(total).all():
            lost = contexts[int(np.flatnonzero(~np.isfinite(total))[0])].client
            raise SecFPPError(f"client {lost!r}: the training loss is not finite; lower training.lr = {self.lr}")
        return {name: tensor.detach().cpu().numpy() for name, tensor in trained.items()}, total / self.steps

    def optimiser(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """A new optimiser of these groups of parameters."""
        if self.optimizer == "adam":
            return torch.optim.Adam(groups, lr=self.lr, weight_decay=self.weight_decay)
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)

    def draws(self, context: ClientContext, round_: int) -> np.ndarray:
        """Indices [steps, batch] into the client's images, a function of seed, client and round alone."""
        rng = derive(context.seed, context.client, round_, "batch").numpy()
        return rng.integers(len(context.data.train), size=(self.steps, self.batch))
