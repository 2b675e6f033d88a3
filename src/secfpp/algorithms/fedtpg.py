"""FedTPG (Qiu et al., arXiv 2310.06123): not a prompt is shared, but what makes one of the class names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from secfpp.algorithms.base import ClientContext
from secfpp.algorithms.promptfl import PromptFL
from secfpp.algorithms.training import LocalTraining
from secfpp.errors import ConfigError, Problem
from secfpp.models.backbone import Backbone
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientState, Program
from secfpp.secure.means.updates import Base, Mean, with_base
from secfpp.seeding import Seed, derive


@dataclass(frozen=True, kw_only=True)
class FedTPG(PromptFL):
    """A generator of prompts is averaged over everybody, all clients counting alike; see `Generator`.

    Attributes:
        width: of the generator; what is shared grows with it.
        heads: of its attention, by which the width can be divided.
    """

    name: ClassVar[str] = "fedtpg"
    averaged: ClassVar[str] = "generator"
    learned: ClassVar[tuple[str, ...]] = ("generator",)
    mechanisms: ClassVar[tuple[str, ...]] = ("none",)

    training: LocalTraining = field(default_factory=lambda: LocalTraining(lr=0.01))
    width: int = 16
    heads: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < 1 or self.heads < 1 or self.width % self.heads:
            allowed = "whole numbers from 1, the first a multiple of the second"
            raise ConfigError([Problem("width, heads", (self.width, self.heads), allowed)])

    def client_state(self, context: ClientContext) -> ClientState:
        """The first common generator, the frozen features of the class names, and the start prompt."""
        names = name_features(context.backbone, context.tokens.names)
        generator = self.generator(names.shape[1], context.start.shape)
        state = ClientState({"names": names, "start": context.start})
        return with_base(state, "generator", generator.initial(derive(context.seed, "generator")))

    def common_mean(self, cohort: Cohort, known: Base | None) -> Program[Mean]:
        """See `PromptFL.common_mean`; all clients weigh alike."""
        alike = replace(cohort, weights=dict.fromkeys(cohort.clients, 1))
        return (yield from super().common_mean(alike, known))

    def trained_prompts(self, parameters: Mapping[str, Tensor], states: Sequence[ClientState]) -> Tensor:
        """See `CoOpLocal.trained_prompts`: the start prompt plus what the generator makes of the class names."""
        flat = parameters["generator"]
        names, start = (torch.tensor(states[0][slot], device=flat.device) for slot in ("names", "start"))
        return start + self.generator(names.shape[-1], start.shape)(flat, names)

    @torch.no_grad()
    def personal_prompt(self, state: ClientState) -> np.ndarray:
        """The prompt that the client's generator makes."""
        generator = torch.tensor(state["generator"])[None]
        prompt: np.ndarray = self.trained_prompts({"generator": generator}, [state])[0].numpy()
        return prompt

    def generator(self, names_dim: int, prompt_shape: Sequence[int]) -> Generator:
        """What the numbers in the slot ``generator`` are the weights of."""
        return Generator(prompt_shape[0], prompt_shape[1], names_dim, self.width, self.heads)


@dataclass(frozen=True)
class Generator:
    """From the features of class names to context vectors; its weights are one flat array.

    Learned queries, one for each context vector, attend to all class names; what they saw passes through a layer
    with a residual, and is brought to the width of a prompt. That last map starts at zero, so a fresh generator makes
    zeros.
    """

    n_ctx: int
    text_dim: int
    names_dim: int
    width: int
    heads: int

    @cached_property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Name to shape of each part of the weights, in their order."""
        w = self.width
        return {
            "queries": (self.n_ctx, w),
            "key": (self.names_dim, w),
            "value": (self.names_dim, w),
            "mix": (w, w),
            "up": (w, 4 * w),
            "up_bias": (1, 4 * w),
            "down": (4 * w, w),
            "down_bias": (1, w),
            "out": (w, self.text_dim),
        }

    @property
    def size(self) -> int:
        """How many numbers the weights are."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def initial(self, seed: Seed) -> np.ndarray:
        """The weights that everybody starts from, float32 [size]: normal, with outputs of about the inputs' size."""
        draw = derive(seed, "weights").numpy()
        scales = {name: shape[0] ** -0.5 for name, shape in self.shapes.items()} | {"queries": 1.0}
        scales |= dict.fromkeys(("up_bias", "down_bias", "out"), 0.0)
        parts = [scales[name] * draw.standard_normal(math.prod(shape)) for name, shape in self.shapes.items()]
        return np.concatenate(parts).astype(np.float32)

    def __call__(self, weights: Tensor, names: Tensor) -> Tensor:
        """Context vectors, float [k, n_ctx, text_dim], differentiable in the weights.

        Args:
            weights: of k generators, float [k, size].
            names: features of the class names, float [n_cls, names_dim].
        """
        cuts = weights.split([math.prod(shape) for shape in self.shapes.values()], dim=1)
        part = {name: cut.unflatten(1, shape) for cut, (name, shape) in zip(cuts, self.shapes.items(), strict=True)}
        seen = F.layer_norm(names, names.shape[-1:])
        query, key, value = (self._heads(x) for x in (part["queries"], seen @ part["key"], seen @ part["value"]))
        found = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2) @ part["mix"]
        hidden = F.gelu(F.layer_norm(found, found.shape[-1:]) @ part["up"] + part["up_bias"])
        return torch.matmul(found + hidden @ part["down"] + part["down_bias"], part["out"])

    def _heads(self, x: Tensor) -> Tensor:
        """[k, n, width] -> [k, heads, n, width / heads]."""
        return torch.transpose(x.unflatten(-1, (self.heads, -1)), 1, 2)


@torch.no_grad()
def name_features(backbone: Backbone, names: Sequence[str]) -> np.ndarray:
    """Features of class names without any context, float32 [n_cls, projection], unit length."""
    bare = torch.zeros(1, 0, backbone.spec.text_dim, device=backbone.device)
    return backbone.class_features(bare, backbone.class_tokens(names, 0))[0].cpu().numpy()
