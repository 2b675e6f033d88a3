"""Whether a search on shares has room, in messages and in memory, and with how many runs it would: from cost formulas.

Nothing is computed for it, so that settings for many clients are refused in no time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from secfpp.protocol import wire
from secfpp.secure.clustering.cost import AgreementCost, ClusteringCost
from secfpp.secure.clustering.on_shares import OnShares
from secfpp.secure.clustering.search_cost import SearchCost
from secfpp.secure.clustering.secure_agreement import SecureAgreement
from secfpp.secure.clustering.secure_kmeans import SecureKMeans

TEXTS = 2**20
"""Bytes that are left for what cost formulas leave out."""


def cost_of(clusterer: object, clients: int, dimensions: int, seed: int = 0, round_: int = 0) -> SearchCost | None:
    """What a search costs: of many clients, that of the sample.

    Args:
        clusterer: of any kind.
        clients: who are grouped.
        dimensions: numbers in a descriptor; k-means reduces them to its own number.
        seed: public; seed and round make a small difference.
        round_: number of the round.

    Returns:
        None where nothing is computed on shares, and for ``reveal = "distances"``, of which there are no formulas.

    Raises:
        ConfigError: too few clients to hold shares.
        FieldRangeError: too many clients for exact arithmetic.
    """
    if not isinstance(clusterer, OnShares) or clusterer.is_one(clients):
        return None
    clients = clusterer.searched(clients)
    if isinstance(clusterer, SecureAgreement):
        return AgreementCost(clusterer, clients, dimensions, seed, round_)
    if isinstance(clusterer, SecureKMeans) and clusterer.reveal != "distances":
        return ClusteringCost(clusterer, clients, seed, round_)
    return None


def fits_messages(cost: SearchCost) -> bool:
    """Whether no message of a search is larger than messages may be, texts and framing included."""
    return cost.largest_message <= wire.MAX_MESSAGE - TEXTS


def most_restarts(clusterer: OnShares, fits: Callable[[OnShares], bool]) -> int:
    """The most restarts, below those of `clusterer`, with which it fits; 0 if one run does not."""
    good, bad = 0, 1
    while bad < clusterer.restarts and fits(replace(clusterer, restarts=bad)):
        good, bad = bad, 2 * bad
    bad = min(bad, clusterer.restarts)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(replace(clusterer, restarts=middle)) else (good, middle)
    return good
