"""pFedPrompt (Guo et al., WWW 2023): a shared prompt beside each client's memory of its own images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from secfpp.algorithms.promptfl import PromptFL
from secfpp.algorithms.training import ClientContext
from secfpp.algorithms.visual import likeliest
from secfpp.errors import ConfigError, Problem
from secfpp.models.scoring import Visual, level_logits
from secfpp.protocol.program import ClientState
from secfpp.seeding import derive

WEIGHTS = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
UNKNOWN = 1.0
"""The weight of the memory of a client without validation images."""


@dataclass(frozen=True, kw_only=True)
class PFedPrompt(PromptFL):
    """`PromptFL`, and in prediction attention over remembered images: nothing of it is trained or sent.

    Of each class the score is the sum of exp(-sharpness (1 - cos)) over the client's images of that class. It is added
    to the logits of the shared prompt with the weight that makes the client's validation images likeliest.

    Attributes:
        sharpness: how fast attention falls with distance.
        images: most images that a client remembers.
        memory_weight: of the memory's scores, the same for all; by default each client chooses its own.
    """

    name: ClassVar[str] = "pfedprompt"
    mechanisms: ClassVar[tuple[str, ...]] = ("none",)
    class_mean_levels: ClassVar[tuple[str, ...]] = ("none",)

    sharpness: float = 5.5
    images: int = 512
    memory_weight: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = []
        if not self.sharpness > 0:
            problems.append(Problem("sharpness", self.sharpness, "positive"))
        if self.images < 1:
            problems.append(Problem("images", self.images, "at least 1"))
        if self.memory_weight is not None and not self.memory_weight >= 0:
            problems.append(Problem("memory_weight", self.memory_weight, "0 or more, or none"))
        if problems:
            raise ConfigError(problems)

    def visuals(self, contexts: Sequence[ClientContext], states: Sequence[ClientState], texts: Tensor) -> Visual:
        """See `FederatedAlgorithm.visuals`: each client's memory, weighed."""
        return Visual.stacked([self._weighed(context, texts[i : i + 1]) for i, context in enumerate(contexts)])

    def _weighed(self, context: ClientContext, texts: Tensor) -> Visual:
        """One client's."""
        memory = self.memory(context)
        weight = self._likeliest_weight(context, texts, memory) if self.memory_weight is None else self.memory_weight
        assert memory.memory is not None
        return Visual(memory.weights, memory.bias, memory.text_weight, weight * memory.memory)

    def memory(self, context: ClientContext) -> Visual:
        """The client's images and their classes, unweighted; of more than `images` a choice that a seed decides."""
        order = derive(context.seed, context.client, "memory").numpy().permutation(len(context.labels))
        kept = torch.from_numpy(order[: self.images]).to(context.labels.device)
        keys = context.features[kept]
        said = F.one_hot(context.labels[kept], len(context.tokens.names)).to(keys.dtype)
        bias = keys.new_full((1, 1, len(keys)), -self.sharpness)
        return Visual(self.sharpness * keys[None, None], bias, keys.new_ones(1, 1), said[None, None])

    def _likeliest_weight(self, context: ClientContext, texts: Tensor, memory: Visual) -> float:
        if not len(context.data.validation):
            return UNKNOWN
        images = context.validation_features
        labels = torch.from_numpy(context.data.validation.labels).to(images.device)
        prompt = level_logits(images, texts, context.backbone.logit_scale)
        remembered = memory.beside(torch.zeros_like(prompt), images)
        weights = torch.tensor(WEIGHTS, device=images.device)[:, None, None]
        logits = prompt[0] + weights * remembered[0]
        if self.class_prior:
            logits = logits + torch.from_numpy(context.log_prior(self.prior_smoothing)).to(logits.device)
        return WEIGHTS[int(likeliest(logits, labels)[1])]
