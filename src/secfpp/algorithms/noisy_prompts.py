"""Averages of prompts that are differentially private for all that a client has, as a part of a method.

A client shortens its update to `Privacy.bound`, rounds it to the integers of the codec and adds its part of Skellam
noise, before anything of it is shared (arXiv 2110.04995); all clients weigh alike. An average is one release. The noise
is enough for the fewest members with whom an average is made, less those who may collude. What was averaged may be all
noise, if members are few: each client decides on its own images how far it goes with it (`gate`), and tells nobody.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import torch
from torch.nn import functional as F

from secfpp.algorithms.privacy import Privacy, charge, noted, refused_mechanism, released
from secfpp.algorithms.training import ClientContext
from secfpp.errors import ConfigError, Problem, ProtocolError
from secfpp.models.scoring import cosine_logits
from secfpp.privacy import skellam
from secfpp.privacy.accounting import epsilon
from secfpp.privacy.calibration import Encoding, SharedNoise, calibrate_skellam
from secfpp.privacy.events import Composed, Skellam
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.fields import integer_in
from secfpp.protocol.program import Arrays, Ask, ClientId, ClientState, Program, batched, ending, step
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.secure.means.updates import Base, Mean, base_of, clipped, version_of
from secfpp.secure.session import party_of

if TYPE_CHECKING:
    from secfpp.algorithms.visual import ClassMeans
    from secfpp.privacy.ledger import Terms
    from secfpp.secure.means.aggregator import Aggregator

GATES = (0.0, 0.25, 0.5, 1.0)
"""How far a client may go from the start prompt to the averaged one."""
WORTH_TELLING = 3.0
"""Noise on an average, in clips, above which an average is hardly of use."""
TAIL = 1e-12
"""Probability with which a client's noise is longer than the room that is left for it; it is shortened then."""
_COVERS = "average of prompts"


@lru_cache(maxsize=64)
def planned(privacy: Privacy, bits: int, size: int) -> Skellam:
    """One release of a sum of prompts with `size` numbers; `Privacy.releases` of them cost `Privacy.epsilon`.

    Args:
        privacy: the settings.
        bits: of the codec.
        size: numbers in a prompt.

    Raises:
        ConfigError: bits with which the noise cannot be drawn exactly.
        PrivacyError: no noise that can be made is enough.
        MissingExtraError: dp-accounting is not installed.
    """
    encoding = Encoding(privacy.bound, bits, size)
    l1, l2 = encoding.norms
    try:
        asked = privacy.epsilon, privacy.delta, privacy.releases
        found = calibrate_skellam(*asked, encoding, SharedNoise(1, 1, 0), unit=privacy.hides)
    except ConfigError as error:
        raise ConfigError([Problem(f"aggregator.{p.key}", p.value, p.allowed) for p in error.problems]) from error
    return Skellam(covers=_COVERS, unit=privacy.hides, l1=l1, l2=l2, variance=found.variance)


@dataclass(frozen=True, kw_only=True)
class AveragesPrompts:
    """The part of a method that averages the prompt in the slot `averaged`; needs its fields `aggregator`.

    With noise, what a client trained waits in ``SLOT.trained`` until it is released, and the slot holds the base, so
    that nothing without noise can be shared; ``SLOT.least`` is for how many members it was released. ``gate`` is how
    far the client goes from ``start`` to the averaged prompt, and ``gate.version`` for which base that was chosen.

    Attributes:
        privacy: what noise hides in the averages.
    """

    averaged: ClassVar[str] = "prompt"
    mechanisms: ClassVar[tuple[str, ...]] = ("none", "prompts")

    if TYPE_CHECKING:
        aggregator: Aggregator
        class_means: ClassMeans
        class_prior: bool
        prior_smoothing: float

        def planned(self, rounds: int) -> int:
            """See `secfpp.algorithms.base.FederatedAlgorithm.planned`."""

    privacy: Privacy = field(default_factory=Privacy)

    def averaging_problems(self) -> list[Problem]:
        """What is wrong with these settings."""
        problems = refused_mechanism(self.privacy, self.mechanisms)
        if not self.privacy.of_prompts:
            return problems
        given = "with privacy.mechanism = prompts"
        if not isinstance(self.aggregator, SecureMean):
            allowed = f"secure {given}: who sees each part of the noise sees too little"
            problems.append(Problem("aggregator.kind", self.aggregator.kind, allowed))
        if self.class_means.shared:
            allowed = f'"own" or "none" {given}: class sums would be shared without noise'
            problems.append(Problem("class_means.levels", self.class_means.levels, allowed))
        clusterer = getattr(self, "clusterer", None)
        if clusterer is not None and clusterer.kind not in ("one", "random", "oracle"):
            allowed = f"one or random {given} (oracle in simulations): groups would be found from what is without noise"
            problems.append(Problem("clusterer.kind", clusterer.kind, allowed))
        if getattr(self, "cluster_every", 0):
            allowed = f"0 {given}: averages of other groups count from another base"
            problems.append(Problem("cluster_every", getattr(self, "cluster_every", 0), allowed))
        if getattr(self, "joint", False):
            allowed = f"false {given}: the local part would be trained on noise that no gate has passed"
            problems.append(Problem("joint", True, allowed))
        return problems

    @property
    def privacy_terms(self) -> Terms | None:
        """See `secfpp.algorithms.base.FederatedAlgorithm.privacy_terms`."""
        return self.privacy.terms

    def averages(self, rounds: int) -> int:
        """How many averages of prompts a run of so many rounds makes."""
        return self.planned(rounds)

    def for_rounds(self, rounds: int) -> Self:
        """See `secfpp.algorithms.base.FederatedAlgorithm.for_rounds`: noise is for no more releases than there are."""
        if not (self.privacy.of_prompts or self.privacy.of_steps):
            return self
        return replace(self, privacy=replace(self.privacy, releases=self.averages(rounds)))

    @property
    def beside_prompts(self) -> tuple[str, ...]:
        """What leaves a client beside averages with noise and depends on its images, in words."""
        oracle = getattr(getattr(self, "clusterer", None), "kind", "") == "oracle"
        return ("numbers of images", *["partition"] * oracle)

    def noise_state(self, context: ClientContext) -> ClientState:
        """What a client begins with under differential privacy, else nothing; its gate is closed.

        Raises:
            ConfigError: noise that does not fit into what an average takes.
        """
        if not self.privacy.of_prompts:
            return ClientState()
        self._require_room(context.start.size)
        return ClientState({"start": context.start, "gate": np.array(0.0), "gate.version": np.array(-1)})

    def _require_room(self, size: int) -> None:
        mean = self._secure
        for bits in range(mean.bits, -1, -1):
            try:
                needed = self._needed(size, bits)
                replace(mean, clip=max(needed, mean.clip), bits=bits)
            except ConfigError:
                continue
            if bits == mean.bits and needed <= mean.clip:
                return
            allowed = (
                f"clip {needed:g} or more and {bits} bits at most: so long an update is with its noise, if an average "
                f"may be of aggregator.min_responders = {mean.min_responders}"
            )
            raise ConfigError([Problem("aggregator.clip, bits", (mean.clip, mean.bits), allowed)])
        raise ConfigError([Problem("privacy.epsilon", self.privacy.epsilon, "more: no average takes so much noise")])

    def _needed(self, size: int, bits: int) -> float:
        """How long an update can be with its noise."""
        part = self._part(size, self._secure.min_responders, bits)
        noise = (skellam.longest(part, size, TAIL) + math.sqrt(size) / 2) * 2.0**-bits
        return float(math.ceil(self.privacy.bound + noise))

    def forewarn(self, clients: int, numbers: int) -> str:
        """See `secfpp.algorithms.base.FederatedAlgorithm.forewarn`: noise that is longer than what it hides."""
        if not self.privacy.of_prompts:
            return ""
        members = clients // getattr(getattr(self, "clusterer", None), "k", 1)
        ratio = self.noise_in_clips(members, numbers)
        if ratio <= WORTH_TELLING:
            return ""
        enough = members
        while self.noise_in_clips(enough, numbers) > WORTH_TELLING:
            enough += max(1, enough // 20)
        release = planned(self.privacy, self._secure.bits, numbers)
        less = replace(release, variance=release.variance * (WORTH_TELLING / ratio) ** 2)
        about = {"covers": _COVERS, "unit": less.unit, "events": (less,), "times": self.privacy.releases}
        cost = epsilon([Composed(**about)], self.privacy.delta)  # type: ignore[arg-type]
        return (
            f"at privacy.epsilon = {self.privacy.epsilon:g}, noise on an average of {members} clients is {ratio:.0f} "
            f"times as long as the longest update: sharing is not likely to pay, and most clients will keep the start "
            f"prompt. About {enough} clients in one would do, or epsilon {cost:.0f}, or mechanism class_means of "
            f"secfpp, which hides single images"
        )

    def noise_in_clips(self, members: int, numbers: int) -> float:
        """Root mean square length of the noise on an average of so many members, over that of the longest update."""
        part = self._part(numbers, self._least(members))
        return self._secure.codec.step * math.sqrt(numbers * part / members) / self.privacy.bound

    def prompt_mean(
        self, cohort: Cohort, known: Base | None = None, group: Collection[ClientId] | None = None
    ) -> Program[Mean]:
        """Average the prompt, see `Aggregator.mean`, at the end of a round, but for `ask_to_gate`.

        If that is to be with noise, all weigh alike.
        """
        if not self.privacy.of_prompts:
            return (yield from ending(self.aggregator.mean(cohort, self.averaged, known, group), "aggregator.receive"))
        least = self._least(len(cohort))
        about = {"round": np.array(cohort.round), "least": np.array(least)}
        released_ = yield Ask("method.release", dict.fromkeys(cohort.clients, about))
        alike = replace(cohort, weights=dict.fromkeys(released_, 1))
        return (yield from replace(self._secure, min_responders=least).mean(alike, self.averaged, known, group))

    def ask_to_gate(self, clients: Iterable[ClientId]) -> Program[None]:
        """Let clients choose how far they go with the averaged prompt, if it has noise."""
        if self.privacy.of_prompts:
            yield Ask("method.gate", {client: {} for client in sorted(clients)})

    def held_back(self, state: ClientState) -> ClientState:
        """The state of a client that has trained its prompt, which is not to be shared without noise."""
        if not self.privacy.of_prompts:
            return state
        slot = self.averaged
        return state.replace(**{f"{slot}.trained": state[slot], slot: base_of(state, slot).copy()})

    @step
    def release(self, context: ClientContext, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Put the trained update, shortened and with noise, where it is averaged; replies nothing."""
        return self.release_many([context], [state], [payload])[0]

    @batched(release)
    def release_many(
        self, contexts: Sequence[ClientContext], states: Sequence[ClientState], payloads: Sequence[Arrays]
    ) -> list[tuple[ClientState, Arrays]]:
        """`release` for several clients, of one ledger, in one entry for each round: it is written down first.

        Raises:
            ProtocolError: nothing was trained since the last release, all planned releases are made, or so few members
                are named that there is no average.
            PrivacyError: there is no ledger, or the budget of a client does not allow the release.
        """
        asked = [(integer_in(p, "round"), integer_in(p, "least")) for p in payloads]
        for state, (_, least) in zip(states, asked, strict=True):
            self._require_due(state, least)
        event = planned(self.privacy, self._secure.bits, base_of(states[0], self.averaged).size)
        for round_ in sorted({round_ for round_, _ in asked}):
            own = [context for context, (asked_round, _) in zip(contexts, asked, strict=True) if asked_round == round_]
            charge(own, event, round_)
        return [
            (self._noisy(context, noted(state, round_, event), least), {})
            for context, state, (round_, least) in zip(contexts, states, asked, strict=True)
        ]

    def _require_due(self, state: ClientState, least: int) -> None:
        if not self.privacy.of_prompts or f"{self.averaged}.trained" not in state:
            raise ProtocolError("asked to release an update that was not trained since the last release")
        if len(released(state)) >= self.privacy.releases:
            raise ProtocolError(f"asked for a release after all {self.privacy.releases} of this run (privacy.releases)")
        if least < self.aggregator.min_responders:
            insists = self.aggregator.min_responders
            raise ProtocolError(f"asked for noise for {least} members, this client insists on {insists}")

    def _noisy(self, context: ClientContext, state: ClientState, least: int) -> ClientState:
        slot, scale = self.averaged, self._secure.codec.step
        base = base_of(state, slot).astype(np.float64)
        update = clipped(state[f"{slot}.trained"].astype(np.float64) - base, self.privacy.bound)
        part = self._part(base.size, least)
        integers = np.rint(update / scale).astype(np.int64) + skellam.noise(part, base.shape, party_of(context).entropy)
        kept = {name: array for name, array in state.arrays.items() if name != f"{slot}.trained"}
        # in float64, so that the codec finds these very integers in what is left without the base
        return ClientState({**kept, slot: base + integers * scale, f"{slot}.least": np.array(least)})

    @step
    def gate(self, context: ClientContext, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Choose how far to go with the averaged prompt; replies nothing."""
        return self.gate_many([context], [state], [payload])[0]

    @batched(gate)
    def gate_many(
        self, contexts: Sequence[ClientContext], states: Sequence[ClientState], payloads: Sequence[Arrays]
    ) -> list[tuple[ClientState, Arrays]]:
        """`gate` for several clients: that under which its validation images are likeliest, else its training images.

        Of gates that are as good, the smallest. Nothing is computed again as long as the base is the same.
        """
        gates = np.array(GATES, np.float32)[:, None, None]
        found: list[tuple[ClientState, Arrays]] = []
        for context, state in zip(contexts, states, strict=True):
            version = version_of(state, self.averaged)
            if int(state["gate.version"]) != version:
                start = state["start"]
                prompts = torch.from_numpy(start + gates * (self.ungated(state) - start)).to(context.backbone.device)
                state = state.replace(gate=np.array(GATES[self._likeliest(context, prompts)]))
            found.append((state.replace(**{"gate.version": np.array(version)}), {}))
        return found

    def _likeliest(self, context: ClientContext, prompts: torch.Tensor) -> int:
        """Which of `prompts` [n, n_ctx, text_dim] makes the client's images likeliest."""
        validation = context.data.validation.labels
        features = context.validation_features if len(validation) else context.features
        labels = torch.from_numpy(validation).to(features.device) if len(validation) else context.labels
        with torch.no_grad():
            texts = context.backbone.class_features(prompts, context.tokens)
        logits = cosine_logits(features, texts, context.backbone.logit_scale)
        if self.class_prior:
            logits = logits + torch.from_numpy(context.log_prior(self.prior_smoothing)).to(logits.device)
        every = labels.expand(len(logits), -1)
        return int(F.cross_entropy(logits.transpose(1, 2), every, reduction="none").mean(1).argmin())

    def ungated(self, state: ClientState) -> np.ndarray:
        """The averaged prompt as it is, float32 [n_ctx, text_dim]."""
        return state[f"{self.averaged}.base"]

    def gated(self, state: ClientState) -> np.ndarray:
        """The averaged prompt as the client uses it: with noise, as far as its gate is open for this base."""
        prompt = self.ungated(state)
        if not self.privacy.of_prompts:
            return prompt
        start, known = state["start"], int(state["gate.version"]) == version_of(state, self.averaged)
        opened: np.ndarray = start + np.float32(state["gate"] if known else 0.0) * (prompt - start)
        return opened

    def _least(self, members: int) -> int:
        """Fewest of so many members with whom an average is made."""
        return max(self.aggregator.min_responders, math.ceil(self.privacy.present * members))

    def _part(self, size: int, least: int, bits: int | None = None) -> float:
        """Variance of each member's part of the noise, in squared steps, where those who may collude know theirs."""
        release = planned(self.privacy, self._secure.bits if bits is None else bits, size)
        return release.variance / (least - self.aggregator.colluding)

    @property
    def _secure(self) -> SecureMean:
        assert isinstance(self.aggregator, SecureMean)
        return self.aggregator
