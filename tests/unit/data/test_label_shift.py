from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secfpp.data.label_shift import rotations
from secfpp.errors import ConfigError
from secfpp.seeding import Seed

SIX = ["a", "b", "c", "d", "e", "f"]


@settings(max_examples=30, deadline=None)
@given(st.integers(6, 40), st.integers(0, 10**6))
def test_names_go_round_in_triples_that_all_sources_share(n_classes, seed):
    found = rotations(SIX, n_classes, 1.0, Seed(seed))
    moved = np.flatnonzero(np.any([own != np.arange(n_classes) for own in found.values()], axis=0))
    assert len(moved) == n_classes // 3 * 3
    for own in found.values():
        assert sorted(own) == list(range(n_classes))
        assert (own[own[own]] == np.arange(n_classes)).all()  # three steps lead back
    for thing in moved:  # two sources for each of the three names
        assert np.unique([own[thing] for own in found.values()], return_counts=True)[1].tolist() == [2, 2, 2]


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_all_sources_differ_and_by_much(share):
    found = rotations(SIX, 36, share, Seed(0))
    differing = [(a != b).sum() for a, b in combinations(found.values(), 2)]
    assert min(differing) >= 0.6 * 36 * share and max(differing) <= 36 * share


def test_half_moves_every_second_triple_and_the_same_ones_in_all_sources():
    half, full = (rotations(SIX, 36, share, Seed(5)) for share in (0.5, 1.0))
    assert sum(any(own[i] != i for own in half.values()) for i in range(36)) == 18
    assert sum(any(own[i] != i for own in full.values()) for i in range(36)) == 36


def test_nothing_moves_at_share_zero_or_for_one_source_alone():
    assert all((own == np.arange(36)).all() for own in rotations(SIX, 36, 0.0, Seed(0)).values())
    assert (rotations(["a"], 36, 1.0, Seed(0))["a"] == np.arange(36)).all()


def test_two_sources_differ_in_every_triple():
    a, b = rotations(["a", "b"], 10, 1.0, Seed(3)).values()
    assert (a != b).sum() == 9


def test_seeds_differ_and_repeat():
    first, again, other = (rotations(SIX, 36, 1.0, Seed(s)) for s in (1, 1, 2))
    assert all((first[s] == again[s]).all() for s in SIX) and any((first[s] != other[s]).any() for s in SIX)


@pytest.mark.parametrize(("classes", "share"), [(36, 1.5), (36, -0.1), (36, 0.05), (36, 0.01), (5, 1.0)])
def test_shares_that_cannot_work_are_refused(classes, share):
    with pytest.raises(ConfigError, match=r"data\.label_shift"):
        rotations(SIX, classes, share, Seed(0))
