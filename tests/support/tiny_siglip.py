"""Tiny SigLIP and MetaCLIP 2 checkpoints with random weights, and tokenizers of the kind that these have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import Unigram
from tokenizers.processors import TemplateProcessing
from transformers import MetaClip2Config, MetaClip2Model, PreTrainedTokenizerFast, SiglipConfig, SiglipModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from support.tiny_clip import WORDS

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789▁"


def pieces(specials: Sequence[str], template: str, prepend: str = "always", **names: str) -> PreTrainedTokenizerFast:
    """A tokenizer of words with and without a ``▁`` before them, and of letters; `specials` have the first ids.

    `prepend` says whether a ``▁`` is put before a text that does not begin with a space.
    """
    words = [*WORDS, *(f"▁{word}" for word in WORDS)]
    scores = dict.fromkeys(specials, 0.0) | dict.fromkeys(LETTERS, -9.0) | dict.fromkeys(words, -1.0)
    tokenizer = Tokenizer(Unigram(list(scores.items()), unk_id=list(specials).index(names["unk_token"])))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend)
    used = [(token, specials.index(token)) for token in specials if token in template.split()]
    tokenizer.post_processor = TemplateProcessing(single=template, special_tokens=used)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def siglip_tokenizer() -> PreTrainedTokenizerFast:
    """Texts end with ``</s>``, which also pads; there is no start token."""
    specials = ("<pad>", "</s>", "<unk>")
    return pieces(specials, "$A </s>", eos_token="</s>", pad_token="</s>", unk_token="<unk>")


def siglip_2_tokenizer() -> PreTrainedTokenizerFast:
    """Padding has a token of its own, and a word at the start of a text another token than within, as Gemma's have."""
    specials = ("<pad>", "<eos>", "<bos>", "<unk>")
    names = {"eos_token": "<eos>", "bos_token": "<bos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return pieces(specials, "$A <eos>", prepend="never", **names)


def xlm_r_tokenizer() -> PreTrainedTokenizerFast:
    """Start, padding and end have the ids 0, 1 and 2, so the end is no token's largest id."""
    specials = ("<s>", "<pad>", "</s>", "<unk>")
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return pieces(specials, "<s> $A </s>", **names)


@dataclass(frozen=True)
class TinySiglip:
    """Shape of a SigLIP checkpoint."""

    width: int = 32
    layers: int = 3
    heads: int = 4
    places: int = 16
    activation: str = "gelu_pytorch_tanh"
    seed: int = 0

    def model(self, vocabulary: int) -> SiglipModel:
        """The model in memory, nothing in it zero."""
        shared = {"hidden_size": self.width, "num_attention_heads": self.heads, "intermediate_size": 2 * self.width}
        config = SiglipConfig(
            text_config={
                **shared,
                "vocab_size": vocabulary,
                "num_hidden_layers": self.layers,
                "max_position_embeddings": self.places,
                "hidden_act": self.activation,
                "projection_size": self.width,
                "bos_token_id": None,
                "eos_token_id": 1,
                "pad_token_id": 1,
            },
            vision_config={**shared, "num_hidden_layers": 2, "image_size": 32, "patch_size": 8},
        )
        return randomised(SiglipModel(config), self.seed)

    def save(self, folder: Path, tokenizer: PreTrainedTokenizerFast | None = None) -> Path:
        """Write config, weights, tokenizer and image processor to `folder` and return it."""
        tokenizer = tokenizer or siglip_tokenizer()
        self.model(len(tokenizer)).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
        return folder


def save_metaclip_2(folder: Path, width: int = 32, places: int = 20) -> Path:
    """Write a tiny MetaCLIP 2 with a tokenizer like XLM-R's to `folder` and return it."""
    tokenizer = xlm_r_tokenizer()
    shared = {"hidden_size": width, "num_attention_heads": 4, "intermediate_size": 2 * width, "num_hidden_layers": 2}
    config = MetaClip2Config(
        text_config={
            **shared,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": places,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "pad_token_id": 1,
        },
        vision_config={**shared, "image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    randomised(MetaClip2Model(config), 0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def randomised(model: Any, seed: int) -> Any:
    """`model` with random weights, biases and norms, so that nothing cancels; its logit scale and bias are kept."""
    generator = torch.Generator().manual_seed(seed)
    model.eval().requires_grad_(False)
    for name, weight in sorted(model.named_parameters()):
        if "logit" not in name:
            scale = 0.1 if weight.ndim == 1 else weight.shape[-1] ** -0.5
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            weight.copy_(centre + scale * torch.randn(weight.shape, generator=generator))
        elif "scale" in name:
            weight.fill_(2.3)
        else:
            weight.fill_(-10.5)
    return model
