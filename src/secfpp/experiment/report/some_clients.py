"""Which clients a report draws one by one, where there are more than anybody looks at: its size has a bound."""

from __future__ import annotations

from collections.abc import Sequence

MOST = 400
"""Clients that are drawn, at most."""


def drawn(clients: Sequence[str], groups: Sequence[str]) -> frozenset[str]:
    """All of the clients, or `MOST` of them: of each of their `groups` as large a share."""
    if len(clients) <= MOST:
        return frozenset(clients)
    ordered = [client for _, client in sorted(zip(groups, clients, strict=True), key=lambda pair: pair[0])]
    return frozenset(ordered[i * len(ordered) // MOST] for i in range(MOST))


def told(clients: int) -> str:
    """What a reader has to know of that; empty if all are drawn."""
    return "" if clients <= MOST else f"{MOST} of {clients:,} clients are shown, evenly chosen; means are over all."
