"""Image features on disk, under a hash of everything they depend on.

A file is named by the hash of model, number type and images, so a stale entry cannot be read; a
damaged one is noticed and made again (`secfpp.storage.cached_arrays`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from secfpp.storage import cached_arrays


@dataclass(frozen=True)
class FeatureCache:
    """Feature arrays in `folder`, one file for each (model, images) pair; without a folder nothing is kept."""

    folder: Path | None

    @staticmethod
    def key(model: str, images: np.ndarray) -> str:
        """Hex name of the features of `images` (any shape and dtype) under the model named `model`."""
        digest = hashlib.sha256(repr((model, images.shape, images.dtype.str)).encode())
        digest.update(np.ascontiguousarray(images).data)
        return digest.hexdigest()

    def get(self, key: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """The array stored under `key`, or what `compute` returns, stored for next time."""
        if self.folder is None:
            return compute()
        return cached_arrays(self.folder / f"{key}.safetensors", lambda: {"features": compute()})["features"]
