"""Our partitions beside those of flwr-datasets, on the same labels: `make test-partitions`."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import numpy as np
import pytest

from secfpp.data.partitions.base import Partition, Pool
from secfpp.data.partitions.dirichlet import Dirichlet
from secfpp.data.partitions.iid import IID
from secfpp.data.partitions.pathological import Pathological, evenly
from secfpp.data.partitions.shards import Shards
from secfpp.errors import ConfigError
from secfpp.seeding import Seed

peers = pytest.importorskip("flwr_datasets.partitioner", reason="needs flwr-datasets: make test-partitions")
datasets = pytest.importorskip("datasets")

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10), [30, 31, 60, 40, 40, 41, 55, 20, 40, 43]))


def theirs(partitioner: Any) -> np.ndarray:
    """Images of each client and class, by a partitioner of flwr-datasets."""
    partitioner.dataset = datasets.Dataset.from_dict({"label": LABELS.tolist()})
    parts = [partitioner.load_partition(i)["label"] for i in range(partitioner.num_partitions)]
    return np.stack([np.bincount(np.array(part, dtype=np.int64), minlength=10) for part in parts])


def ours(partition: Partition, clients: int, seed: int = 0, alpha: float = 0.3) -> np.ndarray:
    """The same by one of ours."""
    pool = Pool({"train": LABELS}, 10, [f"c{i}" for i in range(clients)], Seed(seed), alpha, {"train": 0})
    held = partition.split(pool)["train"]
    return np.stack([np.bincount(LABELS[own], minlength=10) for own in held])


@pytest.mark.parametrize("clients", [1, 4, 7, 16])
def test_iid_clients_have_as_many_images_as_theirs(clients: int) -> None:
    mine, peer = ours(IID(), clients), theirs(peers.IidPartitioner(clients))
    assert Counter(mine.sum(1).tolist()) == Counter(peer.sum(1).tolist())
    assert (mine.sum(0) == peer.sum(0)).all()


@pytest.mark.parametrize("clients", [4, 8, 16])
def test_shards_are_theirs_where_every_client_has_one(clients: int) -> None:
    peer = theirs(peers.ShardPartitioner(clients, "label", num_shards_per_partition=1, shuffle=False))
    mine = ours(Shards(shards=1), clients)
    assert sorted(map(tuple, mine)) == sorted(map(tuple, peer))  # the clients' order is chance


@pytest.mark.parametrize("clients", [5, 10, 20])
def test_two_shards_a_client_are_as_many_images_of_as_few_classes_as_theirs(clients: int) -> None:
    peer = theirs(peers.ShardPartitioner(clients, "label", num_shards_per_partition=2))
    mine = ours(Shards(shards=2), clients)
    assert Counter(mine.sum(1).tolist()) == Counter(peer.sum(1).tolist()) == {400 // clients: clients}
    assert (mine > 0).sum(1).max() <= (peer > 0).sum(1).max() + 1


@pytest.mark.parametrize(("clients", "k"), [(10, 2), (8, 3), (20, 2)])
def test_a_class_goes_to_those_who_hold_it_in_the_parts_that_theirs_have(clients: int, k: int) -> None:
    peer = theirs(
        peers.PathologicalPartitioner(
            clients, "label", num_classes_per_partition=k, class_assignment_mode="deterministic"
        )
    )
    classes = [np.flatnonzero(row) for row in peer]
    assert all(len(own) == k for own in classes)
    exact = evenly(classes, 10) * peer.sum(0)[:, None]
    assert np.abs(exact.T - peer).max() < 1
    mine = ours(Pathological(classes=k), clients)
    assert ((mine > 0).sum(1) == k).all() and (mine.sum(0) == peer.sum(0)).all()


def test_classes_that_theirs_drop_with_a_warning_are_refused_by_ours() -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        peer = theirs(
            peers.PathologicalPartitioner(
                3, "label", num_classes_per_partition=2, class_assignment_mode="deterministic"
            )
        )
    assert (peer.sum(0) == 0).sum() == 6 and any("will NOT be used" in str(one.message) for one in told)
    with pytest.raises(ConfigError, match="leave 4 of 10 classes without a client"):
        ours(Pathological(classes=2), 3)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 10.0])
def test_dirichlet_clients_are_as_skewed_as_theirs(alpha: float) -> None:
    """The mean sum of squared shares of a class is (1 + alpha) / (1 + alpha n) in expectation, for n clients."""
    n, expected = 5, (1 + alpha) / (1 + alpha * 5)

    def concentration(counts: np.ndarray) -> float:
        return float(((counts / counts.sum(0)) ** 2).sum(0).mean())

    mine = [concentration(ours(Dirichlet(), n, seed, alpha)) for seed in range(400)]
    peer = [
        concentration(
            theirs(
                peers.DirichletPartitioner(
                    n, "label", alpha=alpha, min_partition_size=0, self_balancing=False, seed=seed
                )
            )
        )
        for seed in range(40)
    ]
    for found in (mine, peer):
        assert abs(np.mean(found) - expected) < 4 * np.std(found) / len(found) ** 0.5 + 0.005  # 0.005: whole images
