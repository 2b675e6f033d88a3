from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer, SiglipModel
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from secfpp.errors import ConfigError, DataError
from secfpp.models.backbone import load_backbone
from secfpp.models.coop_checkpoint import to_coop
from secfpp.models.prompt_file import ClientPrompt
from secfpp.models.text_bidirectional import BidirectionalTextEncoder
from secfpp.models.text_layers import ClassTokens
from support.tiny_siglip import TinySiglip, siglip_2_tokenizer, siglip_tokenizer

TOKENIZERS: dict[str, Callable[[], Any]] = {"SigLIP": siglip_tokenizer, "SigLIP 2": siglip_2_tokenizer}
NAMES = ("cat", "security message", "xyzzy", "dog bird")
SHAPES = {
    "default": TinySiglip(),
    "one layer": TinySiglip(layers=1),
    "two layers, one head, gelu": TinySiglip(layers=2, heads=1, activation="gelu"),
    "64 places": TinySiglip(width=64, places=64, heads=8),
}


@pytest.fixture(scope="module", params=TOKENIZERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TinySiglip().save(tmp_path_factory.mktemp("tiny"), TOKENIZERS[request.param]())


@pytest.fixture(scope="module")
def backbone(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_backbone(str(folder), device="cpu", cache_dir=tmp_path_factory.mktemp("cache"))


def noise(n: int, *size: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (n, *size, 3), dtype=np.uint8)


def own(model: SiglipModel, ids: Tensor, contexts: Tensor) -> Tensor:
    """transformers' own forward over `ids` [n_cls, places], contexts [n, d] or [n_cls, n, d] put in at the start."""
    n = contexts.shape[-2]
    handle = model.text_model.embeddings.token_embedding.register_forward_hook(
        lambda module, args, out: torch.cat([contexts.expand(len(out), -1, -1), out[:, n:]], dim=1)
    )
    pooled = model.get_text_features(input_ids=ids).pooler_output
    handle.remove()
    return F.normalize(pooled, dim=-1)


def random_classes(lengths: list[int], places: int, n: int) -> tuple[ClassTokens, Tensor]:
    """Random names, and the whole rows that the model reads: `n` places for the context, name, end, padding."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.full((len(lengths), max(lengths) + 1), 1)
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = torch.randint(3, 50, (length,), generator=generator)
    rows = torch.full((len(lengths), places), 1)
    rows[:, n : n + ids.shape[1]] = ids
    return ClassTokens(tuple(map(str, lengths)), ids, torch.tensor(lengths)), rows


def compare(shape: TinySiglip, single: bool, bound: int | None = None) -> tuple[float, float]:
    """Largest difference of features, and of the prompt gradients relative to their size."""
    model, n = shape.model(50), 3
    encoder = BidirectionalTextEncoder(model, 1)
    if bound is not None:
        encoder._chunks.bound = bound
    classes, rows = random_classes([1, 4, 2, 1, 7, 12], shape.places, n)
    prompts = torch.randn(6 if single else 2, n, shape.width, generator=torch.Generator().manual_seed(2))
    ours, theirs = prompts.clone().requires_grad_(), prompts.clone().requires_grad_()
    if single:
        features, expected = encoder.single(ours, classes), own(model, rows, theirs)
    else:
        features, expected = encoder(ours, classes), torch.stack([own(model, rows, each) for each in theirs])
    direction = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    (features * direction).sum().backward()
    (expected * direction).sum().backward()
    assert ours.grad is not None and theirs.grad is not None
    gap = (ours.grad - theirs.grad).abs().max() / theirs.grad.abs().max()
    return float((features - expected).detach().abs().max()), float(gap)


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_equals_transformers_own_forward_in_features_and_prompt_gradients(shape: TinySiglip, single: bool) -> None:
    features, gradients = compare(shape, single)
    assert features < 1e-5
    assert gradients < 1e-5


@pytest.mark.parametrize("single", [False, True])
def test_chunks_of_classes_are_the_same_whole(single: bool) -> None:
    features, gradients = compare(TinySiglip(), single, bound=1)
    assert max(features, gradients) < 1e-5


def test_names_fill_all_places_or_are_refused() -> None:
    encoder = BidirectionalTextEncoder(TinySiglip().model(50), 1)
    classes, _ = random_classes([12], 16, 3)
    assert encoder(torch.zeros(1, 3, 32), classes).shape == (1, 1, 32)
    with pytest.raises(ConfigError, match=r"4 context vectors.*13 tokens need 17 places, the model has 16"):
        encoder(torch.zeros(1, 4, 32), classes)


def test_class_names_lie_as_the_tokenizer_lays_a_sentence(backbone: Any, folder: Path) -> None:
    tokenizer, model = AutoTokenizer.from_pretrained(folder), SiglipModel.from_pretrained(folder)
    context = "a photo of a"
    sentences = [f"{context} {name}" for name in NAMES]
    rows = tokenizer(sentences, padding="max_length", max_length=16, return_tensors="pt")["input_ids"]
    expected = F.normalize(model.get_text_features(input_ids=rows).pooler_output, dim=-1).detach()
    prompt = torch.from_numpy(backbone.initial_prompt(context, 4))
    found = backbone.class_features(prompt[None], backbone.class_tokens([name.title() for name in NAMES], 4))[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_scores_differ_from_the_models_own_by_its_bias_alone(backbone: Any, folder: Path) -> None:
    model, images = SiglipModel.from_pretrained(folder), noise(5, 40, 30)
    processor, tokenizer = (
        AutoImageProcessor.from_pretrained(folder, backend="pil"),
        AutoTokenizer.from_pretrained(folder),
    )
    rows = tokenizer([f"a photo of a {n}" for n in NAMES], padding="max_length", max_length=16, return_tensors="pt")
    with torch.no_grad():
        expected = model(input_ids=rows["input_ids"], **processor(list(images), return_tensors="pt")).logits_per_image
    prompt = torch.from_numpy(backbone.initial_prompt("a photo of a", 4))[None]
    texts = backbone.class_features(prompt, backbone.class_tokens(NAMES, 4))[0]
    scores = backbone.logit_scale * backbone.features(images) @ texts.T
    assert backbone.logit_bias == pytest.approx(-10.5)
    torch.testing.assert_close(scores + backbone.logit_bias, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(scores.softmax(-1), expected.softmax(-1), atol=1e-5, rtol=0)


def test_patches_are_what_the_pooling_head_sees(backbone: Any, folder: Path) -> None:
    model, images = SiglipModel.from_pretrained(folder), noise(3, 32, 32)
    pixels = AutoImageProcessor.from_pretrained(folder, backend="pil")(list(images), return_tensors="pt")
    with torch.no_grad():
        out = model.vision_model(**pixels)
    found = backbone.patch_features(images)
    assert found.shape == (3, 16, backbone.spec.projection)
    torch.testing.assert_close(found, F.normalize(out.last_hidden_state, dim=-1), atol=1e-5, rtol=0)
    torch.testing.assert_close(backbone.features(images), F.normalize(out.pooler_output, dim=-1), atol=1e-5, rtol=0)


def test_half_precision_is_close(backbone: Any, folder: Path) -> None:
    rough = load_backbone(str(folder), device="cpu", dtype="bfloat16")
    prompts = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0))
    tokens = backbone.class_tokens(NAMES, 3)
    features, exact = rough.class_features(prompts, tokens), backbone.class_features(prompts, tokens)
    assert features.dtype == torch.float32
    assert 0 < (features - exact).abs().max() < 0.05
    assert F.cosine_similarity(features, exact, dim=-1).min() > 1 - 1e-2


def test_room_for_names_has_no_start_token(backbone: Any) -> None:
    assert backbone.class_tokens([" ".join(["cat"] * 11)], 4).end.tolist() == [11]
    with pytest.raises(ConfigError, match="12 tokens, but beside 4 context vectors there is room for 11"):
        backbone.class_tokens([" ".join(["cat"] * 12)], 4)
    with pytest.raises(ConfigError, match="0 to 14 for a model that reads 16"):
        backbone.class_tokens(["cat"], 15)
    with pytest.raises(ConfigError, match="cannot tell it from 'cat'"):
        backbone.class_tokens(["cat", "CAT"], 4)
    assert len(backbone.embed("cat dog", whole=True)) == 3


def test_prompts_have_no_place_in_coops_layout(backbone: Any) -> None:
    prompt = ClientPrompt(
        prompt=np.zeros((3, 32), np.float32),
        classes=NAMES,
        backbone=backbone.spec.name,
        backbone_digest=backbone.spec.digest,
        client="a",
        method="coop_local",
        rounds=1,
        image_size=32,
    )
    assert prompt.predict(noise(2, 32, 32), backbone=backbone)[0] in NAMES
    with pytest.raises(DataError, match=r"without a start token.*keep the prompt"):
        to_coop(prompt, backbone)


def test_logit_scale_is_the_factor(backbone: Any) -> None:
    assert backbone.logit_scale == pytest.approx(math.exp(2.3))


def test_an_image_tower_without_its_pooling_is_refused(tmp_path: Path) -> None:
    path = TinySiglip().save(tmp_path) / "config.json"
    config = json.loads(path.read_text())
    config["vision_config"]["vision_use_head"] = False
    path.write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"hold 'vision_model.head.* and \d+ more that config.json has no place for"):
        load_backbone(str(tmp_path))
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if not name.startswith("vision_model.head")}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="no pooling head"):
        load_backbone(str(tmp_path))


def test_towers_of_different_widths_are_refused(tmp_path: Path) -> None:
    tokenizer = siglip_tokenizer()
    model = TinySiglip().model(len(tokenizer))
    config = model.config
    config.text_config.projection_size = 8
    model.text_model.head = torch.nn.Linear(32, 8)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="its texts have 8 numbers and its images 32"):
        load_backbone(str(tmp_path))


def test_a_tokenizer_that_needs_sentencepiece_says_so(tmp_path: Path) -> None:
    path = TinySiglip().save(tmp_path) / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": "SiglipTokenizer"}))
    if importlib.util.find_spec("sentencepiece"):
        pytest.skip("sentencepiece is installed")
    with pytest.raises(ConfigError, match="pip install sentencepiece"):
        load_backbone(str(tmp_path))
