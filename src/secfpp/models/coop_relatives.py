"""Prompt learners that keep their weights in CoOp's layout and predict otherwise, told apart by what they hold.

CoCoOp (arXiv 2203.05557) adds a network ``meta_net`` that makes a context from each image; MaPLe (arXiv 2210.03117) and
PromptSRC (arXiv 2307.06948) add prompts in deeper layers and in the image tower, and save the whole model; PLOT (arXiv
2210.01253), ProDA (arXiv 2205.03340) and FedOTP learn several contexts for all classes. A prompt file can say none of
that, and ``ctx`` alone is not what they predict with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

OWN = ("ctx", "token_prefix", "token_suffix")
INSTEAD = (
    "a prompt file holds one context for all classes or one for each (CSC): train with CoOp's own trainer (CoOp, "
    "prompts in the text alone, one at a time), and import that"
)
_MARKS = (
    (("meta_net.",), "of CoCoOp: its meta_net makes a context from each image"),
    (
        ("compound_prompt", "VPT", "visual_ctx", "deep_prompt"),
        "with prompts in deeper layers or in the image tower (MaPLe, PromptSRC, IVLP, VPT)",
    ),
    (("image_encoder.", "text_encoder."), "of a whole model, whose towers may have been trained too"),
)


def relative_reason(state: Mapping[str, Any], n_classes: int) -> str:
    """Why this ``state_dict`` is not that of CoOp's prompt learner, and what to do; empty if it may be.

    Args:
        state: names of weights and tensors.
        n_classes: how many class names are given.
    """
    for marks, what in _MARKS:
        if found := next((name for name in state if any(mark in name for mark in marks)), None):
            return f"it is a checkpoint {what} ({found}); {INSTEAD}"
    ctx = state.get("ctx")
    if not isinstance(ctx, Tensor):
        return ""
    if strange := next((name for name in state if name not in OWN), None):
        return f"it holds {strange!r} beside CoOp's {', '.join(OWN)}, and would not predict the same without; {INSTEAD}"
    return _several(ctx, state.get("token_suffix"), n_classes)


def _several(ctx: Tensor, suffix: object, n_classes: int) -> str:
    """Why `ctx` is neither one context for all classes nor one for each."""
    if ctx.ndim < 3 or len(ctx) == 1:
        return ""
    texts = len(suffix) if isinstance(suffix, Tensor) else 0
    if ctx.ndim == 4 or texts == len(ctx) * n_classes or (texts == n_classes != len(ctx)):
        what = f"several contexts for each class (ctx {tuple(ctx.shape)}), as PLOT, ProDA and FedOTP learn them"
        return f"it holds {what}; {INSTEAD}"
    if not texts and len(ctx) != n_classes:
        return (
            f"it holds {len(ctx)} contexts, and {n_classes} class names are given: if they are of single classes "
            f"(CSC), give the {len(ctx)} names; several contexts for all classes cannot be imported; {INSTEAD}"
        )
    return ""
