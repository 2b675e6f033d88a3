"""How much memory a method will take on this machine, known before it trains: nearly all of it is for grouping."""

from __future__ import annotations

from typing import TYPE_CHECKING

from secfpp.errors import ConfigError, Problem
from secfpp.experiment.results.text import amount
from secfpp.experiment.run.machine import free_memory, resident_memory, total_memory
from secfpp.protocol.wire import MAX_MESSAGE
from secfpp.secure.clustering.room import cost_of, fits_messages, most_restarts

if TYPE_CHECKING:
    from secfpp.secure.clustering.search_cost import SearchCost

WORTH_TELLING = 2**30
"""Bytes below which nobody needs to know."""


def grouping_memory(algorithm: object, clients: int, n_classes: int, seed: int) -> int:
    """Bytes that one process takes at its peak to group the clients of a round on shares; 0 if nothing is."""
    cost = _cost(algorithm, getattr(algorithm, "clusterer", None), clients, n_classes, seed)
    return cost.memory if cost else 0


def require_memory(algorithm: object, clients: int, n_classes: int, seed: int) -> str:
    """What to tell of the memory that a method will take in this process, model and data included; empty for little.

    Args:
        algorithm: the method with its settings.
        clients: who take part in a round.
        n_classes: of the data.
        seed: the seed.

    Raises:
        ConfigError: more than a message may hold, or than this machine has; names the most restarts that fit.
    """
    clusterer = getattr(algorithm, "clusterer", None)
    cost = _cost(algorithm, clusterer, clients, n_classes, seed)
    if cost is None:
        return ""
    before, total, free = resident_memory(), total_memory(), free_memory()

    def fits(less: SearchCost | None) -> bool:
        return less is None or (fits_messages(less) and (total is None or before + less.memory <= total))

    needed = before + cost.memory
    told = f"grouping {clients} clients on shares takes about {amount(needed)} of memory"
    if not fits(cost):
        least = most_restarts(cost.settings, lambda fewer: fits(_cost(algorithm, fewer, clients, n_classes, seed)))
        allowed = (
            f"{f'at most {least}' if least else 'not even 1 fits, lower clusterer.k_max'}: {told}"
            + (f", this machine has {amount(total)}" if total is not None else "")
            + f"; a message to a holder has {amount(cost.largest_message)}, at most {amount(MAX_MESSAGE)} are allowed. "
            'In a simulation clusterer.kind = "plain_agreement" or "plain_kmeans" takes next to nothing'
        )
        raise ConfigError([Problem("clusterer.restarts", cost.settings.restarts, allowed)])
    if needed < WORTH_TELLING:
        return ""
    if free is None:
        return told
    short = cost.memory > free
    return f"{told}, {amount(free)} are free" + (": close other programs, or expect it to be killed" if short else "")


def _cost(algorithm: object, clusterer: object, clients: int, n_classes: int, seed: int) -> SearchCost | None:
    return cost_of(clusterer, clients, _dimensions(algorithm, n_classes), seed, 1)


def _dimensions(algorithm: object, n_classes: int) -> int:
    """Numbers in a descriptor of class residuals."""
    return n_classes * int(getattr(algorithm, "directions", 1))
