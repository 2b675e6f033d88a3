"""Random floor: an untrained random prompt, which shows what the class names alone achieve."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from secfpp.algorithms.zero_shot import ZeroShot
from secfpp.models.prompt import SoftPrompt


@dataclass(frozen=True, kw_only=True)
class RandomPrompt(ZeroShot):
    """An untrained prompt drawn from N(0, std^2), the same for all clients."""

    name: ClassVar[str] = "random_prompt"

    prompt: SoftPrompt = field(default_factory=lambda: SoftPrompt(start="random"))
