"""Tiny CLIP checkpoints with random weights, written to disk as Hugging Face writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = (
    *("a", "photo", "of", "an", "icon", "symbol", "for", "the", "cat", "dog", "bird"),
    *("bicycle", "security", "message", "favourite", "settings"),
)


@dataclass(frozen=True)
class TinyClip:
    """Shape of a checkpoint; `legacy_end` writes ``eos_token_id = 2``, as the first CLIP checkpoints did."""

    width: int = 32
    layers: int = 2
    heads: int = 4
    context_length: int = 20
    activation: str = "quick_gelu"
    projection: int = 24
    image_size: int = 32
    legacy_end: bool = False
    seed: int = 0

    def model(self, tokenizer: CLIPTokenizer) -> CLIPModel:
        """The model in memory; biases and norms are random too, so that nothing cancels."""
        config = CLIPConfig(
            text_config={
                "vocab_size": len(tokenizer),
                "hidden_size": self.width,
                "intermediate_size": 2 * self.width,
                "num_hidden_layers": self.layers,
                "num_attention_heads": self.heads,
                "max_position_embeddings": self.context_length,
                "hidden_act": self.activation,
                "bos_token_id": tokenizer.bos_token_id,
                "eos_token_id": 2 if self.legacy_end else tokenizer.eos_token_id,
                "pad_token_id": tokenizer.pad_token_id,
            },
            vision_config={
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": self.image_size,
                "patch_size": 8,
                "hidden_act": self.activation,
            },
            projection_dim=self.projection,
        )
        generator = torch.Generator().manual_seed(self.seed)
        model = CLIPModel(config).eval().requires_grad_(False)
        for name, weight in sorted(model.named_parameters()):
            if "logit_scale" not in name:
                scale = 0.1 if weight.ndim == 1 else weight.shape[-1] ** -0.5
                centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
                weight.copy_(centre + scale * torch.randn(weight.shape, generator=generator))
        return model

    def save(self, folder: Path, words: Sequence[str] = WORDS, image_edge: int | None = None) -> Path:
        """Write config, weights, tokenizer and image processor to `folder` and return it."""
        tokenizer = tiny_tokenizer(words)
        edge = image_edge or self.image_size
        self.model(tokenizer).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        CLIPImageProcessorPil(size={"shortest_edge": edge}, crop_size={"height": edge, "width": edge}).save_pretrained(
            folder
        )
        return folder


def tiny_tokenizer(words: Sequence[str] = WORDS) -> CLIPTokenizer:
    """A CLIP tokenizer that joins each of `words` from its letters, left to right; other words stay in pieces."""
    letters = sorted(ByteLevel.alphabet())
    merges: dict[tuple[str, str], None] = {}
    for word in words:
        pieces = [*word[:-1], word[-1] + "</w>"]
        for i in range(1, len(pieces)):
            merges["".join(pieces[:i]), pieces[i]] = None
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges), START, END]
    ids = {token: i for i, token in enumerate(dict.fromkeys(tokens))}  # the end token has the largest id
    return CLIPTokenizer(vocab=ids, merges=list(merges))
