"""Gradients of single images by a prompt: as automatic differentiation has each of them, either way."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from secfpp.algorithms.image_gradients import CHUNK, MANY, ImageGradients, shortened_sum
from secfpp.models.backbone import Backbone, load_backbone

NAMES = ("cat", "blue star", "house")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    """The embedded model."""
    return load_backbone("mini", device="cpu")


@pytest.fixture(scope="module")
def prompt(backbone: Backbone) -> Tensor:
    return torch.from_numpy(backbone.initial_prompt("an icon symbol for", 4))


def images(backbone: Backbone, count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    features = torch.randn(count, backbone.spec.projection, generator=generator)
    return F.normalize(features, dim=1), torch.randint(len(NAMES), (count,), generator=generator)


@pytest.mark.parametrize("whole", [False, True])
def test_each_is_what_a_loop_over_images_finds(whole, backbone, prompt):
    tokens, (features, labels) = backbone.class_tokens(NAMES, len(prompt)), images(backbone, 2 * CHUNK + 3)
    expected, losses = [], []
    for feature, label in zip(features, labels, strict=True):
        own = prompt.clone().requires_grad_()
        loss = F.cross_entropy(backbone.logit_scale * feature @ backbone.class_features(own[None], tokens)[0].T, label)
        expected.append(torch.autograd.grad(loss, own)[0])
        losses.append(loss.detach())
    asked = MANY * backbone.spec.projection if whole else len(labels)
    by = ImageGradients(backbone, tokens, prompt, asked)
    found, found_losses = by.of(features, labels)
    assert found.shape == (len(labels), *prompt.shape)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(by.mean(features, labels)[0], found.mean(0), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(found_losses, torch.stack(losses), rtol=1e-4, atol=1e-4)


def test_an_encoder_is_asked_once_and_not_for_each_image(backbone, prompt, monkeypatch):
    calls = []
    for name in ("class_features", "single_class_features"):
        real = getattr(backbone, name)
        monkeypatch.setattr(backbone, name, lambda *args, real=real: calls.append(1) or real(*args))
    by = ImageGradients(backbone, backbone.class_tokens(NAMES, len(prompt)), prompt, 50)
    by.of(*images(backbone, 50))
    assert len(calls) == 1


def test_no_image_means_no_gradient(backbone, prompt):
    by = ImageGradients(backbone, backbone.class_tokens(NAMES, len(prompt)), prompt, 0)
    found, losses = by.of(*images(backbone, 0))
    assert found.shape == (0, *prompt.shape) and losses.shape == (0,)
    assert torch.equal(shortened_sum(found, 1.0), torch.zeros(prompt.shape, dtype=torch.float64))


def test_long_ones_are_shortened_and_short_ones_are_not():
    gradients = torch.tensor([[[3.0, 4.0]], [[0.3, -0.4]], [[0.0, 0.0]]])
    assert torch.allclose(shortened_sum(gradients, 1.0), torch.tensor([[0.9, 0.4]], dtype=torch.float64))
    noise = torch.randn(50, 4, 8, generator=torch.Generator().manual_seed(0)) * 10
    for own in range(50):
        without = torch.cat([noise[:own], noise[own + 1 :]])
        assert float((shortened_sum(noise, 0.7) - shortened_sum(without, 0.7)).norm()) <= 0.7 * (1 + 1e-12)
