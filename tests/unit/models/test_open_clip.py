"""Models that open_clip itself makes and runs, read from the files that it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from secfpp.models.backbone import DualEncoder, load_backbone
from secfpp.models.checkpoint import load_checkpoint
from support import open_clip_itself as itself
from support.open_clip_itself import RESNET, model_cfg, noise
from support.tiny_clip import tiny_tokenizer

pytestmark = itself.needs_open_clip
NAMES = ("cat", "dog bicycle", "security message", "a photo of the bird")
MODELS = {
    "vision transformer": model_cfg(),
    "quick gelu": model_cfg(quick_gelu=True),
    "its own text tower": model_cfg(custom_text=True),
    "deep, other heads and hidden widths": model_cfg(
        {"layers": 3, "head_width": 8, "mlp_ratio": 2.5}, {"heads": 2, "layers": 4, "mlp_ratio": 3.3}
    ),
    "factors of channels": model_cfg({"ls_init_value": 1e-4}, {"ls_init_value": 1e-4}),
    "other norms": model_cfg({"norm_kwargs": {"eps": 1e-3}}, {"norm_kwargs": {"eps": 1e-2}}),
    "gelu by tanh": model_cfg({"act_kwargs": {"approximate": "tanh"}}, {"act_kwargs": {"approximate": "tanh"}}),
    "patches dropped in training": model_cfg({"patch_dropout": 0.5}),
    "no norm before": model_cfg({"no_ln_pre": True}),
    "mean of normalised patches": model_cfg({"pool_type": "avg"}),
    "norm of the mean": model_cfg({"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True}),
    "norm after the class token": model_cfg({"final_ln_after_pool": True}),
    "fixed positions": model_cfg({"pos_embed_type": "sin_cos_2d"}),
    "a bias of scores": model_cfg(init_logit_bias=-10, nonscalar_logit_scale=True),
    "read at the end token": model_cfg(text={"pool_type": "eos", "eos_id": tiny_tokenizer().eos_token_id}),
    "resnet": model_cfg() | {"vision_cfg": RESNET},
    "resnet, quick gelu": model_cfg(quick_gelu=True) | {"vision_cfg": RESNET | {"layers": [2, 1, 1, 2], "width": 16}},
}


def loaded(model: Any, config: dict[str, Any], folder: Path, **more: Any) -> DualEncoder:
    backbone = load_backbone(str(itself.save(model, config, folder / "model")), device="cpu", cache_dir=folder, **more)
    assert isinstance(backbone, DualEncoder)
    return backbone


@pytest.fixture(params=MODELS.values(), ids=MODELS.keys())
def both(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, DualEncoder]:
    """A model as open_clip has it in memory, and as it is read from a folder."""
    model = itself.made(request.param)
    return model, loaded(model, request.param, tmp_path)


def test_image_features_are_those_of_open_clip(both: tuple[Any, DualEncoder]) -> None:
    model, backbone = both
    size = backbone.spec.image_size
    images = noise(5, size, size)
    pixels = torch.from_numpy(backbone._pixels(images))
    with torch.no_grad():
        expected = model.encode_image(pixels, normalize=True)
    torch.testing.assert_close(backbone.features(images), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(backbone.logit_scale, float(model.logit_scale.exp()))
    assert backbone.logit_bias == (0 if model.logit_bias is None else -10)


def test_class_features_and_prompt_gradients_are_those_of_open_clip(both: tuple[Any, DualEncoder]) -> None:
    model, backbone = both
    words = tiny_tokenizer()
    rows = [
        [words.bos_token_id, *[0] * 3, *words(name, add_special_tokens=False)["input_ids"], words.eos_token_id]
        for name in NAMES
    ]
    ours = torch.randn(1, 3, backbone.spec.text_dim, generator=torch.Generator().manual_seed(3)).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    features = backbone.class_features(ours, backbone.class_tokens(NAMES, 3))[0]
    expected = itself.text_features(model, theirs[0], rows, backbone.spec.context_length)
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=0)
    direction = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    (features * direction).sum().backward()
    (expected * direction).sum().backward()
    assert (ours.grad - theirs.grad).abs().max() < 1e-5 * max(1.0, float(theirs.grad.abs().max()))


def patches_of(model: Any, pixels: Tensor) -> Tensor:
    """Unit features of patches, from open_clip's own parts."""
    tower = model.visual
    if hasattr(tower, "attnpool"):
        pool, x = tower.attnpool, tower.layer4(tower.layer3(tower.layer2(tower.layer1(tower.stem(pixels)))))
        x = x.flatten(2).permute(2, 0, 1)
        x = torch.cat([x.mean(0, keepdim=True), x]) + pool.positional_embedding[:, None]
        whole = F.multi_head_attention_forward(
            x, x, x, x.shape[-1], pool.num_heads, None,
            torch.cat([pool.q_proj.bias, pool.k_proj.bias, pool.v_proj.bias]), None, None, False, 0.0,
            pool.c_proj.weight, pool.c_proj.bias, training=False, need_weights=False, use_separate_proj_weight=True,
            q_proj_weight=pool.q_proj.weight, k_proj_weight=pool.k_proj.weight, v_proj_weight=pool.v_proj.weight,
        )[0]  # fmt: skip
        return F.normalize(whole[1:].transpose(0, 1), dim=-1)
    hidden = tower.transformer(tower._embeds(pixels))
    return F.normalize(tower.ln_post(hidden[:, 1:]) @ tower.proj, dim=-1)


def test_features_of_patches_are_made_of_open_clips_parts(both: tuple[Any, DualEncoder]) -> None:
    model, backbone = both
    size = backbone.spec.image_size
    images = noise(3, size, size)
    with torch.no_grad():
        expected = patches_of(model, torch.from_numpy(backbone._pixels(images)))
    torch.testing.assert_close(backbone.patch_features(images), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("vision", [{}, RESNET | {"patch_size": 8}], ids=["transformer", "resnet"])
def test_half_precision_is_near(vision: dict[str, Any], tmp_path: Path) -> None:
    config = model_cfg() | ({"vision_cfg": vision} if vision else {})
    model = itself.made(config)
    exact, rough = loaded(model, config, tmp_path), loaded(model, config, tmp_path, dtype="bfloat16")
    images = noise(4, exact.spec.image_size, exact.spec.image_size)
    assert rough.features(images).dtype == torch.float32
    assert 0 < (rough.features(images) - exact.features(images)).abs().max() < 0.05


def test_a_plain_model_is_the_same_one_as_in_the_format_of_hugging_face(tmp_path: Path) -> None:
    """Prompts that were learned with either fit the other."""
    config = model_cfg(quick_gelu=True)
    ours = load_checkpoint(str(itself.save(itself.made(config), config, tmp_path / "open_clip")))
    ours.model.save_pretrained(tmp_path / "hf")
    ours.tokenizer.save_pretrained(tmp_path / "hf")
    ours.images.save_pretrained(tmp_path / "hf")
    assert type(CLIPModel.from_pretrained(tmp_path / "hf")) is CLIPModel
    assert CLIPConfig.from_pretrained(tmp_path / "hf").text_config.hidden_act == "quick_gelu"
    assert load_checkpoint(str(tmp_path / "hf")).digest() == ours.digest()


def test_models_of_the_same_weights_that_pool_otherwise_have_other_digests(tmp_path: Path) -> None:
    model = itself.made(model_cfg({"pool_type": "avg"}))
    ways = [{}, {"pool_type": "avg"}, {"pool_type": "avg", "final_ln_after_pool": True}]
    digests = {
        load_checkpoint(str(itself.save(model, model_cfg(way), tmp_path / str(i)))).digest()
        for i, way in enumerate(ways)
    }
    assert len(digests) == 3


def test_a_feature_is_read_at_the_largest_id_or_at_the_end_token_as_the_configuration_says(tmp_path: Path) -> None:
    """Both are the same place where the end token has the largest id, as in CLIP's own vocabulary."""
    end = tiny_tokenizer().eos_token_id
    for pooling, largest in (({}, True), ({"pool_type": "eos", "eos_id": end}, False)):
        config = model_cfg(text=pooling) | {"vision_cfg": RESNET}
        checkpoint = load_checkpoint(str(itself.save(itself.made(config), config, tmp_path)))
        layout = checkpoint.family.layout(checkpoint)
        assert layout.read_at_largest is largest
        above = [[end + 1, 3], [5]]
        assert layout.class_tokens(("a", "b"), above).end.tolist() == ([0, 1] if largest else [2, 1])
