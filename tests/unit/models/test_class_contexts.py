from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from secfpp.errors import ConfigError, DataError
from secfpp.models.backbone import load_backbone
from secfpp.models.class_contexts import fit_class_contexts, with_made_up
from secfpp.models.coop_checkpoint import from_coop, to_coop
from secfpp.models.prompt_file import ClientPrompt
from support.tiny_clip import TinyClip

CLASSES = ("cat", "dog", "bird")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_backbone(str(TinyClip().save(tmp_path_factory.mktemp("tiny"))), device="cpu")


def images(seed: int, n: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def whole(backbone: Any) -> ClientPrompt:
    """A prompt on two levels with a visual part, so that neither prompt predicts as both do."""
    rng = np.random.default_rng(0)
    return ClientPrompt(
        prompt=0.1 * rng.normal(size=(4, 32)).astype(np.float32),
        domain_prompt=0.1 * rng.normal(size=(4, 32)).astype(np.float32),
        familiar=np.array([True, True, False]),
        trust=0.7,
        classes=CLASSES,
        backbone=backbone.spec.name,
        backbone_digest=backbone.spec.digest,
        visual_weights=rng.normal(size=(2, 3, 24)).astype(np.float32),
        visual_bias=rng.normal(size=(2, 3)).astype(np.float32),
        text_weight=np.float32([0.5, 0.25]),
        log_prior=np.log(np.float32([0.7, 0.2, 0.1])),
        client="a",
        image_size=32,
    )


def divergence(full: np.ndarray, other: np.ndarray) -> float:
    return float((full * np.log(full / other)).sum(1).mean())


def test_it_predicts_as_the_full_predictor_on_images_it_never_saw(whole: ClientPrompt, backbone: Any) -> None:
    alone = whole.with_class_contexts(images(0), backbone=backbone)
    assert alone.prompt.shape == (3, 4, 32)
    assert (alone.domain_prompt, alone.familiar, alone.visual_weights, alone.text_weight) == (None, None, None, None)
    for prior in ("own", "uniform"):
        full, found, plain = (
            p.predict_proba(images(1), backbone=backbone, prior=prior)  # type: ignore[arg-type]
            for p in (whole, alone, whole.one_level().without_visual())
        )
        assert divergence(full, found) < 0.1 * divergence(full, plain)


def test_class_frequencies_can_be_put_into_the_contexts(whole: ClientPrompt, backbone: Any) -> None:
    alone = fit_class_contexts(whole, images(0), backbone, prior="own")
    assert alone.log_prior is None
    full, found = (p.predict_proba(images(1), backbone=backbone) for p in (whole, alone))
    uniform = whole.predict_proba(images(1), backbone=backbone, prior="uniform")
    assert divergence(full, found) < 0.1 * divergence(full, uniform)
    prior: Any
    for bad, prior in ((replace(whole, log_prior=None), "own"), (whole, "mine")):
        with pytest.raises(ConfigError, match=r"prior = .*: uniform, or own for a prompt with class frequencies"):
            fit_class_contexts(bad, images(0), backbone, prior=prior)


def test_coop_predicts_as_the_client_does(whole: ClientPrompt, backbone: Any, tmp_path: Any) -> None:
    alone = fit_class_contexts(whole, images(0), backbone, class_template="{}.")
    path = tmp_path / "model.pth.tar-1"
    path.write_bytes(to_coop(alone, backbone))
    ctx = torch.load(path, weights_only=True)["state_dict"]["ctx"]
    assert ctx.shape == (3, 4, 32)
    again = from_coop(path, CLASSES, backbone)
    assert again.class_template == "{}."
    full = whole.predict_proba(images(1), backbone=backbone, prior="uniform")
    assert divergence(full, again.predict_proba(images(1), backbone=backbone)) < 0.03


def test_what_is_a_prompt_alone_stays_what_it_is(whole: ClientPrompt, backbone: Any) -> None:
    plain = whole.one_level().without_visual()
    alone = fit_class_contexts(plain, images(0), backbone)
    np.testing.assert_array_equal(alone.prompt, np.stack([plain.prompt] * 3))
    np.testing.assert_array_equal(fit_class_contexts(alone, images(0), backbone).prompt, alone.prompt)


def test_the_same_images_give_the_same_contexts(whole: ClientPrompt, backbone: Any) -> None:
    first, second = (fit_class_contexts(whole, images(0), backbone, steps=2).prompt for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("n", [1, 5, 60])
def test_made_up_features_lie_as_the_images_do(n: int) -> None:
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(3, 24, generator=generator)
    features = torch.ones(n, 24) + 0.3 * torch.randn(n, 3, generator=generator) @ directions
    features = torch.nn.functional.normalize(features, dim=-1)
    found = with_made_up(features)
    assert torch.equal(found[:n], features) and torch.isfinite(found).all()
    torch.testing.assert_close(found.norm(dim=1), torch.ones(len(found)))
    if n == 60:
        spread, made_up = (torch.cov(part.T) for part in (features, found[n:]))
        assert (spread - made_up).norm() < 0.25 * spread.norm()
    torch.testing.assert_close(found[n:].mean(0), features.mean(0), atol=0.03, rtol=0)


def test_what_cannot_work_is_refused(whole: ClientPrompt, backbone: Any) -> None:
    with pytest.raises(ConfigError, match=r"steps = 0: at least 1\nrate = 0: must be positive"):
        fit_class_contexts(whole, images(0), backbone, steps=0, rate=0)
    with pytest.raises(DataError, match="is no image"):
        fit_class_contexts(whole, np.zeros((2, 3)), backbone)
