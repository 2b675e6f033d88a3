"""What clients have, from all that is public of a run: who is together, how many images each has, shared classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from secfpp.algorithms.sharing import GROUP
from secfpp.attacks.membership import auc
from secfpp.attacks.observed import Observed
from secfpp.attacks.views import offered_classes, told_classes


@dataclass(frozen=True)
class Property:
    """One property of clients, as the server guesses it.

    Attributes:
        name: of the property.
        measure: ``accuracy`` or ``AUC``.
        found: how well it is guessed.
        base: how well without what the run makes public.
    """

    name: str
    measure: str
    found: float
    base: float


def properties(run: Observed) -> list[Property]:
    """Every property, of all clients."""
    truth = {name: context.group for name, context in run.contexts.items()}
    return [together(run.groups, truth), _classes(run)]


def together(groups: Iterable[Sequence[str]], truth: Mapping[str, object]) -> Property:
    """A client's true group, guessed to be that of a random partner, or of a random client where there is none.

    Args:
        groups: who is together, every client once.
        truth: each client's true group.
    """
    hits, base = [], []
    for members in groups:
        for client in members:
            near = [truth[other] == truth[client] for other in members if other != client]
            others = [truth[other] == truth[client] for other in truth if other != client]
            hits.append(np.mean(near or others))
            base.append(np.mean(others))
    return Property("true group, those of all others known", "accuracy", float(np.mean(hits)), float(np.mean(base)))


def _classes(run: Observed) -> Property:
    """Which classes a client has: those that it told, or that its group shares, then by how many images it has."""
    names = list(run.contexts)
    holds = np.array([run.contexts[name].histogram > 0 for name in names])
    sizes = np.array([run.contexts[name].weight for name in names], dtype=np.float64)
    by_size = np.broadcast_to((sizes / (sizes.max() + 1))[:, None], holds.shape)
    known = np.zeros(holds.shape)
    for place, name in enumerate(names):
        told = told_classes(run, name)
        shared = told if told is not None else offered_classes(run, name, GROUP)
        if shared is not None:
            known[place] = shared
    found = auc((known + by_size).ravel(), holds.ravel())
    return Property("which classes a client has", "AUC", found, auc(by_size.ravel(), holds.ravel()))
