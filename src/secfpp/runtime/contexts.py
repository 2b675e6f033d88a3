"""From a data set to the contexts of its clients, and a name for its content."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

import numpy as np

from secfpp.algorithms.base import FederatedAlgorithm
from secfpp.algorithms.training import ClientContext
from secfpp.data.federated import FederatedDataset
from secfpp.models.backbone import Backbone
from secfpp.paging import paged
from secfpp.privacy.ledger import RunLedger
from secfpp.secure.session import Party, parties_in_memory
from secfpp.seeding import derive


def make_contexts(
    dataset: FederatedDataset,
    backbone: Backbone,
    algorithm: FederatedAlgorithm,
    seed: int,
    ledger: RunLedger | None = None,
    parties: Mapping[str, Party] | None = None,
) -> dict[str, ClientContext]:
    """Every client's context, newcomers included, by name in sorted order; all with one privacy ledger, if any.

    With `parties`, those of them alone, with these keys; else with fresh ones.

    Raises:
        ConfigError: class names that the model refuses.
    """
    clients = (*dataset.clients, *dataset.newcomers)
    start = algorithm.prompt.initial(backbone, dataset.template, derive(seed, "start"))
    tokens = backbone.class_tokens(dataset.classes, len(start))
    number = {group: i for i, group in enumerate(dataset.groups)}
    if parties is None:
        parties = parties_in_memory(client.name for client in clients)
    return {
        client.name: ClientContext(
            client=client.name,
            data=client,
            group=number[client.true_group],
            backbone=backbone,
            tokens=tokens,
            seed=seed,
            start=start,
            template=dataset.template,
            party=parties[client.name],
            ledger=ledger,
        )
        for client in sorted(clients, key=lambda client: client.name)
        if client.name in parties
    }


def dataset_digest(dataset: FederatedDataset) -> str:
    """A name for the content of a data set: clients, classes, all images and labels; SHA-256 in hexadecimal."""
    digest = sha256(repr((dataset.name, dataset.classes, dataset.template)).encode())
    splits = [
        (client.name, f"{client.domain}{separator}{client.true_group}", split)
        for separator, clients in (("/", dataset.clients), ("/new/", dataset.newcomers))
        for client in clients
        for split in (client.train, client.validation)
    ]
    tests = [("test", domain, split) for domain, split in dataset.test.items()]
    for owner, domain, split in paged([*splits, *tests]):
        digest.update(repr((owner, domain, split.images.shape)).encode())
        digest.update(np.ascontiguousarray(split.labels).data)
        digest.update(np.ascontiguousarray(split.images).data)
    return digest.hexdigest()
