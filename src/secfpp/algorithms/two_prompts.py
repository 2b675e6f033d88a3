"""Two prompts of equal length: a shared one, averaged over everybody, and a local one that stays at home."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from secfpp.algorithms.base import ClientContext, FederatedAlgorithm, ServerState, logit_cross_entropy
from secfpp.algorithms.promptfl import PromptFL
from secfpp.algorithms.training import Loss
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientId, ClientState, Program


@dataclass(frozen=True, kw_only=True)
class TwoPrompts(PromptFL):
    """The part of a method whose clients train a shared and a local prompt together, joined by its predictor's pool.

    Each round the shared prompt starts from the common base, the local one from where it was.
    """

    learned: ClassVar[tuple[str, ...]] = ("prompt", "local")
    mechanisms: ClassVar[tuple[str, ...]] = ("none",)

    def client_state(self, context: ClientContext) -> ClientState:
        """The start prompt, twice; it is the first common base."""
        return super().client_state(context).replace(local=context.start.copy())

    def join(self, state: ServerState, cohort: Cohort, newcomers: frozenset[ClientId]) -> Program[ServerState]:
        """Give newcomers the common prompt; then they train their own beside it as long as the others did."""
        yield from super().join(state, cohort, newcomers)
        return (yield from FederatedAlgorithm.join(self, state, cohort, newcomers))

    def objective(self, contexts: Sequence[ClientContext], states: Sequence[ClientState]) -> Loss:
        """See `CoOpLocal.objective`: cross-entropy of what the pool makes of both prompts."""
        pool, scale, shift = self.predictor.pool, contexts[0].backbone.logit_scale, self.shift(contexts)
        assert pool is not None

        def loss(parameters: Mapping[str, Tensor], features: Tensor, labels: Tensor) -> Tensor:
            texts = torch.stack(encoded(contexts, parameters["local"], parameters["prompt"]), dim=1)
            return logit_cross_entropy(pool.logits(features, texts, scale), labels, shift)

        return loss

    def personal_prompt(self, state: ClientState) -> np.ndarray:
        """The local prompt."""
        return state["local"]

    def prompts(self, state: ClientState) -> np.ndarray:
        """The local prompt and the shared one, which is the common base whatever was trained since."""
        return np.stack([state["local"], state["prompt.base"]])


def encoded(contexts: Sequence[ClientContext], *prompts: Tensor) -> list[Tensor]:
    """Class features [k, n_cls, projection] of each of several k clients' prompts [k, n_ctx, text_dim], in one pass."""
    texts = contexts[0].backbone.class_features(torch.cat(prompts), contexts[0].tokens)
    return list(texts.chunk(len(prompts)))
