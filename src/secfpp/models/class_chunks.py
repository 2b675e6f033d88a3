"""Class features within a bound of memory: classes in chunks, of which each is computed again for its gradients.

What a text encoder keeps of its forward pass until the backward pass grows with classes and prompts. Beyond a bound
they are encoded chunk by chunk, and only the features of a chunk are kept; the backward pass encodes one chunk after
the other again (Chen et al., arXiv 1604.06174). Gradients are those of the whole up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from secfpp.models.text_layers import ClassTokens

ON_CPU = 3 * 2**30
"""Bytes of a forward pass that are kept at once on a CPU."""
ON_GPU = 0.25
"""The same as a share of a GPU's memory."""
CHUNKS = 6
"""Chunks have at most so small a share of that, as cutting finer costs no more: all are encoded twice anyway."""

Encode = Callable[[ClassTokens, Tensor], Tensor]


class ClassChunks:
    """Chooses chunks by what a class takes, and encodes them.

    Args:
        device: where the encoder computes.
        bound: bytes that a forward pass may keep; None chooses them by `device`.
        chunk: bytes of a chunk where that is not enough; None takes `bound` / `CHUNKS`.
    """

    def __init__(self, device: torch.device, bound: float | None = None, chunk: float | None = None) -> None:
        self.bound = bound if bound is not None else _bound(device)
        self.chunk = chunk if chunk is not None else self.bound / CHUNKS
        self._parts: WeakKeyDictionary[ClassTokens, dict[int, list[ClassTokens]]] = WeakKeyDictionary()

    def encoded(self, encode: Encode, prompts: Tensor, classes: ClassTokens, each: float) -> Tensor:
        """Features [k, n_cls, projection] of `prompts` that stand before all `classes`.

        How classes are cut does not depend on the number of prompts, so that a client gets the same with others beside
        it as alone.

        Args:
            encode: features of some of the classes.
            prompts: [k, n, d].
            classes: all of them.
            each: bytes that one class of one prompt takes.
        """
        parts = self.parts(classes, each)
        if len(prompts) * len(classes.names) * each <= self.bound:
            return encode(classes, prompts)
        together = max(1, int(self.chunk // (each * max(len(part.names) for part in parts))))
        groups = prompts.split(together)
        return torch.cat([torch.cat([_again(encode, part, group) for part in parts], dim=1) for group in groups])

    def encoded_single(self, encode: Encode, contexts: Tensor, classes: ClassTokens, each: float) -> Tensor:
        """Features [n_cls, projection] of `contexts` [n_cls, n, d], one for each class; otherwise the same."""
        parts = self.parts(classes, each)
        if len(parts) == 1:
            return encode(classes, contexts)
        pieces = contexts.split([len(part.names) for part in parts])
        return torch.cat([_again(encode, part, piece) for part, piece in zip(parts, pieces, strict=True)])

    def parts(self, classes: ClassTokens, each: float) -> list[ClassTokens]:
        """`classes`, of which one takes `each` bytes: all within the bound, or in nearly equal parts of a chunk."""
        count = len(classes.names)
        wanted = 1 if count * each <= self.bound else min(count, math.ceil(count * each / self.chunk))
        known = self._parts.setdefault(classes, {})
        if wanted not in known:
            cuts = [count * i // wanted for i in range(wanted + 1)]
            known[wanted] = [
                ClassTokens(classes.names[a:b], classes.ids[a:b], classes.end[a:b]) for a, b in pairwise(cuts)
            ]
        return known[wanted]


def _again(encode: Encode, part: ClassTokens, prompts: Tensor) -> Tensor:
    """What `encode` gives, of which nothing but that is kept for the backward pass."""
    if not (torch.is_grad_enabled() and prompts.requires_grad):
        return encode(part, prompts)
    features: Tensor = checkpoint(encode, part, prompts, use_reentrant=False, preserve_rng_state=False)
    return features


def _bound(device: torch.device) -> int:
    if device.type == "cuda":
        return int(ON_GPU * torch.cuda.get_device_properties(device).total_memory)
    return ON_CPU
