"""Pools join two prompts; memories stand beside them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from secfpp.errors import DataError
from secfpp.models.pools import Mixture, Pool, Transport, looks, pool_from, whole
from secfpp.models.scoring import Visual, level_logits


def units(*shape: int, seed: int = 0) -> torch.Tensor:
    drawn = torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))
    return torch.nn.functional.normalize(drawn, dim=-1)


def test_the_ends_of_a_mixture_are_the_two_prompts() -> None:
    images, texts = units(5, 8), units(3, 2, 4, 8, seed=1)
    levels = level_logits(images, texts, 7.0)
    for weight, level in ((0.0, 1), (1.0, 0)):
        joined = level_logits(images, texts, 7.0, pool=Mixture(personal=weight))
        assert joined.shape == (3, 1, 5, 4)
        assert torch.allclose(joined[:, 0], levels[:, level])


def test_a_mixture_in_between_is_the_mean_of_cosines() -> None:
    images, texts = units(5, 8), units(3, 2, 4, 8, seed=1)
    joined = Mixture(personal=0.25).logits(images, texts, 1.0)
    cosines = images @ texts.transpose(-1, -2)
    assert torch.allclose(joined, 0.25 * cosines[:, 0] + 0.75 * cosines[:, 1])


@pytest.mark.parametrize("pool", [Mixture(personal=0.4), Transport(mass=0.7, epsilon=0.01, iterations=20)])
def test_a_pool_is_what_its_record_says(pool: Pool) -> None:
    assert pool_from(pool.record()) == pool


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"kind": "soup"},
        {"kind": "mixture", "share": 1},
        {"kind": "mixture", "personal": "half"},
        {"kind": "mixture", "personal": 1.5},
        {"kind": "transport", "mass": 0.0},
        {"kind": "transport", "epsilon": float("nan")},
        {"kind": "transport", "tolerance": -1.0},
        {"kind": "transport", "iterations": 10**9},
    ],
)
def test_an_unknown_pool_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="does not say how prompts are joined: mixture"):
        pool_from(record)


def memory(rows: int, seed: int) -> Visual:
    """One client's memory of so many images of two classes."""
    keys, sharpness = units(1, 1, rows, 8, seed=seed), 5.5
    said = torch.eye(2, dtype=keys.dtype)[torch.arange(rows) % 2][None, None]
    bias = torch.full((1, 1, rows), -sharpness, dtype=keys.dtype)
    return Visual(sharpness * keys, bias, torch.ones(1, 1, dtype=keys.dtype), said)


def test_a_memory_says_of_an_image_what_images_like_it_are() -> None:
    beside = memory(3, seed=2)
    images = beside.weights[0, 0] / 5.5
    scores = beside.beside(torch.zeros(1, 1, 3, 2, dtype=images.dtype), images)[0, 0]
    close = torch.exp(5.5 * (images @ images.T - 1))
    assert torch.allclose(scores[:, 0], close[:, 0] + close[:, 2])
    assert torch.allclose(scores[:, 1], close[:, 1])


def test_memories_of_different_length_stand_side_by_side() -> None:
    one, other = memory(3, seed=2), memory(5, seed=3)
    images, logits = units(4, 8, seed=4), units(2, 1, 4, 2, seed=5)
    both = Visual.stacked([one, other])
    for i, alone in enumerate((one, other)):
        expected = alone.beside(logits[i : i + 1], images)
        assert torch.allclose(both[i : i + 1].beside(logits[i : i + 1], images), expected)
        assert torch.allclose(both.beside(logits, images)[i : i + 1], expected)


def test_a_memory_alone_is_scaled_as_class_means_are() -> None:
    beside = memory(3, seed=2)
    half = replace(beside, text_weight=beside.text_weight / 2)
    images, logits = units(4, 8, seed=4), units(1, 1, 4, 2, seed=5)
    assert torch.allclose(half.beside(logits, images), beside.beside(logits, images) - logits / 2)


def test_a_look_is_the_whole_and_then_its_patches() -> None:
    class TwoPatches:
        def features(self, images: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(images[:, 0, 0, :1])

        def patch_features(self, images: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(images[:, 0, :, 1:2])

    images = np.arange(12, dtype=np.uint8).reshape(2, 1, 2, 3)
    model: Any = TwoPatches()
    seen = looks(model, images)
    assert seen.shape == (2, 3, 1)
    assert torch.equal(whole(seen), model.features(images))
    assert torch.equal(seen[:, 1:], model.patch_features(images))
    assert torch.equal(whole(whole(seen)), whole(seen))
