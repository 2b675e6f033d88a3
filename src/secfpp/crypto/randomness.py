"""Streams of secret field elements, each grown from 32 bytes.

Assumption: AES-256 in counter mode is a pseudo-random function. Fresh streams take their 32 bytes from an `Entropy`
source (the operating system's generator), pairwise ones from a key that two parties share. Elements are the top 61 bits
of 8 bytes; the one value that is none stands for 0, so each is uniform to within 2^-61.
"""

from __future__ import annotations

import math

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.kernel import compiled
from secfpp.seeding import Entropy

_ZEROS, _FROM_ZERO = memoryview(bytes(1 << 17)), modes.CTR(bytes(16))


class Stream:
    """The keystream of one 32-byte key, read once from front to back."""

    def __init__(self, key: bytes) -> None:
        self._keystream = Cipher(algorithms.AES256(key), _FROM_ZERO).encryptor()

    @classmethod
    def fresh(cls, entropy: Entropy) -> Stream:
        """A stream that nobody else can know."""
        return cls(entropy.random_bytes(32))

    def __repr__(self) -> str:
        return "Stream(...)"

    def words(self, shape: tuple[int, ...]) -> np.ndarray:
        """Uniform uint64 of `shape`."""
        size = 8 * math.prod(shape)
        zeros = _ZEROS[:size] if size <= len(_ZEROS) else bytes(size)
        words = np.empty(size // 8 + 2, np.uint64)  # the cipher asks for room for most of one more block
        self._keystream.update_into(zeros, words.data.cast("B"))
        return words[:-2].reshape(shape)

    def elements(self, shape: tuple[int, ...]) -> Elements:
        """Uniform field elements of `shape`."""
        if compiled:
            drawn = np.empty(shape, np.uint64)
            compiled.elements(self.words(shape), drawn)
            return drawn
        words = self.words(shape) >> np.uint64(64 - PrimeField.bits)
        return np.where(words == PrimeField.p, np.uint64(0), words)

    def integers(self, bits: int, shape: tuple[int, ...]) -> np.ndarray:
        """Uniform integers 0..2^bits-1 of `shape`, uint64."""
        if not bits:
            return np.zeros(shape, np.uint64)
        return self.words(shape) >> np.uint64(64 - bits)

    def permutations(self, count: int, size: int) -> np.ndarray:
        """Uniform permutations of 0..size-1, int64 [count, size], by sorting 64-bit words."""
        return np.argsort(self.words((count, size)), axis=1, kind="stable")
