"""What a family of models is, and what it gives: a checkpoint as it was saved, and two frozen towers made of it.

A family is found by being in this package: `families` imports its modules and takes every class with a `name`.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from secfpp.errors import ConfigError, Problem
from secfpp.models.foreign_checkpoints import Files
from secfpp.models.text_layers import ClassTokens

MODEL_FIELDS = (
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "hidden_act", "layer_norm_eps",
    "max_position_embeddings", "eos_token_id", "image_size", "patch_size", "num_channels",
)  # fmt: skip
IMAGE_FIELDS = (
    "do_convert_rgb", "do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor",
    "do_normalize", "image_mean", "image_std",
)  # fmt: skip
FIRST = "clip"
"""The family whose digests do not name it, since prompts were learned under them before there were others."""


class TextEncoder(Protocol):
    """A frozen text tower that reads context vectors in front of class names."""

    @property
    def tokens(self) -> Tensor:
        """Token embeddings [vocabulary, text_dim]."""
        ...

    def __call__(self, prompts: Tensor, classes: ClassTokens) -> Tensor:
        """[k, n, text_dim] -> unit-length class features, float32 [k, n_cls, projection], differentiable."""
        ...

    def single(self, contexts: Tensor, classes: ClassTokens) -> Tensor:
        """[n_cls, n, text_dim], a context for each single class -> [n_cls, projection]; otherwise the same."""
        ...

    def compile(self) -> None:
        """From now on compile what makes class features whose gradients are asked for."""
        ...


@dataclass(frozen=True)
class Layout:
    """How a text lies in a model's places: ``start``, context and name, the end token, padding.

    Attributes:
        places: how many tokens the model reads.
        start: the ids that begin every text; none or one.
        end: the id that ends every text.
        pad: the id behind it.
        read_at_largest: the feature is read at the largest id, not at the first end token.
        lower: texts are put in lower case before they are read.
        spaced: names are read as what stands behind a space; see `secfpp.models.class_names.Vocabulary`.
    """

    places: int
    start: tuple[int, ...]
    end: int
    pad: int
    read_at_largest: bool = False
    lower: bool = False
    spaced: bool = False

    def room(self, n_ctx: int) -> int:
        """How many tokens a class name may have behind `n_ctx` context vectors."""
        return self.places - len(self.start) - n_ctx - 1

    def class_tokens(self, names: tuple[str, ...], ids: list[list[int]]) -> ClassTokens:
        """The names' `ids`, each with the end token and padded to the longest."""
        longest = max(map(len, ids)) + 1
        rows = [[*row, self.end, *[self.pad] * (longest - 1 - len(row))] for row in ids]
        padded = torch.tensor(rows)
        end = padded.argmax(dim=1) if self.read_at_largest else (padded == self.end).int().argmax(dim=1)
        return ClassTokens(names, padded, end)


@dataclass(frozen=True)
class Towers:
    """Both frozen towers of a model, on their device and in their number type.

    Attributes:
        image: pixels [n, 3, size, size] -> what images are compared by [n, projection], of any length.
        patches: pixels -> the same of each patch [n, patches, projection].
        text: reads context vectors and class names.
        layout: how a text lies in `text`.
        text_dim: width of a context vector.
        projection: width of features.
        image_size: pixels on each side.
        image_tokens: how many tokens an image is in the tower, by which batches are cut.
        logit_scale: factor of the cosines in a class's score.
        logit_bias: what the model adds to a score. It is the same for every class, so it moves neither the softmax over
            classes nor the order of predictions; only a sigmoid of one score alone depends on it.
    """

    image: Callable[[Tensor], Tensor]
    patches: Callable[[Tensor], Tensor]
    text: TextEncoder
    layout: Layout
    text_dim: int
    projection: int
    image_size: int
    image_tokens: int
    logit_scale: float
    logit_bias: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint: the model in float32 on the CPU, its tokenizer and image processor, and its family.

    `cleaned` says what the model's own software makes of a text before it is cut into tokens, where it makes anything.
    """

    family: Family
    model: Any
    tokenizer: Any
    images: Any
    cleaned: Callable[[str], str] | None = None

    def digest(self) -> str:
        """Hash of weights, architecture, vocabulary and image processing; not of how they are stored."""
        config = self.model.config
        parts = {
            "text": {key: getattr(config.text_config, key, None) for key in MODEL_FIELDS},
            "vision": {key: getattr(config.vision_config, key, None) for key in MODEL_FIELDS},
            "images": {key: getattr(self.images, key, None) for key in IMAGE_FIELDS},
            "vocabulary": sorted(self.tokenizer.get_vocab().items()),
        }
        if self.family.name != FIRST:
            parts["family"] = self.family.name
            layout = self.family.layout(self)
            parts["special"] = [*layout.start, layout.end, layout.pad]
        if particulars := self.family.particulars(self):
            parts["particulars"] = particulars
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=dict).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(repr((name, tuple(tensor.shape))).encode())
            digest.update(tensor.float().contiguous().numpy().data)
        return digest.hexdigest()


class Family(ABC):
    """A kind of model. `name` is how it is told from others, in digests too; it never changes."""

    name: ClassVar[str]

    @abstractmethod
    def takes(self, files: Files, config: Mapping[str, Any] | None) -> bool:
        """Whether a folder is of this family, by its `files` and its ``config.json`` (None if there is none)."""

    @abstractmethod
    def load(self, name: str, files: Files) -> Checkpoint:
        """Read the checkpoint that a user calls `name`.

        Raises:
            ConfigError: it is not whole, or not what it seems.
            OSError: a file cannot be had.
        """

    @abstractmethod
    def layout(self, checkpoint: Checkpoint) -> Layout:
        """How a text lies in the places of the checkpoint's text tower."""

    def particulars(self, checkpoint: Checkpoint) -> str:
        """What tells models of the same weights apart and no field of their configurations says; part of the digest."""
        return ""

    @abstractmethod
    def towers(self, checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> Towers:
        """The checkpoint's towers; its model is moved, so it is of use for nothing else afterwards."""


@cache
def families() -> tuple[Family, ...]:
    """One of each family in this package, in the order of their names."""
    import secfpp.models.families as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    waiting: list[type[Any]] = [Family]
    found: dict[str, type[Any]] = {}
    while waiting:
        subclasses = waiting.pop().__subclasses__()
        waiting += subclasses
        found.update((each.name, each) for each in subclasses if "name" in vars(each))
    return tuple(found[name]() for name in sorted(found))


def refuse(name: str, reason: str) -> ConfigError:
    """The error that says why the model called `name` cannot be used."""
    return ConfigError([Problem("backbone.name", name, reason)])
