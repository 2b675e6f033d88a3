"""FedProx (Li et al., arXiv 1812.06127) on a prompt: local steps are held near the common one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from secfpp.algorithms.base import ClientContext, stacked
from secfpp.algorithms.promptfl import PromptFL
from secfpp.algorithms.training import LocalTraining, Loss
from secfpp.errors import ConfigError, Problem
from secfpp.protocol.program import ClientState


@dataclass(frozen=True, kw_only=True)
class FedProx(PromptFL):
    """`PromptFL` whose loss has mu/2 ||P - P_base||^2 beside the cross-entropy (section 3.2, equation 2).

    Attributes:
        mu: weight of that term; 0 is `PromptFL`, bit for bit.
    """

    name: ClassVar[str] = "fedprox"
    mechanisms: ClassVar[tuple[str, ...]] = ("none", "prompts")

    training: LocalTraining = field(default_factory=lambda: LocalTraining(lr=0.01))
    mu: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.mu >= 0:
            raise ConfigError([Problem("mu", self.mu, "0 or more")])

    def objective(self, contexts: Sequence[ClientContext], states: Sequence[ClientState]) -> Loss:
        """See `CoOpLocal.objective`; and the distance to the common base."""
        entropy = super().objective(contexts, states)
        if not self.mu:
            return entropy
        base = torch.from_numpy(stacked(states, "prompt.base")).to(contexts[0].backbone.device)

        def loss(parameters: Mapping[str, Tensor], features: Tensor, labels: Tensor) -> Tensor:
            away = (parameters["prompt"] - base).square().sum((1, 2))
            return entropy(parameters, features, labels) + 0.5 * self.mu * away

        return loss
