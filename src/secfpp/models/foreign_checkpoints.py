"""What lies under a checkpoint's name if it is no plain CLIP of Hugging Face, and how to make one of it.

Many formats keep CLIP's weights, and some look like Hugging Face's at first sight. Read as a CLIP, weights that have no
place in it would be left out and the rest would score at chance, so each of them is told apart by what it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WEIGHTS = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip
SAVE = "save it with CLIPModel.save_pretrained(FOLDER), its tokenizer and image processor beside it"
MERGE = (
    "give a merged model: with peft, model.merge_and_unload().save_pretrained(FOLDER), tokenizer and image processor "
    "beside it"
)
QUANTISED = "give the weights that were quantised, in float32 or float16: what a quantised model would say is another"


@dataclass(frozen=True)
class Format:
    """A kind of checkpoint: the `files` by which it is known, what it `is`, and the `remedy`."""

    files: tuple[str, ...]
    is_: str
    remedy: str


ADAPTER = Format(("adapter_config.json",), "an adapter of PEFT that is not merged into its model", MERGE)
FORMATS = (
    ADAPTER,
    Format(
        ("open_clip_config.json", "open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
        "a model of open_clip",
        "most published ones are on the hub in Hugging Face format too, in the same repository or under openai/ and "
        "laion/; for others https://github.com/mlfoundations/open_clip/issues/591 has a script that converts",
    ),
    Format(
        ("tf_model.h5", "flax_model.msgpack"),
        "a model of TensorFlow or Flax",
        "with transformers 4, CLIPModel.from_pretrained(FOLDER, from_tf=True or from_flax=True) reads it: save that "
        "with save_pretrained",
    ),
    Format(
        ("model.onnx", "onnx/model.onnx", "*.onnx", "onnx/*.onnx"),
        "an ONNX graph, which cannot be turned back",
        "give the checkpoint that it was exported from",
    ),
    Format(
        ("*.pt", "*.pth", "*.ckpt", "*.gguf"),
        "a file of weights that Hugging Face's reader does not know (of OpenAI's clip, open_clip or a training)",
        "OpenAI's models are on the hub as openai/clip-vit-base-patch16 and others; a training of your own is "
        "converted by transformers' models/clip/convert_clip_original_pytorch_to_hf.py",
    ),
)


@dataclass(frozen=True)
class Files:
    """The files of a checkpoint, in a directory or in the local cache of the hub."""

    source: str
    local: bool

    def has(self, pattern: str) -> bool:
        """Whether there is such a file; patterns with ``*`` are looked for in directories only."""
        if Path(self.source).is_dir():
            return any(Path(self.source).glob(pattern))
        if "*" in pattern:
            return False
        from transformers.utils.hub import cached_file

        quiet = {"_raise_exceptions_for_missing_entries": False, "_raise_exceptions_for_connection_errors": False}
        return cached_file(self.source, pattern, local_files_only=self.local, **quiet) is not None

    def has_any(self, patterns: Iterable[str]) -> bool:
        """Whether there is one of them."""
        return any(map(self.has, patterns))


def file_reason(name: str) -> str:
    """Why one file is no checkpoint, and what to do."""
    kind = next((each for each in FORMATS if any(Path(name).match(pattern) for pattern in each.files)), None)
    told = f" ({kind.is_}): {kind.remedy}" if kind else f": {SAVE}"
    return f"it is a file, not the directory of a Hugging Face checkpoint{told}"


def folder_reason(files: Files) -> str:
    """Why a folder without ``config.json``, weights or tokenizer is no checkpoint; empty if nothing tells."""
    if files.has("modules.json"):
        return _sentence_transformer(Path(files.source))
    kind = next((each for each in FORMATS if files.has_any(each.files)), None)
    return f"it holds {kind.is_}: {kind.remedy}" if kind else ""


def missing_files(files: Files) -> str:
    """What a folder with a ``config.json`` lacks of a checkpoint, and what it is instead; empty if nothing."""
    if files.has_any(ADAPTER.files):
        return f"it holds {ADAPTER.is_}: {ADAPTER.remedy}"
    if not files.has_any(WEIGHTS):
        return folder_reason(files) or f"it has no weights: {' or '.join(WEIGHTS[::2])} is missing; {SAVE}"
    if not files.has("tokenizer.json") and not (files.has("vocab.json") and files.has("merges.txt")):
        return (
            "it has no tokenizer: tokenizer.json is missing, and so is vocab.json or merges.txt; copy them from the "
            "model that it was made from, or write them with tokenizer.save_pretrained(FOLDER)"
        )
    return ""


def config_reason(config: Mapping[str, Any]) -> str:
    """Why a model with this ``config.json`` is no plain CLIP; empty if it may be one."""
    kind, made = config.get("model_type"), config.get("architectures") or ["CLIPModel"]
    if "quantization_config" in config:
        how = config["quantization_config"]
        method = how.get("quant_method", "unknown") if isinstance(how, Mapping) else how
        return f"it is quantised (quantization_config, {method}): {QUANTISED}"
    if kind in ("clip_vision_model", "clip_text_model"):
        return f"its model_type is {kind!r}, one of CLIP's two towers: give the whole model ('clip')"
    if kind != "clip":
        return f"its model_type is {kind!r}; only CLIP checkpoints ('clip') are supported"
    if made != ["CLIPModel"]:
        return (
            f"it holds a {', '.join(map(str, made))} (architectures), not a CLIPModel with both towers and "
            "projections: give the CLIP that it was made from; if its image tower was trained further, load that CLIP, "
            "put the tower's weights into its vision_model, and save it with save_pretrained"
        )
    return ""


def weights_reason(missing: Iterable[str], unexpected: Iterable[str]) -> str:
    """Why these names of weights are not those of the model; empty if none is missing and none too many."""
    lacks, extra = sorted(missing), sorted(unexpected)
    for marks, what in (
        (("lora_", "base_model.", ".base_layer.", ".adapter"), f"an adapter that is not merged: {MERGE}"),
        ((".absmax", ".SCB", ".quant_", "qweight", ".scales"), f"quantised weights: {QUANTISED}"),
        (("classifier.",), "a classifier, which is not used here: give the CLIP that it was made from"),
    ):
        if found := next((name for name in extra if any(mark in name for mark in marks)), None):
            return f"its weights hold {found!r}, {what}"
    if extra:
        return (
            f"its weights hold {extra[0]!r} and {len(extra) - 1} more that config.json has no place for, so that the "
            f"model would not be the one that was saved: {SAVE}"
        )
    if lacks:
        return f"weights are missing, for example {lacks[0]!r}, {len(lacks)} in all: {SAVE}"
    return ""


def _sentence_transformer(folder: Path) -> str:
    """What to give instead of a folder of sentence-transformers."""
    inside = sorted(path.parent.name for path in folder.glob("*/config.json") if _is_clip(path))
    remedy = (
        f"give the CLIP inside it, {str(folder / inside[0])!r}"
        if inside
        else "SentenceTransformer(FOLDER)[0].model is its CLIP, if it has one: save that with save_pretrained"
    )
    return f"it holds a pipeline of sentence-transformers (modules.json): {remedy}"


def _is_clip(config: Path) -> bool:
    try:
        return bool(json.loads(config.read_text(encoding="utf-8")).get("model_type") == "clip")
    except (OSError, ValueError, AttributeError):
        return False
