"""Secret integers whose size nobody can choose, for masks where holders do not trust each other's dealing.

Sets B of holders have a key in common. A secret integer is the sum of one pseudo-random number below 2^bits for each
set, which its members compute themselves: so it is in range, whoever chose the keys. Share j is the sum of those
numbers times f_B(alpha_j) over the sets that j is in, where f_B is 1 at 0 and 0 at everybody who is not in B: c - |B|
points, which is the degree.

Whatever T holders collude, one set at least has none of them, so that its number is secret. Its key is dealt by its
first member. If one deals different keys, shares are of no polynomial, which is found where openings are verified.

Source: R. Cramer, I. Damgard, Y. Ishai, Share conversion, pseudorandom secret-sharing and applications to secure
computation (2005); there B are all sets of c - T holders, here as few smaller ones as the degree allows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import combinations

import numpy as np

from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.randomness import Stream
from secfpp.crypto.sharing import alpha

SLOT = 5
"""Field elements that a key is made of."""
MOST = 2_000
"""Sets of colluding holders that are looked at."""


Sets = tuple[tuple[int, ...], ...]
"""The members of each set, numbers of holders, sorted."""


@lru_cache(maxsize=64)
def key_sets(holders: int, threshold: int, degree: int) -> Sets:
    """The sets B of `holders` - `degree` holders each, few of them, of which any T holders leave one alone.

    The others of each set have to cover all T holders that may collude; they are chosen greedily.
    """
    waiting = set(combinations(range(holders), threshold))
    chosen = []
    while waiting:
        outside = set(min(waiting))
        while len(outside) < degree:
            gains = [0] * holders
            for colluding in waiting:
                inside = sum(holder in outside for holder in colluding)
                for holder in colluding:
                    gains[holder] += 4**inside
            free = [holder for holder in range(holders) if holder not in outside]
            outside.add(max(free, key=lambda holder: (gains[holder], -holder)))
        waiting = {colluding for colluding in waiting if not outside.issuperset(colluding)}
        chosen.append(tuple(holder for holder in range(holders) if holder not in outside))
    return tuple(chosen)


def possible(holders: int, threshold: int) -> bool:
    """Whether there are not too many sets of colluding holders for `key_sets`."""
    return math.comb(holders, threshold) <= MOST


def dealt_keys(sets: Sets, holders: int, dealer: int, made: Elements) -> Elements:
    """What a holder deals of keys to each one [holders, size]: those of the sets that it is first in, to their members.

    Args:
        sets: see `key_sets`.
        holders: c.
        dealer: its number.
        made: uniform elements [sets x SLOT]; left out, as 0, where a key is not its own, or not for the recipient.
    """
    own = [[members[0] == dealer and recipient in members for members in sets] for recipient in range(holders)]
    kept = np.repeat(np.array(own, bool).reshape(holders, len(sets)), SLOT, axis=1)
    return np.where(kept, made, np.uint64(0))


class Replicated:
    """One holder's shares of such integers.

    Args:
        sets: see `key_sets`.
        holders: c.
        own: its number.
        dealt: what each holder dealt to it, see `dealt_keys`.
    """

    def __init__(self, sets: Sets, holders: int, own: int, dealt: Sequence[Elements]) -> None:
        mine = [number for number, members in enumerate(sets) if own in members]
        self._keys: Mapping[int, bytes] = {
            number: dealt[sets[number][0]][number * SLOT : (number + 1) * SLOT].tobytes() for number in mine
        }
        self.count = len(sets)
        self._streams: dict[tuple[int, int], Stream] = {}
        self._weights = {number: _weight(sets[number], holders, own) for number in mine}

    def integers(self, bits: int, shape: tuple[int, ...]) -> Elements:
        """Shares of the next integers, each the sum of one below 2^`bits` for each set."""
        total = np.zeros(shape, np.uint64)
        for number, weight in self._weights.items():
            drawn = self._stream(number, bits).integers(bits, shape)
            total = PrimeField.add(total, PrimeField.mul(drawn, weight))
        return total

    def _stream(self, number: int, bits: int) -> Stream:
        if (number, bits) not in self._streams:
            key = b"secfpp/integers/1\0" + bits.to_bytes(1, "big") + self._keys[number]
            self._streams[number, bits] = Stream(sha256(key).digest())
        return self._streams[number, bits]


def _weight(members: tuple[int, ...], holders: int, own: int) -> Elements:
    """f_B at this holder."""
    above, below = 1, 1
    for holder in range(holders):
        if holder not in members:
            above = above * (alpha(own) - alpha(holder)) % PrimeField.p
            below = below * -alpha(holder) % PrimeField.p
    return np.array(above * pow(below, -1, PrimeField.p) % PrimeField.p, np.uint64)
