from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoTokenizer, MetaClip2Model

from secfpp.models.backbone import load_backbone
from support.tiny_siglip import save_metaclip_2

NAMES = ("cat", "security message", "bird dog settings")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_metaclip_2(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def backbone(folder: Path) -> Any:
    return load_backbone(str(folder), device="cpu")


def test_features_are_read_at_the_end_token_whose_id_is_two(backbone: Any) -> None:
    tokens = backbone.class_tokens(NAMES, 4)
    assert tokens.ids[torch.arange(3), tokens.end].tolist() == [2, 2, 2]
    assert tokens.end.tolist() == [1, 2, 3]


def test_equals_transformers_own_forward_on_whole_sentences(backbone: Any, folder: Path) -> None:
    model, tokenizer = MetaClip2Model.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    rows = tokenizer([f"a photo of a {name}" for name in NAMES], padding=True, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = F.normalize(model.get_text_features(input_ids=rows).pooler_output, dim=-1)
    prompt = torch.from_numpy(backbone.initial_prompt("a photo of a", 4))[None]
    found = backbone.class_features(prompt, backbone.class_tokens(NAMES, 4))[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_prompt_gradients_are_transformers_own(backbone: Any, folder: Path) -> None:
    model = MetaClip2Model.from_pretrained(folder).requires_grad_(False)
    tokens, n = backbone.class_tokens(NAMES, 5), 5
    rows = torch.full((len(NAMES), 1 + n + tokens.ids.shape[1]), 0)
    rows[:, 1 + n :] = tokens.ids
    start = torch.randn(n, 32, generator=torch.Generator().manual_seed(2))
    ours, theirs = start[None].clone().requires_grad_(), start.clone().requires_grad_()
    model.text_model.embeddings.token_embedding.register_forward_hook(
        lambda module, args, out: torch.cat([out[:, :1], theirs.expand(len(out), -1, -1), out[:, 1 + n :]], dim=1)
    )
    expected = F.normalize(model.get_text_features(input_ids=rows).pooler_output, dim=-1)
    found = backbone.class_features(ours, tokens)[0]
    direction = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    (found * direction).sum().backward()
    (expected * direction).sum().backward()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert ours.grad is not None and theirs.grad is not None
    assert (ours.grad[0] - theirs.grad).abs().max() < 1e-5 * theirs.grad.abs().max()


def test_image_and_patch_features(backbone: Any, folder: Path) -> None:
    model = MetaClip2Model.from_pretrained(folder)
    images = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    pixels = torch.from_numpy(backbone._pixels(images))
    with torch.no_grad():
        expected = F.normalize(model.get_image_features(pixel_values=pixels).pooler_output, dim=-1)
    torch.testing.assert_close(backbone.features(images), expected, atol=1e-5, rtol=0)
    assert backbone.patch_features(images).shape == (3, 16, 24)
