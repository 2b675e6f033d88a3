from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secfpp.data.conventions import agreement, convention, conventions, label_options
from secfpp.data.pools import downstream_pool, labels
from secfpp.errors import ConfigError, DataError
from secfpp.seeding import Seed, derive

DOMAINS = ["a", "b", "c", "d"]


def mean_agreement(tables):
    return np.mean([agreement(x, y) for x, y in combinations(tables.values(), 2)])


@given(st.integers(0, 10**6), st.floats(0, 1))
def test_tables_are_one_to_one_and_keep_to_the_options(seed, rho):
    for table in conventions(DOMAINS, labels(), rho, Seed(seed)).values():
        assert sorted(table) == sorted(labels())
        assert len(set(table.values())) == len(table)
        assert all(concept in labels()[label] for label, concept in table.items())


def test_rho_moves_agreement_from_chance_to_one():
    means = [
        np.mean([mean_agreement(conventions(DOMAINS, labels(), rho, Seed(s))) for s in range(8)]) for rho in (0, 0.4, 1)
    ]
    assert means[0] < 0.32
    assert means[0] + 0.05 < means[1] < 0.5
    assert means[2] == 1.0


def test_tables_depend_on_the_seed_and_on_nothing_else():
    first = conventions(DOMAINS, labels(), 0.4, Seed(3))
    assert first == conventions(DOMAINS, labels(), 0.4, Seed(3))
    assert first != conventions(DOMAINS, labels(), 0.4, Seed(4))
    assert first["b"] == conventions(["b"], labels(), 0.4, Seed(3))["b"]


def test_fixed_pairs_are_kept():
    label, options = next(iter(labels().items()))
    for concept in options:
        assert convention(labels(), derive(0, concept), {label: concept})[label] == concept


def test_impossible_tables_are_refused():
    with pytest.raises(DataError, match="one-to-one"):
        convention({"x": ["star"], "y": ["star"]}, Seed(0))
    with pytest.raises(ConfigError, match=r"rho = 1\.5"):
        conventions(DOMAINS, labels(), 1.5, Seed(0))


def test_every_label_keeps_concepts_that_the_pool_can_draw():
    assert set(labels()) == set(label_options()) and len(labels()) == 36
    assert all(len(options) >= 3 for options in labels().values())
    assert all(concept in downstream_pool() for options in labels().values() for concept in options)
