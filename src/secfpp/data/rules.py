"""What must hold of a federated data set, checked when it is made: labels, shapes, names, domains.

Nothing else looks at these again, and a label out of range or a domain without a test image would otherwise end
somewhere in a round, long after.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from secfpp.errors import DataError

if TYPE_CHECKING:
    from secfpp.data.federated import FederatedDataset, Split

SHOWN = 10
"""Findings that one message names."""


def require_sound(dataset: FederatedDataset) -> None:
    """Refuse a data set that could not be trained on or measured.

    Raises:
        DataError: each finding with the client (or domain), the image and the rule; at most `SHOWN`.
    """
    raise_all([*_names(dataset), *_splits(dataset), *_domains(dataset)])


def raise_all(problems: Sequence[str]) -> None:
    """One error for several findings, of which `SHOWN` are named.

    Raises:
        DataError: there is a finding.
    """
    if problems:
        more = f"; and {len(problems) - SHOWN} more problems" if len(problems) > SHOWN else ""
        raise DataError("\n".join(problems[:SHOWN]) + more, problems)


def repeated(names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Pairs of positions, counted from 0, at which the same name stands: the first one, and each later one."""
    first: dict[str, int] = {}
    for position, name in enumerate(names):
        if first.setdefault(name, position) != position:
            yield first[name], position


def range_rule(n_classes: int) -> str:
    """The rule that a label out of range breaks."""
    return f"with {n_classes} classes a label is a whole number from 0 to {n_classes - 1}"


def _names(dataset: FederatedDataset) -> Iterator[str]:
    classes: object = dataset.classes
    if isinstance(classes, str):
        yield f"classes = {classes!r} is one text: give a tuple of names, one for each class"
        return
    clients = [client.name for client in (*dataset.clients, *dataset.newcomers)]
    given: dict[str, Sequence[object]] = {"class": dataset.classes, "client": clients}
    for what, names in given.items():
        for position, name in enumerate(names):
            if not isinstance(name, str) or not name.strip():
                yield f"the name of {what} {position} (from 0) is {name!r}: give a text"
    for first, second in repeated(dataset.classes):
        name = dataset.classes[second]
        yield (
            f"classes {first} and {second} (from 0) have the same name {name!r}: say in the name what tells them "
            "apart, such as 'crane bird' and 'crane machine', or give their images one label"
        )
    for first, second in repeated(clients):
        yield f"clients {first} and {second} (from 0) have the same name {clients[second]!r}: rename one"
    if not dataset.clients:
        yield f"the data set {dataset.name!r} has no client: add at least one"
    if not dataset.classes:
        yield f"the data set {dataset.name!r} has no class: name at least one"


def _splits(dataset: FederatedDataset) -> Iterator[str]:
    for client in (*dataset.clients, *dataset.newcomers):
        if not len(client.train):
            yield f"client {client.name!r} has no training image: remove it or give it data"
        for part, split in (("training", client.train), ("validation", client.validation)):
            yield from _split(split, f"client {client.name!r}, {part} image", len(dataset.classes))
    for domain, split in dataset.test.items():
        yield from _split(split, f"domain {domain!r}, test image", len(dataset.classes))


def _split(split: Split, whose: str, n_classes: int) -> Iterator[str]:
    images, labels = split.images, split.labels
    if not len(split):
        return
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        yield f"{whose}s are {images.dtype} of shape {images.shape}: give uint8 [n, height, width, 3] with RGB values"
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        yield f"{whose}s have labels {labels.dtype} of shape {labels.shape}: give whole numbers of shape [n]"
        return
    wrong = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if len(wrong):
        more = f" (and {len(wrong) - 1} more of its images)" if len(wrong) > 1 else ""
        yield f"{whose} {wrong[0]} (from 0) has the label {labels[wrong[0]]}{more}: {range_rule(n_classes)}"


def _domains(dataset: FederatedDataset) -> Iterator[str]:
    said = set[str]()
    for client in (*dataset.clients, *dataset.newcomers):
        split = dataset.test.get(client.domain)
        if (split is None or not len(split)) and client.domain not in said:
            said.add(client.domain)
            known = ", ".join(repr(domain) for domain, own in dataset.test.items() if len(own)) or "no domain"
            yield (
                f"client {client.name!r}: its domain {client.domain!r} has no test image, and a client is measured on "
                f"those of its domain: add some, or name another domain ({known} has some)"
            )
