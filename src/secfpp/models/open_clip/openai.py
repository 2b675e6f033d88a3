"""The shape of a model in one of OpenAI's own files, which hold weights alone."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt

from torch import Tensor

from secfpp.models.open_clip.architecture import Architecture, ResNet, Transformer
from secfpp.models.open_clip.resnet import REDUCTION

HEAD = 64
"""Width of an attention head in every one of OpenAI's models."""


def shape_of(state: Mapping[str, Tensor]) -> Architecture:
    """The shape that these weights have. OpenAI's models differ in sizes alone.

    Raises:
        KeyError: they are not a CLIP's.
    """
    vocabulary = len(state["token_embedding.weight"])
    places = len(state["visual.attnpool.positional_embedding" if _is_resnet(state) else "visual.positional_embedding"])
    side = isqrt(places - 1)
    if _is_resnet(state):
        first = len(state["visual.layer1.0.conv1.weight"])
        stages = tuple(_count(state, f"visual.layer{stage}.") for stage in range(1, 5))
        image: ResNet | Transformer = ResNet(first, stages, first * 32 // HEAD)
        image_size, patch = side * REDUCTION, 0
    else:
        patch = state["visual.conv1.weight"].shape[-1]
        image, image_size = _transformer(state, "visual.transformer.resblocks."), side * patch
    return Architecture(
        projection=state["text_projection"].shape[1],
        text=_transformer(state, "transformer.resblocks."),
        places=len(state["positional_embedding"]),
        vocabulary=vocabulary,
        end=None,
        image=image,
        image_size=image_size,
        patch_size=patch,
    )


def _is_resnet(state: Mapping[str, Tensor]) -> bool:
    return "visual.attnpool.positional_embedding" in state


def _transformer(state: Mapping[str, Tensor], prefix: str) -> Transformer:
    hidden, width = state[f"{prefix}0.mlp.c_fc.weight"].shape
    return Transformer(
        width=width,
        layers=_count(state, prefix),
        heads=width // HEAD,
        hidden=hidden,
        activation="quick_gelu",
        eps=1e-5,
        scaled=False,
    )


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered parts there are behind `prefix`."""
    return len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})
