from types import SimpleNamespace

import numpy as np
import pytest
import torch

from secfpp.algorithms.base import methods
from secfpp.algorithms.visual import UNKNOWN, ClassMeans, all_weighed, weighed
from secfpp.errors import ConfigError
from secfpp.models.class_means import ClassSums, Scatter
from secfpp.models.scoring import Predictor, Visual, level_logits, smoothed_log_prior


def client(labels, validation, seed=0, n_classes=3, dim=8):
    rng = np.random.default_rng(seed)
    centres = torch.from_numpy(3 * rng.standard_normal((n_classes, dim))).float()

    def features(of):
        return centres[of] + 0.1 * torch.from_numpy(rng.standard_normal((len(of), dim))).float()

    labels, validation = np.array(labels, np.int64), np.array(validation, np.int64)
    counts = np.bincount(labels, minlength=n_classes)
    empty = np.zeros((0, 1, 1, 3), np.uint8)
    split = lambda of: SimpleNamespace(labels=of, images=empty)  # noqa: E731
    return SimpleNamespace(
        client="a",
        features=features(labels),
        validation_features=features(validation) if len(validation) else torch.zeros(0, dim),
        data=SimpleNamespace(train=split(labels), validation=split(validation)),
        tokens=SimpleNamespace(names=tuple("abcdefgh"[:n_classes])),
        histogram=counts,
        backbone=SimpleNamespace(device=torch.device("cpu"), logit_scale=10.0),
        log_prior=lambda smoothing: smoothed_log_prior(counts, smoothing),
    )


def misleading(context):
    """Class features that name every class wrongly."""
    means = torch.stack([context.features[context.data.train.labels == c].mean(0) for c in (1, 2, 0)])
    return torch.nn.functional.normalize(means, dim=-1)[None, None]


def test_validation_decides_against_a_misleading_prompt_and_for_a_right_one():
    context = client([0, 1, 2] * 10, [0, 1, 2] * 5)
    scorer = ClassMeans(levels="own").scorer(context, 1)
    wrong = weighed(context, misleading(context), scorer, Predictor())
    assert wrong.text_weight.max() == 0 and wrong.weights.abs().max() > 0
    nothing = Visual(torch.zeros_like(scorer.weights), torch.zeros_like(scorer.bias), torch.ones(1, 1))
    right = misleading(context)[:, :, [2, 0, 1]]
    assert weighed(context, right, nothing, Predictor()).text_weight.min() > 0


def test_without_validation_images_the_weights_are_fixed():
    context = client([0, 1, 2] * 4, [])
    scorer = ClassMeans(levels="own").scorer(context, 1)
    found = weighed(context, misleading(context), scorer, Predictor())
    assert found.text_weight.max().item() == pytest.approx(UNKNOWN[0])
    assert torch.allclose(found.weights, UNKNOWN[1] * scorer.weights)


@pytest.mark.parametrize("misled", [True, False])
def test_the_domain_level_has_the_clients_own_means_where_others_mislead(misled):
    context = client([0, 1, 2] * 10, [0, 1, 2] * 5)
    own = ClassMeans(levels="own").scorer(context, 1)
    wrong, right = own.weights[:, :, [1, 2, 0]], own.weights
    order = (right, wrong) if misled else (wrong, right)  # the personal level, then the domain's
    scorer = Visual(torch.cat(order, 1), own.bias.expand(1, 2, 3), torch.ones(1, 2))
    nothing = torch.zeros(1, 2, 3, 8)
    found = weighed(context, nothing, scorer, Predictor(familiar_share=9.0))  # no class is familiar: domain alone
    share = found.weights[:, 1] / right[:, 0]
    assert share.min() > 0 and torch.allclose(share, share.mean())


def test_the_chosen_weights_are_the_likeliest_of_all():
    context = client([0, 0, 1, 2] * 6, [0, 1, 2, 2, 1, 0])
    texts = torch.nn.functional.normalize(torch.randn(1, 2, 3, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    scorer = ClassMeans(levels="own").scorer(context, 2)
    predictor = Predictor(trust=1.0)
    chosen = weighed(context, texts, scorer, predictor)
    familiar = (context.histogram > 0) & (3 * context.histogram >= predictor.familiar_share * 24)
    assert familiar.all()  # so that the domain level only divides what the personal one decides

    def loss(visual):
        logits = level_logits(context.validation_features, texts, 10.0, visual)[0, 0]
        logits = logits + torch.from_numpy(context.log_prior(0.1))
        return torch.nn.functional.cross_entropy(logits, torch.from_numpy(context.data.validation.labels)).item()

    others = [
        Visual(b * scorer.weights, b * scorer.bias, torch.tensor([[a, a]]))
        for a in (0.0, 0.5, 1.0)
        for b in (0.05, 0.2, 1.0)
    ]
    assert loss(chosen) <= min(map(loss, others)) + 1e-6


def test_a_class_that_only_others_have_gets_its_mean_from_them():
    own, others = client([0, 0, 1, 1] * 5, [0, 1]), client([0, 1, 2] * 20, [], seed=0)
    labels = others.data.train.labels
    sums = ClassSums.of(others.features.numpy(), labels, 3)
    scatter = Scatter.of(others.features.numpy(), labels, sums)
    scorer = ClassMeans(levels="none").scorer(own, 1, sums, None, scatter)
    scores = level_logits(others.features, scorer.weights, 1.0)[0, 0] + scorer.bias[0, 0]
    assert (scores.argmax(1).numpy() == labels).mean() > 0.95
    alone = ClassMeans(levels="own").scorer(own, 1)
    assert not torch.allclose(alone.weights[0, 0, 2], scorer.weights[0, 0, 2], atol=0.1)


def test_a_group_whose_names_differ_overrules_everybody():
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((3, 8))
    everybody = ClassSums(centres * 100, np.full(3, 100.0))
    group = ClassSums(centres[[1, 2, 0]] * 60, np.full(3, 60.0))
    settings = ClassMeans(group_pull=8.0)
    means = settings.shared_means(everybody, group)
    assert np.abs(means - centres[[1, 2, 0]]).max() < 0.5 < np.abs(means - centres).max()


def test_levels_that_a_method_does_not_know_are_refused():
    with pytest.raises(ConfigError, match=r"class_means\.levels"):
        methods()["coop_local"](class_means=ClassMeans(levels="group"))
    with pytest.raises(ConfigError, match="min_holders"):
        ClassMeans(min_holders=1)


def test_clients_weighed_side_by_side_are_weighed_each_alone(monkeypatch):
    monkeypatch.setattr("secfpp.algorithms.visual.AT_ONCE", 3_000)  # two of six images, or three of four, at once
    sizes = [6, 4, 0, 6, 4, 4, 6, 6, 4]
    some = [client([0, 1, 2, i % 3] * 3, [0, 1, 2, 0, 1, 2][:n], seed=i) for i, n in enumerate(sizes)]
    for levels in (1, 2):
        scorer = Visual.stacked([ClassMeans(levels="own").scorer(one, levels) for one in some])
        texts = torch.nn.functional.normalize(torch.randn(9, levels, 3, 8, generator=torch.manual_seed(0)), dim=-1)
        together = all_weighed(some, texts, scorer, Predictor())
        alone = Visual.stacked(
            [weighed(one, texts[i : i + 1], scorer[i : i + 1], Predictor()) for i, one in enumerate(some)]
        )
        assert len(torch.unique(together.text_weight)) > 1
        for name in ("weights", "bias", "text_weight"):
            assert torch.equal(getattr(together, name), getattr(alone, name)), name
