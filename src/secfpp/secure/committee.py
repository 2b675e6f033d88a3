"""Who holds shares, and how many of them may collude.

Assumption: at most `threshold` holders work together with each other and the server. Up to `LARGEST` clients all hold
shares; of more, a committee is drawn from randomness that everybody committed to before anybody's was shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from math import comb

from secfpp.errors import ConfigError, Problem

LARGEST = 16
"""Most holders; the cost of sharing grows with their number."""


def clustering_threshold(holders: int, limit: int, tolerated: int | None = None) -> int:
    """How many of `holders` may collude when shares of `limit` times their degree are opened.

    ``holders >= limit T + 1 + tolerated``; by default, 5 dropouts of 16 holders are tolerated and of fewer holders
    as many as leave T at least 1. So T = 2 of 15 or 16, 1 of 6 to 14.

    Raises:
        ConfigError: fewer holders than T = 1 needs.
    """
    if tolerated is None:
        tolerated = max(0, min(holders * 5 // LARGEST, holders - limit - 1)) if limit >= 5 else 0
    threshold = (holders - 1 - tolerated) // limit
    if threshold < 1:
        raise ConfigError(
            [Problem("clusterer", f"{holders} holders of shares", f"at least {limit + 1 + tolerated} are needed")]
        )
    return threshold


def quorum(holders: int, threshold: int) -> int:
    """The smallest number of responders of which any two sets share an honest holder: above (c + T) / 2."""
    return (holders + threshold) // 2 + 1


def draw(clients: Sequence[str], nonces: Mapping[str, bytes], size: int = LARGEST) -> tuple[str, ...]:
    """The holders, sorted: all of `clients`, or `size` of them in an order that everybody's nonces give.

    Of fewer clients come the same in the same order: who drops out is replaced by the next.
    """
    if len(clients) <= size:
        return tuple(sorted(clients))
    joint = sha256(b"".join(sha256(name.encode() + b"\0" + nonces[name]).digest() for name in sorted(nonces)))
    order = sorted(clients, key=lambda name: sha256(joint.digest() + name.encode()).digest())
    return tuple(sorted(order[:size]))


def corruption_risk(clients: int, holders: int, threshold: int, rate: float, draws: int = 1) -> float:
    """Probability that more than `threshold` of a random committee collude, if a share `rate` of all clients does.

    A server that can have it drawn anew, and sees what comes first, has the better of several `draws`.
    """
    bad = int(rate * clients)
    ways = sum(comb(bad, k) * comb(clients - bad, holders - k) for k in range(threshold + 1, min(bad, holders) + 1))
    return 1 - (1 - ways / comb(clients, holders)) ** draws
