"""Scores of images against classes, and the class priors that shift them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def cosine_logits(features: Tensor, class_features: Tensor, scale: float) -> Tensor:
    """CLIP's logits [k, n, n_cls] of unit features [k, n, dim] (or [n, dim]) and class features [k, n_cls, dim]."""
    return scale * features @ class_features.transpose(-1, -2)


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
