"""Openings that show their value and nothing else.

A product of shares lies on a polynomial whose coefficients depend on the factors, so that single shares of it must not
be seen. Each of the responders S sends lambda_j v_j plus pads that it has in common with some others and that cancel
in the sum: j adds the pad of {j, j'} if j < j', else subtracts it. The pads are pseudo-random streams of keys that
pairs of holders agreed on, labelled with step, responders and history: holders who saw different histories have
different pads, and their sum says nothing.

Pads join the responders in a Harary graph, which stays connected when any T of them are taken away: so the messages of
the others are uniform, given their sum. Assumption: AES-256 in counter mode is a pseudo-random function.

Sources: K. Bonawitz et al., Practical secure aggregation (2017), J. Bell et al. (2020) for sparse graphs; F. Harary,
The maximum connectivity of a graph (1962).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.kernel import compiled
from secfpp.crypto.randomness import Stream
from secfpp.crypto.sharing import weights_at_zero

_BLOCK = 1 << 14


def neighbours(position: int, count: int, connectivity: int) -> tuple[int, ...]:
    """With whom the vertex `position` of the Harary graph on `count` vertices is joined, sorted.

    Whatever `connectivity` - 1 other vertices are taken away, the rest stays connected. Everybody is joined with
    everybody if `count` is at most `connectivity` + 1.
    """
    if count <= connectivity + 1:
        return tuple(i for i in range(count) if i != position)
    half = connectivity // 2
    found = {(position + step) % count for step in range(-half, half + 1)} - {position}
    if connectivity % 2:
        # The opposite vertex; with an odd count one vertex has two, see Harary.
        middle = count // 2
        if count % 2 == 0:
            found.add((position + middle) % count)
        else:
            found |= {j for i, j in _diagonals(count) if i == position} | {
                i for i, j in _diagonals(count) if j == position
            }
    return tuple(sorted(found))


def _diagonals(count: int) -> list[tuple[int, int]]:
    half = (count - 1) // 2
    return [(0, half), (0, half + 1), *((i, i + half + 1) for i in range(1, half))]


def masked(
    values: Sequence[Elements], responders: Sequence[int], own: int, threshold: int, pad_key: Callable[[int], bytes]
) -> Elements:
    """What holder `own` answers, one vector for all `values` in their order.

    Args:
        values: its shares of what is opened.
        responders: numbers of the holders that answer, sorted, `own` among them.
        own: its number.
        threshold: T.
        pad_key: number of another holder to the key that both have for this opening.
    """
    position = responders.index(own)
    weight = weights_at_zero(tuple(responders))[position]
    pads = [
        (Stream(pad_key(responders[other])), other > position)
        for other in neighbours(position, len(responders), threshold + 1)
    ]
    flat = [value.reshape(-1) for value in values]
    result = np.concatenate(flat) if flat else np.zeros(0, np.uint64)
    for start in range(0, result.size, _BLOCK):
        block = result[start : start + _BLOCK]
        if compiled:
            compiled.mul(block, weight, block)
        else:
            block[:] = PrimeField.mul(block, weight)
        for stream, first in pads:
            if compiled:
                compiled.pad(stream.words(block.shape), block, not first)
            else:
                pad = stream.elements(block.shape)
                block[:] = PrimeField.add(block, pad) if first else PrimeField.sub(block, pad)
    return result


def unmasked(answers: Sequence[Elements], shapes: Sequence[tuple[int, ...]]) -> list[Elements]:
    """The public values from the answers of all responders."""
    total = PrimeField.sum(answers, answers[0].shape)
    return split(total, shapes)


def split(vector: Elements, shapes: Sequence[tuple[int, ...]]) -> list[Elements]:
    """A vector cut into arrays of `shapes`."""
    parts, start = [], 0
    for shape in shapes:
        stop = start + math.prod(shape)
        parts.append(vector[start:stop].reshape(shape))
        start = stop
    return parts
