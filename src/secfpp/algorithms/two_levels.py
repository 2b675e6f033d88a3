"""A prompt on two levels: a domain part P_G that a group learns together, and a local part P_L that stays at home.

The local part is trained last, on a domain part that is finished, and it decides only how probability is divided among
the classes a client knows; see `secfpp.models.scoring.redistributed` (docs/decisions/0004 has the figures).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from secfpp.algorithms.base import ClientContext, cross_entropy, log_priors, stacked
from secfpp.errors import Problem, ProtocolError
from secfpp.models.scoring import Predictor
from secfpp.protocol.program import Arrays, ClientState, batched, step
from secfpp.secure.means.updates import with_base

if TYPE_CHECKING:
    from secfpp.algorithms.training import LocalTraining


@dataclass(frozen=True, kw_only=True)
class TwoLevels:
    """The part of a method that trains and uses both parts.

    Attributes:
        domain_adjustment: weight of the client's log-prior in the logits that train the domain part (Menon et
            al., arXiv 2007.07314); 0 is plain cross-entropy.
        local_adjustment: the same for the local part.
        local_lr: learning rate of the local part; 0 leaves it out.
        local_share: share of the rounds, the last ones, in which the local part is trained, and nothing is sent.
        joint: train both parts in every round instead, on their sum.
        two_levels: predict with both prompts, see `secfpp.models.scoring.redistributed`; else with their sum alone.
        averaged_rounds: each part is the mean of what it was after this many rounds.
        familiar_share: how many images of a class make it familiar, see `secfpp.models.scoring.Predictor`.
        trust: weight of the sum of both parts against the domain part alone among familiar classes, 0..1.
    """

    if TYPE_CHECKING:
        training: LocalTraining
        class_prior: bool
        prior_smoothing: float
        descriptor: str
        cluster_every: int

    domain_adjustment: float = 0.0
    local_adjustment: float = 0.5
    local_lr: float = 0.02
    local_share: float = 0.5
    joint: bool = False
    two_levels: bool = True
    averaged_rounds: int = 3
    familiar_share: float = 0.5
    trust: float = 0.5

    def level_problems(self) -> list[Problem]:
        """What is wrong with these settings."""
        problems = [
            Problem(name, getattr(self, name), "must not be negative")
            for name in ("local_lr", "familiar_share")
            if getattr(self, name) < 0
        ]
        if not 0 <= self.local_share < 1:
            problems.append(Problem("local_share", self.local_share, "a share of the rounds, in 0..1, 1 excluded"))
        if not 0 <= self.trust <= 1:
            problems.append(Problem("trust", self.trust, "in 0..1"))
        if self.averaged_rounds < 1:
            problems.append(Problem("averaged_rounds", self.averaged_rounds, "at least 1"))
        return problems

    def level_state(self, context: ClientContext) -> ClientState:
        """The start prompt as domain part, zero as local part."""
        nothing = np.zeros_like(context.start)
        arrays = {
            "local": nothing,
            "start": context.start,
            "domain_history": context.start[:0].reshape(0, *context.start.shape),
            "local_history": nothing[:0].reshape(0, *nothing.shape),
        }
        return with_base(ClientState(arrays), "domain_prompt", context.start)

    def domain_rounds(self, rounds: int) -> int:
        """How many of `rounds` train the domain part: the first ones, at least one; all if `rounds` is 0 (unknown)."""
        local = 0 if self.joint or not self.local_lr else round(self.local_share * rounds)
        return rounds - min(local, rounds - 1) if rounds else 0

    @step
    def rebase(self, context: ClientContext, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Keep the domain part just trained, but count its update from the public start prompt.

        Raises:
            ProtocolError: groups are found once: another one's mean would tell what this one has learned.
        """
        if not self.cluster_every:
            raise ProtocolError("asked to count updates from the start again, but groups are found once here")
        fresh = with_base(state, "domain_prompt", state["start"], int(payload["round"]))
        forgotten = state["domain_history"][:0]
        return fresh.replace(domain_prompt=state["domain_prompt"], domain_history=forgotten), {}

    def local_update(
        self, contexts: Sequence[ClientContext], states: Sequence[ClientState], round_: int
    ) -> list[ClientState]:
        """Gradient steps on the domain part from its common base; if `joint`, on the local part as well."""
        start = {"domain_prompt": stacked(states, "domain_prompt.base")}
        fixed = torch.from_numpy(stacked(states, "local")).to(contexts[0].backbone.device)
        if self.joint and self.local_lr:
            start["local"] = stacked(states, "local")
        shift = self.domain_adjustment * log_priors(contexts, self.prior_smoothing) if self.domain_adjustment else None

        def loss(parameters: Mapping[str, Tensor], features: Tensor, labels: Tensor) -> Tensor:
            prompts = parameters["domain_prompt"] + parameters.get("local", fixed)
            return cross_entropy(contexts, prompts, features, labels, shift)

        trained, losses = self.training.fit(contexts, start, loss, round_=round_, rates={"local": self.local_lr})
        if self.descriptor == "prompt":
            trained["descriptor"] = (trained["domain_prompt"] - stacked(states, "start")).reshape(len(states), -1)
        return [
            state.replace(
                **{slot: values[i] for slot, values in trained.items()},
                loss=np.array(losses[i]),
                domain_history=self._remembered(state),
            )
            for i, state in enumerate(states)
        ]

    def _remembered(self, state: ClientState) -> np.ndarray:
        """Earlier bases and the present one (not the public start), as many as count beside the next one."""
        if int(state["domain_prompt.version"]) <= 1:
            return state["domain_history"]
        kept = np.concatenate([state["domain_history"], state["domain_prompt.base"][None]])
        return kept[len(kept) - min(len(kept), self.averaged_rounds - 1) :]

    @step
    def personalize(self, context: ClientContext, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Gradient steps on the local part alone; replies nothing."""
        return self.personalize_many([context], [state], [payload])[0]

    @batched(personalize)
    def personalize_many(
        self, contexts: Sequence[ClientContext], states: Sequence[ClientState], payloads: Sequence[Arrays]
    ) -> list[tuple[ClientState, Arrays]]:
        """`personalize` for several clients in one pass through the frozen encoder."""
        domain = np.stack([self.domain_part(state) for state in states])
        fixed = torch.from_numpy(domain).to(contexts[0].backbone.device)
        shift = self.local_adjustment * log_priors(contexts, self.prior_smoothing) if self.local_adjustment else None

        def loss(parameters: Mapping[str, Tensor], features: Tensor, labels: Tensor) -> Tensor:
            return cross_entropy(contexts, fixed + parameters["local"], features, labels, shift)

        trained, losses = self.training.fit(
            contexts,
            {"local": stacked(states, "local")},
            loss,
            round_=int(payloads[0]["round"]),
            rates={"local": self.local_lr},
        )
        return [
            (
                state.replace(
                    local=local,
                    local_history=np.concatenate([state["local_history"], local[None]])[-self.averaged_rounds :],
                    loss=np.array(value),
                ),
                {},
            )
            for state, local, value in zip(states, trained["local"], losses, strict=True)
        ]

    def domain_part(self, state: ClientState) -> np.ndarray:
        """P_G as the client uses it, float32 [n_ctx, text_dim]."""
        return state["domain_prompt"] if self.joint else self.averaged_part(state)

    def averaged_part(self, state: ClientState) -> np.ndarray:
        """The mean of the last bases, float32 [n_ctx, text_dim]."""
        part: np.ndarray = np.concatenate([state["domain_history"], state["domain_prompt.base"][None]]).mean(0)
        return part

    def personal_prompt(self, state: ClientState) -> np.ndarray:
        """Domain part plus local part."""
        history = state["local_history"]
        prompt: np.ndarray = self.domain_part(state) + (history.mean(0) if len(history) else state["local"])
        return prompt

    def prompts(self, state: ClientState) -> np.ndarray:
        """Personal and domain prompt, or the former alone."""
        personal = self.personal_prompt(state)
        return np.stack([personal, self.domain_part(state)]) if self.two_levels else personal[None]

    @property
    def predictor(self) -> Predictor:
        """How clients predict with their prompts."""
        return Predictor(self.class_prior, self.prior_smoothing, self.familiar_share, self.trust)
