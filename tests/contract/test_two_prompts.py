"""What is particular to methods with a local prompt or a memory beside the shared prompt, and what they reduce to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from secfpp.algorithms.fedpha import without_leading
from secfpp.algorithms.pfedprompt import WEIGHTS
from secfpp.algorithms.training import ClientContext, LocalTraining
from secfpp.algorithms.visual import ClassMeans
from secfpp.data.federated import FederatedDataset, hold_out
from secfpp.errors import ConfigError
from secfpp.models.backbone import Backbone
from secfpp.models.pools import Transport
from secfpp.protocol.program import ClientState
from secfpp.runtime.contexts import make_contexts
from secfpp.runtime.trainer import RunResult, train
from support.method_runs import make

TWO = ["promptfolio", "fedotp", "fedpha"]
JOINED = ["promptfolio", "fedotp"]


def run(dataset: FederatedDataset, backbone: Backbone, algorithm: Any, rounds: int = 3, **options: Any) -> RunResult:
    return train(dataset, backbone, algorithm, method=algorithm.name, seed=0, rounds=rounds, **options)


def begun(
    algorithm: Any, dataset: FederatedDataset, backbone: Backbone
) -> tuple[Sequence[ClientContext], list[ClientState]]:
    contexts = list(make_contexts(dataset, backbone, algorithm, 0).values())
    return contexts, [algorithm.client_state(context) for context in contexts]


def apart(dataset: FederatedDataset, backbone: Backbone, algorithm: Any) -> tuple[list[ClientContext], Any, Any]:
    """Two clients, and prompts of theirs that differ, [2, n_ctx, text_dim]: shared and local."""
    contexts, states = begun(algorithm, dataset, backbone)
    draw = torch.Generator().manual_seed(0)
    start = torch.from_numpy(states[0]["prompt"])
    shared, local = (start + 0.05 * torch.randn(2, *start.shape, generator=draw) for _ in range(2))
    return list(contexts[:2]), shared, local


def losses(algorithm: Any, contexts: Sequence[ClientContext], shared: Tensor, local: Tensor) -> Tensor:
    """The objective on each client's first eight images [k]."""
    seen = "looks" if algorithm.predictor.patches else "features"
    features, labels = (torch.stack([getattr(c, name)[:8] for c in contexts]) for name in (seen, "labels"))
    states = [ClientState({}) for _ in contexts]
    found: Tensor = algorithm.objective(contexts, states)({"prompt": shared, "local": local}, features, labels)
    return found


@pytest.mark.parametrize("name", TWO)
def test_the_shared_prompt_is_common_and_the_local_one_each_clients_own(
    name: str, dataset: FederatedDataset, backbone: Backbone
) -> None:
    algorithm = make(name, training=LocalTraining(steps=3, batch=16))
    contexts, states = begun(algorithm, dataset, backbone)
    for old, new in zip(states, algorithm.local_update(contexts, states, 1), strict=True):
        assert all(np.abs(new[slot] - old[slot]).max() > 1e-4 for slot in ("prompt", "local"))
    result = run(dataset, backbone, algorithm)
    assert len({prompt.tobytes() for prompt in result.prompts}) == 8
    assert (result.domain_prompts is not None) == (name in JOINED)
    if result.domain_prompts is not None:
        assert len({prompt.tobytes() for prompt in result.domain_prompts}) == 1
        assert np.abs(result.domain_prompts - contexts[0].start).max() > 1e-3


@pytest.mark.parametrize("name", TWO)
def test_newcomers_train_a_prompt_of_their_own_beside_everybodys(
    name: str, dataset: FederatedDataset, backbone: Backbone
) -> None:
    data = hold_out(dataset, 0.25, 0)
    before, kept = make(name), {}

    class Watched(type(before)):  # type: ignore[misc]
        def prompts(self, state: ClientState) -> np.ndarray:
            kept[state["local"].tobytes()] = state["prompt.base"]
            found: np.ndarray = super().prompts(state)
            return found

    result = run(data, backbone, Watched(**vars(before)))
    contexts, states = begun(before, dataset, backbone)
    assert len(result.newcomers) == 2 and len(kept) > 8
    assert len({base.tobytes() for base in list(kept.values())[-2:]}) == 1
    assert all(np.isfinite(values).all() for values in result.newcomer_metrics.values())
    for local, base in list(kept.items())[-2:]:
        assert local != states[0]["local"].tobytes()
        assert np.abs(base - contexts[0].start).max() > 1e-3


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("changes", [{"class_means": ClassMeans(levels="own")}, {"class_prior": False}])
def test_class_means_and_no_prior_go_with_it(
    name: str, changes: dict[str, Any], dataset: FederatedDataset, backbone: Backbone
) -> None:
    plain, changed = (run(dataset, backbone, make(name, **more), rounds=1) for more in ({}, changes))
    np.testing.assert_array_equal(plain.prompts, changed.prompts)
    assert (changed.visual_weights is not None) == ("class_means" in changes)
    assert (changed.log_priors is None) == ("class_prior" in changes)
    assert not np.array_equal(plain.metrics["own"], changed.metrics["own"])


class TestPromptFolio:
    def test_all_weight_on_the_shared_prompt_is_promptfl_bit_for_bit(
        self, dataset: FederatedDataset, backbone: Backbone
    ) -> None:
        reduced, plain = (run(dataset, backbone, a) for a in (make("promptfolio", theta=0.0), make("promptfl")))
        np.testing.assert_array_equal(reduced.domain_prompts, plain.prompts)
        assert [row["loss"] for row in reduced.rows] == [row["loss"] for row in plain.rows]
        assert all(np.array_equal(values, plain.metrics[name]) for name, values in reduced.metrics.items())

    def test_all_weight_on_the_local_prompt_is_coop_local_bit_for_bit(
        self, dataset: FederatedDataset, backbone: Backbone
    ) -> None:
        reduced, plain = (run(dataset, backbone, a) for a in (make("promptfolio", theta=1.0), make("coop_local")))
        np.testing.assert_array_equal(reduced.prompts, plain.prompts)
        assert [row["loss"] for row in reduced.rows] == [row["loss"] for row in plain.rows]
        assert all(np.array_equal(values, plain.metrics[name]) for name, values in reduced.metrics.items())

    @pytest.mark.parametrize("theta", [1e-7, 1 - 1e-7])
    def test_next_to_no_weight_is_next_to_none(
        self, theta: float, dataset: FederatedDataset, backbone: Backbone
    ) -> None:
        near, end = (make("promptfolio", theta=value) for value in (theta, round(theta)))
        contexts, shared, local = apart(dataset, backbone, near)
        torch.testing.assert_close(*(losses(each, contexts, shared, local) for each in (near, end)))

    def test_the_loss_is_that_of_mixed_class_features(self, dataset: FederatedDataset, backbone: Backbone) -> None:
        algorithm = make("promptfolio", theta=0.3)
        contexts, shared, local = apart(dataset, backbone, algorithm)
        found = losses(algorithm, contexts, shared, local)
        for i, context in enumerate(contexts):
            texts = [backbone.class_features(each[i : i + 1], context.tokens)[0] for each in (shared, local)]
            mixed = 0.7 * texts[0] + 0.3 * texts[1]
            logits = backbone.logit_scale * context.features[:8] @ mixed.T
            torch.testing.assert_close(found[i], F.cross_entropy(logits, context.labels[:8]))

    @pytest.mark.parametrize("theta", [-0.1, 1.1])
    def test_a_weight_that_is_none_is_refused(self, theta: float) -> None:
        with pytest.raises(ConfigError, match=r"theta = .* in 0\.\.1"):
            make("promptfolio", theta=theta)


class TestFedOTP:
    def test_the_loss_is_that_of_patches_under_a_plan(self, dataset: FederatedDataset, backbone: Backbone) -> None:
        algorithm = make("fedotp", epsilon=0.05)
        contexts, shared, local = apart(dataset, backbone, algorithm)
        found = losses(algorithm, contexts, shared, local)
        for i, context in enumerate(contexts):
            texts = torch.stack(
                [backbone.class_features(each[i : i + 1], context.tokens)[0] for each in (local, shared)]
            )
            looks = torch.cat([context.features[:, None], backbone.patch_features(context.data.train.images)], dim=1)[
                :8
            ]
            logits = Transport(epsilon=0.05).logits(looks, texts[None], backbone.logit_scale)[0]
            torch.testing.assert_close(found[i], F.cross_entropy(logits, context.labels[:8]))
            cosines = backbone.logit_scale * context.features[:8] @ texts.mean(0).T
            assert abs(float(found[i] - F.cross_entropy(cosines, context.labels[:8]))) > 1e-2

    @pytest.mark.parametrize(
        ("name", "value"), [("mass", 0.0), ("mass", 1.5), ("epsilon", 0.0), ("tolerance", 0.0), ("iterations", 0)]
    )
    def test_settings_that_cannot_be_are_refused(self, name: str, value: float) -> None:
        with pytest.raises(ConfigError, match=f"{name} = {value}"):
            make("fedotp", **{name: value})


class TestFedPHA:
    def test_without_push_and_pull_it_is_coop_local(self, dataset: FederatedDataset, backbone: Backbone) -> None:
        reduced, plain = (run(dataset, backbone, a) for a in (make("fedpha", alpha=0.0, ratio=1.0), make("coop_local")))
        np.testing.assert_allclose(reduced.prompts, plain.prompts, atol=1e-4)
        pulled = run(dataset, backbone, make("fedpha"))
        assert np.abs(pulled.prompts - plain.prompts).max() > 1e-3

    def test_the_loss_is_the_sum_of_its_four_parts(self, dataset: FederatedDataset, backbone: Backbone) -> None:
        algorithm = make("fedpha", alpha=0.9)
        contexts, shared, local = apart(dataset, backbone, algorithm)
        found = losses(algorithm, contexts, shared, local)
        for i, context in enumerate(contexts):
            direction = np.linalg.svd(shared[i].numpy())[2][:1]
            rest = local[i] - torch.from_numpy(local[i].numpy() @ direction.T @ direction)
            of_g, of_p, of_r = (
                backbone.class_features(each[None], context.tokens)[0] for each in (shared[i], local[i], rest)
            )
            logits = [backbone.logit_scale * context.features[:8] @ texts.T for texts in (of_p, of_g)]
            expected = sum(F.cross_entropy(each, context.labels[:8]) for each in logits)
            expected += F.mse_loss(of_p, of_r) + F.relu(0.9 - (of_p - of_g).norm(dim=-1)).mean()
            torch.testing.assert_close(found[i], expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(
        ("n_ctx", "ratio", "removed"), [(16, 0.8, 3), (4, 0.8, 1), (5, 0.8, 1), (4, 1.0, 0), (4, 0.0, 4)]
    )
    def test_what_is_removed_is_orthogonal_to_the_leading_directions(
        self, n_ctx: int, ratio: float, removed: int
    ) -> None:
        algorithm = make("fedpha", ratio=ratio, prompt=type(make("fedpha").prompt)(n_ctx=n_ctx))
        assert algorithm.removed == removed
        draw = torch.Generator().manual_seed(0)
        shared, local = (torch.randn(3, n_ctx, 32, generator=draw) for _ in range(2))
        rest = without_leading(local, shared, removed)
        leading = torch.linalg.svd(shared).Vh[:, :removed]
        assert removed == 0 or float((rest @ leading.transpose(1, 2)).abs().max()) < 1e-5
        others = torch.linalg.svd(shared).Vh[:, removed:]
        torch.testing.assert_close(rest @ others.transpose(1, 2), local @ others.transpose(1, 2), rtol=1e-4, atol=1e-5)

    def test_equal_prompts_have_a_gradient_that_is_finite(self, dataset: FederatedDataset, backbone: Backbone) -> None:
        algorithm = make("fedpha")
        contexts, _, local = apart(dataset, backbone, algorithm)
        same = local.clone().requires_grad_()
        losses(algorithm, contexts, local.clone().requires_grad_(), same).sum().backward()
        assert same.grad is not None and torch.isfinite(same.grad).all() and same.grad.any()


class TestPFedPrompt:
    def test_the_shared_prompt_and_what_is_sent_are_promptfls(
        self, dataset: FederatedDataset, backbone: Backbone
    ) -> None:
        mine, plain = (run(dataset, backbone, make(name)) for name in ("pfedprompt", "promptfl"))
        np.testing.assert_array_equal(mine.prompts, plain.prompts)
        assert mine.costs.up == plain.costs.up and mine.costs.down == plain.costs.down
        assert not np.array_equal(mine.metrics["own"], plain.metrics["own"])
        forgotten = run(dataset, backbone, make("pfedprompt", memory_weight=0.0))
        assert all(np.array_equal(values, plain.metrics[name]) for name, values in forgotten.metrics.items())

    def test_an_image_is_like_what_its_nearest_are(self, dataset: FederatedDataset, backbone: Backbone) -> None:
        algorithm = make("pfedprompt", sharpness=3.0, memory_weight=2.0)
        contexts, states = begun(algorithm, dataset, backbone)
        context, n_classes = contexts[0], len(dataset.classes)
        texts = backbone.class_features(torch.from_numpy(context.start)[None], context.tokens)[:, None]
        images = context.validation_features
        logits = backbone.logit_scale * images @ texts[0, 0].T
        found = algorithm.visual(context, states[0], texts).beside(logits[None, None], images)[0, 0]
        expected = logits.clone()
        for key, label in zip(context.features, context.labels, strict=True):
            expected[:, label] += 2.0 * torch.exp(-3.0 * (1 - images @ key))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        assert found.shape == (len(images), n_classes)

    def test_each_client_takes_the_weight_that_makes_its_validation_images_likeliest(
        self, dataset: FederatedDataset, backbone: Backbone
    ) -> None:
        algorithm = make("pfedprompt")
        contexts, states = begun(algorithm, dataset, backbone)
        chosen = []
        for context, state in zip(contexts, states, strict=True):
            texts = backbone.class_features(torch.from_numpy(context.start)[None], context.tokens)[:, None]
            images, labels = context.validation_features, torch.from_numpy(context.data.validation.labels)
            logits = (backbone.logit_scale * images @ texts[0, 0].T)[None, None]
            prior = torch.from_numpy(context.log_prior(algorithm.prior_smoothing))

            def loss(weight: float | None) -> float:
                beside = make("pfedprompt", memory_weight=weight).visual(context, state, texts)  # noqa: B023
                return float(F.cross_entropy(beside.beside(logits, images)[0, 0] + prior, labels))  # noqa: B023

            fixed = [loss(weight) for weight in WEIGHTS]
            assert loss(None) == pytest.approx(min(fixed), rel=1e-4)
            chosen.append(int(np.argmin(fixed)))
        assert len(set(chosen)) > 1

    def test_no_more_is_remembered_than_asked_for(self, dataset: FederatedDataset, backbone: Backbone) -> None:
        algorithm = make("pfedprompt", images=5)
        contexts, _ = begun(algorithm, dataset, backbone)
        memory = algorithm.memory(contexts[0])
        assert memory.weights.shape[2] == 5 < len(contexts[0].labels)
        keys = memory.weights[0, 0] / algorithm.sharpness
        assert torch.allclose((keys @ contexts[0].features.T).max(1).values, torch.ones(5))
        again = algorithm.memory(contexts[0])
        assert torch.equal(memory.weights, again.weights)

    def test_class_means_have_no_place_beside_a_memory(self) -> None:
        with pytest.raises(ConfigError, match="pfedprompt knows none"):
            make("pfedprompt", class_means=ClassMeans(levels="own"))

    @pytest.mark.parametrize(("name", "value"), [("sharpness", 0.0), ("images", 0), ("memory_weight", -1.0)])
    def test_settings_that_cannot_be_are_refused(self, name: str, value: float) -> None:
        with pytest.raises(ConfigError, match=name):
            make("pfedprompt", **{name: value})
