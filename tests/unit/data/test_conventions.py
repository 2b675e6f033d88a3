from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secfpp.data.conventions import agreement, convention, conventions, dealt, label_options
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


@pytest.mark.parametrize(("clients", "kept"), [(5, 5), (5, 3), (5, 0), (6, 0), (3, 0), (10, 2)])
def test_conventions_are_dealt_evenly_and_across_styles(clients, kept):
    styles = ["a", "b", "c", "d", "e", "f"]
    found = dealt(styles, clients, kept / clients, Seed(4))
    assert list(found) == styles
    followed = [own for each in found.values() for own in each]
    assert {followed.count(style) for style in styles} == {clients}
    for style, own in found.items():
        counts = [own.count(other) for other in styles if other != style]
        assert max(counts) - min(counts) <= 1
        assert own.count(style) >= kept if clients > 5 else own.count(style) == kept


def test_with_as_many_clients_as_styles_looks_say_nothing():
    found = dealt(["a", "b", "c"], 3, 0.0, Seed(0))
    assert all(sorted(own) == ["a", "b", "c"] for own in found.values())


def test_who_keeps_the_own_convention_depends_on_the_seed():
    styles = ["a", "b", "c"]
    assert dealt(styles, 4, 0.5, Seed(0)) == dealt(styles, 4, 0.5, Seed(0)) != dealt(styles, 4, 0.5, Seed(1))


def test_alignment_outside_of_its_range_is_refused():
    with pytest.raises(ConfigError, match=r"alignment = 1\.5"):
        dealt(["a", "b"], 2, 1.5, Seed(0))
