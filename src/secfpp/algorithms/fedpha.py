"""FedPHA (Fang et al., ICML 2025, PMLR 267): a local prompt beside a shared one, pulled off what both would say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from secfpp.algorithms.base import ClientContext, text_cross_entropy
from secfpp.algorithms.training import Loss
from secfpp.algorithms.two_prompts import TwoPrompts, encoded
from secfpp.errors import ConfigError, Problem
from secfpp.protocol.program import ClientState


@dataclass(frozen=True, kw_only=True)
class FedPHA(TwoPrompts):
    """Shared prompt G is averaged; the local prompt L stays at home, and the client predicts with it alone.

    Both are trained by cross-entropy. L is pulled to what is left of it without G's leading directions, in class
    features, and these are pushed off G's as long as they are nearer than `alpha`.

    Attributes:
        alpha: distance of unit class features from which on L is not pushed off G; 0 pushes nothing.
        ratio: share of G's singular directions, the weakest, that L may keep; at least one goes, unless it is 1.
    """

    name: ClassVar[str] = "fedpha"

    alpha: float = 1.0
    ratio: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = []
        if not 0 <= self.alpha <= 2:
            problems.append(Problem("alpha", self.alpha, "in 0..2, the distances that unit vectors have"))
        if not 0 <= self.ratio <= 1:
            problems.append(Problem("ratio", self.ratio, "in 0..1"))
        if problems:
            raise ConfigError(problems)

    @property
    def removed(self) -> int:
        """How many of G's singular directions L is pulled to be without."""
        whole = int(self.prompt.n_ctx * (1 - self.ratio) + 1e-9)
        return max(1, whole) if self.ratio < 1 else 0

    def objective(self, contexts: Sequence[ClientContext], states: Sequence[ClientState]) -> Loss:
        """See `CoOpLocal.objective`: CE of L and of G, the pull and the push."""
        shift = self.shift(contexts)

        def loss(parameters: Mapping[str, Tensor], features: Tensor, labels: Tensor) -> Tensor:
            shared, local = parameters["prompt"], parameters["local"]
            of_shared, of_local, of_rest = encoded(
                contexts, shared, local, without_leading(local, shared, self.removed)
            )
            entropy = sum(text_cross_entropy(contexts, t, features, labels, shift) for t in (of_local, of_shared))
            pull = (of_local - of_rest).square().mean((1, 2))
            push = F.relu(self.alpha - torch.linalg.vector_norm(of_local - of_shared, dim=-1)).mean(-1)
            return entropy + pull + push

        return loss

    def prompts(self, state: ClientState) -> np.ndarray:
        """The local prompt alone."""
        return self.personal_prompt(state)[None]


def without_leading(local: Tensor, shared: Tensor, count: int) -> Tensor:
    """`local` without its part in the `count` leading right singular directions of `shared`; both [k, n_ctx, text_dim].

    No gradient goes into these directions: that of singular vectors is not defined where values are equal.
    """
    leading = torch.linalg.svd(shared.detach(), full_matrices=False).Vh[:, :count]
    rest: Tensor = local - local @ leading.transpose(1, 2) @ leading
    return rest
