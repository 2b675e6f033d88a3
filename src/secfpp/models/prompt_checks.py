"""What must fit together in a client's prompt; see `secfpp.models.prompt_file`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from secfpp.grey_depth import window_problems
from secfpp.models.class_names import repeated

if TYPE_CHECKING:
    from secfpp.models.prompt_file import ClientPrompt

VISUAL = ("visual_weights", "visual_bias", "text_weight")
MEMORY = "visual_memory"
PROMPT_SHAPE = "[n_ctx, text_dim] or [n_cls, n_ctx, text_dim]"


def problems_of(prompt: ClientPrompt) -> list[str]:
    """Shapes, values and names that do not fit together, each in words."""
    n_classes = len(prompt.classes)
    found = array_problems("prompt", prompt.prompt, PROMPT_SHAPE, 2, 3)
    if not found and prompt.prompt.ndim == 3 and len(prompt.prompt) != n_classes:
        found.append(f"prompt has contexts for {len(prompt.prompt)} single classes, but there are {n_classes}")
    found += _level_problems(prompt, n_classes) + _visual_problems(prompt, n_classes)
    if prompt.log_prior is not None:
        wrong = array_problems("log_prior", prompt.log_prior, f"[{n_classes}]", 1)
        if not wrong and len(prompt.log_prior) != n_classes:
            wrong.append(f"log_prior has {len(prompt.log_prior)} values for {n_classes} classes")
        found += wrong
    found += _novelty_problems(prompt) + _window_problems(prompt.grey_window)
    if n_classes < 2 or not all(map(str.strip, prompt.classes)):
        found.append(f"classes {prompt.classes!r} are not two names or more")
    found += repeated(prompt.classes)
    if not prompt.backbone or not prompt.backbone_digest:
        found.append("backbone and backbone_digest must name the model")
    if prompt.image_size < 1 or prompt.class_template.count("{}") != 1:
        found.append(f"image_size {prompt.image_size} or class_template {prompt.class_template!r} makes no sense")
    return found


def _window_problems(window: object) -> list[str]:
    """What is wrong with `grey_window`."""
    if window is None:
        return []
    pair: Any = window if isinstance(window, Sequence) and len(window) == 2 else ("", "")
    if all(isinstance(end, (int, float)) for end in pair) and not window_problems((pair[0], pair[1])):
        return []
    return [f"grey_window {window!r} is not two values, that of black below that of white"]


def _novelty_problems(prompt: ClientPrompt) -> list[str]:
    """What is wrong with `image_mean`, `image_spread` and `novelty_threshold`."""
    mean, spread, threshold = prompt.image_mean, prompt.image_spread, prompt.novelty_threshold
    if mean is None and spread is None and threshold is None:
        return []
    if mean is None or spread is None or threshold is None:
        return ["image_mean, image_spread and novelty_threshold belong together: give all or none"]
    found = array_problems("image_mean", mean, "[projection]", 1) + array_problems(
        "image_spread", spread, "[projection]", 1
    )
    sizes = {mean.shape, spread.shape}
    if prompt.visual_weights is not None:
        sizes.add(np.shape(prompt.visual_weights)[-1:])
    if not found and len(sizes) > 1:
        found.append(f"image_mean {mean.shape}, image_spread {spread.shape} and visual_weights are not of one size")
    if not found and not (spread > 0).all():
        found.append("image_spread holds values that are not positive")
    if not 0 < threshold < np.inf:
        found.append(f"novelty_threshold {threshold} is not a positive number")
    return found


def array_problems(name: str, array: object, shape: str, *ndims: int) -> list[str]:
    """Why `array` is not a finite array of floats with one of `ndims` axes, none of them empty."""
    if not isinstance(array, np.ndarray) or array.ndim not in ndims or 0 in array.shape:
        return [f"{name} has shape {getattr(array, 'shape', None)} instead of {shape}"]
    if not np.issubdtype(array.dtype, np.floating):
        return [f"{name} holds {array.dtype} instead of float32"]
    if not np.isfinite(array).all():
        return [f"{name} holds values that are not finite"]
    return []


def _level_problems(prompt: ClientPrompt, n_classes: int) -> list[str]:
    """What is wrong with `domain_prompt`, `familiar`, `trust` and `pool`."""
    domain, familiar = prompt.domain_prompt, prompt.familiar
    if prompt.pool is not None and (domain is None or familiar is not None):
        return ["pool joins prompt and domain_prompt, without familiar: give those two with it, and no familiar"]
    if prompt.pool is None and (domain is None) != (familiar is None):
        return ["domain_prompt and familiar belong together: give both or neither"]
    if domain is None:
        return [] if prompt.trust == 1 else [f"trust {prompt.trust} has no meaning without a domain_prompt"]
    found = array_problems("domain_prompt", domain, PROMPT_SHAPE, 2, 3)
    if np.shape(domain) != np.shape(prompt.prompt):
        found.append(f"domain_prompt has shape {np.shape(domain)}, but prompt {np.shape(prompt.prompt)}")
    if not 0 <= prompt.trust <= 1:
        found.append(f"trust {prompt.trust} is not in 0..1")
    if prompt.pool is None and not _is_choice(familiar, n_classes):
        found.append(f"familiar is {familiar!r} instead of a bool for each of {n_classes} classes")
    return found


def _is_choice(familiar: object, n_classes: int) -> bool:
    """Whether `familiar` is a bool for each class."""
    return isinstance(familiar, np.ndarray) and familiar.shape == (n_classes,) and familiar.dtype == bool


def _visual_problems(prompt: ClientPrompt, n_classes: int) -> list[str]:
    """What is wrong with the arrays `VISUAL` and `MEMORY`."""
    levels = 1 if prompt.domain_prompt is None or prompt.pool is not None else 2
    memory = prompt.visual_memory
    arrays = {name: getattr(prompt, name) for name in VISUAL}
    if all(array is None for array in arrays.values()):
        return [] if memory is None else [f"{MEMORY} stands beside {', '.join(VISUAL)}: give them with it"]
    if any(array is None for array in arrays.values()):
        return [f"{', '.join(VISUAL)} belong together: give all or none"]
    shapes = ("[levels, n_cls, projection]", "[levels, n_cls]", "[levels]")
    found: list[str] = []
    rows, of = n_classes, f"{n_classes} classes"
    if memory is not None:
        found += array_problems(MEMORY, memory, "[levels, rows, n_cls]", 3)
        rows = memory.shape[1] if not found else 0
        of = f"{rows} remembered images"
        if not found and memory.shape[::2] != (levels, n_classes):
            found.append(f"{MEMORY} has shape {memory.shape} for {levels} levels and {n_classes} classes")
    for (name, array), shape in zip(arrays.items(), shapes, strict=True):
        wrong = array_problems(name, array, shape, shape.count(",") + 1)
        expected = (levels, rows)[: np.ndim(array)]
        if not wrong and array.shape[:2] != expected:
            wrong = [f"{name} has shape {array.shape} instead of {shape} with {levels} levels and {of}"]
        found += wrong
    if not found and (arrays["text_weight"] < 0).any():
        found.append(f"text_weight {arrays['text_weight'].tolist()} is not 0 or more")
    return found
