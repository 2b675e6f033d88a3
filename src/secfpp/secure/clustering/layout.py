"""How a client shares its descriptor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from secfpp.crypto.arithmetic import Shared
from secfpp.crypto.checks import bit_defects
from secfpp.crypto.field import Elements, PrimeField


@dataclass(frozen=True)
class Layout:
    """How a client shares its descriptor: bit by bit, so that its range can be checked.

    For each coordinate x the `bits` bits of x + 2^(bits - 1), then those of R^2 - |z|^2 with R = `longest` the largest
    length.
    """

    dimensions: int
    bits: int
    longest: int

    @property
    def slack_bits(self) -> int:
        """Bits of the squared radius."""
        return (self.longest**2).bit_length()

    @property
    def width(self) -> int:
        """Bits per client."""
        return self.dimensions * self.bits + self.slack_bits

    def encode(self, point: np.ndarray) -> Elements:
        """The bits [width] of a descriptor [dimensions]."""
        point = point.astype(np.int64)
        slack = self.longest**2 - int(point @ point)
        shifted = point + (1 << (self.bits - 1))
        coordinates = (shifted[:, None] >> np.arange(self.bits)) & 1
        return np.concatenate([coordinates.reshape(-1), (slack >> np.arange(self.slack_bits)) & 1]).astype(np.uint64)

    def points(self, inputs: Shared) -> Shared:
        """Descriptors [clients, dimensions] from bits [clients, width]."""
        split = self.dimensions * self.bits
        bits = inputs[:, :split].reshape(len(inputs.values), self.dimensions, self.bits)
        return _weighed(bits) - (1 << (self.bits - 1))

    def defects(self, inputs: Shared) -> Shared:
        """What vanishes if these are bits of descriptors that are not too long, [clients, width + 1], degree 2."""
        points = self.points(inputs)
        slack = _weighed(inputs[:, self.dimensions * self.bits :])
        length = (points * points).sum(1) + slack - self.longest**2
        bits = bit_defects(inputs)
        return Shared(np.concatenate([bits.values, length.values[:, None]], 1), 2)


def _weighed(bits: Shared) -> Shared:
    """Integers from their bits, least significant first, on the last axis."""
    terms_ = np.stack([PrimeField.turn(bits.values[..., j], j) for j in range(bits.shape[-1])], -1)
    return Shared(PrimeField.sum_axis(terms_, -1), bits.degree)
