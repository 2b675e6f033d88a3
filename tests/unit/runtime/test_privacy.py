"""Which ledger a data set has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from secfpp.data.federated import ClientData, FederatedDataset, Split, hold_out
from secfpp.runtime.privacy import fingerprint


def drawn(n: int, seed: int) -> Split:
    rng = np.random.default_rng(seed)
    return Split(rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8), np.arange(n) % 2)


@pytest.fixture
def data() -> FederatedDataset:
    clients = tuple(
        ClientData(name, "d", drawn(6, i), drawn(2, 10 + i)) for i, name in enumerate(("anna", "ben", "cem"))
    )
    return FederatedDataset("own", ("cat", "dog"), clients, {"d": drawn(4, 20)})


def joined(*splits: Split) -> Split:
    images, labels = (np.concatenate([getattr(s, part) for s in splits]) for part in ("images", "labels"))
    return Split(images, labels)


def test_it_is_that_of_the_pictures_however_they_are_dealt(data):
    anna, ben, cem = data.clients
    name = fingerprint(data)
    half = replace(anna, train=Split(anna.train.images[:3], anna.train.labels[:3]))
    rest = Split(anna.train.images[3:], anna.train.labels[3:])
    dealt = (replace(ben, train=joined(rest, ben.train)), half, replace(cem, name="dora"))
    assert fingerprint(replace(data, clients=dealt)) == name
    assert fingerprint(hold_out(data, 0.3, 0)) == name
    moved = replace(
        cem, train=joined(cem.train, cem.validation), validation=Split(cem.train.images[:0], cem.train.labels[:0])
    )
    assert fingerprint(replace(data, clients=(anna, ben, moved))) == name


def test_another_picture_label_or_copy_makes_another_ledger(data):
    anna, *others = data.clients
    name = fingerprint(data)
    images = anna.train.images.copy()
    images[0, 0, 0, 0] ^= 1
    for train in (
        Split(images, anna.train.labels),
        Split(anna.train.images, 1 - anna.train.labels),
        joined(anna.train, Split(anna.train.images[:1], anna.train.labels[:1])),
    ):
        assert fingerprint(replace(data, clients=(replace(anna, train=train), *others))) != name
