"""Gradient steps under noise that a trusted server makes: central differential privacy for one image.

Each client sends the sum of its images' gradients by the prompt, each shortened, as an update of weight its number of
images, in the clear. The server adds Gaussian noise once to the sum over clients; what clients are given is computed
from that. The server itself sees each client's sum without noise. This is what other mechanisms are compared with.

Each step takes all images of a client. No sample is drawn, and so no amplification by sampling is claimed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch

from secfpp.algorithms.image_gradients import ImageGradients
from secfpp.algorithms.privacy import Privacy
from secfpp.algorithms.training import ClientContext, LocalTraining
from secfpp.errors import ConfigError, Problem
from secfpp.privacy import gaussian
from secfpp.privacy.calibration import least_noise
from secfpp.privacy.events import Composed, Event, Gaussian
from secfpp.secure.means.aggregator import Aggregator
from secfpp.secure.means.plain_mean import Noise, PlainMean
from secfpp.secure.means.updates import clipped
from secfpp.seeding import SystemEntropy

SEEN = "gradients, in the clear to the server"
"""What no epsilon here covers."""
SLACK = 2.0**-10
"""Share by which an image may move a sum further than the clip, for what is rounded."""


@lru_cache(maxsize=64)
def planned(privacy: Privacy, parts: tuple[str, ...] = ("prompt",)) -> Composed:
    """What a round releases: a sum of gradients by each of `parts`. `Privacy.releases` rounds cost `Privacy.epsilon`.

    Args:
        privacy: the settings.
        parts: what gradients are taken by; an image's gradient by each is shortened for itself.

    Raises:
        PrivacyError: no noise that can be made is enough.
        MissingExtraError: dp-accounting is not installed.
    """
    norm = privacy.bound * (1 + SLACK)

    def release(multiplier: float) -> Event:
        return _round(privacy, parts, norm, multiplier * norm)

    found = least_noise(release, privacy.epsilon, privacy.delta, privacy.releases)
    return _round(privacy, parts, norm, found.multiplier * norm)


@lru_cache(maxsize=64)
def as_published(privacy: Privacy, parts: tuple[str, ...], batch: int) -> Composed:
    """What a round releases with the noise of DP-FPL's published code, and how far one image can really move it.

    The code shortens the mean gradient of a batch to the clip C, and has a standard deviation of ``C / batch *
    sqrt(releases * ln(1 / delta)) / epsilon``. But what is shortened is the mean: with an image or without it, it can
    be anywhere in a ball of radius C, so that neighbours are up to 2 C apart, and each round releases all `parts`.

    Args:
        privacy: the settings; `Privacy.epsilon` is the one that the formula is given.
        parts: see `planned`.
        batch: images in a step.
    """
    sigma = math.sqrt(privacy.releases * math.log(1 / privacy.delta)) / privacy.epsilon
    return _round(privacy, parts, 2 * privacy.bound * (1 + SLACK), sigma * privacy.bound / batch)


def _round(privacy: Privacy, parts: tuple[str, ...], norm: float, sd: float) -> Composed:
    about = {"unit": privacy.hides, "norm": norm, "sd": sd}
    events = tuple(Gaussian(covers=f"gradients by the {part}", **about) for part in parts)  # type: ignore[arg-type]
    return Composed(covers="gradients of prompts", unit=privacy.hides, events=events)


def problems(privacy: Privacy, training: LocalTraining, aggregator: Aggregator) -> list[Problem]:
    """What is wrong with settings for such steps."""
    if not privacy.central:
        return []
    given = f"with privacy.mechanism = {privacy.mechanism}"
    found = []
    if training.steps != 1:
        allowed = f"1 {given}: only what the server has added noise to may be gone on from"
        found.append(Problem("training.steps", training.steps, allowed))
    if training.optimizer != "sgd":
        allowed = f"sgd {given}: a gradient is shortened, not what an optimiser makes of it"
        found.append(Problem("training.optimizer", training.optimizer, allowed))
    for name in ("momentum", "weight_decay"):
        if getattr(training, name):
            found.append(Problem(f"training.{name}", getattr(training, name), f"0 {given}"))
    if not isinstance(aggregator, PlainMean):
        allowed = f"plain {given}: the server makes the noise, and has to see what it adds it to"
        found.append(Problem("aggregator.kind", aggregator.kind, allowed))
    elif training.lr * privacy.bound > aggregator.clip:
        allowed = f"at least training.lr * privacy.clip = {training.lr * privacy.bound:g}, the longest step"
        found.append(Problem("aggregator.clip", aggregator.clip, allowed))
    return found


def encoders(contexts: Sequence[ClientContext], prompts: np.ndarray) -> Iterator[ImageGradients]:
    """Gradients by each client's prompt, of float32 [k, n_ctx, text_dim]; neighbours with one prompt share them."""
    images: Counter[bytes] = Counter()
    for context, prompt in zip(contexts, prompts, strict=True):
        images[prompt.tobytes()] += len(context.labels)
    known, made = b"", None
    for context, prompt in zip(contexts, prompts, strict=True):
        if made is None or known != prompt.tobytes():
            known = prompt.tobytes()
            start = torch.from_numpy(prompt).to(context.backbone.device)
            made = ImageGradients(context.backbone, context.tokens, start, images[known])
        yield made


def stepped(
    base: np.ndarray, gradient: np.ndarray, lr: float, weight: int, bound: float, mean: PlainMean
) -> np.ndarray:
    """A step from `base`, of which the mean takes in exactly what it is: float64 of the same shape.

    Args:
        base: float32 [n_ctx, text_dim].
        gradient: float64, likewise.
        lr: learning rate.
        weight: of the step in the mean.
        bound: largest L2 norm of an image's part in ``weight * gradient``.
        mean: by which it is shared.

    Raises:
        ConfigError: rounding moves the sum further than `SLACK` allows.
    """
    allowed, rounding = SLACK / 2 * lr * bound, weight * math.sqrt(base.size)
    if rounding * 2.0**-mean.bits > allowed:
        least = math.ceil(math.log2(rounding / allowed))
        raise ConfigError([Problem("aggregator.bits", mean.bits, f"at least {least}, or a larger step or clip")])
    update = clipped(-lr * gradient, mean.clip)
    exact: np.ndarray = base.astype(np.float64) + np.rint(update * 2.0**mean.bits) * 2.0**-mean.bits
    return exact


def server_noise(event: Composed, lr: float) -> Noise:
    """The server's noise on a sum of steps, of the deviation that the first part of `event` has in gradients."""
    first = event.events[0]
    assert isinstance(first, Gaussian)
    sd = lr * first.sd
    return lambda shape: gaussian.noise(sd, shape, SystemEntropy())
