"""How a client's two prompts are joined into one prediction, where that is not `secfpp.models.scoring.redistributed`.

A pool is a frozen dataclass of numbers, so that a prompt file can say which one it was learned for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from secfpp.errors import ConfigError, DataError, Problem
from secfpp.models.transport import transport_plans
from secfpp.settings import check_types

if TYPE_CHECKING:
    from secfpp.models.backbone import Backbone

_PROBLEMS = 2_304
"""Pairs of an image and a class that are transported at once: what they need stays in a processor's cache."""


@dataclass(frozen=True, kw_only=True)
class Pool(ABC):
    """Joins a client's personal prompt and its domain prompt.

    Raises:
        ConfigError: numbers that cannot be; all of them are named.
    """

    kind: ClassVar[str]
    patches: ClassVar[bool] = False
    """Whether images are `looks`, each patch beside the whole, instead of features of the whole image."""

    def __post_init__(self) -> None:
        check_types(self)
        if problems := self.problems():
            raise ConfigError(problems)

    def problems(self) -> list[Problem]:
        """What is wrong with its numbers."""
        return []

    @abstractmethod
    def logits(self, features: Tensor, texts: Tensor, scale: float) -> Tensor:
        """Logits of k clients, float [k, n, n_cls], without any prior.

        Args:
            features: of images, float [n, projection] or [k, n, projection]; for a pool with `patches` `looks`
                [n, 1 + patches, projection] or [k, n, 1 + patches, projection].
            texts: class features of the personal prompt and of the domain's, float [k, 2, n_cls, projection].
            scale: the backbone's logit scale.
        """

    def record(self) -> dict[str, Any]:
        """The pool as JSON takes it; `pool_from` reads it."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class Mixture(Pool):
    """Class features of both prompts, each of unit length, mixed (PromptFolio, arXiv 2409.19610).

    Attributes:
        personal: weight of the personal prompt's, 0..1.
    """

    kind: ClassVar[str] = "mixture"

    personal: float = 0.2

    def problems(self) -> list[Problem]:
        """See `Pool.problems`."""
        return [] if 0 <= self.personal <= 1 else [Problem("personal", self.personal, "in 0..1")]

    def logits(self, features: Tensor, texts: Tensor, scale: float) -> Tensor:
        """See `Pool.logits`."""
        mixed = torch.lerp(texts[:, 1], texts[:, 0], self.personal)
        return scale * features @ mixed.transpose(-1, -2)


@dataclass(frozen=True, kw_only=True)
class Transport(Pool):
    """Cosines of patches with both prompts, added up under a plan of transport (FedOTP, arXiv 2403.00041).

    With one patch and all of its mass it is a `Mixture` in equal parts. See `secfpp.models.transport` for the plan; no
    gradient goes through it.

    Attributes:
        mass: share of an image that is transported, half of it to each prompt.
        epsilon: weight of the plan's entropy.
        tolerance: a plan is done when an iteration changes its scaling by a smaller share.
        iterations: most iterations for a plan.
    """

    kind: ClassVar[str] = "transport"
    patches: ClassVar[bool] = True

    mass: float = 0.8
    epsilon: float = 0.1
    tolerance: float = 1e-3
    iterations: int = 100

    def problems(self) -> list[Problem]:
        """See `Pool.problems`."""
        fits = {
            "mass": (0 < self.mass <= 1, "above 0 and at most 1, the whole image"),
            "epsilon": (0 < self.epsilon < float("inf"), "positive"),
            "tolerance": (self.tolerance > 0, "positive"),
            "iterations": (1 <= self.iterations <= 10_000, "1 to 10000"),
        }
        return [Problem(name, getattr(self, name), allowed) for name, (fit, allowed) in fits.items() if not fit]

    def logits(self, features: Tensor, texts: Tensor, scale: float) -> Tensor:
        """See `Pool.logits`; of few images at once, which bounds memory and stays in the processor's cache."""
        every = features.expand(len(texts), *features.shape[-3:])
        return scale * torch.stack([self._transported(own, both) for own, both in zip(every, texts, strict=True)])

    def _transported(self, looks: Tensor, texts: Tensor) -> Tensor:
        """Sums [n, n_cls] of one client's `looks` [n, 1 + patches, projection] with texts [2, n_cls, projection]."""
        least = max(1, _PROBLEMS // texts.shape[1])
        return torch.cat([self._at_once(part[:, 1:], texts) for part in looks.split(least)])

    def _at_once(self, patches: Tensor, texts: Tensor) -> Tensor:
        n, m, _ = patches.shape
        rows = patches.transpose(0, 1).flatten(0, 1)  # all images' first patch, then their second, ...
        similarity = torch.stack([(rows @ each.T).view(m, -1) for each in texts])  # [2, m, n * n_cls]
        plans = transport_plans(
            similarity.detach(),
            mass=self.mass,
            epsilon=self.epsilon,
            tolerance=self.tolerance,
            iterations=self.iterations,
        )
        return (plans * similarity).sum((0, 1)).view(n, -1)


def pool_from(record: Mapping[str, Any]) -> Pool:
    """The pool that `Pool.record` wrote down.

    Raises:
        DataError: an unknown kind, or settings that it does not have.
    """
    known = {pool.kind: pool for pool in Pool.__subclasses__()}
    try:
        given = dict(record)
        return known[given.pop("kind")](**given)
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{record!r} does not say how prompts are joined: {', '.join(sorted(known))}") from error


def look(backbone: Backbone, images: np.ndarray, patches: bool) -> Tensor:
    """What is seen of images uint8 [n, height, width, 3]: features [n, projection], or `looks`."""
    return looks(backbone, images) if patches else backbone.features(images)


def looks(backbone: Backbone, images: np.ndarray) -> Tensor:
    """Features of whole images and behind them those of their patches, unit length, [n, 1 + patches, projection]."""
    return torch.cat([backbone.features(images)[:, None], backbone.patch_features(images)], dim=1)


def whole(features: Tensor) -> Tensor:
    """Features of whole images [n, projection], of such or of `looks`."""
    return features[:, 0] if features.ndim == 3 else features
