"""DP-FPL (Tran et al., arXiv 2501.13904): a shared prompt and a low-rank local one, each trained under noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from secfpp.algorithms import central_steps
from secfpp.algorithms.base import ClientContext, cross_entropy, log_priors, stacked
from secfpp.algorithms.image_gradients import ImageGradients, shortened_sum
from secfpp.algorithms.privacy import Privacy, charged_round
from secfpp.algorithms.promptfl import PromptFL
from secfpp.errors import ConfigError, Problem
from secfpp.privacy import gaussian
from secfpp.privacy.events import Composed, Gaussian
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientState, Program
from secfpp.secure.means.updates import Base, Mean
from secfpp.secure.session import party_of
from secfpp.seeding import Seed, derive

_PARTS = ("shared prompt", "left factor", "right factor")


@dataclass(frozen=True, kw_only=True)
class DPFPL(PromptFL):
    """A shared prompt plus a local one of low rank that stays at home, both trained under noise.

    A client predicts with p_G + p_L. Each round p_L is factored as u v + r by one power iteration; gradients by p_G, u
    and v are shortened image by image; u and v are stepped with noise of the client's own, and the server adds noise to
    the sum of gradients by p_G.

    With noise, all three sums are accounted for. Other clients see the sum by p_G only. But each of its summands is
    taken at p_G + p_L: without noise in u and v, an image would move all later summands of its client through p_L. So
    what is covered is all that others see, and the client's own prompt too, should it be given away. The server is
    trusted: it sees each client's gradient by p_G without noise.

    By the mechanism ``published`` the noise is what the authors' code has: of their formula, for the mean gradient of a
    batch of `LocalTraining.batch` images, shortened as a whole. What that costs is accounted for as it is, see
    `secfpp.algorithms.central_steps.as_published`. That code's other faults are not here: it steps all clients by the
    last one's local gradient, with one momentum for all, and draws noise for each of several batches a round.

    Attributes:
        rank: of u v.
        std: standard deviation of the numbers that p_L starts with.
        local_lr: learning rate of u and v, if it is another.
    """

    name: ClassVar[str] = "dp_fpl"
    mechanisms: ClassVar[tuple[str, ...]] = ("none", "central", "published")

    privacy: Privacy = field(default_factory=Privacy)
    rank: int = 2
    std: float = 0.02
    local_lr: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = []
        if not 1 <= self.rank <= self.prompt.n_ctx:
            allowed = f"1 to {self.prompt.n_ctx}, the number of context vectors (prompt.n_ctx)"
            problems.append(Problem("rank", self.rank, allowed))
        if not self.std > 0:
            problems.append(Problem("std", self.std, "positive: nothing is learned from factors that are zero"))
        if self.local_lr is not None and not self.local_lr > 0:
            problems.append(Problem("local_lr", self.local_lr, "positive, or none"))
        if problems:
            raise ConfigError(problems)

    @property
    def release_of_round(self) -> Composed:
        """What a round releases, see `secfpp.algorithms.central_steps`."""
        if self.privacy.mechanism == "published":
            return central_steps.as_published(self.privacy, _PARTS, self.training.batch)
        return central_steps.planned(self.privacy, _PARTS)

    def client_state(self, context: ClientContext) -> ClientState:
        """The start prompt, which is the first common base, and a local part by chance, which a seed decides."""
        normal = derive(context.seed, context.client, "local part").numpy().standard_normal(context.start.shape)
        return super().client_state(context).replace(local=(self.std * normal).astype(np.float32))

    def common_mean(self, cohort: Cohort, known: Base | None) -> Program[Mean]:
        """See `PromptFL.common_mean`; all clients weigh alike where batches are as large."""
        alike = replace(cohort, weights=dict.fromkeys(cohort.clients, 1))
        return (yield from super().common_mean(alike if self.privacy.mechanism == "published" else cohort, known))

    def local_update(
        self, contexts: Sequence[ClientContext], states: Sequence[ClientState], round_: int
    ) -> list[ClientState]:
        """Steps on the shared prompt, from its common base, and on the factors of the local one."""
        factors = [self._factored(context, state, round_) for context, state in zip(contexts, states, strict=True)]
        if self.privacy.central:
            return self._under_noise(contexts, states, round_, factors)
        left, right, rest = (np.stack(part) for part in zip(*factors, strict=True))
        fixed = torch.from_numpy(rest).to(contexts[0].backbone.device)
        shift = self.logit_adjustment * log_priors(contexts, self.prior_smoothing) if self.logit_adjustment else None

        def loss(parameters: Mapping[str, Tensor], features: Tensor, labels: Tensor) -> Tensor:
            prompts = parameters["prompt"] + parameters["left"] @ parameters["right"] + fixed
            return cross_entropy(contexts, prompts, features, labels, shift)

        start = {"prompt": stacked(states, "prompt.base"), "left": left, "right": right}
        trained, losses = self.training.fit(
            contexts, start, loss, round_=round_, rates={"left": self._local_lr, "right": self._local_lr}
        )
        local = trained["left"] @ trained["right"] + rest
        return [
            state.replace(prompt=trained["prompt"][i], local=local[i], loss=np.array(losses[i]))
            for i, state in enumerate(states)
        ]

    def _under_noise(
        self,
        contexts: Sequence[ClientContext],
        states: Sequence[ClientState],
        round_: int,
        factors: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    ) -> list[ClientState]:
        event = self.release_of_round
        noted = charged_round(contexts, states, event, self.privacy, round_)
        prompts = np.stack([state["prompt.base"] + state["local"] for state in states])
        found = []
        for context, state, own, by in zip(
            contexts, noted, factors, central_steps.encoders(contexts, prompts), strict=True
        ):
            shared, left, right, loss, weight = self._gradients(context, round_, own, by)
            secret = party_of(context).entropy
            steps = []
            for part, gradient, of in ((own[0], left, event.events[1]), (own[1], right, event.events[2])):
                assert isinstance(of, Gaussian)
                noisy = gradient + gaussian.noise(of.sd, gradient.shape, secret) / weight
                steps.append(part - self._local_lr * noisy)
            prompt = central_steps.stepped(
                state["prompt.base"], shared, self.training.lr, weight, self.privacy.bound, self.trusted
            )
            local = (steps[0] @ steps[1] + own[2]).astype(np.float32)
            found.append(state.replace(prompt=prompt, local=local, loss=np.array(loss)))
        return found

    def _gradients(
        self,
        context: ClientContext,
        round_: int,
        own: tuple[np.ndarray, np.ndarray, np.ndarray],
        by: ImageGradients,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, int]:
        """Shortened gradients by p_G, u and v, float64, the mean loss, and by what sums were divided."""
        if self.privacy.mechanism == "published":
            chosen = torch.from_numpy(self.training.draws(context, round_)[0]).to(context.labels.device)
            mean, losses = by.mean(context.features[chosen], context.labels[chosen])
            gradients, weight = mean[None], 1
        else:
            gradients, losses = by.of(context.features, context.labels)
            weight = max(1, len(losses))
        left, right = (torch.tensor(part, device=gradients.device) for part in own[:2])
        shared, by_left, by_right = (
            shortened_sum(part, self.privacy.bound).cpu().numpy() / weight
            for part in (gradients, gradients @ right.T, left.T @ gradients)
        )
        return shared, by_left, by_right, float(losses.sum()) / max(1, len(losses)), weight

    def _factored(
        self, context: ClientContext, state: ClientState, round_: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return factored(state["local"], self.rank, derive(context.seed, context.client, round_, "factors"))

    @property
    def _local_lr(self) -> float:
        return self.training.lr if self.local_lr is None else self.local_lr

    def personal_prompt(self, state: ClientState) -> np.ndarray:
        """The shared prompt plus the client's own."""
        prompt: np.ndarray = super().personal_prompt(state) + state["local"]
        return prompt


def factored(local: np.ndarray, rank: int, seed: Seed) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The factors of `local`: u [n_ctx, rank], v [rank, text_dim] and r so that it is u v + r; float32.

    One power iteration from a random start (Vogels et al., arXiv 1905.13727); columns of u are orthonormal.
    """
    start = seed.numpy().standard_normal((local.shape[1], rank)).astype(np.float32)
    left = np.linalg.qr(local @ start).Q
    right = left.T @ local
    return left, right, local - left @ right
