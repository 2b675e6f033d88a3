"""Who holds shares, and how many of them may collude.

Assumption: at most `threshold` holders work together with each other and the server. Up to `LARGEST` clients all hold
shares; of more, a committee is drawn from randomness that everybody committed to before anybody's was shown.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from hashlib import sha256
from math import comb
from typing import Any

from secfpp.crypto.replicated import MOST, possible
from secfpp.errors import ConfigError, Problem, TamperError
from secfpp.protocol.program import Arrays
from secfpp.secure.key_lists import names_in, rows_in

LARGEST = 16
"""Most holders; the cost of sharing grows with their number."""


def clustering_threshold(holders: int, limit: int, tolerated: int | None = None, *, active: bool = False) -> int:
    """How many of `holders` may collude when shares of `limit` times their degree are opened.

    ``holders >= limit T + 1 + tolerated``; by default, 5 dropouts of 16 holders are tolerated and of fewer holders
    as many as leave T at least 1. So T = 2 of 15 or 16, 1 of 6 to 14. Where openings are verified, `active`, T more
    have to answer, so that it is ``(limit + 1) T``, and 3 dropouts of 16: T = 2 of 15 or 16, 1 of 7 to 14.

    Raises:
        ConfigError: fewer holders than T = 1 needs.
    """
    times, most = (limit + 1, 3) if active else (limit, 5)
    if tolerated is None:
        tolerated = max(0, min(holders * most // LARGEST, holders - times - 1)) if limit >= 5 else 0
    threshold = (holders - 1 - tolerated) // times
    if threshold < 1:
        raise ConfigError(
            [Problem("clusterer", f"{holders} holders of shares", f"at least {times + 1 + tolerated} are needed")]
        )
    if active and not possible(holders, threshold):
        fewer = f"fewer, or more dropouts, where openings are verified: {threshold} of so many can collude in more ways"
        raise ConfigError([Problem("committee", holders, f"{fewer} than {MOST}")])
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


def commitment(name: str, nonce: bytes) -> bytes:
    """What `name` shows of its randomness in advance."""
    return sha256(b"secfpp/commitment/1\0" + name.encode() + b"\0" + nonce).digest()


def require_drawn(
    shown: Mapping[str, bytes], agreed: Arrays, clients: Sequence[str], about: Mapping[str, Any], name: str
) -> None:
    """Refuse holders that are not those which everybody's randomness gives.

    Args:
        shown: commitments to it, by client, as they were listed before any of it was shown.
        agreed: the terms, with all randomness and commitments to it where a committee is drawn.
        clients: who takes part.
        about: the terms' facts.
        name: of the step, for errors.

    Raises:
        TamperError: the holders are others, or the randomness is not all that was committed to.
    """
    nonces: dict[str, bytes] = {}
    if len(clients) > about["size"]:
        listed = names_in({"clients": about["listed"]}, name)
        nonces = rows_in(agreed, "nonce", listed, name)
        for client, committed in rows_in(agreed, "commitment", listed, name).items():
            if not hmac.compare_digest(commitment(client, nonces[client]), committed):
                raise TamperError(client, name, "the randomness shown is not what was committed to")
            if shown.get(client) != committed:
                raise TamperError(client, name, "another commitment than the one listed before randomness was shown")
        if missing := sorted(shown.keys() - nonces.keys() or set(clients) - nonces.keys()):
            raise TamperError(None, name, f"the randomness of {', '.join(missing)} is left out, and could decide")
    if tuple(about["holders"]) != draw(clients, nonces, about["size"]):
        raise TamperError(None, name, "the holders are not those that the joint randomness gives")


def corruption_risk(clients: int, holders: int, threshold: int, rate: float, draws: int = 1) -> float:
    """Probability that more than `threshold` of a random committee collude, if a share `rate` of all clients does.

    A server that can have it drawn anew, and sees what comes first, has the better of several `draws`.
    """
    bad = int(rate * clients)
    ways = sum(comb(bad, k) * comb(clients - bad, holders - k) for k in range(threshold + 1, min(bad, holders) + 1))
    return 1 - (1 - ways / comb(clients, holders)) ** draws
