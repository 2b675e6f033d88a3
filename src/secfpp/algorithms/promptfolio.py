"""PromptFolio (Pan et al., arXiv 2409.19610): class features of a shared and a local prompt, mixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from secfpp.algorithms.base import ClientContext
from secfpp.algorithms.coop_local import CoOpLocal
from secfpp.algorithms.training import Loss
from secfpp.algorithms.two_prompts import TwoPrompts
from secfpp.errors import ConfigError, Problem
from secfpp.models.pools import Mixture
from secfpp.models.scoring import Predictor
from secfpp.protocol.program import ClientState


@dataclass(frozen=True, kw_only=True)
class PromptFolio(TwoPrompts):
    """Text features (1 - theta) f_G + theta f_L, in training as in prediction; G is averaged, L stays at home.

    Attributes:
        theta: weight of the local prompt's features, 0..1. With 0 the shared prompt is that of `PromptFL`, with 1 the
            local one that of `CoOpLocal`, bit for bit.
    """

    name: ClassVar[str] = "promptfolio"

    theta: float = 0.4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.theta <= 1:
            raise ConfigError([Problem("theta", self.theta, "in 0..1")])

    def objective(self, contexts: Sequence[ClientContext], states: Sequence[ClientState]) -> Loss:
        """See `TwoPrompts.objective`; a prompt of no weight is left out."""
        if 0 < self.theta < 1:
            return super().objective(contexts, states)
        return CoOpLocal.objective(self, contexts, states)

    def trained_prompts(self, parameters: Mapping[str, Tensor], states: Sequence[ClientState]) -> Tensor:
        """See `CoOpLocal.trained_prompts`: the one prompt that has weight."""
        return parameters["local" if self.theta else "prompt"]

    @property
    def predictor(self) -> Predictor:
        """How clients predict with their prompts."""
        return Predictor(self.class_prior, self.prior_smoothing, pool=Mixture(personal=self.theta))
