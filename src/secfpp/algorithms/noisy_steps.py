"""Gradient steps on a prompt that are differentially private for one image, at the client: DP-SGD (arXiv 1607.00133).

A prompt learns from images through the class features alone. By these, an image's gradient is the outer product of its
residual (predicted probabilities less its label) and its feature: it is shortened without being formed, for all images
at once. Their sum is rounded, noise is added, and what comes of it goes back through the text encoder once, as in any
step. That costs nothing: the encoder is public, and the prompt depends on images by earlier noisy sums only.

Each step takes all images of the client. No sample is drawn, and so no amplification by sampling is claimed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from secfpp.algorithms.privacy import Privacy
from secfpp.algorithms.training import ClientContext, LocalTraining
from secfpp.models.scoring import cosine_logits
from secfpp.privacy import skellam
from secfpp.privacy.calibration import least_noise
from secfpp.privacy.events import Composed, Skellam
from secfpp.secure.session import party_of
from secfpp.seeding import Entropy

_STEPS = 2.0**16
"""Whole steps in a clip: rounding costs the root of the numbers in a sum over this, 0.1 % of epsilon for 4,608."""


@lru_cache(maxsize=64)
def planned(privacy: Privacy, n_classes: int, dim: int, steps: int) -> Composed:
    """What a round of `steps` gradient steps releases; `Privacy.releases` such rounds cost `Privacy.epsilon`.

    Rounding moves each number of a sum by at most half a step, with the image and without it; so the integers of
    neighbours are at most ``2^16 + sqrt(size)`` apart.

    Args:
        privacy: the settings.
        n_classes: number of classes.
        dim: numbers in a feature.
        steps: gradient steps in a round.

    Raises:
        PrivacyError: no noise that can be made is enough.
        MissingExtraError: dp-accounting is not installed.
    """
    size = n_classes * dim
    l2 = _STEPS + math.sqrt(size)

    def release(multiplier: float) -> Skellam:
        variance, l1 = (multiplier * l2) ** 2, math.sqrt(size) * l2
        return Skellam(covers="gradients of prompts", unit=privacy.hides, l1=l1, l2=l2, variance=variance)

    found = least_noise(release, privacy.epsilon, privacy.delta, privacy.releases * steps)
    event = release(found.multiplier)
    return Composed(covers=event.covers, unit=event.unit, events=(event,), times=steps)


def clipped_sum(features: Tensor, labels: Tensor, texts: Tensor, scale: float, clip: float) -> tuple[Tensor, Tensor]:
    """The sum of images' gradients by the class features, over `scale`, each shortened to `clip`.

    Args:
        features: of the images, float [n, dim].
        labels: theirs, int64 [n].
        texts: class features, float [n_cls, dim].
        scale: the backbone's logit scale.
        clip: largest L2 norm of one image's gradient over `scale`.

    Returns:
        The sum, float64 [n_cls, dim], and each image's cross-entropy, float64 [n].
    """
    features, texts = features.double(), texts.double()
    logits = cosine_logits(features, texts, scale)
    residuals = torch.softmax(logits, dim=1) - F.one_hot(labels, len(texts))
    norms = residuals.norm(dim=1) * features.norm(dim=1)
    shortened = residuals * (clip / norms.clamp_min(clip))[:, None]
    return shortened.T @ features, F.cross_entropy(logits, labels, reduction="none")


def noisy(total: Tensor, clip: float, variance: float, entropy: Entropy) -> Tensor:
    """A `clipped_sum` [n_cls, dim] with Skellam noise of `variance` in squared steps; float64.

    Gradients add up to zero over classes, for each image; so what noise adds up to is taken off again.
    """
    integers = np.rint(total.cpu().numpy() * (_STEPS / clip)).astype(np.int64)
    integers += skellam.noise(variance, integers.shape, entropy)
    centred = (integers - integers.mean(axis=0)) * (clip / _STEPS)
    return torch.from_numpy(centred).to(total.device)


def fit(
    contexts: Sequence[ClientContext], prompts: np.ndarray, training: LocalTraining, privacy: Privacy
) -> tuple[np.ndarray, np.ndarray]:
    """Train each client's prompt on all its images, under noise that nobody else knows.

    Args:
        contexts: the k clients.
        prompts: where they start, float32 [k, n_ctx, text_dim]; no image may have a part in it but by noisy sums.
        training: steps and optimiser; `LocalTraining.batch` has no part.
        privacy: the settings.

    Returns:
        The trained prompts, and each client's mean loss over the steps [k], which stays at home.
    """
    backbone, tokens = contexts[0].backbone, contexts[0].tokens
    scale, (event,) = backbone.logit_scale, of_round(contexts[0], training, privacy).events
    assert isinstance(event, Skellam)
    trained = torch.tensor(prompts, device=backbone.device).requires_grad_()
    optimiser = training.optimiser([{"params": [trained]}])
    total = np.zeros(len(contexts))
    for _ in range(training.steps):
        texts = backbone.class_features(trained, tokens)
        gradient = torch.empty_like(texts)
        for i, context in enumerate(contexts):
            images = max(1, len(context.labels))
            own, losses = clipped_sum(context.features, context.labels, texts[i].detach(), scale, privacy.bound)
            secret = party_of(context).entropy
            gradient[i] = noisy(own, privacy.bound, event.variance, secret) * (scale / images)
            total[i] += float(losses.sum()) / images
        optimiser.zero_grad(set_to_none=True)
        texts.backward(gradient)
        optimiser.step()
    return trained.detach().cpu().numpy(), total / training.steps


def of_round(context: ClientContext, training: LocalTraining, privacy: Privacy) -> Composed:
    """What a round of steps releases."""
    return planned(privacy, len(context.tokens.names), context.features.shape[1], training.steps)
