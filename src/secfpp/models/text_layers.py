"""Frozen transformer blocks of text towers in Hugging Face's layout, as both text encoders run them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Affine = tuple[Tensor, Tensor]  # weight, bias
QUICK_GELU = 1.702  # CLIP's activation is x * sigmoid(1.702 x)
KEPT = 7  # numbers kept of a token beside the perceptron's, in widths


@dataclass(frozen=True, eq=False)
class ClassTokens:
    """Tokenised class names: `ids` [n_cls, longest] holds name and end token, then padding.

    `end` [n_cls] is the index in `ids` at which a name ends: there a causal model reads the class's feature.
    """

    names: tuple[str, ...]
    ids: Tensor
    end: Tensor


@dataclass(frozen=True)
class Layer:
    """Frozen weights of one block; the attention scale is folded into the query rows of `qkv`."""

    norm1: Affine
    qkv: Affine
    out: Affine
    norm2: Affine
    up: Affine
    down: Affine


class Blocks:
    """The blocks of a frozen text tower, and what both kinds of encoders do with one.

    Args:
        tower: a text tower of transformers (``text_model``), already on its device and in its dtype.
        config: its ``text_config``.
    """

    def __init__(self, tower: Any, config: Any) -> None:
        self.heads, self.eps = config.num_attention_heads, config.layer_norm_eps
        self.width = int(config.hidden_size)
        self._act, slope = _activation(config.hidden_act)
        self.layers = [self._freeze(block, slope) for block in tower.encoder.layers]

    def bytes_per_token(self) -> int:
        """What all blocks keep of one token until the backward pass."""
        wide = int(self.layers[0].up[0].shape[0])
        numbers = KEPT * self.width + wide
        return len(self.layers) * numbers * self.layers[0].up[0].element_size()

    def normalise(self, x: Tensor, norm: Affine) -> Tensor:
        """Layer norm over the last axis."""
        return F.layer_norm(x, x.shape[-1:], norm[0], norm[1], self.eps)

    def project(self, x: Tensor, layer: Layer) -> Tensor:
        """Queries, keys and values side by side, [..., d] -> [..., 3 d]."""
        return F.linear(self.normalise(x, layer.norm1), *layer.qkv)

    def feed_forward(self, x: Tensor, layer: Layer) -> Tensor:
        """`x` and what the block's perceptron adds to it."""
        hidden = self._act(F.linear(self.normalise(x, layer.norm2), *layer.up))
        return x + F.linear(hidden, *layer.down)

    def _freeze(self, block: Any, slope: float) -> Layer:
        seen, (down, down_bias) = block.self_attn, affine(block.mlp.fc2)
        scale = (self.width // self.heads) ** -0.5
        projections = [affine(seen.q_proj, scale), affine(seen.k_proj), affine(seen.v_proj)]
        return Layer(
            norm1=affine(block.layer_norm1),
            qkv=(torch.cat([weight for weight, _ in projections]), torch.cat([bias for _, bias in projections])),
            out=affine(seen.out_proj),
            norm2=affine(block.layer_norm2),
            up=affine(block.mlp.fc1, slope),
            down=(down / slope, down_bias),
        )


def affine(module: Any, scale: float = 1.0) -> Affine:
    """Weight and bias of a module, times `scale`, without gradients."""
    return module.weight.detach() * scale, module.bias.detach() * scale


def _activation(name: str) -> tuple[Callable[[Tensor], Tensor], float]:
    """A function f and a scale s such that the named activation is ``x -> f(s x) / s``."""
    if name == "quick_gelu":
        return F.silu, QUICK_GELU  # one fused kernel instead of three
    if name == "gelu":
        return F.gelu, 1.0
    from transformers.activations import ACT2FN

    return ACT2FN[name], 1.0
