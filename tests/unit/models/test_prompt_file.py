from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save

from secfpp.errors import ConfigError, DataError
from secfpp.models.backbone import load_backbone
from secfpp.models.pools import Mixture
from secfpp.models.prompt_file import ClientPrompt, load_prompt
from secfpp.models.scoring import Predictor, cosine_logits
from secfpp.runtime.evaluation import class_features, client_logits
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


def test_the_same_prompt_is_the_same_file(prompt: ClientPrompt) -> None:
    assert len({prompt.to_bytes() for _ in range(4)}) == 1


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def two_levels(prompt: ClientPrompt) -> ClientPrompt:
    """`prompt` with a domain prompt, trusted in part on two of the three classes."""
    domain = np.random.default_rng(2).normal(size=(4, 32)).astype(np.float32)
    return replace(prompt, domain_prompt=domain, familiar=np.array([True, False, True]), trust=0.7)


ARRAYS = ("prompt", "domain_prompt", "familiar", "log_prior")


def fields(prompt: ClientPrompt) -> dict[str, Any]:
    return {name: value for name, value in vars(prompt).items() if name not in ARRAYS}


@pytest.mark.parametrize("kind", ["prompt", "two_levels"])
def test_what_is_saved_is_what_is_loaded(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    prompt: ClientPrompt = request.getfixturevalue(kind)
    path = tmp_path / "new" / "a.safetensors"
    prompt.save(path)
    again = load_prompt(path)
    assert fields(again) == fields(prompt)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(again, name), getattr(prompt, name))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@settings(max_examples=30)
@given(
    vectors=arrays(np.float32, (2, 3), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    names=st.lists(st.text(st.characters(exclude_categories=["Cs", "Z", "C"]), min_size=1), min_size=2, unique=True),
    client=st.text(st.characters(exclude_categories=["Cs"])),
    trust=st.floats(0, 1),
    data=st.data(),
)
def test_any_names_and_numbers_survive(
    vectors: np.ndarray,
    names: list[str],
    client: str,
    trust: float,
    data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    familiar = data.draw(arrays(bool, len(names)))
    one = ClientPrompt(prompt=vectors, classes=tuple(names), backbone="m", backbone_digest="d", client=client)
    for prompt in (one, replace(one, domain_prompt=vectors[::-1], familiar=familiar, trust=trust)):
        prompt.save(str(path))
        again = load_prompt(str(path))
        assert (again.classes, again.client, again.log_prior) == (tuple(names), client, None)
        assert again.prompt.tobytes() == vectors.tobytes()
        assert again.trust == prompt.trust
    assert again.domain_prompt is not None and again.domain_prompt.tobytes() == vectors[::-1].tobytes()
    assert again.familiar is not None and again.familiar.tolist() == familiar.tolist()


def test_arrays_are_its_own_and_cannot_be_changed(backbone: Any) -> None:
    mine = np.zeros((1, 4))
    prompt = ClientPrompt(prompt=mine, classes=("a", "b"), backbone="m", backbone_digest="d")
    mine[:] = 7
    assert prompt.prompt.dtype == np.float32 and not prompt.prompt.any()
    with pytest.raises(ValueError, match="read-only"):
        prompt.prompt[:] = 1
    known = np.array([True, False])
    second = replace(prompt, domain_prompt=np.zeros((1, 4)), familiar=known, trust=np.float32(0.5))
    known[:] = False
    assert second.familiar is not None and second.familiar.tolist() == [True, False]
    assert second.domain_prompt is not None and second.domain_prompt.dtype == np.float32
    assert type(second.trust) is float


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


def test_on_two_levels_predictions_are_the_evaluations_own(
    two_levels: ClientPrompt, backbone: Any, pixels: np.ndarray
) -> None:
    tokens = backbone.class_tokens(CLASSES, 4)
    contexts: Any = [SimpleNamespace(backbone=backbone, tokens=tokens, histogram=np.array([5, 1, 6]))]
    for trust in (0.0, 0.7, 1.0):
        prompt = replace(two_levels, trust=trust)
        texts = class_features(contexts, np.stack([prompt.prompt, prompt.domain_prompt])[None])
        predictor = Predictor(familiar_share=0.5, trust=trust)
        logits = client_logits(contexts, texts, backbone.features(pixels), predictor)[0]
        for prior, shift in (("uniform", 0), ("own", torch.tensor(prompt.log_prior))):
            expected = (logits + shift).softmax(1).numpy()
            found = prompt.predict_proba(pixels, backbone=backbone, prior=prior)  # type: ignore[arg-type]
            np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32


def test_classes_are_encoded_once(two_levels: ClientPrompt, backbone: Any, pixels: np.ndarray) -> None:
    ready, features = two_levels.ready(backbone), backbone.features(pixels)
    expected = two_levels.predict_proba(pixels, backbone=backbone)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClientPrompt, "class_features", None)
        assert np.array_equal(ready.probabilities(features), expected)
        assert np.array_equal(ready.probabilities(features[:2]), expected[:2])


def test_the_domain_prompt_alone_says_how_likely_unfamiliar_classes_are(
    two_levels: ClientPrompt, backbone: Any, pixels: np.ndarray
) -> None:
    strange = CLASSES.index("dog")
    both = two_levels.predict_proba(pixels, backbone=backbone, prior="uniform")
    domain, personal = (
        two_levels.one_level(level).predict_proba(pixels, backbone=backbone, prior="uniform")
        for level in ("domain", "personal")
    )
    np.testing.assert_allclose(both[:, strange], domain[:, strange], atol=1e-6)
    assert np.abs(both - domain).max() > 1e-3 and np.abs(personal - domain)[:, strange].max() > 1e-3
    for familiar, expected in ((np.ones(3, bool), personal), (np.zeros(3, bool), domain)):
        found = replace(two_levels, familiar=familiar, trust=1.0).predict_proba(
            pixels, backbone=backbone, prior="uniform"
        )
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_one_level_can_be_taken_alone(two_levels: ClientPrompt, prompt: ClientPrompt, backbone: Any) -> None:
    for level, vectors in (("personal", two_levels.prompt), ("domain", two_levels.domain_prompt)):
        alone = two_levels.one_level(level)  # type: ignore[arg-type]
        np.testing.assert_array_equal(alone.prompt, vectors)
        np.testing.assert_array_equal(alone.log_prior, two_levels.log_prior)
        assert (alone.domain_prompt, alone.familiar, fields(alone)) == (None, None, fields(prompt))
        features = two_levels.class_features(backbone, level)  # type: ignore[arg-type]
        np.testing.assert_array_equal(alone.class_features(backbone), features)
    with pytest.raises(ConfigError, match="level = 'domain': personal: this prompt has no other level"):
        prompt.one_level("domain")
    with pytest.raises(ConfigError, match="level = 'both': personal or domain"):
        two_levels.one_level("both")  # type: ignore[arg-type]


def test_without_prior_nothing_tells_the_classes_of_the_client(two_levels: ClientPrompt) -> None:
    for level, vectors in (("personal", two_levels.prompt), ("domain", two_levels.domain_prompt)):
        bare = two_levels.one_level(level).without_prior()  # type: ignore[arg-type]
        np.testing.assert_array_equal(bare.prompt, vectors)
    bare = two_levels.without_prior()
    np.testing.assert_array_equal(bare.prompt, two_levels.prompt)
    assert all(getattr(bare, name) is None for name in ARRAYS[1:])
    content = bare.to_bytes()
    for word in (b"log_prior", b"familiar", b"trust", b"domain_prompt"):
        assert word in two_levels.to_bytes() and word not in content


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
        ({"classes": ("cat", "cat", "dog")}, "the class 'cat' is given twice, at positions 0 and 1 .*crane bird"),
        ({"domain_prompt": np.zeros((4, 32))}, "domain_prompt and familiar belong together: give both or neither"),
        ({"familiar": np.ones(3, bool)}, "domain_prompt and familiar belong together"),
        ({"trust": 0.5}, "trust 0.5 has no meaning without a domain_prompt"),
        ({"pool": Mixture()}, "pool joins prompt and domain_prompt, without familiar"),
        ({"visual_memory": np.zeros((1, 2, 3))}, "visual_memory stands beside visual_weights"),
        ({"backbone": ""}, "must name the model"),
        ({"class_template": "a"}, "makes no sense"),
        ({"image_size": 0}, "makes no sense"),
    ],
)
def test_what_does_not_fit_together_is_refused(prompt: ClientPrompt, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        replace(prompt, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trust": 1.5}, "trust 1.5 is not in 0..1"),
        ({"trust": float("nan")}, "trust nan is not in 0..1"),
        ({"domain_prompt": np.zeros((3, 32))}, r"domain_prompt has shape \(3, 32\), but prompt \(4, 32\)"),
        ({"domain_prompt": np.full((4, 32), np.inf)}, "domain_prompt holds values that are not finite"),
        ({"domain_prompt": np.zeros((4, 32), int)}, "domain_prompt holds int64"),
        ({"familiar": np.ones(2, bool)}, "instead of a bool for each of 3 classes"),
        ({"familiar": np.ones(3)}, "instead of a bool for each of 3 classes"),
        ({"familiar": [True, False, True]}, "instead of a bool for each of 3 classes"),
        ({"trust": -1, "familiar": np.ones(2), "backbone": ""}, "trust -1 .*; familiar is .*; backbone"),
    ],
)
def test_levels_that_do_not_fit_together_are_refused(
    two_levels: ClientPrompt, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        replace(two_levels, **changes)


def about(**changes: str | None) -> dict[str, str]:
    whole = {"format": "secfpp-prompt-6", "classes": json.dumps(CLASSES), "backbone": "mini", "backbone_digest": "abc"}
    return {name: value for name, value in (whole | changes).items() if value is not None}


VECTORS = {"prompt": np.zeros((2, 4), np.float32)}
TWO = {**VECTORS, "domain_prompt": np.ones((2, 4), np.float32), "familiar": np.ones(3, bool)}


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_files_of_earlier_formats_are_read(number: int, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(save(VECTORS, metadata=about(format=f"secfpp-prompt-{number}", seed="3", client="x")))
    prompt = load_prompt(path)
    assert (prompt.seed, prompt.client, prompt.log_prior, prompt.image_size) == (3, "x", None, 224)
    assert (prompt.domain_prompt, prompt.familiar, prompt.trust, prompt.grey_window) == (None, None, 1, None)


def test_earlier_readers_which_would_predict_otherwise_refuse_the_file(
    two_levels: ClientPrompt, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    two_levels.save(path)
    with safe_open(path, framework="numpy") as file:
        assert file.metadata()["format"] == "secfpp-prompt-7"


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
        (save(TWO, metadata=about()), "does not say how far to trust"),
        (save(TWO, metadata=about(trust="much")), "much"),
        (save(VECTORS, metadata=about(grey_window="[0, 4095")), "Expecting"),
        (save(VECTORS, metadata=about(grey_window="[4095, 0]")), r"grey_window \(4095, 0\) is not two values"),
        (save(VECTORS, metadata=about(grey_window="[1, 2, 3]")), "is not two values"),
        (save(VECTORS, metadata=about(grey_window='["a", "b"]')), "is not two values"),
        (save(TWO, metadata=about(trust="2.0")), "trust 2.0 is not in 0..1"),
        (save({**VECTORS, "familiar": TWO["familiar"]}, metadata=about()), "belong together"),
        (save({"prompt": np.full((2, 4), np.inf, np.float32)}, metadata=about()), "not finite"),
    ],
)
def test_any_other_file_is_refused_by_name_with_the_remedy(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"prompt file .*a\.safetensors: .*{words}.*; give a file that secfpp wrote"):
        load_prompt(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"prompt file .*none: No such file or directory; give"):
        load_prompt(tmp_path / "none")
    with pytest.raises(DataError, match=r"prompt file .*: Is a directory; give"):
        load_prompt(tmp_path)


def test_it_shows_what_it_is_in_one_line(prompt: ClientPrompt, two_levels: ClientPrompt) -> None:
    assert "3 classes, 4 x 32 on two levels, with log_prior" in repr(two_levels)
    shown = repr(prompt)
    assert "client='hospital-a'" in shown and "3 classes, 4 x 32, with log_prior" in shown and "\n" not in shown
