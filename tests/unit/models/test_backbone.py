from __future__ import annotations

import math
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import CLIPModel

from secfpp.errors import ConfigError, DataError
from secfpp.models.backbone import DualEncoder, load_backbone
from secfpp.models.public_images import public_images
from support.tiny_clip import END, START, TinyClip

TINY = TinyClip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TINY.save(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def backbone(folder: Path) -> Any:
    return load_backbone(str(folder))


def noise(n: int, *size: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (n, *size, 3), dtype=np.uint8)


def own_features(folder: Path, images: np.ndarray) -> torch.Tensor:
    """The same features through nothing but Hugging Face and Pillow images."""
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    pixels = processor([Image.fromarray(image) for image in images], return_tensors="pt")["pixel_values"]
    model = CLIPModel.from_pretrained(folder)
    with torch.no_grad():
        return F.normalize(model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output), dim=-1)


def test_spec_says_what_the_checkpoint_is(backbone: Any, folder: Path) -> None:
    spec = backbone.spec
    assert (spec.name, spec.text_dim, spec.context_length, spec.projection, spec.image_size) == (
        str(folder), 32, 20, 24, 32,
    )  # fmt: skip
    assert math.isclose(backbone.logit_scale, math.exp(2.6592), rel_tol=1e-5)
    assert backbone.device == torch.device("cpu")


@pytest.mark.parametrize("size", [(32, 32), (48, 40), (20, 32), (64, 64)])
def test_image_features_are_the_checkpoints_own(backbone: Any, folder: Path, size: tuple[int, int]) -> None:
    images = noise(50, *size)
    features = backbone.features(images)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, own_features(folder, images), atol=2e-6, rtol=0)
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(50))


def test_shortcut_for_images_of_the_right_size_gives_the_processors_very_pixels(backbone: Any) -> None:
    images = noise(4, 32, 32)
    np.testing.assert_array_equal(backbone._pixels(images), backbone._process(images))


def test_no_shortcut_where_the_processor_looks_at_neighbours(tmp_path: Path) -> None:
    TINY.save(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(path.read_text().replace('"shortest_edge": 32', '"shortest_edge": 40'))
    enlarging = load_backbone(str(tmp_path))
    assert isinstance(enlarging, DualEncoder)
    assert enlarging._table is None
    images = noise(3, 32, 32)
    torch.testing.assert_close(enlarging.features(images), own_features(tmp_path, images), atol=2e-6, rtol=0)


def test_patches_are_projected_as_the_whole_image_is(backbone: Any, folder: Path) -> None:
    from transformers import AutoImageProcessor

    images, model = noise(50, 32, 32), CLIPModel.from_pretrained(folder)
    pixels = AutoImageProcessor.from_pretrained(folder, backend="pil")(list(images), return_tensors="pt")
    with torch.no_grad():
        hidden = model.vision_model(**pixels).last_hidden_state
        expected = F.normalize(model.visual_projection(model.vision_model.post_layernorm(hidden)), dim=-1)
    found = backbone.patch_features(images)
    assert found.shape == (50, hidden.shape[1] - 1, backbone.spec.projection)
    torch.testing.assert_close(found, expected[:, 1:], atol=2e-6, rtol=0)
    torch.testing.assert_close(backbone.features(images), expected[:, 0], atol=2e-6, rtol=0)
    torch.testing.assert_close(backbone.patch_features(images), found, atol=0, rtol=0)


def test_no_images_have_no_features(backbone: Any) -> None:
    for size in (32, 48):
        nothing = np.zeros((0, size, size, 3), np.uint8)
        assert backbone.features(nothing).shape == (0, backbone.spec.projection)
        assert backbone.patch_features(nothing).shape[::2] == (0, backbone.spec.projection)


def test_features_come_from_the_disk_the_second_time(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_backbone(str(folder), cache_dir=tmp_path)
    images = noise(3, 32, 32)
    features = first.features(images)
    assert len(list((tmp_path / "features").iterdir())) == 1
    again = load_backbone(str(folder), cache_dir=tmp_path)
    monkeypatch.setattr(again, "_encode", lambda images: pytest.fail("encoded again"))
    torch.testing.assert_close(again.features(images), features, atol=0, rtol=0)


def test_each_model_images_and_dtype_have_features_of_their_own(folder: Path, tmp_path: Path) -> None:
    other = replace(TINY, seed=1).save(tmp_path / "other")
    images = noise(3, 32, 32)
    seen = [
        load_backbone(str(name), dtype=dtype, cache_dir=tmp_path).features(data)
        for name, dtype, data in [
            (folder, "float32", images),
            (folder, "bfloat16", images),
            (other, "float32", images),
            (folder, "float32", images[:, ::-1]),
        ]
    ]
    assert len(list((tmp_path / "features").iterdir())) == 4
    assert not any(torch.equal(seen[0], features) for features in seen[1:])
    assert (seen[0] - seen[1]).abs().max() < 0.05


def test_digest_is_of_content_not_of_place(folder: Path, backbone: Any, tmp_path: Path) -> None:
    copy = load_backbone(str(TINY.save(tmp_path / "copy")))
    assert copy.spec.digest == backbone.spec.digest
    path = tmp_path / "copy" / "preprocessor_config.json"
    path.write_text(path.read_text().replace("0.4814", "0.4815"))
    assert load_backbone(str(tmp_path / "copy")).spec.digest != backbone.spec.digest


@pytest.mark.parametrize("bad", [np.zeros((2, 32, 32), np.uint8), np.zeros((2, 32, 32, 3), np.float32)])
def test_images_of_another_kind_are_refused(backbone: Any, bad: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"give uint8 \[n, height, width, 3\]"):
        backbone.features(bad)


@pytest.mark.parametrize("legacy", [False, True])
def test_class_features_are_the_checkpoints_own_on_plain_text(tmp_path: Path, legacy: bool) -> None:
    folder = replace(TINY, legacy_end=legacy, layers=3).save(tmp_path)
    backbone = load_backbone(str(folder))
    names = ["cat", "Security Message", "bicycle bird", "xyzq"]
    prompt = torch.from_numpy(backbone.initial_prompt("a photo of the", 4))[None]
    features = backbone.class_features(prompt, backbone.class_tokens(names, 4))[0]
    model, tokenizer = CLIPModel.from_pretrained(folder), backbone._vocabulary.tokenizer
    texts = tokenizer(
        [f"a photo of the {name}" for name in names], padding="max_length", max_length=20, return_tensors="pt"
    )
    with torch.no_grad():
        expected = model.text_projection(model.text_model(input_ids=texts["input_ids"]).pooler_output)
    torch.testing.assert_close(features, F.normalize(expected, dim=-1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("legacy", "places"), [(True, [0, 2]), (False, [1, 2])])
def test_legacy_checkpoints_read_at_the_largest_id(tmp_path: Path, legacy: bool, places: list[int]) -> None:
    backbone = load_backbone(str(replace(TINY, legacy_end=legacy).save(tmp_path)))
    assert isinstance(backbone, DualEncoder)
    backbone._vocabulary.tokenizer.add_tokens(["newword"])  # its id is beyond the end token's
    tokens = backbone.class_tokens(["newword", "security message"], 4)
    new, end = backbone._vocabulary.ids("newword")[0], backbone._towers.layout.end
    assert new > end
    assert tokens.ids[0].tolist() == [new, end, end]
    assert tokens.end.tolist() == places


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "at least one name"),
        (["cat", ""], "'': a name with at least one letter"),
        (["cat", "  "], "'  ': a name with at least one letter"),
        (["cat", "dog", "cat"], "'cat': is given twice, at positions 0 and 2 "),
        (["cat", "CAT"], "'CAT': the model cannot tell it from 'cat', at positions 0 and 1 .*: add a word to each"),
        (["cat", f"dog {END} bird"], "leave that out"),
        (["cat " * 15], "15 tokens, but beside 4 context vectors there is room for 14"),
    ],
)
def test_unusable_class_names_are_refused(backbone: Any, names: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        backbone.class_tokens(names, 4)


def test_every_unusable_name_is_reported_and_the_longest_possible_accepted(backbone: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        backbone.class_tokens(["cat", "cat", "", "bird"], 4)
    assert len(caught.value.problems) == 2
    tokens = backbone.class_tokens(["cat " * 14], 4)
    assert backbone.class_features(torch.randn(1, 4, 32), tokens).shape == (1, 1, 24)


@pytest.mark.parametrize("n_ctx", [-1, 18])
def test_contexts_that_leave_no_room_are_refused(backbone: Any, n_ctx: int) -> None:
    with pytest.raises(ConfigError, match="0 to 17"):
        backbone.class_tokens(["cat"], n_ctx)


def test_prompts_of_another_width_are_refused(backbone: Any) -> None:
    with pytest.raises(ConfigError, match=r"\[prompts, context vectors, 32\]"):
        backbone.class_features(torch.zeros(1, 4, 31), backbone.class_tokens(["cat"], 4))


def test_initial_prompt_takes_the_last_words_and_repeats_a_short_text(backbone: Any) -> None:
    words = backbone.embed("an icon symbol for").numpy()
    assert words.shape == (4, 32)
    whole = backbone.embed("an icon symbol for", whole=True).numpy()
    np.testing.assert_array_equal(whole[1:-1], words)
    np.testing.assert_array_equal(whole[[0, -1]], backbone.embed(START + END).numpy())
    np.testing.assert_array_equal(backbone.initial_prompt("an icon symbol for", 4), words)
    np.testing.assert_array_equal(backbone.initial_prompt("an icon symbol for", 2), words[2:])
    np.testing.assert_array_equal(backbone.initial_prompt("an icon symbol for", 6), words[[0, 1, 2, 3, 0, 1]])
    assert backbone.initial_prompt("for", 0).shape == (0, 32)
    with pytest.raises(ConfigError, match="at least one word"):
        backbone.initial_prompt(" ", 3)


def test_public_mean_is_the_same_for_everybody(backbone: Any, folder: Path, tmp_path: Path) -> None:
    mean = backbone.public_mean()
    assert mean.dtype == np.float32
    np.testing.assert_array_equal(mean, load_backbone(str(folder), cache_dir=tmp_path).public_mean())
    np.testing.assert_allclose(mean, backbone.features(public_images(32)).mean(dim=0), atol=1e-6)


def test_the_public_mean_is_computed_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load_backbone(str(folder), cache_dir=tmp_path)
    first = backbone.public_mean()
    monkeypatch.setattr(backbone, "features", lambda images: pytest.fail("computed again"))
    assert backbone.public_mean() is first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0  # the next client would get it


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "gpu"}, "backbone.device = 'gpu': auto, cpu"),
        ({"device": "cuda:99"}, "backbone.device = 'cuda:99'"),
        ({"device": "meta"}, "backbone.device = 'meta'"),
        ({"dtype": "int8"}, "backbone.dtype = 'int8': one of float32"),
        ({"threads": 0}, "backbone.threads = 0: 1 or more"),
    ],
)
def test_unusable_settings_are_refused(folder: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_backbone(str(folder), **settings)


def test_all_unusable_settings_are_reported_at_once(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_backbone(str(folder), device="gpu", dtype="int8", threads=-1)
    assert len(caught.value.problems) == 3


def test_threads_are_set_for_the_process(folder: Path) -> None:
    before = torch.get_num_threads()
    try:
        load_backbone(str(folder), threads=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_close_and_gives_float32(folder: Path, backbone: Any, dtype: str) -> None:
    rough = load_backbone(str(folder), dtype=dtype)
    prompts, tokens = torch.randn(2, 3, 32), backbone.class_tokens(["cat", "bicycle bird"], 3)
    features = rough.class_features(prompts, tokens)
    assert features.dtype == torch.float32
    assert (features - backbone.class_features(prompts, tokens)).abs().max() < 0.05
    assert rough.features(noise(2, 32, 32)).dtype == torch.float32


def test_a_model_that_keeps_nothing_computes_the_same(folder: Path, tmp_path: Path) -> None:
    usual, images = load_backbone(str(folder), cache_dir=tmp_path), noise(3, 32, 32)
    quiet = usual.keeping_nothing()
    again = pickle.loads(pickle.dumps(quiet))
    features = [model.features(images) for model in (quiet, again)]
    assert list(tmp_path.rglob("*.safetensors")) == []
    assert again._cache.folder is None and quiet._towers is usual._towers
    for found in features:
        torch.testing.assert_close(found, usual.features(images), rtol=0, atol=0)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
