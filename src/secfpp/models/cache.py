"""Image features on disk, under a hash of everything they depend on.

A file is named by the hash of model, number type and images, so a stale entry cannot be read; it
carries a checksum, so a damaged one is noticed and made again.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from secfpp.cachedir import VARIABLE


@dataclass(frozen=True)
class FeatureCache:
    """Feature arrays in `folder`, one file for each (model, images) pair."""

    folder: Path

    @staticmethod
    def key(model: str, images: np.ndarray) -> str:
        """Hex name of the features of `images` (any shape and dtype) under the model named `model`."""
        digest = hashlib.sha256(repr((model, images.shape, images.dtype.str)).encode())
        digest.update(np.ascontiguousarray(images).data)
        return digest.hexdigest()

    def get(self, key: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """The array stored under `key`, or what `compute` returns, stored for next time.

        A damaged file is replaced. A folder that cannot be written costs time only: it is
        reported as a `RuntimeWarning` and the computed array is returned.
        """
        path = self.folder / f"{key}.safetensors"
        stored = _read(path)
        if stored is not None:
            return stored
        features = np.ascontiguousarray(compute())
        try:
            _write(path, features)
        except OSError as error:
            warnings.warn(
                f"image features are not cached, {self.folder}: {error.strerror}. Set {VARIABLE} to a writable folder",
                RuntimeWarning,
                stacklevel=2,
            )
        return features


def _checksum(features: np.ndarray) -> str:
    return hashlib.sha256(features.data).hexdigest()


def _read(path: Path) -> np.ndarray | None:
    """The array in `path`; None when there is no file or its content is damaged."""
    try:
        with safe_open(path, framework="numpy") as file:
            features: np.ndarray = np.ascontiguousarray(file.get_tensor("features"))
            expected = (file.metadata() or {}).get("sha256")
    except (OSError, SafetensorError):
        return None
    return features if _checksum(features) == expected else None


def _write(path: Path, features: np.ndarray) -> None:
    """Write beside `path`, then rename: a reader sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, suffix=".draft")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(save({"features": features}, metadata={"sha256": _checksum(features)}))
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
