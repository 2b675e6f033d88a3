"""What families in Hugging Face format share: how a checkpoint is read and checked, and how its image tower runs."""

from __future__ import annotations

import importlib
import importlib.util
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from secfpp.models.families.base import Checkpoint, Family, refuse
from secfpp.models.foreign_checkpoints import Files, architecture_reason, missing_files, weights_reason

EAGER_TOKENS = 256  # on a CPU plain attention is the faster one up to about this many patches
MOST_OF_IT = 0.9
"""The share of a model's vocabulary that its tokenizer has at least; a table may be padded to a round size."""


class HuggingFaceFamily(Family):
    """A family in the format of ``save_pretrained``.

    Attributes:
        model_type: what ``config.json`` calls it.
        model_class: the class of transformers that reads it.
        tokenizer_files: the files that its tokenizer is made of, in each way that it may be.
    """

    model_type: ClassVar[str]
    model_class: ClassVar[str]
    tokenizer_files: ClassVar[tuple[tuple[str, ...], ...]]

    def takes(self, files: Files, config: Mapping[str, Any] | None) -> bool:
        """Whether ``config.json`` names this family."""
        return config is not None and config.get("model_type") == self.model_type

    @abstractmethod
    def disagreement(self, checkpoint: Checkpoint) -> str:
        """Why model and tokenizer do not belong together; empty if they may."""

    def load(self, name: str, files: Files) -> Checkpoint:
        """Read model, tokenizer and image processor, and check that they are whole and belong together."""
        hf: Any = importlib.import_module("transformers")
        source, local = files.source, files.local
        config = hf.PreTrainedConfig.get_config_dict(source, local_files_only=local)[0]
        if reason := architecture_reason(config, self.model_class):
            raise refuse(name, reason)
        if reason := missing_files(files, self.tokenizer_files):
            if local and not Path(source).is_dir():
                raise OSError(reason)  # the hub may have what the cache lacks
            raise refuse(name, reason)
        model, report = getattr(hf, self.model_class).from_pretrained(
            source, local_files_only=local, dtype=torch.float32, output_loading_info=True
        )
        if reason := weights_reason(report["missing_keys"], report["unexpected_keys"]):
            raise refuse(name, reason)
        broken = [key for key, weight in model.state_dict().items() if not weight.isfinite().all()]
        if broken:
            raise refuse(
                name,
                f"its weights are not finite (NaN or infinite), in {broken[0]!r} and {len(broken) - 1} more: a "
                "training that diverged or an overflow in float16; give an earlier checkpoint, or save it again in "
                "float32",
            )
        # Pillow's resampling is what the checkpoints were evaluated with, and needs no torchvision.
        pillow: dict[str, Any] = {"use_fast": False}
        if importlib.util.find_spec("transformers.image_processing_backends"):
            pillow = {"backend": "pil"}
        try:
            tokenizer = hf.AutoTokenizer.from_pretrained(source, local_files_only=local)
        except ImportError as error:
            reason = "its tokenizer needs a library that is not installed: pip install sentencepiece protobuf"
            raise refuse(name, reason) from error
        checkpoint = Checkpoint(
            family=self,
            model=model.eval().requires_grad_(False),
            tokenizer=tokenizer,
            images=hf.AutoImageProcessor.from_pretrained(source, local_files_only=local, **pillow),
        )
        if reason := self.disagreement(checkpoint) or _vocabulary_reason(checkpoint):
            raise refuse(name, reason)
        return checkpoint


def image_tokens(checkpoint: Checkpoint) -> int:
    """How many tokens an image is, the one of the whole image counted."""
    vision = checkpoint.model.config.vision_config
    return int((vision.image_size // vision.patch_size) ** 2 + 1)


def moved(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> Any:
    """The checkpoint's model on `device` and in `dtype`, with the attention that is fastest there."""
    model = checkpoint.model.to(device, dtype)
    plain = device.type == "cpu" and image_tokens(checkpoint) <= EAGER_TOKENS
    model.set_attn_implementation("eager" if plain else "sdpa")
    return model


def _vocabulary_reason(checkpoint: Checkpoint) -> str:
    known, size = checkpoint.tokenizer.get_vocab().values(), checkpoint.model.config.text_config.vocab_size
    if max(known) >= size:
        return f"its tokenizer has ids beyond the model's vocabulary of {size}"
    if len(known) < MOST_OF_IT * size:
        return (
            f"its tokenizer has {len(known)} tokens, but the model's vocabulary {size}: the tokenizer is "
            "another model's, or its files are damaged; copy them from the model that it was made from"
        )
    return ""
