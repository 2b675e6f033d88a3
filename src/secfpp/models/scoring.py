"""Scores of images against classes, and the class priors that shift them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def cosine_logits(features: Tensor, class_features: Tensor, scale: float) -> Tensor:
    """CLIP's logits [k, n, n_cls] of unit features [k, n, dim] (or [n, dim]) and class features [k, n_cls, dim]."""
    return scale * features @ class_features.transpose(-1, -2)


@dataclass(frozen=True, eq=False)
class Visual:
    """Linear scores of image features beside the logits of k clients' prompts, on each level of these.

    The logits of a level are ``text_weight * prompt logits + features @ weights.T + bias``.

    Attributes:
        weights: float [k, levels, n_cls, projection].
        bias: float [k, levels, n_cls].
        text_weight: float [k, levels], at least 0.
    """

    weights: Tensor
    bias: Tensor
    text_weight: Tensor

    @classmethod
    def stacked(cls, parts: Sequence[Visual]) -> Visual:
        """Those of several clients as one."""
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in VISUAL_PARTS))

    def __getitem__(self, clients: slice) -> Visual:
        return Visual(self.weights[clients], self.bias[clients], self.text_weight[clients])

    def to(self, device: torch.device | str) -> Visual:
        """The same on `device`."""
        return Visual(*(getattr(self, name).to(device) for name in VISUAL_PARTS))


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
    """

    class_prior: bool = True
    smoothing: float = 0.1
    familiar_share: float = 0.5
    trust: float = 1.0


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
        domain: logits of the domain prompt, float [k, n, n_cls].
        personal: logits of the personal prompt, float [k, n, n_cls].
        familiar: bool [k, n_cls].
        trust: weight of `personal` in the pool, 0..1.
    """
    strange = ~familiar[:, None]
    pooled = torch.lerp(domain, personal, trust)
    total, own = (logits.masked_fill(strange, -torch.inf).logsumexp(-1, keepdim=True) for logits in (domain, pooled))
    return torch.where(strange, domain, pooled + (total - own))


def level_logits(features: Tensor, texts: Tensor, scale: float, visual: Visual | None = None) -> Tensor:
    """Logits on each level of what clients predict with, float [k, levels, n, n_cls].

    Args:
        features: of images, float [n, projection].
        texts: class features of the prompts, float [k, levels, n_cls, projection].
        scale: the backbone's logit scale.
        visual: what stands beside the prompts, of the same k clients.
    """
    logits = scale * features @ texts.transpose(-1, -2)
    if visual is None:
        return logits
    scores = features @ visual.weights.transpose(-1, -2) + visual.bias[..., None, :]
    return visual.text_weight[:, :, None, None] * logits + scores


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
