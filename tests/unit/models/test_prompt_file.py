from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from safetensors.numpy import save

from secfpp.errors import ConfigError, DataError
from secfpp.models.backbone import load_backbone
from secfpp.models.prompt_file import ClientPrompt, load_prompt
from secfpp.models.scoring import cosine_logits
from support.tiny_clip import TinyClip

CLASSES = ("cat", "dog", "bird")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TinyClip().save(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def backbone(folder: Path) -> Any:
    return load_backbone(str(folder), device="cpu")


@pytest.fixture
def prompt(backbone: Any) -> ClientPrompt:
    rng = np.random.default_rng(0)
    return ClientPrompt(
        prompt=rng.normal(size=(4, 32)).astype(np.float32),
        classes=CLASSES,
        backbone=backbone.spec.name,
        backbone_digest=backbone.spec.digest,
        log_prior=np.log(np.float32([0.7, 0.2, 0.1])),
        client="hospital-a",
        domain="xray",
        method="secfpp",
        seed=7,
        rounds=20,
        image_size=32,
    )


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


def fields(prompt: ClientPrompt) -> dict[str, Any]:
    return {name: value for name, value in vars(prompt).items() if name not in ("prompt", "log_prior")}


def test_what_is_saved_is_what_is_loaded(prompt: ClientPrompt, tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.safetensors"
    prompt.save(path)
    again = load_prompt(path)
    assert fields(again) == fields(prompt)
    np.testing.assert_array_equal(again.prompt, prompt.prompt)
    np.testing.assert_array_equal(again.log_prior, prompt.log_prior)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@settings(max_examples=30)
@given(
    vectors=arrays(np.float32, (2, 3), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    names=st.lists(st.text(st.characters(exclude_categories=["Cs", "Z", "C"]), min_size=1), min_size=2, unique=True),
    client=st.text(st.characters(exclude_categories=["Cs"])),
)
def test_any_names_and_numbers_survive(
    vectors: np.ndarray, names: list[str], client: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    ClientPrompt(prompt=vectors, classes=tuple(names), backbone="m", backbone_digest="d", client=client).save(str(path))
    again = load_prompt(str(path))
    assert (again.classes, again.client, again.log_prior) == (tuple(names), client, None)
    assert again.prompt.tobytes() == vectors.tobytes()


def test_arrays_are_its_own_and_cannot_be_changed(backbone: Any) -> None:
    mine = np.zeros((1, 4))
    prompt = ClientPrompt(prompt=mine, classes=("a", "b"), backbone="m", backbone_digest="d")
    mine[:] = 7
    assert prompt.prompt.dtype == np.float32 and not prompt.prompt.any()
    with pytest.raises(ValueError, match="read-only"):
        prompt.prompt[:] = 1


def test_predictions_are_the_evaluations_own(prompt: ClientPrompt, backbone: Any, pixels: np.ndarray) -> None:
    text = backbone.class_features(torch.tensor(prompt.prompt)[None], backbone.class_tokens(CLASSES, 4))
    logits = cosine_logits(backbone.features(pixels), text, backbone.logit_scale)[0]
    for prior, shift in (
        ("uniform", 0),
        ("own", torch.tensor(prompt.log_prior)),
        (None, torch.tensor(prompt.log_prior)),
    ):
        expected = (logits + shift).softmax(1).detach().numpy()
        found = prompt.predict_proba(pixels, backbone=backbone, prior=prior)  # type: ignore[arg-type]
        np.testing.assert_allclose(found, expected, atol=1e-6)
        labels = prompt.predict(pixels, backbone=backbone, prior=prior)  # type: ignore[arg-type]
        assert labels == [CLASSES[i] for i in expected.argmax(1)]
    assert found.dtype == np.float32


def test_without_prior_it_is_as_with_a_uniform_one(prompt: ClientPrompt, backbone: Any, pixels: np.ndarray) -> None:
    bare = prompt.without_prior()
    assert bare.log_prior is None and fields(bare) == fields(prompt)
    np.testing.assert_array_equal(
        bare.predict_proba(pixels, backbone=backbone), prompt.predict_proba(pixels, backbone=backbone, prior="uniform")
    )
    assert "log_prior" not in str(bare) and b"log_prior" not in bare.to_bytes()
    with pytest.raises(ConfigError, match="holds no class frequencies: take uniform"):
        bare.predict(pixels, backbone=backbone, prior="own")


def test_files_are_read_at_the_size_of_training(
    prompt: ClientPrompt, backbone: Any, pixels: np.ndarray, tmp_path: Path
) -> None:
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    expected = prompt.predict_proba(pixels, backbone=backbone)
    np.testing.assert_array_equal(prompt.predict_proba(tmp_path, backbone=backbone), expected)
    coarse = replace(prompt, image_size=8)
    assert np.abs(coarse.predict_proba(tmp_path, backbone=backbone) - expected).max() > 1e-4


def test_the_model_is_loaded_by_name_and_can_be_named(prompt: ClientPrompt, backbone: Any, pixels: np.ndarray) -> None:
    expected = prompt.predict_proba(pixels, backbone=backbone)
    np.testing.assert_allclose(prompt.predict_proba(pixels), expected, atol=1e-6)
    elsewhere = replace(prompt, backbone="/moved/away")
    np.testing.assert_allclose(elsewhere.predict_proba(pixels, backbone=backbone.spec.name), expected, atol=1e-6)
    with pytest.raises(ConfigError, match="/moved/away"):
        elsewhere.predict(pixels)


def test_another_model_is_refused_by_content_not_by_name(
    prompt: ClientPrompt, pixels: np.ndarray, tmp_path: Path
) -> None:
    other = load_backbone(str(TinyClip(seed=1).save(tmp_path / "other")), device="cpu")
    with pytest.raises(DataError, match=r"was learned for the model .* is another one .* give the model"):
        prompt.predict(pixels, backbone=other)


def test_bad_images_are_named_before_the_model_is_loaded(prompt: ClientPrompt, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    nowhere = replace(prompt, backbone="/moved/away")
    with pytest.raises(DataError, match=r"a\.png: damaged"):
        nowhere.predict(tmp_path / "a.png")
    with pytest.raises(ConfigError, match="prior = 'mine': own or uniform"):
        nowhere.predict(tmp_path, prior="mine")  # type: ignore[arg-type]


def test_the_class_template_stands_behind_the_context(prompt: ClientPrompt, backbone: Any) -> None:
    dotted = replace(prompt, class_template="{}.", classes=("cat", "dog"), log_prior=None)
    spelled = replace(dotted, class_template="{}", classes=("cat.", "dog."))
    np.testing.assert_array_equal(dotted.class_features(backbone), spelled.class_features(backbone))
    features = dotted.class_features(backbone)
    assert features.shape == (2, 24) and features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prompt": np.zeros(4)}, r"prompt has shape \(4,\) instead of \[n_ctx, text_dim\]"),
        ({"prompt": np.zeros((0, 4))}, "prompt has shape"),
        ({"prompt": [[1.0]]}, "prompt has shape None"),
        ({"prompt": np.zeros((2, 2), int)}, "prompt holds int64"),
        ({"prompt": np.full((2, 2), np.nan)}, "prompt holds values that are not finite"),
        ({"log_prior": np.zeros(2, np.float32)}, "log_prior has 2 values for 3 classes"),
        ({"log_prior": np.full(3, -np.inf)}, "log_prior holds values that are not finite"),
        ({"classes": ("cat",), "log_prior": None}, "two names or more"),
        ({"classes": ("cat", " ", "x")}, "two names or more"),
        ({"classes": ("cat", "cat", "dog")}, "a class is named twice"),
        ({"backbone": ""}, "must name the model"),
        ({"class_template": "a"}, "makes no sense"),
        ({"image_size": 0}, "makes no sense"),
    ],
)
def test_what_does_not_fit_together_is_refused(prompt: ClientPrompt, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        replace(prompt, **changes)


def about(**changes: str | None) -> dict[str, str]:
    whole = {"format": "secfpp-prompt-2", "classes": json.dumps(CLASSES), "backbone": "mini", "backbone_digest": "abc"}
    return {name: value for name, value in (whole | changes).items() if value is not None}


VECTORS = {"prompt": np.zeros((2, 4), np.float32)}


def test_files_of_the_first_format_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(save(VECTORS, metadata=about(format="secfpp-prompt-1", seed="3", client="x")))
    prompt = load_prompt(path)
    assert (prompt.seed, prompt.client, prompt.log_prior, prompt.image_size) == (3, "x", None, 224)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "."),
        (b"x" * 100, "."),
        (save(VECTORS), r"not a prompt \(format None"),
        (save(VECTORS, metadata=about(format="secfpp-prompt-9")), "secfpp-prompt-9"),
        (save({"other": np.zeros(1)}, metadata=about()), "lacks the prompt"),
        (save(VECTORS, metadata=about(backbone_digest=None)), "lacks the prompt, its classes or its model"),
        (save(VECTORS, metadata=about(classes="{")), "Expecting"),
        (save(VECTORS, metadata=about(classes="{}")), "no list of names"),
        (save(VECTORS, metadata=about(classes="[1, 2]")), "no list of names"),
        (save(VECTORS, metadata=about(rounds="many")), "many"),
        (save({"prompt": np.full((2, 4), np.inf, np.float32)}, metadata=about()), "not finite"),
    ],
)
def test_any_other_file_is_refused_by_name_with_the_remedy(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"prompt file .*a\.safetensors: .*{words}.*; give a file that secfpp wrote"):
        load_prompt(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"prompt file .*none: No such file"):
        load_prompt(tmp_path / "none")


def test_it_shows_what_it_is_in_one_line(prompt: ClientPrompt) -> None:
    shown = repr(prompt)
    assert "client='hospital-a'" in shown and "3 classes, 4 x 32, with log_prior" in shown and "\n" not in shown
