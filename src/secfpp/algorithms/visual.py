"""Class means as a part of a method: which levels it uses, and how much they count beside its prompts.

How a client weighs its class means against its prompts is its own affair: it takes the weights under which its
validation images are most likely, and tells nobody.
"""

from __future__ import annotations

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
    """`scorer` with the weights under which the client's validation images are most likely.

    The domain level is weighed first, by what it makes of them alone: it has to do for classes that the client does not
    know. Then the personal one, by what both make of them together. The domain level has shared class means, or, if
    that makes the images likelier in the end, the client's own as well: others may be of no use to it.

    Args:
        context: the client's.
        texts: its prompts' class features, float [1, levels, n_cls, projection].
        scorer: unweighted scores of this one client.
        predictor: how it predicts.
    """
    levels, device = len(scorer.bias[0]), texts.device
    chosen, source = torch.tensor([UNKNOWN] * levels, device=device), levels - 1
    labels = torch.from_numpy(context.data.validation.labels).to(device)
    if len(labels):
        images = context.validation_features
        seen = context.validation_looks if predictor.patches else images
        prompts = level_logits(seen, texts, context.backbone.logit_scale, pool=predictor.pool)[0]
        scores = (level_logits(images, scorer.weights, 1.0) + scorer.bias[..., None, :])[0]
        prior = torch.from_numpy(context.log_prior(predictor.smoothing)).to(device) * predictor.class_prior
        pairs = torch.tensor([(a, b) for a in TEXT_WEIGHTS for b in VISUAL_WEIGHTS if a or b], device=device)
        text, visual = pairs.T[..., None, None]  # [pairs, 1, 1]
        personal = text * prompts[0] + visual * scores[0]  # [pairs, n, n_cls]
        if levels == 1:
            chosen[0] = pairs[likeliest(personal + prior, labels)[1]]
        else:
            familiar = torch.from_numpy(familiar_classes(context.histogram, predictor.familiar_share)).to(device)[None]
            least = torch.inf
            for candidate in (1, 0):
                domain = text * prompts[1] + visual * scores[candidate]
                _, best = likeliest(domain + prior, labels)
                both = redistributed(domain[best].expand_as(personal), personal, familiar, predictor.trust)
                loss, own = likeliest(both + prior, labels)
                if loss < least:
                    least, source, chosen = loss, candidate, pairs[[own, best]]
    text, visual = chosen.T[:, None]  # [1, levels]
    of = [0, source][:levels]
    return Visual(visual[..., None, None] * scorer.weights[:, of], visual[..., None] * scorer.bias[:, of], text)


def likeliest(logits: Tensor, labels: Tensor) -> tuple[float, int]:
    """The least loss of `labels` [n] under logits [m, n, n_cls], and its place in the first axis."""
    every = labels.expand(len(logits), -1)
    loss, place = F.cross_entropy(logits.transpose(1, 2), every, reduction="none").mean(1).min(0)
    return float(loss), int(place)
