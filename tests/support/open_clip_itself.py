"""The true open_clip, as what this package reads is compared with; and checkpoints written as it writes them.

Its distribution wants torchvision, of which its models use one class that no test needs. So it is installed without
what it depends on (`pip install --no-deps`, see the Makefile), and its modules are imported with a stand-in for that
class and without its package's own ``__init__``, which imports all of them.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from support.tiny_clip import WORDS, tiny_tokenizer

SPEC = importlib.util.find_spec("open_clip")
needs_open_clip = pytest.mark.skipif(SPEC is None, reason="open_clip_torch is not installed: make test installs it")
VISION = {"layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 32}
TEXT = {"context_length": 20, "vocab_size": len(tiny_tokenizer()), "width": 32, "heads": 4, "layers": 2}
RESNET = {"layers": [1, 2, 1, 1], "width": 8, "head_width": 16, "image_size": 64}


def folder() -> Path:
    """Where open_clip lies."""
    assert SPEC is not None and SPEC.submodule_search_locations
    return Path(SPEC.submodule_search_locations[0])


@cache
def module(name: str) -> Any:
    """open_clip's module of this name."""
    package, misc = ModuleType("open_clip"), ModuleType("torchvision.ops.misc")
    package.__path__ = [str(folder())]
    misc.FrozenBatchNorm2d = nn.BatchNorm2d  # type: ignore[attr-defined]
    stand_ins = {"open_clip": package, "timm": None, "torchvision.ops.misc": misc} | {
        above: ModuleType(above) for above in ("torchvision", "torchvision.ops")
    }
    with patch.dict(sys.modules, stand_ins):
        return importlib.import_module(f"open_clip.{name}")


@cache
def simple_tokenizer() -> Any:
    """open_clip's own tokenizer, with the true vocabulary."""
    return module("tokenizer").SimpleTokenizer()


def model_cfg(
    vision: Mapping[str, Any] | None = None, text: Mapping[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """A tiny model's configuration; `vision` and `text` change fields of the towers."""
    return {"embed_dim": 24, "vision_cfg": VISION | dict(vision or {}), "text_cfg": TEXT | dict(text or {})} | more


def made(config: Mapping[str, Any], seed: int = 0) -> nn.Module:
    """open_clip's own model of this configuration, with random weights, biases, norms and running means too."""
    arguments = {key: value for key, value in config.items() if key != "custom_text"}
    kind = "CustomTextCLIP" if config.get("custom_text") else "CLIP"
    model = getattr(module("model"), kind)(**arguments).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, weight in sorted([*model.named_parameters(), *model.named_buffers()]):
        if name in ("logit_scale", "logit_bias") or name.endswith(("attn_mask", "num_batches_tracked")):
            continue
        noise = torch.randn(weight.shape, generator=generator)
        if name.endswith("running_var"):
            weight.copy_(1 + 0.3 * noise.tanh())
        elif weight.ndim == 1 and name.endswith(("weight", "gamma")):
            weight.copy_(1 + 0.1 * noise)
        elif weight.ndim == 1:
            weight.copy_(0.1 * noise)
        else:
            weight.copy_(noise * weight[0].numel() ** -0.5)
    return model


def save(
    model: nn.Module,
    config: Mapping[str, Any],
    to: Path,
    preprocess: Mapping[str, Any] | None = None,
    words: bool = True,
) -> Path:
    """Write a folder as open_clip's ``save_for_hf`` does; with the tokenizer of the tests if `words`."""
    to.mkdir(parents=True, exist_ok=True)
    content = {"model_cfg": dict(config), "preprocess_cfg": dict(preprocess or {})}
    (to / "open_clip_config.json").write_text(json.dumps(content))
    state = {name: weight.contiguous() for name, weight in model.state_dict().items()}
    save_file(state, to / "open_clip_model.safetensors", metadata={"format": "pt"})
    if words:
        tiny_tokenizer(WORDS).save_pretrained(to)
    return to


def noise(n: int, height: int, width: int) -> np.ndarray:
    """Random images, uint8 [n, height, width, 3]."""
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def text_features(model: Any, prompt: torch.Tensor, rows: list[list[int]], places: int) -> torch.Tensor:
    """Unit features of token `rows`, in which `prompt` [n, d] takes the places after the start token."""
    ids = torch.zeros(len(rows), places, dtype=torch.long)
    for row, tokens in zip(ids, rows, strict=True):
        row[: len(tokens)] = torch.tensor(tokens)
    n = len(prompt)
    tower = getattr(model, "text", model)
    handle = tower.token_embedding.register_forward_hook(
        lambda module, args, out: torch.cat([out[:, :1], prompt.expand(len(out), -1, -1), out[:, 1 + n :]], dim=1)
    )
    try:
        return F.normalize(model.encode_text(ids), dim=-1)
    finally:
        handle.remove()
