"""Reads a Hugging Face CLIP checkpoint: model, tokenizer and image processor as they were saved.

Source of the end-token conventions: ``transformers`` reads a text's feature at the largest id where
the configuration says ``eos_token_id = 2`` (checkpoints from before its pull request 24773), else at
the first end token.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from secfpp.errors import ConfigError, Problem
from secfpp.models.foreign_checkpoints import (
    Files,
    config_reason,
    file_reason,
    folder_reason,
    missing_files,
    weights_reason,
)

MINI = Path(__file__).parent / "assets" / "mini_clip"
LEGACY_END = 2
MOST_OF_IT = 0.9
"""The share of a model's vocabulary that its tokenizer has at least; a table may be padded to a round size."""
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
MODEL_FIELDS = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act", "layer_norm_eps",
    "max_position_embeddings", "eos_token_id", "image_size", "patch_size", "num_channels",
)  # fmt: skip
IMAGE_FIELDS = (
    "do_convert_rgb", "do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor",
    "do_normalize", "image_mean", "image_std",
)  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: ``CLIPModel`` in float32 on the CPU, its tokenizer and image processor."""

    model: Any
    tokenizer: Any
    images: Any

    @property
    def start_id(self) -> int:
        """The id that begins every text."""
        return int(self.tokenizer.bos_token_id)

    @property
    def end_id(self) -> int:
        """The id that ends every text."""
        return int(self.tokenizer.eos_token_id)

    @property
    def legacy_end(self) -> bool:
        """Whether a text's feature is read at the largest id, not at the first end token."""
        return bool(self.model.config.text_config.eos_token_id == LEGACY_END)

    def digest(self) -> str:
        """Hash of weights, architecture, vocabulary and image processing; not of how they are stored."""
        config = self.model.config
        parts = {
            "text": {key: getattr(config.text_config, key, None) for key in MODEL_FIELDS},
            "vision": {key: getattr(config.vision_config, key, None) for key in MODEL_FIELDS},
            "images": {key: getattr(self.images, key, None) for key in IMAGE_FIELDS},
            "vocabulary": sorted(self.tokenizer.get_vocab().items()),
        }
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=dict).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(repr((name, tuple(tensor.shape))).encode())
            digest.update(tensor.float().contiguous().numpy().data)
        return digest.hexdigest()


def load_checkpoint(name: str) -> Checkpoint:
    """The checkpoint called `name`: ``mini``, a directory, or a name on the Hugging Face hub.

    A name on the hub is looked up in the local cache first and downloaded only if it is not there.

    Raises:
        ConfigError: nothing can be loaded under that name, or it is not a complete CLIP checkpoint.
    """
    folder = MINI if name == "mini" else Path(name).expanduser()
    if folder.is_dir():
        return _load(name, str(folder), local=True)
    if folder.is_file():
        raise _refuse(name, file_reason(name))
    if name == "mini":
        raise _refuse(name, f"the embedded model is not in this installation ({folder}): install secfpp again")
    if not HUB_NAME.fullmatch(name):
        raise _refuse(name, "no such directory; give a CLIP checkpoint's directory, its name on the hub, or 'mini'")
    try:
        return _load(name, name, local=True)
    except ConfigError as not_cached:
        if not isinstance(not_cached.__cause__, OSError):
            raise
    return _load(name, name, local=False)


def _load(name: str, source: str, local: bool) -> Checkpoint:
    with _quiet():
        try:
            return _read(name, source, local)
        except OSError as error:
            remedy = "a file of the checkpoint is missing or unreadable; save it again with save_pretrained"
            if not Path(source).is_dir():
                remedy = (
                    "no such directory, not in the local Hugging Face cache, and the hub did not give it (no network, "
                    f"HF_HUB_OFFLINE is set, or no such name): run `hf download {name}` where there is a network, "
                    "give a checkpoint's directory, or use 'mini'"
                )
            raise _refuse(name, f"{remedy}. Cause: {_first_line(error)}") from error
        except ConfigError:
            raise
        except Exception as error:  # transformers raises whatever it stumbles over in a config or in damaged bytes
            reason = f"the checkpoint cannot be read. Cause: {type(error).__name__}: {_first_line(error)}"
            raise _refuse(name, reason) from error


def _read(name: str, source: str, local: bool) -> Checkpoint:
    hf: Any = importlib.import_module("transformers")
    files = Files(source, local)
    if Path(source).is_dir() and not files.has("config.json"):
        reason = "the directory has no config.json, so it is not a Hugging Face checkpoint"
        raise _refuse(name, "; ".join(filter(None, (reason, folder_reason(files)))))
    try:
        config = hf.CLIPConfig.get_config_dict(source, local_files_only=local)[0]
    except OSError:
        if reason := folder_reason(files):
            raise _refuse(name, reason) from None
        raise
    if reason := config_reason(config):
        raise _refuse(name, reason)
    if reason := missing_files(files):
        if local and not Path(source).is_dir():
            raise OSError(reason)  # the hub may have what the cache lacks
        raise _refuse(name, reason)
    model, report = hf.CLIPModel.from_pretrained(
        source, local_files_only=local, dtype=torch.float32, output_loading_info=True
    )
    if reason := weights_reason(report["missing_keys"], report["unexpected_keys"]):
        raise _refuse(name, reason)
    broken = [key for key, weight in model.state_dict().items() if not weight.isfinite().all()]
    if broken:
        raise _refuse(
            name,
            f"its weights are not finite (NaN or infinite), in {broken[0]!r} and {len(broken) - 1} more: a training "
            "that diverged or an overflow in float16; give an earlier checkpoint, or save it again in float32",
        )
    # Pillow's resampling is what the checkpoints were evaluated with, and needs no torchvision.
    pillow: dict[str, Any] = {"use_fast": False}
    if importlib.util.find_spec("transformers.image_processing_backends"):
        pillow = {"backend": "pil"}
    checkpoint = Checkpoint(
        model=model.eval().requires_grad_(False),
        tokenizer=hf.AutoTokenizer.from_pretrained(source, local_files_only=local),
        images=hf.AutoImageProcessor.from_pretrained(source, local_files_only=local, **pillow),
    )
    _check_special_tokens(name, checkpoint)
    return checkpoint


def _check_special_tokens(name: str, checkpoint: Checkpoint) -> None:
    tokenizer, config = checkpoint.tokenizer, checkpoint.model.config.text_config
    if tokenizer.bos_token_id is None or tokenizer.eos_token_id is None:
        raise _refuse(name, "its tokenizer has no start or no end token")
    if not checkpoint.legacy_end and config.eos_token_id != tokenizer.eos_token_id:
        raise _refuse(
            name,
            f"the model reads features at token {config.eos_token_id} (eos_token_id in config.json), "
            f"but the tokenizer ends texts with {tokenizer.eos_token_id}; correct one of them",
        )
    known = tokenizer.get_vocab().values()
    if max(known) >= config.vocab_size:
        raise _refuse(name, f"its tokenizer has ids beyond the model's vocabulary of {config.vocab_size}")
    if len(known) < MOST_OF_IT * config.vocab_size:
        raise _refuse(
            name,
            f"its tokenizer has {len(known)} tokens, but the model's vocabulary {config.vocab_size}: the tokenizer is "
            "another model's, or its files are damaged; copy them from the model that it was made from",
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars or advice from transformers inside; its settings are restored after."""
    logging: Any = importlib.import_module("transformers.utils.logging")
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _refuse(name: str, reason: str) -> ConfigError:
    return ConfigError([Problem("backbone.name", name, reason)])


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
