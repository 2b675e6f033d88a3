"""Zero-shot floor: the data set's hand-written prompt, nothing learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from secfpp.algorithms.base import ClientContext, FederatedAlgorithm, ServerState
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientState, Program


@dataclass(frozen=True, kw_only=True)
class ZeroShot(FederatedAlgorithm):
    """The start prompt as it is (by default the data set's template): the floor every method must beat."""

    name: ClassVar[str] = "zero_shot"
    trained: ClassVar[bool] = False

    def client_state(self, context: ClientContext) -> ClientState:
        """The start prompt."""
        return ClientState({"prompt": context.start})

    def round(self, state: ServerState, cohort: Cohort) -> Program[ServerState]:
        """Nothing happens."""
        yield from ()
        return state

    def personal_prompt(self, state: ClientState) -> np.ndarray:
        """The start prompt."""
        return state["prompt"]
