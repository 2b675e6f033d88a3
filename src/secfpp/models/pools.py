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

from secfpp.errors import DataError

if TYPE_CHECKING:
    from secfpp.models.backbone import Backbone


@dataclass(frozen=True, kw_only=True)
class Pool(ABC):
    """Joins a client's personal prompt and its domain prompt."""

    kind: ClassVar[str]
    patches: ClassVar[bool] = False
    """Whether images are `looks`, each patch beside the whole, instead of features of the whole image."""

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

    def logits(self, features: Tensor, texts: Tensor, scale: float) -> Tensor:
        """See `Pool.logits`."""
        mixed = torch.lerp(texts[:, 1], texts[:, 0], self.personal)
        return scale * features @ mixed.transpose(-1, -2)


def pool_from(record: Mapping[str, Any]) -> Pool:
    """The pool that `Pool.record` wrote down.

    Raises:
        DataError: an unknown kind, or settings that it does not have.
    """
    known = {pool.kind: pool for pool in Pool.__subclasses__()}
    try:
        given = dict(record)
        return known[given.pop("kind")](**given)
    except (KeyError, TypeError, ValueError) as error:
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
