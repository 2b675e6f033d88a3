"""Where randomness comes from: seeds for training, the operating system for secrets.

The two have different types, so that a seed can never stand in for secret randomness.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Seed:
    """A reproducible, public seed: 63 bits, so that it fits a torch generator."""

    value: int

    def numpy(self) -> np.random.Generator:
        """A fresh generator at the start of this seed's stream."""
        return np.random.Generator(np.random.PCG64(self.value))


def derive(seed: int | Seed, *path: str | int) -> Seed:
    """The seed of one purpose, e.g. ``derive(7, "client-3", 12, "batch")``.

    Different paths give independent streams, and a path is never confused with
    another (``("a", "b")`` is not ``("ab",)``, ``"1"`` is not ``1``).
    """
    root = seed.value if isinstance(seed, Seed) else seed
    digest = blake2b(repr((root, path)).encode(), digest_size=8).digest()
    return Seed(int.from_bytes(digest, "big") >> 1)


class Entropy(Protocol):
    """A source of secret randomness; passed in explicitly, never imported where it is used."""

    def random_bytes(self, count: int) -> bytes:
        """`count` fresh unpredictable bytes."""
        ...


class SystemEntropy:
    """The operating system's generator."""

    def random_bytes(self, count: int) -> bytes:
        """`count` bytes from ``os.urandom``."""
        return os.urandom(count)
