"""Checkpoints of open_clip (Ilharco et al., doi 10.5281/zenodo.5143773) and OpenAI's own files.

A model whose image tower is OpenAI's vision transformer becomes a CLIP of Hugging Face, with that one's digest, so that
prompts learned with either format fit the other. ResNets and other poolings are a family of their own.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from secfpp.models.families.base import Checkpoint, Family, Layout, Towers, refuse
from secfpp.models.families.clip import LEGACY_END, Clip
from secfpp.models.families.hugging_face import EAGER_TOKENS, infinite_reason, vocabulary_reason
from secfpp.models.foreign_checkpoints import Files, weights_reason
from secfpp.models.open_clip import architecture, images
from secfpp.models.open_clip.architecture import Architecture, ResNet
from secfpp.models.open_clip.conversion import Renamed
from secfpp.models.open_clip.openai import shape_of
from secfpp.models.open_clip.resnet import ModifiedResNet
from secfpp.models.open_clip.tokenizer import MERGES, cleaned, merges_file, tokenizer
from secfpp.models.open_clip.tower import OpenClipModel, PooledTransformer
from secfpp.models.open_clip.weights import is_script, read_weights
from secfpp.models.text_prefix import PrefixTextEncoder

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
OPENAI = "openai/clip-"
"""How names of tokenizers begin that are CLIP's own."""
ODD_NAMES = "<start_of_text>"


class OpenClip(Family):
    """``open_clip_config.json`` with its weights, or a TorchScript archive as OpenAI's clip downloads it."""

    name = "open_clip"

    def takes(self, files: Files, config: Mapping[str, Any] | None) -> bool:
        """Whether there is open_clip's configuration, and no ``config.json`` of another family; or such an archive."""
        foreign = config is not None and "model_type" in config
        return not foreign and (files.has(CONFIG) or is_script(Path(files.source)))

    def load(self, name: str, files: Files) -> Checkpoint:
        """Read configuration and weights; tokenizer and image processor are made as open_clip would make them."""
        settings = _settings(files)
        model: Mapping[str, Any] = settings.get("model_cfg") or {}
        preprocess: Mapping[str, Any] = settings.get("preprocess_cfg") or {}
        if reason := architecture.refusal(model) or images.refusal(preprocess):
            raise refuse(name, reason)
        state = read_weights(_weights(name, files))
        shape = architecture.architecture(model) if model else shape_of(state)
        checkpoint = self._checkpoint(name, files, model, shape, Renamed(state), preprocess)
        if reason := infinite_reason(checkpoint.model) or _token_reason(checkpoint) or vocabulary_reason(checkpoint):
            raise refuse(name, reason)
        return checkpoint

    def layout(self, checkpoint: Checkpoint) -> Layout:
        """Start, context, name, end; what follows the end is never read."""
        shape, end = checkpoint.model.shape, int(checkpoint.tokenizer.eos_token_id)
        start = (int(checkpoint.tokenizer.bos_token_id),)
        return Layout(places=shape.places, start=start, end=end, pad=end, read_at_largest=shape.end is None)

    def particulars(self, checkpoint: Checkpoint) -> str:
        """Where a text's feature is read, how an image's is taken from the tower, and what is added to a score."""
        shape = checkpoint.model.shape
        taken = f"norm_first={shape.norm_first} averaged={shape.averaged} norm_last={shape.norm_last}"
        return f"end={shape.end} {taken} logit_bias={checkpoint.model.logit_bias}"

    def towers(self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> Towers:
        """Both towers; patches are taken to where features are by the same norm, attention and projection."""
        layout, shape = self.layout(checkpoint), checkpoint.model.shape
        scale = float(checkpoint.model.logit_scale.exp())
        model = checkpoint.model.to(device, dtype)
        if isinstance(model.visual, PooledTransformer):
            plain = device.type == "cpu" and shape.image_tokens <= EAGER_TOKENS
            model.visual.vision_model.set_attn_implementation("eager" if plain else "sdpa")
        return Towers(
            image=model.visual,
            patches=model.visual.patches,
            text=PrefixTextEncoder(model, *layout.start),
            layout=layout,
            text_dim=shape.text.width,
            projection=shape.projection,
            image_size=shape.image_size,
            image_tokens=shape.image_tokens,
            logit_scale=scale,
            logit_bias=model.logit_bias,
        )

    def _checkpoint(
        self, name: str, files: Files, model: Mapping[str, Any], shape: Architecture, weights: Renamed,
        preprocess: Mapping[str, Any],
    ) -> Checkpoint:  # fmt: skip
        words = _tokenizer(name, files, model)
        made = _model(name, shape, weights).eval().requires_grad_(False)
        family = self if isinstance(made, OpenClipModel) else Clip()
        software = partial(cleaned, lower=not _other_words(model))
        return Checkpoint(family, made, words, images.processor(preprocess, shape.image_size), software)


def _settings(files: Files) -> Mapping[str, Any]:
    """What ``open_clip_config.json`` says; nothing for one of OpenAI's files."""
    path = files.path(CONFIG)
    if path is None:
        return {}
    settings = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(settings, Mapping) or not isinstance(settings.get("model_cfg"), Mapping):
        raise ValueError(f"{CONFIG} has no model_cfg")
    return settings


def _weights(name: str, files: Files) -> Path:
    if Path(files.source).is_file():
        return Path(files.source)
    found = next((path for each in WEIGHTS if (path := files.path(each))), None)
    if found is None:
        raise _lacks(name, files, f"it has {CONFIG} but no weights: {' or '.join(WEIGHTS)} is missing")
    return found


def _lacks(name: str, files: Files, reason: str) -> Exception:
    """The error that a file is missing; the hub may still have what the cache lacks."""
    cached = files.local and not Path(files.source).exists()
    return OSError(reason) if cached else refuse(name, reason)


def _other_words(model: Mapping[str, Any]) -> str:
    """The name of the tokenizer, where a ``model_cfg`` names one that is not CLIP's; else empty."""
    named = str(model.get("text_cfg", {}).get("hf_tokenizer_name") or "")
    return "" if named.startswith(OPENAI) else named


def _tokenizer(name: str, files: Files, model: Mapping[str, Any]) -> Any:
    """The tokenizer whose files lie there, or CLIP's own where the model was trained with that."""
    hf: Any = importlib.import_module("transformers")
    there = files.has("tokenizer.json") or (files.has("vocab.json") and files.has("merges.txt"))
    if other := _other_words(model):
        if not there:
            reason = f"it has no tokenizer: copy tokenizer.json of {other} (hf_tokenizer_name) into its folder"
            raise _lacks(name, files, reason)
        return hf.AutoTokenizer.from_pretrained(files.source, local_files_only=files.local)
    if there:
        own = hf.CLIPTokenizer.from_pretrained(files.source, local_files_only=files.local)
        if ODD_NAMES in own.get_vocab():
            raise refuse(
                name,
                f"its tokenizer calls the start of a text {ODD_NAMES}, as open_clip does, so that transformers adds "
                f"tokens of its own: put open_clip's {MERGES} in its place",
            )
        return own
    source = Path(files.source)
    merges = files.path(MERGES) or merges_file(source.parent if source.is_file() else None)
    if merges is None:
        raise _lacks(
            name,
            files,
            f"it has no tokenizer: copy tokenizer.json of openai/clip-vit-base-patch16 or {MERGES} of OpenAI's clip "
            "into its folder, or install the file with `pip install --no-deps open_clip_torch`",
        )
    return tokenizer(merges)


def _token_reason(checkpoint: Checkpoint) -> str:
    """Why the tokenizer's start or end are not the model's; empty if they are."""
    words, shape = checkpoint.tokenizer, getattr(checkpoint.model, "shape", None)
    if words.bos_token_id is None or words.eos_token_id is None:
        return "its tokenizer has no start or no end token"
    if shape is not None and shape.end not in (None, words.eos_token_id):
        return f"the model reads features at token {shape.end} (eos_id), its tokenizer ends texts with another"
    return ""


def _model(name: str, shape: Architecture, weights: Renamed) -> Any:
    """The model with its weights.

    Raises:
        ConfigError: weights that are missing, too many, or of another shape.
    """
    hf: Any = importlib.import_module("transformers")
    text = shape.text.fields() | {
        "vocab_size": shape.vocabulary, "max_position_embeddings": shape.places, "projection_dim": shape.projection,
        "bos_token_id": 0, "eos_token_id": LEGACY_END, "pad_token_id": 1,
    }  # fmt: skip
    weights.text_tower(shape)
    resnet: ModifiedResNet | None = None
    if isinstance(shape.image, ResNet):
        resnet = ModifiedResNet(shape.image, shape.image_size, shape.projection)
        filled = weights.module("visual.", resnet)
    else:
        weights.vision_transformer(shape, shape.image)
    bias = weights.logit_bias()
    if reason := weights.misshapen or weights_reason(weights.missing, weights.unexpected):
        raise refuse(name, reason)
    scale = weights.named["logit_scale"]
    if resnet is not None:
        resnet.load_state_dict(filled, strict=False)
        del weights.named["logit_scale"]
        reader = hf.CLIPTextModelWithProjection
        tower = reader.from_pretrained(None, config=hf.CLIPTextConfig(**text), state_dict=weights.named)
        return OpenClipModel(tower, resnet, shape, scale, bias)
    vision = shape.image.fields() | {"image_size": shape.image_size, "patch_size": shape.patch_size}
    config = hf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=shape.projection)
    whole = hf.CLIPModel.from_pretrained(None, config=config, state_dict=weights.named)
    return (
        whole if shape.plain and not bias else OpenClipModel(whole, PooledTransformer(whole, shape), shape, scale, bias)
    )
