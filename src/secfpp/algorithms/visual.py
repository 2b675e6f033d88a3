"""Class means as a part of a method: which levels it uses, and how much they count beside its prompts.

How a client weighs its class means against its prompts is its own affair: it takes the weights under which its
validation images are most likely, and tells nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from secfpp.algorithms.training import ClientContext
from secfpp.errors import ConfigError, Problem
from secfpp.models.class_means import ClassSums, Scatter, linear
from secfpp.models.scoring import Predictor, Visual, familiar_classes, level_logits, redistributed

TEXT_WEIGHTS = (0.0, 0.25, 0.5, 1.0)
VISUAL_WEIGHTS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0)
UNKNOWN = (0.5, 0.1)
"""The weights of prompts and class means of a client without validation images."""
AT_ONCE = 2**18
"""Logits computed at once where many clients are weighed: what they need stays in a processor's cache."""


@dataclass(frozen=True, kw_only=True)
class ClassMeans:
    """Class means of image features beside prompts, see `secfpp.models.class_means`.

    Attributes:
        levels: ``none``; ``own``: the client's alone, and nothing is sent; ``all``: everybody's and its own; ``group``:
            everybody's, its group's and its own.
        min_holders: fewest clients that must have images of a class for its sum to be shared, in a group or by all; of
            other classes a level has nothing.
        centre_pull: images of the overall mean that everybody's class means are pulled by.
        group_pull: images of everybody's mean that a group's are pulled by.
        own_pull: images of its group's mean that a client's are pulled by; without shared levels, of its overall mean.
        style_pull: images that hold a client's style, which shifts all shared means alike, at nothing.
        shrinkage: least weight of a round covariance, 0..1.
        images: most images of a client that count fully in shared sums; those of one with more count less.
    """

    levels: Literal["none", "own", "all", "group"] = "none"
    min_holders: int = 3
    centre_pull: float = 4.0
    group_pull: float = 8.0
    own_pull: float = 8.0
    style_pull: float = 16.0
    shrinkage: float = 0.1
    images: int = 500

    def __post_init__(self) -> None:
        problems = [
            Problem(f"class_means.{name}", getattr(self, name), "must be positive")
            for name in ("centre_pull", "group_pull", "own_pull", "style_pull")
            if not getattr(self, name) > 0
        ]
        if self.min_holders < 2:
            problems.append(Problem("class_means.min_holders", self.min_holders, "at least 2: one's own is no secret"))
        if not 0 < self.shrinkage <= 1:
            problems.append(Problem("class_means.shrinkage", self.shrinkage, "above 0 and at most 1"))
        if self.images < 1:
            problems.append(Problem("class_means.images", self.images, "at least 1"))
        if problems:
            raise ConfigError(problems)

    @property
    def shared(self) -> bool:
        """Whether clients share sums."""
        return self.levels in ("all", "group")

    def scorer(
        self,
        context: ClientContext,
        levels: int,
        everybody: ClassSums | None = None,
        group: ClassSums | None = None,
        scatter: Scatter | None = None,
    ) -> Visual:
        """Unweighted scores for each level of the client's prompts: the personal one, then the domain's.

        Args:
            context: the client's.
            levels: 1 or 2.
            everybody: the sums of all clients, if they are shared.
            group: those of its group.
            scatter: of all clients; its own by default.
        """
        features, labels = context.features.cpu().numpy(), context.data.train.labels
        own = ClassSums.of(features, labels, len(context.tokens.names))
        if everybody is None:
            precision = Scatter.of(features, labels, own).precision(self.shrinkage)
            domain = personal = own.means(own.centre, self.own_pull)
        else:
            assert scatter is not None
            precision = scatter.precision(self.shrinkage)
            domain = self.shared_means(everybody, group, precision)
            domain = domain + own.style(domain, self.style_pull)
            personal = own.means(domain, self.own_pull)
        scores = [linear(means, precision) for means in (personal, domain)[:levels]]
        weights, bias = (np.stack(part).astype(np.float32)[None] for part in zip(*scores, strict=True))
        return Visual(torch.from_numpy(weights), torch.from_numpy(bias), torch.ones(bias.shape[:2])).to(
            context.backbone.device
        )

    def shared_means(
        self, everybody: ClassSums, group: ClassSums | None, precision: np.ndarray | None = None
    ) -> np.ndarray:
        """Class means [n_cls, dim] of the group, or of everybody without one; see `ClassSums.means`."""
        means = everybody.means(everybody.centre, self.centre_pull, precision)
        return means if group is None else group.means(means, self.group_pull, precision)


def weighed(context: ClientContext, texts: Tensor, scorer: Visual, predictor: Predictor) -> Visual:
    """`all_weighed` of one client."""
    return all_weighed([context], texts, scorer, predictor)


def all_weighed(contexts: Sequence[ClientContext], texts: Tensor, scorer: Visual, predictor: Predictor) -> Visual:
    """`scorer` with the weights under which each client's validation images are most likely.

    The domain level is weighed first, by what it makes of them alone: it has to do for classes that the client does not
    know. Then the personal one, by what both make of them together. The domain level has shared class means, or, if
    that makes the images likelier in the end, the client's own as well: others may be of no use to it.

    Args:
        contexts: the k clients; each is weighed by its own images alone.
        texts: their prompts' class features, float [k, levels, n_cls, projection].
        scorer: their unweighted scores.
        predictor: how they predict.
    """
    k, levels, n_classes = scorer.bias.shape
    chosen = torch.tensor(UNKNOWN, device=texts.device).repeat(k, levels, 1)
    source = torch.full((k,), levels - 1, device=texts.device)
    for images, clients in by_images(contexts).items():
        pairs = images * n_classes * len(TEXT_WEIGHTS) * len(VISUAL_WEIGHTS)
        for some in torch.tensor(clients, device=texts.device).split(max(1, AT_ONCE // pairs)):
            own = [contexts[i] for i in some.tolist()]
            chosen[some], source[some] = _likeliest_weights(own, texts[some], scorer[some], predictor)
    text, visual = chosen.unbind(-1)  # [k, levels]
    clients_, of = torch.arange(k, device=texts.device)[:, None], F.pad(source[:, None], (1, 0))[:, :levels]
    weights, bias = scorer.weights[clients_, of], scorer.bias[clients_, of]
    return Visual(visual[..., None, None] * weights, visual[..., None] * bias, text)


def by_images(contexts: Sequence[ClientContext]) -> dict[int, list[int]]:
    """Positions of the clients by how many validation images they have, of those who have some."""
    found: dict[int, list[int]] = {}
    for i, context in enumerate(contexts):
        if images := len(context.data.validation.labels):
            found.setdefault(images, []).append(i)
    return found


def _likeliest_weights(
    contexts: Sequence[ClientContext], texts: Tensor, scorer: Visual, predictor: Predictor
) -> tuple[Tensor, Tensor]:
    """Weights of prompts and class means [k, levels, 2], and whose class means the domain level has [k].

    Args: as for `all_weighed`, of k clients with equally many validation images.
    """
    device, backbone, pool = texts.device, contexts[0].backbone, predictor.pool
    labels = torch.from_numpy(np.stack([c.data.validation.labels for c in contexts])).to(device)
    images = torch.stack([c.validation_features for c in contexts])[:, None]  # [k, 1, n, projection]
    seen = torch.stack([c.validation_looks for c in contexts]) if predictor.patches else images[:, 0]
    prompts = level_logits(seen if pool else images, texts, backbone.logit_scale, pool=pool)  # [k, levels, n, n_cls]
    scores = level_logits(images, scorer.weights, 1.0) + scorer.bias[..., None, :]
    priors = torch.from_numpy(np.stack([c.log_prior(predictor.smoothing) for c in contexts])).to(device)
    prior = priors[:, None, None] * predictor.class_prior
    pairs = torch.tensor([(a, b) for a in TEXT_WEIGHTS for b in VISUAL_WEIGHTS if a or b], device=device)
    text, visual = pairs.T[..., None, None]  # [pairs, 1, 1]
    personal = text * prompts[:, :1] + visual * scores[:, :1]  # [k, pairs, n, n_cls]
    if scorer.bias.shape[1] == 1:
        return pairs[likeliest(personal + prior, labels)[1]][:, None], torch.zeros_like(labels[:, 0])
    known = [familiar_classes(c.histogram, predictor.familiar_share) for c in contexts]
    familiar = torch.from_numpy(np.stack(known)).to(device)[:, None]
    tried = []
    for candidate in (1, 0):
        domain = text * prompts[:, 1:] + visual * scores[:, candidate, None]
        _, best = likeliest(domain + prior, labels)
        picked = domain[torch.arange(len(best), device=device), best][:, None]
        both = redistributed(picked, personal, familiar, predictor.trust)
        loss, own = likeliest(both + prior, labels)
        tried.append((loss, pairs[torch.stack([own, best], dim=1)]))
    (shared_loss, shared), (own_loss, alone) = tried
    first = ~(own_loss < shared_loss)
    return torch.where(first[:, None, None], shared, alone), first.long()


def likeliest(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The least loss of `labels` [..., n] under logits [..., m, n, n_cls], and its place among the m: both [...]."""
    every = labels[..., None, :].expand(logits.shape[:-1])
    losses = F.cross_entropy(logits.flatten(0, -3).transpose(1, 2), every.flatten(0, -2), reduction="none")
    loss, place = losses.view(every.shape).mean(-1).min(-1)
    return loss, place
