"""Who holds shares, and how many of them may collude.

Assumption: at most `threshold` holders work together with each other and the server. Up to `LARGEST` clients all hold
shares; of more, a committee is drawn from randomness that everybody committed to before anybody's was shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from math import comb
from typing import Any

import numpy as np

from secfpp.crypto.randomness import Stream
from secfpp.crypto.replicated import MOST, possible
from secfpp.crypto.roster import pack
from secfpp.errors import ConfigError, Problem, TamperError
from secfpp.protocol.program import Arrays
from secfpp.secure.key_lists import names_in, rows_in

LARGEST = 16
"""Most holders; the cost of sharing grows with their number."""
_COMMITMENT = b"secfpp/commitment/1\0"


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
    names, taking_part = sorted(nonces), set(clients)
    joint = listing("joint", names, list(map(nonces.__getitem__, names)))
    order = np.argsort(Stream(joint).words((len(names),)), kind="stable")
    return tuple(sorted(islice((names[place] for place in order if names[place] in taking_part), size)))


def commitment(name: str, nonce: bytes) -> bytes:
    """What `name` shows of its randomness in advance."""
    return commitments({name: nonce})[0]


def commitments(nonces: Mapping[str, bytes]) -> list[bytes]:
    """What each client shows of its randomness in advance."""
    return [sha256(_COMMITMENT + name.encode() + b"\0" + nonce).digest() for name, nonce in nonces.items()]


def listing(what: str, names: Sequence[str], rows: Sequence[bytes]) -> bytes:
    """A hash of something that each of `names`, sorted, has made, 32 bytes; `rows` are of one length."""
    told = pack(b"secfpp/list/1", what.encode(), str(len(names)).encode(), "\n".join(names).encode(), b"".join(rows))
    return sha256(told).digest()


@dataclass(frozen=True)
class Drawn:
    """What terms say of how holders were drawn.

    Args:
        nonces: everybody's randomness; nothing if there were too few clients to draw from.
        commitments: the `listing` of what it was committed to with.
        holders: whom it gives, sorted.
    """

    nonces: Mapping[str, bytes] = field(repr=False)
    commitments: bytes
    holders: tuple[str, ...]


def drawn_in(agreed: Arrays, clients: Sequence[str], about: Mapping[str, Any], name: str) -> Drawn:
    """How holders are drawn; takes a hash for each client.

    Args:
        agreed: the terms, with all randomness where a committee is drawn.
        clients: who takes part.
        about: the terms' facts.
        name: of the step, for errors.

    Raises:
        ProtocolError: there is no such randomness.
        TamperError: some of it is left out, or somebody who takes part.
    """
    nonces: dict[str, bytes] = {}
    shown = b""
    pool = drawn_from(clients, about)
    if len(pool) > about["size"]:
        listed = names_in({"clients": about["listed"]}, name) if about["listed"] else clients
        nonces = rows_in(agreed, "nonce", listed, name)
        if missing := sorted({*pool, *clients} - nonces.keys()):
            raise TamperError(None, name, f"the randomness of {', '.join(missing)} is left out, and could decide")
        shown = listing("commitments", listed, commitments(nonces))
    if passed_over := sorted({*clients}.difference(pool)):
        told = f"{passed_over[0]!r} takes part, and is left out of the {len(pool)} from whom holders are drawn"
        raise TamperError(None, name, f"{told}: whoever chooses these could decide")
    return Drawn(nonces, shown, draw(pool, nonces, about["size"]))


def require_drawn(
    own: tuple[str, bytes], shown: bytes | None, drawn: Drawn, holders: tuple[str, ...], name: str
) -> None:
    """Refuse holders that are not those which everybody's randomness gives.

    Args:
        own: this client, and its randomness.
        shown: the `listing` of commitments for which this client showed its randomness; None if it showed it to nobody.
        drawn: what the terms say.
        holders: who they say holds shares.
        name: of the step, for errors.

    Raises:
        TamperError: the holders are others, or the randomness is not all that was committed to.
    """
    if drawn.nonces:
        if drawn.nonces[own[0]] != own[1]:
            raise TamperError(None, name, f"{own[0]!r} is said to have shown other randomness than it did")
        if shown != drawn.commitments:
            raise TamperError(None, name, "the randomness is not all that was committed to before any of it was shown")
    if holders != drawn.holders:
        raise TamperError(None, name, "the holders are not those that the joint randomness gives")


def drawn_from(clients: Sequence[str], about: Mapping[str, Any]) -> Sequence[str]:
    """Of whom holders are drawn: who takes part, or all whose randomness is listed but those who are gone."""
    listed, gone = about["listed"], about.get("gone")
    return sorted(set(map(str, listed)).difference(map(str, gone))) if listed and isinstance(gone, list) else clients


def corruption_risk(clients: int, holders: int, threshold: int, rate: float, draws: int = 1) -> float:
    """Probability that more than `threshold` of a random committee collude, if a share `rate` of all clients does.

    A server that can have it drawn anew, and sees what comes first, has the better of several `draws`.
    """
    bad = int(rate * clients)
    ways = sum(comb(bad, k) * comb(clients - bad, holders - k) for k in range(threshold + 1, min(bad, holders) + 1))
    return 1 - (1 - ways / comb(clients, holders)) ** draws
