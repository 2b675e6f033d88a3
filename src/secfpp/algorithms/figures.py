"""Figures that clients measure of themselves, averaged after training so that nobody sees a single client's.

The mean goes the way of every mean of the method, and members learn it; one of them tells the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from secfpp.errors import ProtocolError
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import Arrays, Ask, ClientId, ClientState, Program
from secfpp.secure.means.updates import base_of, version_of, with_base

if TYPE_CHECKING:
    from secfpp.algorithms.training import ClientContext
    from secfpp.secure.means.aggregator import Aggregator

SLOT = "figures"
NAMES = ("test", "validation")
"""Accuracies on the client's own images, 0..1."""


def mean_figures(aggregator: Aggregator, cohort: Cohort) -> Program[tuple[Sequence[ClientId], dict[str, float]]]:
    """Whose figures are in the mean, and the mean, every client counting alike; nobody and nothing if there is none.

    Args:
        aggregator: of the method.
        cohort: who is asked; its round is one in which nothing else is done.
    """
    ready = yield Ask("method.measure", {client: {} for client in cohort.clients})
    alike = Cohort(dict.fromkeys(sorted(ready), 1), cohort.round, cohort.seed)
    if not alike.clients:
        return (), {}
    mean = yield from aggregator.mean(alike, SLOT)
    told = yield Ask("method.tell_figures", {client: {} for client in mean.members})
    found = told.alike(lambda _, reply: _figures_in(reply), lambda figures: figures)
    if not found:
        return (), {}
    return mean.members, dict(zip(NAMES, next(iter(found.values())), strict=True))


def measured(context: ClientContext, state: ClientState) -> ClientState:
    """The client's state with its figures where they are averaged.

    Raises:
        ProtocolError: it has none for others.
    """
    if context.figures is None:
        raise ProtocolError("step 'method.measure': this client measures nothing for others")
    own = np.asarray(context.figures(state), np.float32)
    if own.shape != (len(NAMES),) or not ((own >= 0) & (own <= 1)).all():
        raise ProtocolError("step 'method.measure': this client has no images by which to measure")
    return with_base(state, SLOT, np.zeros(len(NAMES), np.float32)).replace(**{SLOT: own})


def told(state: ClientState) -> Arrays:
    """The mean.

    Raises:
        ProtocolError: the client has no part in one.
    """
    if SLOT not in state or not version_of(state, SLOT):
        raise ProtocolError("step 'method.tell_figures': there is no mean of figures here")
    return {"figures": base_of(state, SLOT)}


def _figures_in(reply: Arrays) -> tuple[float, ...]:
    figures: Any = reply.get("figures")
    if figures is None or figures.shape != (len(NAMES),) or not ((figures >= 0) & (figures <= 1)).all():
        raise ProtocolError("a mean of figures that is none")
    return tuple(map(float, figures))
