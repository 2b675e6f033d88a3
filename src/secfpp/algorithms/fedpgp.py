"""FedPGP (Cui et al., arXiv 2405.09771): a shared prompt held to the hand-written one, and a low-rank local part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from secfpp.algorithms.base import ClientContext, text_cross_entropy
from secfpp.algorithms.promptfl import PromptFL
from secfpp.algorithms.training import Loss
from secfpp.errors import ConfigError, Problem
from secfpp.models.prompt import template_text
from secfpp.protocol.program import ClientState
from secfpp.seeding import derive


@dataclass(frozen=True, kw_only=True)
class FedPGP(PromptFL):
    """P = sigma + U V: sigma is averaged over everybody, U and V never leave the client.

    Class by class, the features of sigma are pulled to those of the hand-written prompt and away from those of P, by a
    contrastive loss with these two pairs; see `contrast`.

    Attributes:
        mu: weight of the contrastive loss; 0 leaves it out.
        tau: its temperature.
        rank: of U V, from 0 (there is none) to the number of context vectors.
        std: standard deviation of the numbers that U and V start with.
    """

    name: ClassVar[str] = "fedpgp"
    learned: ClassVar[tuple[str, ...]] = ("prompt", "left", "right")
    mechanisms: ClassVar[tuple[str, ...]] = ("none",)

    mu: float = 0.1
    tau: float = 0.5
    rank: int = 4
    std: float = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = []
        if not self.mu >= 0:
            problems.append(Problem("mu", self.mu, "0 or more"))
        if not self.tau > 0:
            problems.append(Problem("tau", self.tau, "positive"))
        if not 0 <= self.rank <= self.prompt.n_ctx:
            allowed = f"0 to {self.prompt.n_ctx}, the number of context vectors (prompt.n_ctx)"
            problems.append(Problem("rank", self.rank, allowed))
        if not self.std > 0:
            problems.append(Problem("std", self.std, "positive: nothing is learned from factors that are zero"))
        if problems:
            raise ConfigError(problems)

    def client_state(self, context: ClientContext) -> ClientState:
        """The start prompt, which is the first common base, and factors by chance, which a seed decides."""
        draw = derive(context.seed, context.client, "factors").numpy()
        n_ctx, dim = context.start.shape
        left, right = (self.std * draw.standard_normal(shape) for shape in ((n_ctx, self.rank), (self.rank, dim)))
        factors = {"left": left.astype(np.float32), "right": right.astype(np.float32)}
        return super().client_state(context).replace(**factors)

    def trained_prompts(self, parameters: Mapping[str, Tensor], states: Sequence[ClientState]) -> Tensor:
        """See `CoOpLocal.trained_prompts`: sigma + U V."""
        return parameters["prompt"] + parameters["left"] @ parameters["right"]

    def objective(self, contexts: Sequence[ClientContext], states: Sequence[ClientState]) -> Loss:
        """See `CoOpLocal.objective`; and the contrastive loss."""
        if not self.mu:
            return super().objective(contexts, states)
        backbone, tokens = contexts[0].backbone, contexts[0].tokens
        written, shift = template_features(contexts[0]), self.shift(contexts)

        def loss(parameters: Mapping[str, Tensor], features: Tensor, labels: Tensor) -> Tensor:
            both = torch.cat([parameters["prompt"], self.trained_prompts(parameters, states)])
            shared, personal = backbone.class_features(both, tokens).chunk(2)
            entropy = text_cross_entropy(contexts, personal, features, labels, shift)
            return entropy + self.mu * contrast(written, shared, personal, self.tau)

        return loss

    def personal_prompt(self, state: ClientState) -> np.ndarray:
        """The shared prompt plus the client's own part."""
        prompt: np.ndarray = super().personal_prompt(state) + state["left"] @ state["right"]
        return prompt


def contrast(written: Tensor, shared: Tensor, personal: Tensor, tau: float) -> Tensor:
    """The contrastive loss of each client, float [k], a mean over classes.

    Of a class, cross-entropy of [cos(f0, f_sigma), cos(f_sigma, f_P)] / tau with the first as the right one: the pair
    with the hand-written prompt is the positive, that with the personal prompt the negative.

    Args:
        written: class features of the hand-written prompt, f0, float [n_cls, projection], unit length.
        shared: of sigma, float [k, n_cls, projection], unit length.
        personal: of P, of the same shape, unit length.
        tau: temperature.
    """
    positive, negative = (written * shared).sum(-1), (shared * personal).sum(-1)
    return F.softplus((negative - positive) / tau).mean(-1)


@torch.no_grad()
def template_features(context: ClientContext) -> Tensor:
    """Class features of the data set's hand-written prompt, whole, float32 [n_cls, projection], unit length."""
    backbone = context.backbone
    words = backbone.embed(template_text(context.template))
    return backbone.class_features(words[None], backbone.class_tokens(context.tokens.names, len(words)))[0]
