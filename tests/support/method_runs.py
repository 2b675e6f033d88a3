"""Methods as contract tests run them: few steps, all rounds; and data on which groups are of use."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from secfpp.algorithms.base import FederatedAlgorithm, methods
from secfpp.algorithms.training import LocalTraining
from secfpp.data.federated import ClientData, FederatedDataset, Split

ALL = sorted(methods())
TRAINED = [name for name in ALL if methods()[name].trained]
LEARNING = [name for name in TRAINED if methods()[name].local_update is not FederatedAlgorithm.local_update]
"""Methods that train prompts."""


def make(name: str, **changes: Any) -> Any:
    """A method with short training that uses every round."""
    every = {"effort": 1.0} if "effort" in {field.name for field in fields(methods()[name])} else {}
    return methods()[name](**{"training": LocalTraining(steps=2, batch=8), **every, **changes})


def shifted(dataset: FederatedDataset) -> FederatedDataset:
    """The same images, where every label means the next one in the second domain."""

    second = dataset.domains[1]

    def turned(split: Split) -> Split:
        return replace(split, labels=(split.labels + 1) % len(dataset.classes))

    def moved(client: ClientData) -> ClientData:
        if client.domain != second:
            return client
        return replace(client, train=turned(client.train), validation=turned(client.validation))

    return replace(
        dataset,
        clients=tuple(map(moved, dataset.clients)),
        newcomers=tuple(map(moved, dataset.newcomers)),
        test={**dataset.test, second: turned(dataset.test[second])},
    )
