"""Local prompt learning, CoOp (Zhou et al., arXiv 2109.01134), each client on its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from secfpp.algorithms.base import ClientContext, FederatedAlgorithm, ServerState, cross_entropy, log_priors, stacked
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientState, Program


@dataclass(frozen=True, kw_only=True)
class CoOpLocal(FederatedAlgorithm):
    """Every client learns a prompt of its own; nothing is shared.

    Attributes:
        logit_adjustment: weight of the client's log-prior in the training logits; 0 is plain
            cross-entropy, 1 the logit-adjusted loss of Menon et al. (arXiv 2007.07314).
    """

    name: ClassVar[str] = "coop_local"

    logit_adjustment: float = 0.0

    def client_state(self, context: ClientContext) -> ClientState:
        """The start prompt."""
        return ClientState({"prompt": context.start})

    def round(self, state: ServerState, cohort: Cohort) -> Program[ServerState]:
        """Local steps only."""
        yield self.ask_to_train(cohort)
        return state

    def local_update(
        self, contexts: Sequence[ClientContext], states: Sequence[ClientState], round_: int
    ) -> list[ClientState]:
        """Gradient steps on the prompt."""
        shift = self.logit_adjustment * log_priors(contexts, self.prior_smoothing) if self.logit_adjustment else None

        def loss(parameters: Mapping[str, Tensor], features: Tensor, labels: Tensor) -> Tensor:
            return cross_entropy(contexts, parameters["prompt"], features, labels, shift)

        trained, losses = self.training.fit(contexts, {"prompt": stacked(states, "prompt")}, loss, round_=round_)
        return [
            state.replace(prompt=prompt, loss=np.array(value))
            for state, prompt, value in zip(states, trained["prompt"], losses, strict=True)
        ]

    def personal_prompt(self, state: ClientState) -> np.ndarray:
        """The client's prompt."""
        return state["prompt"]
