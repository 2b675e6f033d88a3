from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secfpp.data.partitions.base import Held, Partition, Pool
from secfpp.data.partitions.by_domain import ByDomain
from secfpp.data.partitions.dirichlet import Dirichlet
from secfpp.data.partitions.iid import IID
from secfpp.data.partitions.pathological import Pathological
from secfpp.data.partitions.shards import Shards
from secfpp.errors import ConfigError, DataError
from secfpp.experiment.spec.schema import build, dump, kinds
from secfpp.seeding import Seed

ALL: list[Partition] = [
    ByDomain(),
    ByDomain(Pathological()),
    Dirichlet(),
    IID(),
    Pathological(),
    Pathological(classes=2),
    Pathological(fixed=2023),
    Shards(),
    Shards(shards=3),
]


def pool(classes: int, clients: int, per: int, seed: int = 0, few: int = 2, alpha: float = 0.3) -> Pool:
    labels = {"train": np.repeat(np.arange(classes), per), "validation": np.repeat(np.arange(classes), few)}
    return Pool(labels, classes, [f"c{i}" for i in range(clients)], Seed(seed), alpha, {"train": 1, "validation": 1})


def histograms(held: list[np.ndarray], labels: np.ndarray, classes: int) -> np.ndarray:
    return np.stack([np.bincount(labels[own], minlength=classes) for own in held])


def attempt(partition: Partition, given_: Pool) -> Held | DataError | ConfigError:
    try:
        return partition.split(given_)
    except (DataError, ConfigError) as error:
        return error


@pytest.mark.parametrize("partition", ALL, ids=repr)
@settings(max_examples=40)
@given(st.integers(1, 12), st.integers(1, 9), st.integers(0, 20), st.integers(0, 5), st.integers(0, 10**6))
def test_every_image_is_held_once_and_every_client_filled_or_one_is_named(
    partition: Partition, classes: int, clients: int, per: int, few: int, seed: int
) -> None:
    given_ = pool(classes, clients, per, seed, few)
    held = attempt(partition, given_)
    if isinstance(held, DataError):
        assert "cannot be filled" in str(held) and any(name in str(held) for name in given_.names)
        return
    if isinstance(held, ConfigError):
        assert "data.partition.classes = 2" in str(held)
        return
    for part, labels in given_.labels.items():
        assert sorted(np.concatenate(held[part]).tolist()) == list(range(len(labels)))
        assert all(len(own) for own in held[part])


def test_the_kinds_are_found_by_name_and_come_back_from_a_table() -> None:
    assert set(kinds(Partition)) == {"by_domain", "dirichlet", "pathological", "shards", "iid"}
    for partition in ALL:
        assert build(Partition, dump(partition), "data.partition", []) == partition


def test_iid_clients_have_as_many_images_within_one() -> None:
    held = IID().split(pool(10, 7, 50))["train"]
    assert sorted(map(len, held)) == [71, 71, 71, 71, 72, 72, 72]
    assert (histograms(held, pool(10, 7, 50).labels["train"], 10) > 0).all()


def test_divided_classes_have_one_client_each_the_same_in_all_parts() -> None:
    given_ = pool(36, 5, 4)
    held = Pathological().split(given_)
    train, validation = (histograms(held[part], given_.labels[part], 36) for part in ("train", "validation"))
    assert ((train > 0).sum(0) == 1).all() and ((train > 0) == (validation > 0)).all()
    assert sorted((train > 0).sum(1)) == [7, 7, 7, 7, 8]


def test_the_published_split_is_pythons_shuffle_in_rounded_pieces_whatever_the_seed() -> None:
    # Pets: 37 breeds over 10 clients: nine have round(3.7) = 4, the last the one that is left
    found = [Pathological(fixed=2023).classes_of(pool(37, 10, 4, seed)) for seed in (0, 1)]
    assert [own.tolist() for own in found[0]] == [own.tolist() for own in found[1]]
    assert list(map(len, found[0])) == [4] * 9 + [1]
    numbers = list(range(37))
    random.seed(2023)
    random.shuffle(numbers)
    assert np.concatenate(found[0]).tolist() == numbers
    flowers = Pathological(fixed=2023).classes_of(pool(102, 10, 4))
    assert list(map(len, flowers)) == [10] * 9 + [12]


def test_the_published_split_names_whom_it_leaves_without_a_class() -> None:
    with pytest.raises(DataError, match=r"client c8 cannot be filled: 16 classes, .* leave out data\.partition\.fixed"):
        Pathological(fixed=2023).split(pool(16, 10, 4))


def test_clients_of_two_classes_share_them_evenly_and_none_is_dropped() -> None:
    given_ = pool(10, 100, 600, few=20)
    held = Pathological(classes=2).split(given_)
    counts = histograms(held["train"], given_.labels["train"], 10)
    assert ((counts > 0).sum(1) == 2).all() and ((counts > 0).sum(0) == 20).all()
    assert set(counts[counts > 0]) == {30}
    others = Pathological(classes=2).classes_of(pool(10, 100, 600, seed=1))
    assert [set(own) for own in others] != [set(np.flatnonzero(row)) for row in counts]


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 8), st.integers(0, 1000))
def test_classes_that_would_be_dropped_are_refused_before_anything_is_dealt(
    classes: int, clients: int, k: int, seed: int
) -> None:
    given_ = pool(classes, clients, 3, seed)
    if k > classes or k * clients < classes:
        with pytest.raises(ConfigError, match=r"data\.partition\.classes"):
            Pathological(classes=k).classes_of(given_)
        return
    found = Pathological(classes=k).classes_of(given_)
    times = Counter(np.concatenate(found).tolist())
    assert len(times) == classes and max(times.values()) - min(times.values()) <= 1
    assert all(len(set(own.tolist())) == k for own in found)


def test_how_many_classes_would_be_dropped_is_told() -> None:
    with pytest.raises(ConfigError, match="leave 80 of 100 classes without a client: set at least 10, or 0"):
        Pathological(classes=2).split(pool(100, 10, 5))


def test_shards_are_pieces_of_the_sorted_images() -> None:
    given_ = pool(10, 10, 60)
    held = Shards(shards=2).split(given_)
    assert [len(own) for own in held["train"]] == [60] * 10
    counts = histograms(held["train"], given_.labels["train"], 10)
    assert set(counts.ravel()) <= {0, 30, 60} and (counts.sum(0) == 60).all()  # two shards a class
    one = histograms(Shards(shards=1).split(pool(5, 10, 60))["train"], pool(5, 10, 60).labels["train"], 5)
    assert sorted(map(tuple, one)) == sorted(tuple(30 * np.eye(5, dtype=int)[i // 2]) for i in range(10))


def test_shards_that_are_too_many_name_the_client() -> None:
    with pytest.raises(DataError, match="client c2 cannot be filled: 5 training images make no 4 x 2 shards"):
        Shards(shards=2).split(pool(5, 4, 1))


def test_a_domain_has_no_domains_and_bad_numbers_are_refused() -> None:
    for wrong in (
        lambda: ByDomain(ByDomain()),
        lambda: Shards(0),
        lambda: Pathological(-1),
        lambda: Pathological(2, 1),
    ):
        with pytest.raises(ConfigError, match=r"data\.partition"):
            wrong()


def test_dirichlet_follows_alpha_as_it_did() -> None:
    even, skewed = (
        histograms(Dirichlet().split(pool(20, 5, 100, alpha=alpha))["train"], np.repeat(np.arange(20), 100), 20)
        for alpha in (100.0, 0.1)
    )
    assert even.max() < 40 and (skewed.max(0) > 70).mean() > 0.5
