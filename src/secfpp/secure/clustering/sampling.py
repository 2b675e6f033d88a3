"""Of many clients only a random sample is searched for groups; all others come to the nearest group.

Who is in the sample follows from the run's public seed, the round and the names, so that it is the same in the clear
and on shares and every client can check it. Who drops out is replaced by the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from math import comb

from secfpp.protocol.program import ClientId

RISK = 0.05
"""Probability above which a group counts as missed."""


def drawn(clients: Iterable[ClientId], size: int, seed: int, round_: int) -> tuple[ClientId, ...]:
    """A random `size` of the clients, sorted; all of fewer.

    Args:
        clients: to draw from.
        size: how many.
        seed: the run's public seed.
        round_: number of the round; every round draws others.
    """
    start = sha256(f"secfpp/sample/1\0{seed}\0{round_}\0".encode())

    def place(client: ClientId) -> bytes:
        hashed = start.copy()
        hashed.update(client.encode())
        return hashed.digest()

    return tuple(sorted(sorted(clients, key=place)[:size]))


def missed(members: int, clients: int, size: int, fewest: int) -> float:
    """Probability that fewer than `fewest` of a group's `members` are in a sample of `size` of the `clients`."""
    most = min(fewest - 1, members, size)
    ways = sum(comb(members, found) * comb(clients - members, size - found) for found in range(most + 1))
    return ways / comb(clients, size)


def least_seen(clients: int, size: int, fewest: int, risk: float = RISK) -> int:
    """The fewest members of a group that is `missed` with a probability of `risk` at most; the more, the less so.

    Raises:
        ValueError: a sample smaller than `fewest`, or larger than all.
    """
    if not fewest <= size <= clients:
        raise ValueError(f"a sample of {size} of {clients}, for groups of {fewest}")
    low, high = fewest, clients  # a sample of `size` clients has `fewest` members of a group of all
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if missed(middle, clients, size, fewest) <= risk else (middle + 1, high)
    return low
