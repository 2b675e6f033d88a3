"""Soft prompts: where they start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from secfpp.errors import ConfigError, Problem
from secfpp.seeding import Seed, derive

if TYPE_CHECKING:
    from secfpp.models.backbone import Backbone


@dataclass(frozen=True, kw_only=True)
class SoftPrompt:
    """A context of learned vectors [n_ctx, text_dim] in front of every class name.

    Attributes:
        n_ctx: number of vectors.
        start: ``template`` (the data set's hand-written prompt), ``random`` (N(0, std^2)), or any text.
        std: standard deviation of a random start.
    """

    n_ctx: int = 4
    start: str = "template"
    std: float = 0.02

    def __post_init__(self) -> None:
        problems = []
        if self.n_ctx < 1:
            problems.append(Problem("prompt.n_ctx", self.n_ctx, "at least 1"))
        if not self.std > 0:
            problems.append(Problem("prompt.std", self.std, "must be positive"))
        if not self.start.strip():
            problems.append(Problem("prompt.start", self.start, "template, random, or a text"))
        if problems:
            raise ConfigError(problems)

    def initial(self, backbone: Backbone, template: str, seed: Seed) -> np.ndarray:
        """The public start prompt, float32 [n_ctx, text_dim], the same for every client of a run."""
        if self.start == "random":
            normal = derive(seed, "prompt").numpy().standard_normal((self.n_ctx, backbone.spec.text_dim))
            return (self.std * normal).astype(np.float32)
        text = template_text(template) if self.start == "template" else self.start
        return backbone.initial_prompt(text, self.n_ctx)


def template_text(template: str) -> str:
    """The words before the class name of a template such as ``"a photo of a {}"``.

    Raises:
        ConfigError: the class name is not at the end.
    """
    before, _, after = template.partition("{}")
    if "{}" not in template or after.strip(" .") or not before.strip():
        raise ConfigError([Problem("template", template, 'words and then the class name, e.g. "a photo of a {}"')])
    return before.strip()
