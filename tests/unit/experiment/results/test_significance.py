"""Paired tests beside SciPy, statsmodels and simulations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from secfpp.experiment.results.significance import detectable, holm, paired_p


def test_a_paired_t_test_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    for n in (2, 3, 5, 20):
        first, second = rng.normal(50, 3, n), rng.normal(51, 3, n)
        assert paired_p(first - second) == pytest.approx(stats.ttest_rel(first, second).pvalue, rel=1e-9)


def test_one_seed_says_nothing() -> None:
    assert paired_p([3.0]) is None and paired_p([]) is None
    assert detectable([3.0]) is None and detectable([]) is None


def test_differences_that_do_not_spread_are_certain_or_none() -> None:
    assert paired_p([0.0, 0.0, 0.0]) == 1.0
    assert paired_p([0.1 + 0.2 - 0.3, 0.0, 0.0]) == 1.0, "rounding is no difference"
    assert paired_p([2.0, 2.0, 2.0]) == 0.0
    assert detectable([0.0, 0.0, 0.0]) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(p_values: list[float]) -> None:
    from statsmodels.stats.multitest import multipletests

    found = list(holm(dict(enumerate(p_values))).values())
    assert found == pytest.approx(multipletests(p_values, method="holm")[1].tolist(), abs=1e-12)


def test_holm_leaves_out_what_is_no_test() -> None:
    assert holm({"a": 0.01, "b": None, "c": 0.04}) == {"a": 0.02, "b": None, "c": 0.04}
    assert holm({}) == {}


@pytest.mark.parametrize(
    ("n", "power", "level"), [(2, 0.8, 0.05), (3, 0.8, 0.05), (8, 0.8, 0.05), (30, 0.9, 0.01), (8, 0.9, 0.01)]
)
def test_what_can_be_seen_is_that_of_statsmodels(n: int, power: float, level: float) -> None:
    from statsmodels.stats.power import TTestPower

    gaps = np.random.default_rng(n).normal(0, 2, n)
    effect = TTestPower().solve_power(effect_size=None, nobs=n, alpha=level, power=power)
    assert detectable(gaps.tolist(), power, level) == pytest.approx(effect * gaps.std(ddof=1), rel=1e-5)


@pytest.mark.parametrize(
    ("n", "power", "level"), [(2, 0.9, 0.01), (3, 0.9, 0.01), (2, 0.8, 0.05), (5, 0.8, 0.05), (10, 0.8, 0.05)]
)
def test_what_can_be_seen_is_seen_as_often_as_promised(n: int, power: float, level: float) -> None:
    spread, shape = 1.7, np.arange(float(n))
    least = detectable((shape * spread / shape.std(ddof=1)).tolist(), power, level)
    assert least is not None
    drawn = np.random.default_rng(1).normal(least, spread, (20_000, n))
    assert (stats.ttest_1samp(drawn, 0, axis=1).pvalue < level).mean() == pytest.approx(power, abs=0.01)
