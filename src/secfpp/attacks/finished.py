"""Membership from what a finished run left: personal prompts and what clients predict with, nothing trained anew.

Nobody dealt halves here, so those who are no members are test images of the client's domain: of each class as many as
there are training images of it, or as many of these as there are test images. They are of another split, and may be
harder or easier for that alone: so each attack is made on the public start prompt too, as a control. Other clients'
prompts, which were not trained on the client's images, stand for shadow prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from secfpp.algorithms.base import FederatedAlgorithm
from secfpp.algorithms.training import ClientContext
from secfpp.attacks.likelihood import Evidence, lira_offline, loss, rmia
from secfpp.attacks.membership import auc
from secfpp.attacks.properties import Property, together
from secfpp.attacks.shadows import log_odds
from secfpp.data.federated import Split
from secfpp.models.pools import look, whole
from secfpp.models.prompt_checks import MEMORY, VISUAL
from secfpp.models.scoring import Visual
from secfpp.runtime.evaluation import class_features, client_logits
from secfpp.seeding import Seed, derive

if TYPE_CHECKING:
    from secfpp.runtime.trainer import RunResult

PROMPT, SHARED, PREDICTIONS = "prompt", "shared prompt", "predictions"
LEAST_PAIRS = 10
"""Fewest training images of a client, each with a test image of its class, that are asked about."""
LEAST_OTHERS = 4
"""Fewest different prompts of other clients that stand for shadow prompts."""
ATTACKS = {"loss": loss, "lira_offline": lira_offline, "rmia_offline": rmia}


@dataclass(frozen=True)
class Scored:
    """What one attack says of a client's images, and of the same images where the start prompt is attacked.

    Attributes:
        attack: its name.
        adversary: who makes it.
        seen: on what.
        scores: float64 [n].
        control: float64 [n].
    """

    attack: str
    adversary: str
    seen: str
    scores: np.ndarray
    control: np.ndarray


def pairs(train: Split, test: Split, seed: Seed) -> tuple[Split, np.ndarray]:
    """Training and test images, equally many of each class, drawn at random; and which are from training, bool [n]."""
    rng, chosen = seed.numpy(), [list[int](), list[int]()]
    for label in np.intersect1d(train.labels, test.labels):
        places = [np.flatnonzero(split.labels == label) for split in (train, test)]
        least = min(map(len, places))
        for found, of in zip(chosen, places, strict=True):
            found += rng.permutation(of)[:least].tolist()
    images = np.concatenate([train.images[chosen[0]], test.images[chosen[1]]])
    labels = np.concatenate([train.labels[chosen[0]], test.labels[chosen[1]]])
    return Split(images, labels), np.arange(len(labels)) < len(chosen[0])


@dataclass(frozen=True)
class Left:
    """What one method left of a run on one seed.

    Attributes:
        result: all of it.
        algorithm: the method.
        contexts: the clients by name, in the order of the result.
        test: domain -> test images.
    """

    result: RunResult
    algorithm: FederatedAlgorithm
    contexts: Mapping[str, ClientContext]
    test: Mapping[str, Split]

    def scored(self, seed: int) -> Iterator[tuple[str, np.ndarray, list[Scored]]]:
        """Each client with enough images, which of those asked about are members, and what attacks say."""
        prompts, contexts = self.result.prompts, list(self.contexts.values())
        shared = bool((prompts == prompts[0]).all())
        texts = {"alone": class_features(contexts, prompts), "all": class_features(contexts, self._levels())}
        plain, priors = class_features(contexts[:1], contexts[0].start[None]), self._priors()
        for place, context in enumerate(contexts):
            asked, inside = pairs(context.data.train, self.test[context.data.domain], derive(seed, "pairs", place))
            if inside.sum() < LEAST_PAIRS:
                continue
            others = self._unseen(context)
            patches = self.algorithm.predictor.patches
            seen = torch.cat([look(context.backbone, split.images, patches) for split in (asked, others)])
            images = whole(seen)
            labels = torch.from_numpy(np.concatenate([asked.labels, others.labels])).to(images.device)
            start = context.backbone.logit_scale * images @ plain[:, 0].transpose(-1, -2)
            found = self._told(
                "thief", SHARED if shared else PROMPT, self._alone(texts["alone"], images), start, labels, place, inside
            )
            predicted = self._predicted(texts["all"], seen) + priors
            found += self._told("querier", PREDICTIONS, predicted, start + priors[place], labels, place, inside)
            yield context.client, inside, found

    def _told(
        self,
        adversary: str,
        seen: str,
        logits: Tensor,
        start: Tensor,
        labels: Tensor,
        place: int,
        inside: np.ndarray,
    ) -> list[Scored]:
        """Attacks on the logits of one of all clients [k, n + m, n_cls], and on those of the start prompt [1, ...]."""
        every = log_odds(logits, labels)
        own, others = every[place], np.unique(np.delete(every, place, 0), axis=0)
        others = others[(others != own).any(1)]
        outside = np.zeros((len(others), len(inside)), bool)
        evidence = [Evidence(one[None], others[:, None], outside) for one in (own, log_odds(start, labels)[0])]
        usable = len(others) >= LEAST_OTHERS
        enough = {"loss": True, "lira_offline": usable, "rmia_offline": usable and len(labels) > len(inside)}
        return [
            Scored(name, adversary, seen, *(attack(one) for one in evidence))
            for name, attack in ATTACKS.items()
            if enough[name]
        ]

    def _levels(self) -> np.ndarray:
        result = self.result
        if result.domain_prompts is None:
            return result.prompts
        return np.stack([result.prompts, result.domain_prompts], axis=1)

    def _alone(self, texts: Tensor, images: Tensor) -> Tensor:
        return next(iter(self.contexts.values())).backbone.logit_scale * images @ texts[:, 0].transpose(-1, -2)

    def _predicted(self, texts: Tensor, seen: Tensor) -> Tensor:
        """Logits [k, n, n_cls] of all clients, of what is `look`ed at of images."""
        visual = None
        if self.result.visual_weights is not None:
            held = (getattr(self.result, name) for name in (*VISUAL, MEMORY))
            visual = Visual(*(torch.from_numpy(array).to(seen.device) for array in held if array is not None))
        return client_logits(list(self.contexts.values()), texts, seen, self.algorithm.predictor, visual)

    def _priors(self) -> Tensor:
        """All clients' log-priors [k, 1, n_cls] beside the model; zeros [k, 1, 1] where predictions use none."""
        device, priors = next(iter(self.contexts.values())).backbone.device, self.result.log_priors
        if priors is None:
            return torch.zeros(len(self.contexts), 1, 1, device=device)
        return torch.from_numpy(priors)[:, None].to(device)

    def _unseen(self, client: ClientContext) -> Split:
        """Validation images of the other clients of its domain, or of all others."""
        others = [c for c in self.contexts.values() if c is not client and len(c.data.validation)]
        near = [c.data.validation for c in others if c.data.domain == client.data.domain] or [
            c.data.validation for c in others
        ]
        empty = client.data.validation.images[:0], client.data.validation.labels[:0]
        images, labels = (
            np.concatenate([first, *(getattr(split, name) for split in near)])
            for first, name in zip(empty, ("images", "labels"), strict=True)
        )
        return Split(images, labels)

    def properties(self) -> list[Property]:
        """What is guessed of clients from what is public: who is together, and how much each sent."""
        truth = dict(zip(self.result.clients, self.result.true_groups, strict=True))
        found = list[Property]()
        if self.result.assignment is not None:
            numbers = dict(zip(self.result.clients, self.result.assignment, strict=True))
            alone = [(client,) for client, number in numbers.items() if number < 0]
            groups = [tuple(c for c, n in numbers.items() if n == number) for number in sorted({*numbers.values()})]
            found.append(together([*(g for g in groups if numbers[g[0]] >= 0), *alone], truth))
        sent = np.array([self.result.costs.up.get(client, 0) for client in self.result.clients], dtype=np.float64)
        sizes = np.array([context.weight for context in self.contexts.values()])
        many = sizes > np.median(sizes)
        if sent.any() and 0 < many.sum() < len(many):
            found.append(Property("more images than half of the clients, by bytes sent", "AUC", auc(sent, many), 0.5))
        return found
