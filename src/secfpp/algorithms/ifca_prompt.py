"""IFCA (Ghosh et al., arXiv 2006.04088) on prompts: several common prompts, and each client takes the one that fits."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch.nn import functional as F

from secfpp.algorithms.base import ClientContext, ServerState
from secfpp.algorithms.coop_local import CoOpLocal
from secfpp.algorithms.promptfl import PromptFL
from secfpp.errors import ConfigError, Problem, ProtocolError, ReplyError
from secfpp.models.scoring import cosine_logits
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.fields import integer_in
from secfpp.protocol.program import Arrays, Ask, ClientId, ClientState, Program, batched, gather, step
from secfpp.secure.means.updates import with_base
from secfpp.seeding import derive


@dataclass(frozen=True, kw_only=True)
class IFCAPrompt(PromptFL):
    """`k` common prompts; in each round a client trains the one under which its training images are likeliest.

    Everybody holds all of them. A prompt is averaged over those who chose it, and who chose which, the server is told
    in each round. Starts differ by chance, with the start prompt as their mean, so that one prompt is `PromptFL`.

    Attributes:
        k: how many prompts.
        std: standard deviation of the numbers by which their starts differ.
    """

    name: ClassVar[str] = "ifca_prompt"
    told: ClassVar[str] = "which prompt fits this client's images best"
    mechanisms: ClassVar[tuple[str, ...]] = ("none",)

    k: int = 6
    std: float = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        problems = [] if self.k >= 1 else [Problem("k", self.k, "at least 1")]
        if not self.std > 0:
            problems.append(Problem("std", self.std, "positive: prompts that start alike stay alike"))
        if problems:
            raise ConfigError(problems)

    @property
    def slots(self) -> tuple[str, ...]:
        """The slots of the common prompts."""
        return tuple(f"prompt_{number}" for number in range(self.k))

    def client_state(self, context: ClientContext) -> ClientState:
        """Starts of all prompts, which are the first common bases; none is chosen but the first."""
        draw = derive(context.seed, "prompts").numpy()
        normal = draw.standard_normal((self.k, *context.start.shape))
        state = ClientState({"choice": np.array(0)})
        for slot, by in zip(self.slots, self.std * (normal - normal.mean(0)), strict=True):
            state = with_base(state, slot, (context.start + by).astype(np.float32))
        return state

    def round(self, state: ServerState, cohort: Cohort) -> Program[ServerState]:
        """Let everybody choose, train what it chose, and average each prompt over those who did."""
        state, choosers = yield from self._chosen(state, cohort, cohort.clients)
        trained = yield from self.train_cohort(cohort.subset(choosers), self.aggregator)
        groups = {
            slot: [client for client in trained.clients if state.chosen[client] == number]
            for number, slot in enumerate(self.slots)
        }
        means = {
            slot: self.aggregator.mean(trained.subset(group), slot, state.bases.get(slot))
            for slot, group in groups.items()
            if group
        }
        return state.after((yield from gather(means)))

    def join(self, state: ServerState, cohort: Cohort, newcomers: frozenset[ClientId]) -> Program[ServerState]:
        """Give newcomers all prompts, and let them choose."""
        return (yield from self._chosen(state, cohort, newcomers))[0]

    def _chosen(
        self, state: ServerState, cohort: Cohort, clients: Iterable[ClientId]
    ) -> Program[tuple[ServerState, Collection[ClientId]]]:
        """Bring all prompts of the cohort up to date and let these clients choose; who did."""
        yield from gather({slot: self.aggregator.refresh(cohort, slot, state.bases.get(slot)) for slot in self.slots})
        replies = yield Ask("method.choose", {client: {} for client in sorted(clients)})
        new = replies.readable(self._choice_in)
        chosen = {**state.chosen, **new}
        groups = Assignment.from_labels(list(chosen), chosen.values()) if chosen else None
        return replace(state, chosen=chosen, assignment=groups), new

    def _choice_in(self, client: ClientId, reply: Arrays) -> int:
        try:
            choice = integer_in(reply, "choice")
        except ProtocolError as error:
            raise ReplyError(client, "sent no number of a prompt") from error
        if not 0 <= choice < self.k:
            raise ReplyError(client, f"chose prompt {choice}, there are {self.k}")
        return choice

    @step
    def choose(self, context: ClientContext, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Take the prompt under which the training images are likeliest, the first of several; reply which one."""
        return self.choose_many([context], [state], [payload])[0]

    @batched(choose)
    @torch.no_grad()
    def choose_many(
        self, contexts: Sequence[ClientContext], states: Sequence[ClientState], payloads: Sequence[Arrays]
    ) -> list[tuple[ClientState, Arrays]]:
        """`choose` for several clients, who mostly hold the same prompts: each is encoded once."""
        backbone, tokens = contexts[0].backbone, contexts[0].tokens
        held = np.stack([[state[f"{slot}.base"] for slot in self.slots] for state in states])
        different, which = np.unique(held.reshape(len(states) * self.k, -1), axis=0, return_inverse=True)
        prompts = torch.from_numpy(different.reshape(-1, *held.shape[2:])).to(backbone.device)
        own = backbone.class_features(prompts, tokens)[torch.from_numpy(which.reshape(-1, self.k)).to(backbone.device)]
        shift = self.shift(contexts)
        found: list[tuple[ClientState, Arrays]] = []
        for i, (context, state) in enumerate(zip(contexts, states, strict=True)):
            logits = cosine_logits(context.features, own[i], backbone.logit_scale)
            if shift is not None:
                logits = logits + shift[i]
            every = context.labels.expand(self.k, -1)
            losses = F.cross_entropy(logits.transpose(1, 2), every, reduction="none").mean(1)
            choice = np.array(int(losses.argmin()))
            found.append((state.replace(choice=choice), {"choice": choice}))
        return found

    def local_update(
        self, contexts: Sequence[ClientContext], states: Sequence[ClientState], round_: int
    ) -> list[ClientState]:
        """Gradient steps on the prompt that each client chose, from its common base."""
        fresh = [state.replace(prompt=state[f"{self._slot(state)}.base"]) for state in states]
        trained = CoOpLocal.local_update(self, contexts, fresh, round_)
        return [state.replace(**{self._slot(state): state["prompt"]}) for state in trained]

    def personal_prompt(self, state: ClientState) -> np.ndarray:
        """The prompt that the client chose."""
        return state[self._slot(state)]

    def _slot(self, state: ClientState) -> str:
        return self.slots[int(state["choice"])]
