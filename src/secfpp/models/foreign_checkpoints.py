"""What lies under a checkpoint's name if no family of models takes it as it is, and how to make one of it.

Many formats keep CLIP's weights, and some look like Hugging Face's at first sight. Read as a CLIP, weights that have no
place in it would be left out and the rest would score at chance, so each of them is told apart by what it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WEIGHTS = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip
OTHER_KINDS = {
    "clipseg": "its CLIP is OpenAI's, which its makers did not train; give openai/clip-vit-base-patch16",
    "xclip": "its image tower reads videos, not images; give the CLIP that it began from, such as "
    "openai/clip-vit-base-patch32",
    "owlvit": "it was trained to compare boxes in an image with names, not images; give the CLIP that it began from, "
    "such as openai/clip-vit-base-patch32",
    "owlv2": "it was trained to compare boxes in an image with names, not images; give a CLIP, such as "
    "openai/clip-vit-base-patch16",
    "siglip2": "its image tower takes images of any shape (NaFlex); give a SigLIP 2 of one size, of which config.json "
    "says 'siglip', such as google/siglip2-base-patch16-224",
}
"""Kinds of models that hold two towers and are not read, and why."""
SAVE = "save it with the model's save_pretrained(FOLDER), its tokenizer and image processor beside it"
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


def missing_files(files: Files, tokenizer: Sequence[Sequence[str]]) -> str:
    """What a folder with a ``config.json`` lacks of a checkpoint, and what it is instead; empty if nothing.

    Args:
        files: the folder's.
        tokenizer: the files that a tokenizer may be made of, in each way that it may.
    """
    if files.has_any(ADAPTER.files):
        return f"it holds {ADAPTER.is_}: {ADAPTER.remedy}"
    if not files.has_any(WEIGHTS):
        return folder_reason(files) or f"it has no weights: {' or '.join(WEIGHTS[::2])} is missing; {SAVE}"
    if not any(all(map(files.has, way)) for way in tokenizer):
        first, *others = (" or ".join(way) for way in tokenizer)
        return (
            f"it has no tokenizer: {first} is missing, and so is {', '.join(others)}; copy them from the "
            "model that it was made from, or write them with tokenizer.save_pretrained(FOLDER)"
        )
    return ""


def config_reason(config: Mapping[str, Any], families: Sequence[str]) -> str:
    """Why a model with this ``config.json`` is of none of these `families`; empty if it may be of one."""
    kind = config.get("model_type")
    if "quantization_config" in config:
        how = config["quantization_config"]
        method = how.get("quant_method", "unknown") if isinstance(how, Mapping) else how
        return f"it is quantised (quantization_config, {method}): {QUANTISED}"
    tower = next((f for f in families if kind in (f"{f}_vision_model", f"{f}_text_model")), None)
    if tower:
        return f"its model_type is {kind!r}, one of the two towers of {tower!r}: give the whole model"
    if kind in OTHER_KINDS:
        return f"its model_type is {kind!r}: {OTHER_KINDS[kind]}"
    if kind not in families:
        return f"its model_type is {kind!r}; only {', '.join(map(repr, families))} can be read"
    return ""


def architecture_reason(config: Mapping[str, Any], expected: str) -> str:
    """Why what ``config.json`` says it holds is not the class `expected`; empty if it is."""
    made = config.get("architectures") or [expected]
    if made != [expected]:
        return (
            f"it holds a {', '.join(map(str, made))} (architectures), not a {expected} with both towers: give the "
            f"{expected} that it was made from; if its image tower was trained further, load that one, "
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
