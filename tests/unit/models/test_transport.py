"""Plans of transport between patches and two prompts are what an optimal transport library finds."""

from __future__ import annotations

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from secfpp.models import pools
from secfpp.models.pools import Mixture, Transport
from secfpp.models.transport import transport_plans

EXACT = {"tolerance": 1e-7, "iterations": 5_000}


def similarities(patches: int, n: int, seed: int = 0, spread: float = 0.3) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(-spread, spread, (2, patches, n)))


def units(*shape: int, seed: int = 0) -> Tensor:
    return torch.nn.functional.normalize(torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)), dim=-1)


@pytest.mark.parametrize("mass", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("epsilon", [0.03, 0.1, 1.0])
def test_plans_are_those_of_an_optimal_transport_library(mass: float, epsilon: float) -> None:
    similarity = similarities(9, 5)
    plans = transport_plans(similarity, mass=mass, epsilon=epsilon, **EXACT)
    rows, columns = np.full(9, 1 / 9), np.full(2, mass / 2)
    for i in range(5):
        cost = 1 - similarity[..., i].T.numpy()
        known = ot.partial.entropic_partial_wasserstein(
            rows, columns, cost, reg=epsilon, m=mass, numItermax=20_000, stopThr=1e-15
        )
        np.testing.assert_allclose(plans[..., i].T, known, atol=1e-6)


@pytest.mark.parametrize("epsilon", [0.03, 0.01, 0.005])
def test_entropy_costs_no_more_than_the_most_it_can(epsilon: float) -> None:
    similarity = similarities(12, 6)
    plans = transport_plans(similarity, mass=0.8, epsilon=epsilon, tolerance=1e-7, iterations=10_000)
    for i in range(6):
        cost = 1 - similarity[..., i].T.numpy()
        best = ot.partial.partial_wasserstein(np.full(12, 1 / 12), np.full(2, 0.4), cost, m=0.8)
        more = ((plans[..., i].T.numpy() - best) * cost).sum()
        assert -1e-6 < more < epsilon * 0.8 * np.log(24)


@settings(deadline=None, max_examples=50)
@given(
    patches=st.integers(1, 40),
    mass=st.floats(0.05, 1.0),
    epsilon=st.floats(0.001, 10.0),
    spread=st.floats(0.0, 1.0),
    seed=st.integers(0, 99),
)
def test_plans_are_finite_and_columns_are_as_asked(
    patches: int, mass: float, epsilon: float, spread: float, seed: int
) -> None:
    similarity = similarities(patches, 3, seed, spread).float()
    plans = transport_plans(similarity, mass=mass, epsilon=epsilon, tolerance=1e-3, iterations=100)
    assert torch.isfinite(plans).all() and (plans >= 0).all()
    torch.testing.assert_close(plans.sum(1), torch.full((2, 3), mass / 2), rtol=1e-4, atol=1e-6)


def test_no_patch_gives_more_than_it_has() -> None:
    plans = transport_plans(similarities(36, 50), mass=0.8, epsilon=0.1, tolerance=1e-3, iterations=100)
    assert float(plans.sum(0).max()) * 36 < 1.005
    assert (plans.sum(0) * 36 < 0.9).any()


def test_a_plan_does_not_depend_on_those_it_is_made_with() -> None:
    similarity = similarities(16, 40)
    together = transport_plans(similarity, mass=0.8, epsilon=0.05, tolerance=1e-3, iterations=100)
    for i in range(40):
        one = slice(i, i + 1)
        alone = transport_plans(similarity[..., one], mass=0.8, epsilon=0.05, tolerance=1e-3, iterations=100)
        torch.testing.assert_close(alone, together[..., one], rtol=1e-9, atol=1e-12)


class TestPool:
    def images_and_texts(self, patches: int = 6) -> tuple[Tensor, Tensor]:
        return units(5, 1 + patches, 8), units(3, 2, 4, 8, seed=1)

    def test_a_patch_that_is_all_of_the_image_is_a_mixture_in_equal_parts(self) -> None:
        looks, texts = self.images_and_texts(patches=1)
        even = Mixture(personal=0.5).logits(looks[:, 1], texts, 7.0)
        torch.testing.assert_close(Transport(mass=1.0).logits(looks, texts, 7.0), even)
        left = Transport(mass=0.8, tolerance=1e-9).logits(looks, texts, 7.0)
        torch.testing.assert_close(left, 0.8 * even, rtol=1e-6, atol=1e-9)

    def test_much_entropy_is_the_mean_over_patches(self) -> None:
        looks, texts = self.images_and_texts()
        mean = Mixture(personal=0.5).logits(looks[:, 1:].mean(1), texts, 1.0)
        found = Transport(mass=0.8, epsilon=1e4).logits(looks, texts, 1.0)
        torch.testing.assert_close(found, 0.8 * mean, rtol=1e-3, atol=1e-4)

    def test_logits_are_not_plain_cosines(self) -> None:
        looks, texts = self.images_and_texts()
        found = Transport(mass=0.8, epsilon=0.05).logits(looks, texts, 1.0)
        cosines = looks[:, 1:].mean(1) @ texts.mean(1).transpose(-1, -2)
        assert (found - 0.8 * cosines).abs().max() > 0.05
        assert (found > 0.8 * cosines).all()  # of all ways to give mass, a cheap one is taken
        assert (found - looks[:, 0] @ texts.mean(1).transpose(-1, -2)).abs().max() > 0.05

    def test_prompts_share_out_the_patches(self) -> None:
        """A patch like the one prompt and a patch like the other: each prompt takes its own."""
        texts = torch.eye(3, dtype=torch.float64)[:2][None, :, None]  # [1, 2, 1, 3]
        looks = torch.eye(3, dtype=torch.float64)[[2, 0, 1]][None]
        assert float(Transport(mass=1.0, epsilon=0.02).logits(looks, texts, 1.0)) == pytest.approx(1.0, abs=1e-6)

    def test_what_the_whole_image_is_like_does_not_count(self) -> None:
        looks, texts = self.images_and_texts()
        other = torch.cat([units(5, 1, 8, seed=9), looks[:, 1:]], dim=1)
        torch.testing.assert_close(Transport().logits(looks, texts, 1.0), Transport().logits(other, texts, 1.0))

    def test_no_gradient_goes_through_the_plan(self) -> None:
        looks, texts = self.images_and_texts()
        texts.requires_grad_()
        pool = Transport(mass=0.8, epsilon=0.1)
        pool.logits(looks, texts, 2.0)[1, 2, 3].backward()
        assert texts.grad is not None
        similarity = (texts[1, :, 3].detach() @ looks[2, 1:].T)[..., None]
        plan = transport_plans(similarity, mass=0.8, epsilon=0.1, tolerance=1e-3, iterations=100)[..., 0]
        torch.testing.assert_close(texts.grad[1, :, 3], 2.0 * plan @ looks[2, 1:])
        assert not texts.grad[[0, 2]].any() and not texts.grad[1, :, :3].any()

    def test_images_of_each_client_are_its_own(self) -> None:
        looks, texts = self.images_and_texts()
        shared = Transport().logits(looks, texts, 1.0)
        torch.testing.assert_close(Transport().logits(looks.expand(3, -1, -1, -1), texts, 1.0), shared)
        own = torch.stack([looks, looks.flip(0), looks])
        torch.testing.assert_close(Transport().logits(own, texts, 1.0)[1], shared[1].flip(0))

    def test_few_images_at_once_are_as_good_as_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        looks, texts = self.images_and_texts()
        at_once = Transport().logits(looks, texts, 1.0)
        monkeypatch.setattr(pools, "_PROBLEMS", 1)
        torch.testing.assert_close(Transport().logits(looks, texts, 1.0), at_once)
