from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from secfpp.experiment.results.statistics import (
    adjusted_rand_index,
    can_be_judged,
    contingency,
    purity,
    t_bounds,
    t_interval,
)

labels = st.integers(0, 12).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 4), min_size=n, max_size=n), st.lists(st.integers(0, 4), min_size=n, max_size=n)
    )
)


@given(labels)
def test_adjusted_rand_index_agrees_with_an_independent_implementation(pair: tuple[list[int], list[int]]) -> None:
    truth, found = pair
    assert adjusted_rand_index(truth, found) == pytest.approx(adjusted_rand_score(truth, found))


@given(labels)
def test_purity_is_one_exactly_for_refinements(pair: tuple[list[int], list[int]]) -> None:
    truth, found = pair
    refines = all(len({t for t, f in zip(truth, found, strict=True) if f == cluster}) == 1 for cluster in found)
    assert (purity(truth, found) == 1.0) is refines


@given(labels)
def test_groups_that_cannot_judge_clusters_see_only_how_many_there_are(pair: tuple[list[int], list[int]]) -> None:
    truth, found = pair
    if not can_be_judged(truth, found):
        elsewhere = sorted(found)  # clusters of the same sizes
        assert purity(truth, found) == purity(truth, elsewhere)
        assert adjusted_rand_index(truth, found) == adjusted_rand_index(truth, elsewhere)


def test_groups_that_can_judge_clusters_tell_right_from_wrong() -> None:
    for truth in ([0, 0, 1], [0, 0, 1, 1], [2, 0, 1, 0]):
        assert can_be_judged(truth, truth)
        assert not can_be_judged(truth, [5] * len(truth))
        assert adjusted_rand_index(truth, truth) > adjusted_rand_index(truth, [0] * len(truth))
    for truth in ([], [0], [0, 0, 0], [0, 1, 2]):
        assert not can_be_judged(truth, [0, 1, 2][: len(truth)])


def test_contingency_counts_pairs_of_any_labels() -> None:
    assert contingency(["a", "a", "b"], [7, 8, 8]).tolist() == [[1, 1], [0, 1]]
    with pytest.raises(ValueError, match="3 true labels but 2"):
        contingency([1, 2, 3], [1, 2])


def test_one_value_has_no_interval() -> None:
    assert t_interval([3.0]) is None
    assert t_interval([2.0, 2.0]) == (2.0, 2.0)


def test_interval_of_a_textbook_example() -> None:
    low, high = t_interval([1.0, 2.0, 3.0, 4.0, 5.0]) or (0, 0)  # t(0.975, 4) = 2.7764, s = 1.5811
    assert (low, high) == pytest.approx((3 - 1.9633, 3 + 1.9633), abs=1e-3)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        low, high = t_interval(list(rng.normal(5.0, 2.0, 4))) or (0, 0)
        hits += low <= 5.0 <= high
    assert 930 <= hits <= 970


def test_one_sided_bounds_lie_inside_the_two_sided_interval() -> None:
    lower, upper = t_bounds([1.0, 2.0, 4.0, 3.0]) or (np.nan, np.nan)
    # t(0.95, 3) = 2.3534, standard error sqrt(5/3) / 2
    assert (lower, upper) == (pytest.approx(2.5 - 2.3534 * 0.6455, abs=1e-3), pytest.approx(4.0191, abs=1e-3))
    low, high = t_interval([1.0, 2.0, 4.0, 3.0]) or (np.nan, np.nan)
    assert low < lower < upper < high
    assert t_bounds([1.0]) is None


def test_a_one_sided_bound_is_missed_by_one_mean_in_twenty() -> None:
    rng = np.random.default_rng(0)
    bounds = [t_bounds(sample) or (np.nan, np.nan) for sample in rng.normal(size=(4000, 5))]
    assert np.mean([lower > 0 for lower, _ in bounds]) == pytest.approx(0.05, abs=0.01)
    assert np.mean([upper < 0 for _, upper in bounds]) == pytest.approx(0.05, abs=0.01)
