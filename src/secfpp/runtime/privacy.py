"""The privacy ledger of a training run: which data it is of, and what the run says of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from hashlib import sha256
from typing import Any

from secfpp.algorithms.base import FederatedAlgorithm
from secfpp.algorithms.privacy import released
from secfpp.data.federated import FederatedDataset
from secfpp.paging import paged
from secfpp.privacy.accounting import epsilon
from secfpp.privacy.events import Event
from secfpp.privacy.ledger import PrivacyLedger, Terms, default_path, leaves
from secfpp.protocol.program import ClientId, ClientState


def fingerprint(dataset: FederatedDataset) -> str:
    """A name for the pictures of a data set with their classes, whoever has them: SHA-256 in hexadecimal.

    It is the same however the pictures are dealt to clients and splits, and in whatever order they come.
    """
    splits = [split for client in (*dataset.clients, *dataset.newcomers) for split in (client.train, client.validation)]
    pictures = [
        sha256(repr((dataset.classes[label], image.shape, str(image.dtype))).encode() + image.tobytes()).digest()
        for split in paged((*splits, *dataset.test.values()))
        for image, label in zip(split.images, split.labels.tolist(), strict=True)
    ]
    return sha256(b"".join(sorted(pictures))).hexdigest()


def ledger_of(dataset: FederatedDataset, terms: Terms, *, new: bool | datetime = False) -> PrivacyLedger:
    """The ledger of the pictures of a data set; arguments and errors as for `PrivacyLedger.open`."""
    name = fingerprint(dataset)
    return PrivacyLedger.open(default_path(name), name, terms, new=new)


def figures(
    algorithm: FederatedAlgorithm, clients: Mapping[ClientId, ClientState], ledger: PrivacyLedger | None
) -> dict[str, Any]:
    """What a run released, as JSON can say it; nothing for a method that promises nothing.

    Args:
        algorithm: the method with its settings.
        clients: their states after training.
        ledger: of the run's data.

    Returns:
        ``unit``, ``adjacency``, ``delta``, ``budget``; ``epsilon``, the largest of any client, and ``clients``, that of
        each; ``mechanism``, ``covers`` and ``not_covered``; ``releases`` that the client with most has a part in;
        ``rounds``, the epsilon after each one in which something was released; and ``data``, what all runs on the same
        pictures have cost by now. An epsilon of None is infinite.
    """
    terms = algorithm.privacy_terms
    if terms is None or ledger is None:
        return {}
    of = {client: released(state) for client, state in sorted(clients.items())}
    numbers = sorted({number for made in of.values() for number, _ in made})

    @cache
    def cost(made: tuple[Event, ...]) -> float:
        return epsilon(made, terms.delta)

    def spent(client: ClientId, upto: float = math.inf) -> float:
        return cost(tuple(e.restated(terms.unit, terms.adjacency) for number, e in of[client] if number <= upto))

    events = [event for made in of.values() for _, event in made]
    total, each = ledger.summary(), {client: spent(client) for client in of}
    return {
        "unit": terms.unit,
        "adjacency": terms.adjacency,
        "epsilon": _finite(max(each.values(), default=0.0)),
        "delta": terms.delta,
        "budget": terms.budget,
        "mechanism": sorted({leaf.kind for event in events for leaf in leaves(event)}),
        "releases": max(map(len, of.values()), default=0),
        "covers": sorted({event.covers for event in events}),
        "not_covered": list(algorithm.not_covered),
        "clients": {client: _finite(value) for client, value in each.items()},
        "rounds": [{"round": n, "epsilon": _finite(max(spent(client, n) for client in of))} for n in numbers],
        "data": {"epsilon": total["epsilon"], "releases": total["releases"], "replaces": ledger.replaces},
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
