from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from secfpp.data.icons import IconSettings, load_icons
from secfpp.errors import ConfigError, DataError
from secfpp.experiment.results.summary import novelties
from secfpp.models.backbone import load_backbone
from secfpp.models.novelty import Novelty, novelty
from secfpp.models.prompt_file import ClientPrompt, load_prompt

DIM = 128


def gaussian(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Features of unequal spread; float32 [n, DIM]."""
    spread = np.linspace(0.5, 2, DIM)
    return (shift + spread * np.random.default_rng(seed).normal(size=(n, DIM))).astype(np.float32)


def test_training_images_are_one_standard_deviation_away_and_others_as_far_as_they_are() -> None:
    known = Novelty.of(gaussian(2000, 0), gaussian(500, 1))
    assert known is not None
    assert np.sqrt(np.square(novelty(gaussian(2000, 0), known.mean, known.spread)).mean()) == pytest.approx(1, abs=0.05)
    by_hand = [np.sqrt(np.mean([((x - m) / s) ** 2 for x, m, s in zip(row, known.mean, known.spread, strict=True)]))
               for row in gaussian(3, 2)]  # fmt: skip
    np.testing.assert_allclose(novelty(gaussian(3, 2), known.mean, known.spread), by_hand, rtol=1e-5)
    assert (novelty(gaussian(200, 3, shift=3), known.mean, known.spread) > known.threshold).all()


@pytest.mark.parametrize(("train", "validation"), [(300, 100), (300, 19), (200, 10), (100, 0)])
def test_about_one_in_twenty_of_new_images_lies_above_the_threshold(train: int, validation: int) -> None:
    above = []
    for seed in range(0, 120, 3):
        known = Novelty.of(gaussian(train, seed), gaussian(validation, seed + 1))
        assert known is not None
        above.append((novelty(gaussian(200, seed + 2), known.mean, known.spread) > known.threshold).mean())
    assert 0.02 < np.mean(above) < 0.09


def test_the_threshold_is_a_quantile_of_validation_images_alone_if_they_are_enough() -> None:
    train, validation = gaussian(50, 0), gaussian(19, 1)
    known, fewer = Novelty.of(train, validation), Novelty.of(train, validation[:18])
    assert known is not None and fewer is not None
    scores = novelty(validation, known.mean, known.spread)
    assert known.threshold == pytest.approx(scores.max(), rel=1e-6)  # the 19th of 19
    left_out = 50 / 49 * novelty(train, known.mean, known.spread)
    both = np.sort(np.concatenate([novelty(validation[:18], known.mean, known.spread), left_out]))
    assert fewer.threshold == pytest.approx(both[65], rel=1e-6)  # the 66th of 68: 0.95 * 69 rounded up


@pytest.mark.parametrize(
    "train", [np.zeros((0, 4), np.float32), np.ones((1, 4), np.float32), np.ones((9, 4), np.float32)]
)
def test_images_that_do_not_differ_say_nothing(train: np.ndarray) -> None:
    assert Novelty.of(train, train) is None


@pytest.fixture(scope="module")
def mini() -> Any:
    return load_backbone("mini", device="cpu")


@pytest.fixture(scope="module")
def icons() -> Any:
    return load_icons(IconSettings(domains=("sketch", "pixel"), clients_per_domain=1, shots=16, test_shots=4), seed=0)


@pytest.fixture
def prompt(mini: Any, icons: Any) -> ClientPrompt:
    """What the client of the sketches knows of its images."""
    known = novelties(icons, mini)["sketch-0"]
    return ClientPrompt(
        prompt=mini.initial_prompt("an icon of", 4),
        classes=icons.classes,
        backbone="mini",
        backbone_digest=mini.spec.digest,
        log_prior=np.zeros(len(icons.classes), np.float32),
        image_mean=known.mean,
        image_spread=known.spread,
        novelty_threshold=known.threshold,
        client="sketch-0",
        image_size=48,
    )


def others(size: int = 48) -> dict[str, np.ndarray]:
    """Pictures that no client has: noise, one colour, stripes; uint8 [50, size, size, 3] each."""
    rng = np.random.default_rng(0)
    flat = rng.integers(0, 256, (50, 1, 1, 3), dtype=np.uint8)
    phase = rng.uniform(0.2, 2, (50, 1, 1, 1)) * np.arange(size)[None, :, None, None] + np.zeros((50, size, size, 3))
    return {
        "noise": rng.integers(0, 256, (50, size, size, 3), dtype=np.uint8),
        "colours": np.array(np.broadcast_to(flat, (50, size, size, 3))),
        "stripes": (127.5 + 127.5 * np.sin(phase)).astype(np.uint8),
    }


def test_images_unlike_the_training_ones_are_told_from_those_like_them(
    prompt: ClientPrompt, mini: Any, icons: Any
) -> None:
    own = icons.test["sketch"].images
    assert prompt.unlike_training(own, backbone=mini).mean() < 0.15
    scores = prompt.novelty(own, backbone=mini)
    assert scores.dtype == np.float32 and scores.shape == (len(own),)
    for name, images in others().items():
        assert prompt.unlike_training(images, backbone=mini).mean() > 0.5, name
    assert prompt.unlike_training(icons.test["pixel"].images, backbone=mini).mean() > 0.5
    best = prompt.predict_proba(others()["noise"], backbone=mini).max(1)
    assert (best > 1.5 / len(icons.classes)).all()  # a probability alone would not have said so


def test_it_is_kept_in_the_file_and_by_copies_that_stay_with_the_client(prompt: ClientPrompt, tmp_path: Path) -> None:
    prompt.save(tmp_path / "a")
    again = load_prompt(tmp_path / "a")
    np.testing.assert_array_equal(again.image_mean, prompt.image_mean)
    np.testing.assert_array_equal(again.image_spread, prompt.image_spread)
    assert again.novelty_threshold == prompt.novelty_threshold
    assert repr(again).endswith("with log_prior, novelty)")
    two = replace(prompt, domain_prompt=prompt.prompt, familiar=np.ones(len(prompt.classes), bool), trust=0.5)
    assert two.one_level().novelty_threshold == prompt.novelty_threshold
    for given_away in (two.one_level("domain"), prompt.without_prior(), prompt.without_novelty()):
        assert (given_away.image_mean, given_away.image_spread, given_away.novelty_threshold) == (None, None, None)


def test_a_prompt_without_it_says_so(prompt: ClientPrompt, mini: Any) -> None:
    with pytest.raises(
        ConfigError, match="novelty = 'sketch-0': unknown to this prompt: written by an earlier version"
    ):
        prompt.without_novelty().unlike_training(others()["noise"], backbone=mini)


def test_files_of_the_format_before_are_read_without_it(prompt: ClientPrompt, tmp_path: Path) -> None:
    bare = prompt.without_novelty()
    whole = {"format": "secfpp-prompt-4", "classes": '["cat", "dog"]', "backbone": "mini", "backbone_digest": "x"}
    (tmp_path / "a").write_bytes(save({"prompt": bare.prompt}, metadata=whole))
    assert load_prompt(tmp_path / "a").novelty_threshold is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image_mean": None}, "image_mean, image_spread and novelty_threshold belong together: give all or none"),
        ({"novelty_threshold": None}, "belong together"),
        ({"image_mean": np.zeros((2, DIM))}, r"image_mean has shape \(2, 128\) instead of \[projection\]"),
        ({"image_spread": np.ones(DIM - 1)}, r"image_mean \(128,\), image_spread \(127,\) .* are not of one size"),
        ({"image_spread": np.zeros(DIM)}, "image_spread holds values that are not positive"),
        ({"novelty_threshold": float("nan")}, "novelty_threshold nan is not a positive number"),
        ({"novelty_threshold": 0.0}, "novelty_threshold 0.0 is not a positive number"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(prompt: ClientPrompt, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        replace(prompt, **changes)


def test_features_of_another_size_are_refused(prompt: ClientPrompt, mini: Any) -> None:
    smaller = replace(prompt, image_mean=np.zeros(24, np.float32), image_spread=np.ones(24, np.float32))
    with pytest.raises(
        DataError, match="image_mean is for image features of 24 numbers, but the model 'mini' gives 128"
    ):
        smaller.novelty(others()["noise"], backbone=mini)
