"""Images shortened one by one: as automatic differentiation has it, bounded, and under the noise that is claimed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from secfpp.algorithms.noisy_steps import clipped_sum, noisy, planned
from secfpp.algorithms.privacy import Privacy
from secfpp.privacy.accounting import epsilon
from secfpp.privacy.events import Composed, Skellam
from secfpp.seeding import SystemEntropy

CLASSES, DIM, WIDTH, IMAGES, SCALE = 5, 7, 6, 11, 29.0
WEIGHTS = torch.randn(CLASSES, DIM, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def images(count: int = IMAGES) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    features = torch.randn(count, DIM, generator=generator, dtype=torch.float64)
    return F.normalize(features, dim=1), torch.randint(CLASSES, (count,), generator=generator)


def encode(prompt: Tensor) -> Tensor:
    """A text encoder in float64 in which nothing is linear."""
    return F.normalize(torch.tanh(WEIGHTS @ torch.sin(prompt)), dim=1)


def loss(texts: Tensor, feature: Tensor, label: Tensor) -> Tensor:
    return F.cross_entropy(SCALE * feature @ texts.T, label)


@pytest.mark.parametrize("clip", [0.1, 0.6, 2.0])
def test_the_sum_is_that_of_automatic_differentiation_for_each_image(clip):
    features, labels = images()
    texts = encode(torch.linspace(-1, 1, WIDTH, dtype=torch.float64))
    each = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(texts, features, labels) / SCALE
    norms = each.flatten(1).norm(dim=1)
    assert clip > 1.5 or (norms > clip).any()
    expected = (each * (clip / norms.clamp_min(clip))[:, None, None]).sum(0)
    found, losses = clipped_sum(features, labels, texts, SCALE, clip)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(losses, torch.func.vmap(loss, (None, 0, 0))(texts, features, labels))


def test_through_the_encoder_it_is_the_gradient_of_each_image_by_the_prompt_as_far_as_it_is_shortened():
    features, labels = images()
    prompt, clip = torch.linspace(-1, 1, WIDTH, dtype=torch.float64), 0.8
    whole = torch.func.vmap(torch.func.grad(lambda p, x, y: loss(encode(p), x, y)), (None, 0, 0))
    texts = encode(prompt.requires_grad_())
    lengths = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))(texts.detach(), features, labels) / SCALE
    kept = clip / lengths.flatten(1).norm(dim=1).clamp_min(clip)
    assert kept.min() < 1 == kept.max()
    total, _ = clipped_sum(features, labels, texts.detach(), SCALE, clip)
    (found,) = torch.autograd.grad(texts, prompt, SCALE * total)
    torch.testing.assert_close(found, kept @ whole(prompt.detach(), features, labels), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("length", [1e-3, 1.0, 50.0])
def test_no_image_moves_the_integers_further_than_accounted_for(length):
    clip, scale = 0.25, 2.0**16 / 0.25
    texts = encode(torch.linspace(-1, 1, WIDTH, dtype=torch.float64))
    for seed in range(20):
        features, labels = images(30 + seed)
        features = features * length
        labels[0] = int((features[0] @ texts.T).argmin())  # the longest residual
        sums = [clipped_sum(features[own:], labels[own:], texts, SCALE, clip)[0] for own in (0, 1)]
        assert float((sums[0] - sums[1]).norm()) <= clip * (1 + 1e-9)
        integers = [np.rint(total.numpy() * scale) for total in sums]
        assert np.linalg.norm(integers[0] - integers[1]) <= 2.0**16 + math.sqrt(CLASSES * DIM)


def test_noise_is_of_the_variance_of_the_event_and_adds_up_to_nothing_over_classes():
    clip, variance = 0.25, (3.0 * 2.0**16) ** 2
    total = torch.zeros(40, 2000, dtype=torch.float64)
    found = noisy(total, clip, variance, SystemEntropy())
    assert torch.allclose(found.sum(0), torch.zeros(2000, dtype=torch.float64), atol=1e-9)
    expected = 3.0 * clip * math.sqrt(39 / 40)  # one in forty is taken off with the sum
    assert float(found.std()) == pytest.approx(expected, rel=0.02)
    again = noisy(total, clip, variance, SystemEntropy())
    assert not torch.equal(found, again)


@pytest.mark.parametrize(("epsilon_", "steps", "rounds"), [(8.0, 1, 20), (1.0, 5, 4)])
def test_all_rounds_cost_what_was_asked_for(epsilon_, steps, rounds):
    event = planned(Privacy(mechanism="dpsgd", epsilon=epsilon_, releases=rounds), 36, 128, steps)
    assert event.times == steps and event.unit == "record"
    assert epsilon([event] * rounds, 1e-5) == pytest.approx(epsilon_, rel=1e-3)
    assert epsilon([event] * rounds, 1e-5) <= epsilon_
    (one,) = event.events
    assert isinstance(one, Skellam) and isinstance(event, Composed)
    assert one.l2 >= 2**16 + math.sqrt(36 * 128) - 1e-6
