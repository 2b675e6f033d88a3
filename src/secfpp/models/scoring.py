"""Scores of images against classes, and the class priors that shift them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from secfpp.models.pools import Pool, whole


def cosine_logits(features: Tensor, class_features: Tensor, scale: float) -> Tensor:
    """CLIP's logits [k, n, n_cls] of unit features [k, n, dim] (or [n, dim]) and class features [k, n_cls, dim]."""
    return scale * features @ class_features.transpose(-1, -2)


@dataclass(frozen=True, eq=False)
class Visual:
    """Scores of image features beside the logits of k clients' prompts, on each level of these.

    The logits of a level are ``text_weight * prompt logits + features @ weights.T + bias``. With a `memory` the rows of
    `weights` are remembered images, not classes, and what an image is like is ``exp(features @ weights.T + bias)``;
    its scores are this, times `memory`.

    Attributes:
        weights: float [k, levels, n_cls, projection]; with a memory [k, levels, rows, projection].
        bias: float [k, levels, n_cls], or [k, levels, rows]; -inf where a client has fewer rows than others.
        text_weight: float [k, levels], at least 0.
        memory: what each row says of each class, float [k, levels, rows, n_cls].
    """

    weights: Tensor
    bias: Tensor
    text_weight: Tensor
    memory: Tensor | None = None

    @classmethod
    def stacked(cls, parts: Sequence[Visual]) -> Visual:
        """Those of several clients as one; memories are filled up to the longest."""
        if parts[0].memory is None:
            return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in VISUAL_PARTS))
        rows = max(part.weights.shape[2] for part in parts)
        return cls(*(torch.cat(arrays) for arrays in zip(*(part._filled(rows) for part in parts), strict=True)))

    def _filled(self, rows: int) -> tuple[Tensor, ...]:
        assert self.memory is not None
        more = rows - self.weights.shape[2]
        bias = F.pad(self.bias, (0, more), value=-torch.inf)
        return F.pad(self.weights, (0, 0, 0, more)), bias, self.text_weight, F.pad(self.memory, (0, 0, 0, more))

    def __getitem__(self, clients: slice | Tensor) -> Visual:
        return Visual(*(part[clients] for part in self._parts()))

    def to(self, device: torch.device | str) -> Visual:
        """The same on `device`."""
        return Visual(*(part.to(device) for part in self._parts()))

    def _parts(self) -> list[Tensor]:
        return [part for name in (*VISUAL_PARTS, "memory") if (part := getattr(self, name)) is not None]

    def beside(self, logits: Tensor, features: Tensor) -> Tensor:
        """`logits` of prompts [k, levels, n, n_cls] with the scores of `features` beside them."""
        scores = whole(features) @ self.weights.transpose(-1, -2) + self.bias[..., None, :]
        if self.memory is not None:
            scores = scores.exp() @ self.memory
        return self.text_weight[:, :, None, None] * logits + scores


VISUAL_PARTS = ("weights", "bias", "text_weight")


@dataclass(frozen=True)
class Predictor:
    """What decides a client's predictions beside its prompts.

    Attributes:
        class_prior: whether the log-prior of the declared target is added to the logits.
        smoothing: pseudo-images added to every class of the prior.
        familiar_share: a class is familiar to a client that holds at least this share of what it would hold if
            its classes were equally frequent. Used with two prompts, see `redistributed`.
        trust: weight of the personal prompt among familiar classes, 0..1.
        pool: how two prompts are joined, if not by `redistributed`.
    """

    class_prior: bool = True
    smoothing: float = 0.1
    familiar_share: float = 0.5
    trust: float = 1.0
    pool: Pool | None = None

    @property
    def patches(self) -> bool:
        """Whether images are seen as `secfpp.models.pools.looks`, not as their features alone."""
        return self.pool is not None and self.pool.patches


def familiar_classes(histogram: np.ndarray, share: float) -> np.ndarray:
    """The classes of which a client with this histogram has seen enough, bool [n_cls]; see `Predictor`."""
    counts = np.asarray(histogram, dtype=np.float64)
    familiar: np.ndarray = (counts > 0) & (counts * len(counts) >= share * counts.sum())
    return familiar


def redistributed(domain: Tensor, personal: Tensor, familiar: Tensor, trust: float) -> Tensor:
    """Logits of a predictor on two levels [k, n, n_cls].

    How likely an image shows one of the client's familiar classes at all, and how likely each other class is, is what
    the domain prompt says; only how that probability is divided among familiar classes is for the personal prompt
    to say, in a log-linear pool with the domain prompt. So what a client learned from few classes
    cannot draw images of classes that it never saw.

    Args:
        domain: logits of the domain prompt, float [k, n, n_cls]; any other leading axes will do.
        personal: logits of the personal prompt, float [k, n, n_cls].
        familiar: bool [k, n_cls].
        trust: weight of `personal` in the pool, 0..1.
    """
    strange = ~familiar[..., None, :]
    pooled = torch.lerp(domain, personal, trust)
    total, own = (logits.masked_fill(strange, -torch.inf).logsumexp(-1, keepdim=True) for logits in (domain, pooled))
    return torch.where(strange, domain, pooled + (total - own))


def level_logits(
    features: Tensor, texts: Tensor, scale: float, visual: Visual | None = None, pool: Pool | None = None
) -> Tensor:
    """Logits on each level of what clients predict with, float [k, levels, n, n_cls]; on one level with a pool.

    Args:
        features: of images, float [n, projection]; for a pool with patches `secfpp.models.pools.looks`.
        texts: class features of the prompts, float [k, levels, n_cls, projection].
        scale: the backbone's logit scale.
        visual: what stands beside the prompts, of the same k clients.
        pool: joins the levels.
    """
    if pool is not None:
        logits = pool.logits(features, texts, scale)[:, None]
    else:
        logits = scale * features @ texts.transpose(-1, -2)
    return logits if visual is None else visual.beside(logits, features)


def smoothed_log_prior(histogram: np.ndarray, smoothing: float) -> np.ndarray:
    """Log class frequencies, float32 [n_cls], with `smoothing` (> 0) pseudo-images added to every class."""
    counts = np.asarray(histogram, dtype=np.float64) + smoothing
    logs: np.ndarray = np.log(counts / counts.sum()).astype(np.float32)
    return logs


def class_accuracies(logits: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """Accuracy on each class, float [k, n_cls], of logits [k, n, n_cls]; nan where a class has no image."""
    hits = (logits.argmax(-1) == labels).float()
    counts = torch.bincount(labels, minlength=n_classes).float()
    sums = torch.zeros(len(hits), n_classes, device=hits.device).index_add_(1, labels, hits)
    return sums / counts.where(counts > 0, torch.nan)
