"""How open_clip prepares an image, as a processor of transformers."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of OpenAI's training images, which open_clip takes where a configuration says nothing."""
FILTERS = {"bicubic": 3, "random": 3, "bilinear": 2}
"""Pillow's numbers of resampling filters; ``random`` is a training's, with which open_clip evaluates bicubically."""
RESIZED = ("shortest", "squash")


def refusal(preprocess: Mapping[str, Any]) -> str:
    """Why images cannot be prepared by a ``preprocess_cfg``; empty if they can."""
    if preprocess.get("resize_mode") not in (None, *RESIZED):
        return f"its preprocess_cfg.resize_mode is {preprocess['resize_mode']!r}; known are {' and '.join(RESIZED)}"
    if preprocess.get("interpolation") not in (None, *FILTERS):
        known = ", ".join(FILTERS)
        return f"its preprocess_cfg.interpolation is {preprocess['interpolation']!r}; known are {known}"
    return ""


def processor(preprocess: Mapping[str, Any], size: int) -> Any:
    """The processor that makes images of `size` pixels on each side, with Pillow.

    An image is resized so that its shorter side fits and cut to a square, or (``squash``) resized to a square whatever
    its shape.
    """
    kind = "transformers.models.clip.image_processing_pil_clip"
    made: Any = (
        importlib.import_module(kind).CLIPImageProcessorPil
        if importlib.util.find_spec(kind)
        else importlib.import_module("transformers").CLIPImageProcessor
    )
    square = {"height": size, "width": size}
    squash = preprocess.get("resize_mode") == "squash"
    return made(
        size=square if squash else {"shortest_edge": size},
        do_center_crop=not squash,
        crop_size=square,
        resample=FILTERS[preprocess.get("interpolation") or "bicubic"],
        image_mean=_channels(preprocess.get("mean") or MEAN),
        image_std=_channels(preprocess.get("std") or STD),
    )


def _channels(values: Any) -> list[float]:
    """One number for each channel, of which a configuration may give one for all."""
    return [float(values)] * 3 if isinstance(values, int | float) else [float(value) for value in values]
