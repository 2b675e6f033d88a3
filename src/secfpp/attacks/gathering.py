"""Evidence for the membership game: what each adversary saw of a run, beside what shadow prompts would have shown.

What takes long, training shadow prompts, depends on one client at a time and is kept in files, so that an audit that
was stopped goes on. Files are named by all that they depend on: methods that differ in what is sealed share them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from secfpp.algorithms.sharing import EVERYBODY, GROUP
from secfpp.algorithms.training import ClientContext
from secfpp.attacks.game import Game, halves
from secfpp.attacks.likelihood import Evidence
from secfpp.attacks.observed import Observed, averaged_rounds, averaged_slot
from secfpp.attacks.shadows import Pool, confidences, log_odds, take_steps
from secfpp.attacks.views import Upload, held_uploads, uploads, weights
from secfpp.data.federated import Split
from secfpp.models.backbone import Backbone
from secfpp.protocol.program import ClientState
from secfpp.runtime.evaluation import class_features, client_logits
from secfpp.secure.means.updates import clipped, rebased, version_of
from secfpp.seeding import derive
from secfpp.storage import cached_arrays

SUMS = (EVERYBODY, GROUP)
"""How slots of shared class sums begin, which clients predict with."""
POPULATION = 200
"""Images that nobody trained on, for attacks that compare with such."""


@dataclass(frozen=True)
class Shadows:
    """How shadow prompts are made.

    Attributes:
        count: of each client, an even number.
        backbone: the model that they are trained with; one of less precision is faster and finds the same.
        folder: where they are kept.
    """

    count: int
    backbone: Backbone
    folder: Path


@dataclass(frozen=True)
class Victim:
    """One client of a run whose images are asked about."""

    run: Observed
    game: Game
    client: str
    seed: int
    shadows: Shadows

    @cached_property
    def pool(self) -> Pool:
        """Its images, and the halves that shadows train on."""
        images, context = self.game.pools[self.client], self.run.contexts[self.client]
        drawn = halves(len(images), self.shadows.count, derive(self.seed, "shadows", self.client))
        return Pool(context, images, context.backbone.features(images.images), drawn)

    @property
    def inside(self) -> np.ndarray:
        """Which of its images are members, bool [n]: what attacks are to find."""
        return self.game.members[self.client]

    @cached_property
    def asked(self) -> tuple[Tensor, Tensor]:
        """Features and labels of its images, and behind them of some that nobody trains on."""
        others = _population(self.run, self.client, self.seed)
        features = torch.cat([self.pool.features, self.pool.context.backbone.features(others.images)])
        return features, torch.cat([self.pool.labels, torch.from_numpy(others.labels).to(features.device)])

    @property
    def averages(self) -> list[int]:
        """The rounds in which it gave an update and got an average."""
        return averaged_rounds(self.run, self.client)

    @cached_property
    def updates(self) -> Mapping[str, np.ndarray]:
        """Of shadows in each of these rounds, from the base of the run.

        ``updates`` float32 [shadows, rounds, n_ctx, text_dim], ``log_odds`` of images under base and update
        float64 [shadows, rounds, n + m].
        """
        return self._kept("updates", [self._base(r) for r in self.averages], lambda: self._trained(self.averages))

    @cached_property
    def finished(self) -> Mapping[str, np.ndarray]:
        """Of shadows that took all steps of the client after the last average, from what it held then.

        ``prompt`` and ``predictions``: log-odds of images under the personal prompt alone, and under all that the
        client predicts with, float64 [shadows, n + m]. Empty if the client took no steps since then.
        """
        held = sorted(self.run.states[self._last][self.client].arrays.items())
        learned = [array for _, array in held if array.dtype.kind == "f"]  # the rest is of how averages are made
        return self._kept("finished", learned, self._finish) if self._closing else {}

    def prepare(self) -> bool:
        """Train all shadow prompts that attacks need, or find them kept; whether any were trained."""
        kept = set(self.shadows.folder.glob("*.safetensors"))
        if self.averages:
            _ = self.updates
        _ = self.finished
        return set(self.shadows.folder.glob("*.safetensors")) != kept

    def uploaded(self) -> tuple[Evidence, bool] | None:
        """What the server reads from uploads of prompts, and whether from sealed bytes; None if there are none."""
        return self._read(uploads(self.run, self.client))

    def held(self) -> Evidence | None:
        """What T holders of shares read of the same uploads; None if there are none."""
        found = self._read(held_uploads(self.run, self.client))
        return found and found[0]

    def averaged(self, others: Mapping[str, Victim]) -> Evidence | None:
        """What a member of the client's group sees: the averages, of which it knows its own part.

        Args:
            others: all victims by name.

        Returns:
            None if the client has no partner, or not all partners are among the victims.
        """
        group = next(group for group in self.run.groups if self.client in group)
        if len(group) < 2 or not self.averages or not set(group) <= others.keys():
            return None
        attacker = group[(group.index(self.client) + 1) % len(group)]
        counts = weights(self.run, self.client)
        means, seen = [], []
        for place, r in enumerate(self.averages):
            total = sum(counts[r].values())
            parts = [
                counts[r][name] / total * others[name].updates["updates"][:, place]
                for name in group
                if name != attacker
            ]
            own = counts[r][attacker] / total * others[attacker].own_update(r)
            means.append(self._base(r) + own + np.sum(parts, axis=0))
            seen.append(self.run.states[r][self.client][f"{self._slot}.base"])
        shadows = np.stack([self._log_odds(prompts) for prompts in means], axis=1)
        return Evidence(self._log_odds(np.stack(seen)), shadows, self.pool.halves)

    def of_one(self, round_: int, update: np.ndarray) -> Evidence:
        """What an attacker has who made out an update of one round, however well, float64 [n_ctx, text_dim]."""
        base = self._base(round_)
        made = self._kept(f"update-{round_}", [base], lambda: self._trained([round_]))
        observed = self._log_odds((base + clipped(update, self._clip))[None])
        return Evidence(observed, made["log_odds"], self.pool.halves)

    def own_update(self, round_: int) -> np.ndarray:
        """The update that the client gave in a round, as it knows itself, float64 [n_ctx, text_dim]."""
        given = self.run.memory.of(self._slot, self.client)
        return clipped(given.get(round_, np.zeros_like(self._base(round_))), self._clip)

    def stolen(self) -> Evidence | None:
        """What a thief of the client's prompt has: its vectors. None if they are those of an average."""
        if not self.finished:
            return None
        prompt = self.run.algorithm.personal_prompt(self.run.states[-1][self.client])
        return Evidence(self._log_odds(prompt[None]), self.finished["prompt"][:, None], self.pool.halves)

    def queried(self) -> Evidence | None:
        """What the client predicts about each image, asked once: probabilities of classes; None as for `stolen`."""
        if not self.finished:
            return None
        observed = self._predicted([self.pool.context], [self.run.states[-1][self.client]])
        return Evidence(observed, self.finished["predictions"][:, None], self.pool.halves)

    @property
    def _slot(self) -> str:
        slot = averaged_slot(self.run)
        assert slot is not None
        return slot

    @property
    def _last(self) -> int:
        return max(self.averages, default=0)

    @property
    def _closing(self) -> list[int]:
        """The rounds after the last average in which the client trained."""
        later = range(self._last + 1, self.run.rounds + 1)
        return [r for r in later if self.run.trained_by(self.client, r)]

    def _base(self, round_: int) -> np.ndarray:
        base: np.ndarray = self.run.states[round_ - 1][self.client][f"{self._slot}.base"].astype(np.float64)
        return base

    def _clipped(self, trained: ClientState, round_: int) -> np.ndarray:
        return clipped(trained[self._slot].astype(np.float64) - self._base(round_), self._clip)

    @property
    def _clip(self) -> float:
        clip: float = self.run.algorithm.aggregator.clip  # type: ignore[attr-defined]
        return clip

    def _read(self, read: Sequence[Upload]) -> tuple[Evidence, bool] | None:
        found = {upload.round: upload for upload in read}
        rounds = [r for r in self.averages if r in found]
        if not rounds or rounds != self.averages:
            return None
        prompts = np.stack([self._base(r) + found[r].update for r in rounds])
        return Evidence(self._log_odds(prompts), self.updates["log_odds"], self.pool.halves), found[rounds[0]].sealed

    def _log_odds(self, prompts: np.ndarray) -> np.ndarray:
        return confidences(self.pool.context, prompts, *self.asked)

    def _trained(self, rounds: Sequence[int]) -> dict[str, np.ndarray]:
        algorithm, contexts = self.run.algorithm, list(self.pool.shadows(self.shadows.backbone))
        fresh, found, odds = [algorithm.client_state(context) for context in contexts], [], []
        for r in rounds:
            version = version_of(self.run.states[r - 1][self.client], self._slot)
            base = self._base(r).astype(np.float32)
            starts = [rebased(state, self._slot, base, version) for state in fresh]
            trained = take_steps(algorithm, contexts, starts, self.run.trained_by(self.client, r))
            found.append(np.stack([self._clipped(state, r) for state in trained]))
            odds.append(self._log_odds(self._base(r) + found[-1]))
        return {"updates": np.stack(found, axis=1).astype(np.float32), "log_odds": np.stack(odds, axis=1)}

    def _finish(self) -> dict[str, np.ndarray]:
        steps = [step for r in self._closing for step in self.run.trained_by(self.client, r)]
        sums = {slot: array for slot, array in self.run.states[-1][self.client].arrays.items() if slot.startswith(SUMS)}
        start = self.run.states[self._last][self.client].replace(**sums)
        fast = list(self.pool.shadows(self.shadows.backbone))
        trained = take_steps(self.run.algorithm, fast, [start] * len(fast), steps)
        prompts = np.stack([self.run.algorithm.personal_prompt(state) for state in trained])
        exact = list(self.pool.shadows())
        return {"prompt": self._log_odds(prompts), "predictions": self._predicted(exact, trained)}

    def _predicted(self, contexts: Sequence[ClientContext], states: Sequence[ClientState]) -> np.ndarray:
        """Log-odds of images under all that clients predict with, float64 [k, n + m]."""
        algorithm, (features, labels), found = self.run.algorithm, self.asked, []
        for context, state in zip(contexts, states, strict=True):
            texts = class_features([context], algorithm.prompts(state)[None])
            logits = client_logits(
                [context], texts, features, algorithm.predictor, algorithm.visual(context, state, texts)
            )
            if algorithm.class_prior:
                logits = logits + torch.from_numpy(context.log_prior(algorithm.prior_smoothing)).to(logits.device)
            found.append(log_odds(logits, labels))
        return np.concatenate(found)

    def _kept(
        self, what: str, start: Sequence[np.ndarray], make: Callable[[], dict[str, np.ndarray]]
    ) -> Mapping[str, np.ndarray]:
        """Arrays that follow from where shadows start, kept under a name that says all they depend on."""
        digest = sha256(repr((self.seed, self.client, self.shadows.count, self.shadows.backbone.spec.digest)).encode())
        algorithm = self.run.algorithm
        parts = {n: v for n, v in vars(algorithm).items() if n not in ("clusterer", "aggregator", "poll")}
        digest.update(repr((algorithm.name, parts, self.averages, self._closing)).encode())
        for array in (self.pool.halves, self.inside, *start):
            digest.update(np.ascontiguousarray(array).tobytes())
        return cached_arrays(self.shadows.folder / f"{what}-{digest.hexdigest()[:24]}.safetensors", make)


def _population(run: Observed, client: str, seed: int) -> Split:
    """Validation images of other clients of the same true group, or of all others: at most `POPULATION`."""
    own = run.contexts[client]
    others = [context for name, context in run.contexts.items() if name != client and len(context.data.validation)]
    near = [context for context in others if context.group == own.group] or others
    images = np.concatenate([context.data.validation.images for context in near])
    labels = np.concatenate([context.data.validation.labels for context in near])
    chosen = derive(seed, "population", client).numpy().permutation(len(labels))[:POPULATION]
    return Split(images[chosen], labels[chosen])
