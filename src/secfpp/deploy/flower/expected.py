"""How many exchanges a run will take, from what was agreed alone: near enough to say how long it takes.

What a run decides on the way, such as that groups are of no use, is not known; nor who will drop out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from secfpp.algorithms.base import FederatedAlgorithm
from secfpp.algorithms.noisy_prompts import AveragesPrompts
from secfpp.deploy.agreed import Agreed
from secfpp.deploy.names import AGREED
from secfpp.errors import ConfigError
from secfpp.secure.clustering.cost import AgreementCost, ClusteringCost
from secfpp.secure.clustering.secure_agreement import SecureAgreement
from secfpp.secure.clustering.secure_kmeans import SecureKMeans
from secfpp.secure.means.cost import MeanCost
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.secure.polls.cost import PollCost
from secfpp.secure.polls.questions import AtLeast
from secfpp.secure.polls.secure_poll import SecurePoll

_IN_CLEAR = 2
"""Exchanges of a mean or a grouping that the server sees."""


def planned_exchanges(folder: Path, sites: int) -> int:
    """About how many exchanges the run agreed on in `folder` takes, openings and commits included.

    Args:
        folder: the run's.
        sites: how many are there; fewer than the run needs count as so many, since others may come.

    Raises:
        ConfigError, DataError: there is no agreed file, or one with values that cannot work.
    """
    agreed = Agreed.load(folder / AGREED)
    commits = 0 if _ends_rounds(agreed.algorithm) else agreed.algorithm.planned(agreed.rounds)
    return protocol_exchanges(agreed.algorithm, agreed.rounds, max(sites, agreed.fewest)) + commits + 2


def protocol_exchanges(algorithm: FederatedAlgorithm, rounds: int, sites: int) -> int:
    """About how many exchanges a method's own programs make in a run of `rounds` rounds."""
    used = algorithm.planned(rounds)
    averaging = algorithm.domain_rounds(used) if hasattr(algorithm, "domain_rounds") else used
    aggregator = getattr(algorithm, "aggregator", None)
    if aggregator is None:
        return used
    mean = MeanCost(sites, 1, aggregator).exchanges if isinstance(aggregator, SecureMean) else _IN_CLEAR
    first = _grouping(getattr(algorithm, "clusterer", None), sites)
    if getattr(algorithm.class_means, "shared", False):
        poll = getattr(algorithm, "poll", None)
        asked = _possible(lambda: PollCost(poll, AtLeast(sites, 1, 1)).exchanges) if isinstance(poll, SecurePoll) else 1
        first += 2 * mean + 3 * asked  # everybody's sums and the groups', after a poll each, and one about their use
    return averaging * (mean + 1) + (used - averaging) * 2 + first


def _ends_rounds(algorithm: FederatedAlgorithm) -> bool:
    """Whether sites commit rounds with their last questions."""
    return isinstance(algorithm, AveragesPrompts) and not (algorithm.privacy.of_prompts or algorithm.privacy.central)


def _grouping(clusterer: object, sites: int) -> int:
    if isinstance(clusterer, SecureAgreement):
        return _possible(lambda: AgreementCost(clusterer, sites).exchanges)
    if isinstance(clusterer, SecureKMeans) and clusterer.reveal != "distances":
        return _possible(lambda: ClusteringCost(clusterer, sites).exchanges)
    return 0 if clusterer is None else _IN_CLEAR


def _possible(exchanges: Callable[[], int]) -> int:
    """How many it takes; none for what so few sites cannot do, which a run leaves out."""
    try:
        return exchanges()
    except ConfigError:
        return 0
