"""Prompt files with a visual part, and with contexts of single classes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from secfpp.errors import ConfigError, DataError
from secfpp.models.backbone import load_backbone
from secfpp.models.pools import Mixture
from secfpp.models.prompt_file import ClientPrompt, load_prompt
from secfpp.models.scoring import Predictor, Visual, familiar_classes
from secfpp.runtime.evaluation import class_features, client_logits
from support.tiny_clip import TinyClip

CLASSES = ("cat", "dog", "bird")
HISTOGRAM = np.array([5, 1, 6])
VISUAL = ("visual_weights", "visual_bias", "text_weight")
MEMORY = "visual_memory"


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_backbone(str(TinyClip().save(tmp_path_factory.mktemp("tiny"))), device="cpu")


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


def vectors(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture
def one(backbone: Any) -> ClientPrompt:
    """A prompt on one level with a visual part."""
    return ClientPrompt(
        prompt=vectors(4, 32),
        classes=CLASSES,
        backbone=backbone.spec.name,
        backbone_digest=backbone.spec.digest,
        visual_weights=9 * vectors(1, 3, 24, seed=3),
        visual_bias=vectors(1, 3, seed=4),
        text_weight=np.float32([0.25]),
        log_prior=np.log(np.float32([0.7, 0.2, 0.1])),
        image_size=32,
    )


@pytest.fixture
def two(one: ClientPrompt) -> ClientPrompt:
    """The same on two levels."""
    return replace(
        one,
        domain_prompt=vectors(4, 32, seed=2),
        familiar=familiar_classes(HISTOGRAM, 0.5),
        trust=0.7,
        visual_weights=9 * vectors(2, 3, 24, seed=3),
        visual_bias=vectors(2, 3, seed=4),
        text_weight=np.float32([0.25, 0.5]),
    )


@pytest.fixture
def mixed(two: ClientPrompt) -> ClientPrompt:
    """The same with its levels joined by a pool."""
    visual = {name: getattr(two, name)[:1] for name in VISUAL}
    return replace(two, familiar=None, trust=1.0, pool=Mixture(personal=0.3), **visual)


@pytest.fixture
def remembering(one: ClientPrompt) -> ClientPrompt:
    """A prompt beside four remembered images."""
    rows = vectors(1, 4, 24, seed=5)
    said = np.eye(3, dtype=np.float32)[[0, 0, 1, 2]][None]
    return replace(one, visual_weights=rows, visual_bias=-rows.sum(-1), visual_memory=said)


@pytest.fixture(params=["one", "two", "mixed", "remembering"])
def either(request: pytest.FixtureRequest) -> ClientPrompt:
    prompt: ClientPrompt = request.getfixturevalue(request.param)
    return prompt


def test_predictions_are_the_evaluations_own(either: ClientPrompt, backbone: Any, pixels: np.ndarray) -> None:
    tokens = backbone.class_tokens(CLASSES, 4)
    contexts: Any = [SimpleNamespace(backbone=backbone, tokens=tokens, histogram=HISTOGRAM)]
    levels = [each for each in (either.prompt, either.domain_prompt) if each is not None]
    texts = class_features(contexts, np.stack(levels)[None])
    for weights in ([0.0, 0.0], [0.25, 0.5], [1.0, 0.0]):
        assert either.text_weight is not None
        prompt = replace(either, text_weight=np.float32(weights[: len(either.text_weight)]))
        memory = None if prompt.visual_memory is None else torch.tensor(prompt.visual_memory)[None]
        visual = Visual(*(torch.tensor(getattr(prompt, name))[None] for name in VISUAL), memory)
        predictor = Predictor(familiar_share=0.5, trust=prompt.trust, pool=prompt.pool)
        logits = client_logits(contexts, texts, backbone.features(pixels), predictor, visual)[0]
        for prior, shift in (("uniform", 0), ("own", torch.tensor(prompt.log_prior))):
            found = prompt.predict_proba(pixels, backbone=backbone, prior=prior)  # type: ignore[arg-type]
            np.testing.assert_allclose(found, (logits + shift).softmax(1).numpy(), atol=1e-6)


def test_what_is_saved_is_what_is_loaded(either: ClientPrompt, tmp_path: Path) -> None:
    either.save(tmp_path / "a")
    again = load_prompt(tmp_path / "a")
    for name in (*VISUAL, MEMORY):
        np.testing.assert_array_equal(getattr(again, name), getattr(either, name))
    assert again.pool == either.pool
    assert "with a visual part, log_prior" in repr(again)


def test_a_level_alone_keeps_its_own_visual_part(two: ClientPrompt, backbone: Any, pixels: np.ndarray) -> None:
    for at, level in enumerate(("personal", "domain")):
        alone = two.one_level(level)  # type: ignore[arg-type]
        for name in VISUAL:
            np.testing.assert_array_equal(getattr(alone, name), getattr(two, name)[at : at + 1])
        trusted = replace(two, familiar=np.full(3, level == "personal"), trust=1.0)
        np.testing.assert_allclose(
            alone.predict_proba(pixels, backbone=backbone), trusted.predict_proba(pixels, backbone=backbone), atol=1e-5
        )


def test_what_is_given_away_holds_no_class_means(either: ClientPrompt) -> None:
    for bare in (either.without_prior(), either.one_level("personal").without_prior()):
        assert (bare.visual_weights, bare.visual_bias, bare.text_weight, bare.log_prior) == (None, None, None, None)
        np.testing.assert_array_equal(bare.prompt, either.prompt)
        assert b"visual" not in bare.to_bytes() and b"text_weight" not in bare.to_bytes()
    plain = either.without_visual()
    assert plain.visual_weights is None and plain.log_prior is not None
    assert (plain.domain_prompt is None) == (either.domain_prompt is None)


def test_without_the_visual_part_it_predicts_otherwise(either: ClientPrompt, backbone: Any, pixels: np.ndarray) -> None:
    whole, plain = (p.predict_proba(pixels, backbone=backbone) for p in (either, either.without_visual()))
    assert np.abs(whole - plain).max() > 0.05


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"visual_bias": None}, "visual_weights, visual_bias, text_weight belong together: give all or none"),
        ({"visual_weights": None, "visual_bias": None}, "belong together"),
        ({"visual_weights": np.zeros((2, 3, 24))}, r"\(2, 3, 24\) instead of .* with 1 levels and 3 classes"),
        ({"visual_weights": np.zeros((1, 4, 24))}, r"visual_weights has shape \(1, 4, 24\) instead of \[levels, n_cls"),
        ({"visual_bias": np.zeros((2, 3))}, r"visual_bias has shape \(2, 3\) instead of \[levels, n_cls\] with"),
        ({"visual_weights": np.zeros((3, 24))}, r"visual_weights has shape \(3, 24\) instead of \[levels, n_cls, proj"),
        ({"visual_bias": np.full((1, 3), np.nan)}, "visual_bias holds values that are not finite"),
        ({"visual_weights": np.zeros((1, 3, 24), int)}, "visual_weights holds int64"),
        ({"text_weight": 0.5}, r"text_weight has shape None instead of \[levels\]"),
        ({"text_weight": np.ones(2)}, r"text_weight has shape \(2,\) instead of \[levels\] with 1 levels"),
        ({"text_weight": np.array([-0.5])}, r"text_weight \[-0.5\] is not 0 or more"),
        ({"text_weight": np.array([np.inf])}, "text_weight holds values that are not finite"),
    ],
)
def test_what_does_not_fit_together_is_refused(one: ClientPrompt, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        replace(one, **changes)


def test_a_visual_part_for_one_level_is_refused_on_two(two: ClientPrompt, one: ClientPrompt) -> None:
    with pytest.raises(DataError, match=r"visual_weights has shape \(1, 3, 24\) .* 2 levels and 3 classes"):
        replace(two, visual_weights=one.visual_weights)


def test_image_features_of_another_size_are_refused(one: ClientPrompt, backbone: Any, pixels: np.ndarray) -> None:
    narrow = replace(one, visual_weights=np.zeros((1, 3, 23)))
    with pytest.raises(DataError, match=r"features of 23 numbers, but the model .* gives 24: give the model that"):
        narrow.predict(pixels, backbone=backbone)


def test_a_file_with_half_a_visual_part_is_refused(tmp_path: Path) -> None:
    about = {"format": "secfpp-prompt-4", "classes": json.dumps(CLASSES), "backbone": "m", "backbone_digest": "d"}
    arrays = {"prompt": vectors(2, 4), "visual_weights": vectors(1, 3, 5), "visual_bias": vectors(1, 3)}
    path = tmp_path / "a"
    path.write_bytes(save(arrays, metadata=about))
    with pytest.raises(DataError, match="text_weight belong together"):
        load_prompt(path)


@pytest.fixture
def single(one: ClientPrompt) -> ClientPrompt:
    """Contexts of single classes."""
    return replace(one.without_visual(), prompt=vectors(3, 4, 32))


def test_contexts_of_single_classes_stand_before_their_own(single: ClientPrompt, backbone: Any, tmp_path: Path) -> None:
    features = single.class_features(backbone)
    for at, context in enumerate(single.prompt):
        shared = replace(single, prompt=context).class_features(backbone)
        np.testing.assert_allclose(features[at], shared[at], atol=1e-6)
    single.save(tmp_path / "a")
    np.testing.assert_array_equal(load_prompt(tmp_path / "a").prompt, single.prompt)
    assert "3 classes, 4 x 32 for each class, with log_prior" in repr(single)


def test_contexts_of_single_classes_predict_like_any_prompt(
    single: ClientPrompt, backbone: Any, pixels: np.ndarray
) -> None:
    logits = backbone.logit_scale * backbone.features(pixels).numpy() @ single.class_features(backbone).T
    expected = torch.from_numpy(logits).softmax(1).numpy()
    found = single.predict_proba(pixels, backbone=backbone, prior="uniform")
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_contexts_for_another_number_of_classes_are_refused(single: ClientPrompt) -> None:
    with pytest.raises(DataError, match="prompt has contexts for 4 single classes, but there are 3"):
        replace(single, prompt=vectors(4, 4, 32))


def test_contexts_of_single_classes_cannot_be_made_to_forget_them(single: ClientPrompt) -> None:
    with pytest.raises(ConfigError, match="contexts of single classes': tell the client's classes themselves: take"):
        single.without_prior()
