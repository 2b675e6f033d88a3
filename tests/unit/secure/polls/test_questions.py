"""What polls ask, in the clear: counts, and Student's test beside SciPy's."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import stats

from secfpp.errors import ConfigError, FieldRangeError, ProtocolError
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import ClientState
from secfpp.secure.polls.circuit import MeanTest
from secfpp.secure.polls.questions import (
    QUANTILE_UNIT,
    UNIT,
    AtLeast,
    Favours,
    bits_in,
    facts_of,
    gain_in,
    question_in,
)
from support.secure_runs import names


def cohort(n: int) -> Cohort:
    return Cohort(dict.fromkeys(names(n), 1), 0, 0)


def units(gains: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(gains * UNIT), -UNIT, UNIT - 1).astype(np.int64)


# ---- Counts


def test_counts_are_compared_in_every_group() -> None:
    told = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 1, 1]])
    assert AtLeast.of(cohort(4), 3, 3, None).answer(told).tolist() == [[True, True, False]]
    groups = Assignment(dict(zip(names(4), [0, 0, 1, 1], strict=True)))
    assert AtLeast.of(cohort(4), 3, 2, groups).answer(told).tolist() == [[True, False, False], [False, True, True]]


def test_who_is_in_no_group_is_counted_in_none_and_groups_may_lose_all_members() -> None:
    groups = Assignment({"c00": 0, "c01": 0, "elsewhere": 1})
    asked = AtLeast.of(cohort(3), 1, 2, groups)
    assert asked.groups == (0, 0, None) and asked.k == 2
    assert asked.answer(np.array([[1], [1], [1]])).tolist() == [[True], [False]]


@pytest.mark.parametrize(("bits", "least", "said"), [(0, 3, "bits = 0"), (4, 0, "least = 0")])
def test_questions_about_nothing_are_refused(bits: int, least: int, said: str) -> None:
    with pytest.raises(ConfigError, match=f"{said}: at least 1"):
        AtLeast.of(cohort(4), bits, least, None)


# ---- The test of a mean


@pytest.mark.parametrize("error", [0.2, 0.05, 0.01])
@pytest.mark.parametrize("n", [2, 3, 5, 12, 30])
def test_the_test_is_that_of_scipy(n: int, error: float) -> None:
    rng = np.random.default_rng(n)
    compared, yes = 0, 0
    for margin, mean in product([0.0, 0.03125, -0.25], [0.0, 0.02, 0.05]):
        for _ in range(30):
            gains = units(margin + mean + rng.standard_t(4, n) * 0.1)
            if len(set(gains.tolist())) == 1:
                continue
            p = stats.ttest_1samp(gains / UNIT, margin, alternative="greater").pvalue
            if abs(p - error) > 0.003 * error:
                answer = Favours.of(n, margin, error).answer(gains).item()
                assert answer == (p < error)
                compared, yes = compared + 1, yes + answer
    assert compared > 200 and 0 < yes < compared


@pytest.mark.parametrize("n", [4, 8, 30])
def test_the_error_rate_is_that_asked_for(n: int) -> None:
    """At a mean of just the margin, of normal gains: as often as it may be wrong, and not oftener."""
    error, runs = 0.05, 6000
    test = Favours.of(n, 0.125, error)
    gains = units(np.random.default_rng(n).normal(0.125, 0.1, (runs, n)))
    wrong = sum(test.answer(each).item() for each in gains)
    assert stats.binomtest(wrong, runs, error).pvalue > 0.01
    below = units(np.random.default_rng(n).normal(0.09, 0.1, (runs, n)))
    assert sum(test.answer(each).item() for each in below) < wrong


def test_rounding_is_towards_no() -> None:
    for n, margin, error in product([2, 5, 100], [0.01, -0.3, 0.5001], [0.3, 0.05, 1e-6]):
        test, t = Favours.of(n, margin, error), float(stats.t.isf(error, n - 1))
        assert 0 <= test.margin / UNIT - margin < 1 / UNIT
        assert 0 <= test.quantile / QUANTILE_UNIT - t**2 * (1 - 1e-9) < 1.001 / QUANTILE_UNIT + 1e-8 * t**2


def test_equal_gains_and_ties() -> None:
    test = Favours.of(6, 0.25, 0.05)
    for gain, answer in [(257, True), (256, False), (255, False), (-UNIT, False), (UNIT - 1, True)]:
        assert test.answer(np.full(6, gain)).item() is answer
    u = np.array([3, 1, 1, 1])  # Student's statistic is 3, its square 9
    assert [Favours(4, 0, 9 * QUANTILE_UNIT + more).answer(u).item() for more in (-1, 0, 1)] == [True, False, False]
    assert not Favours(4, 0, 9 * QUANTILE_UNIT - 1).answer(-u).item()


@pytest.mark.parametrize("n", [2, 4, 31, 122])
@pytest.mark.parametrize("margin", [0.0, 0.01, 0.999, -0.999])
@pytest.mark.parametrize("error", [1e-6, 0.05, 0.49])
def test_no_number_is_larger_than_its_bound(n: int, margin: float, error: float) -> None:
    test = Favours.of(n, margin, error)
    rng = np.random.default_rng(n)
    extremes = [np.where(np.arange(n) < some, UNIT - 1, -UNIT) for some in {0, 1, n // 2, n - 1, n}]
    for gains in (*extremes, np.full(n, test.margin), rng.integers(-UNIT, UNIT, n)):
        u = [int(gain) - test.margin for gain in gains]
        total, squares = sum(u), sum(each**2 for each in u)
        of_total, of_squares = test.factors
        assert abs(total) <= test.largest_total
        assert abs(total**2 * of_total - squares * of_squares) <= test.largest_evidence


@pytest.mark.parametrize(("threshold", "limit"), [(1, 3), (1, 5), (2, 5), (13, 5), (33, 3), (40, 3)])
def test_up_to_122_clients_are_compared_exactly(threshold: int, limit: int) -> None:
    for n, margin, error in product([4, 30, 122], [0.0, 0.999, -0.999], [1e-6, 0.49]):
        circuit = MeanTest(Favours.of(n, margin, error), threshold, limit)
        assert circuit.question.largest_evidence < 2**51
        for comparator in (circuit.positive, circuit.significant):
            assert comparator.exact and comparator.w <= 60 and max(comparator.widths) <= limit
        assert circuit.positive.levels == circuit.significant.levels
        assert len(circuit.positive.widths) <= limit**circuit.positive.levels


def test_too_many_clients_for_exact_arithmetic_are_refused() -> None:
    MeanTest(Favours.of(500, 0.0, 0.05), 2, 5).significant  # noqa: B018
    with pytest.raises(FieldRangeError, match="fewer bits or clients"):
        MeanTest(Favours.of(2000, 0.0, 0.05), 2, 5).significant  # noqa: B018


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ((1, 0.0, 0.05), "clients = 1: at least 2"),
        ((4, 1.0, 0.05), "margin = 1.0: between"),
        ((4, float("nan"), 0.05), "margin = nan: between"),
        ((4, 0.0, 0.5), "error = 0.5: from 1e-6 to below 0.5"),
        ((4, 0.0, 0.0), "error = 0.0: from 1e-6"),
    ],
)
def test_tests_that_cannot_be_made_are_refused(settings: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Favours.of(*settings)


# ---- What clients read


def test_questions_survive_the_terms() -> None:
    groups = Assignment(dict(zip(names(4), [0, 0, 1, 1], strict=True)))
    for question in (
        AtLeast.of(cohort(4), 3, 2, None),
        AtLeast.of(cohort(4), 3, 2, groups),
        AtLeast.of(cohort(5), 3, 2, groups),
        Favours.of(4, 0.01, 0.05),
    ):
        assert question_in({"clients": names(question.clients), **facts_of(question)}) == question


GOOD = {"clients": names(3), "task": "at_least", "bits": 3, "least": 2, "groups": None, "k": 1}


@pytest.mark.parametrize(
    "change",
    [
        {"task": "who"},
        {"bits": 0},
        {"least": 0},
        {"least": 2.5},
        {"least": True},
        {"k": 2},
        {"groups": [0, 0]},
        {"groups": [0, 0, 1]},
        {"groups": [0, 0, -1]},
        {"groups": [0, 0, "c"]},
        {"groups": 7},
        {"task": "favours"},
        {"task": "favours", "margin": 5000, "quantile": 700},
        {"task": "favours", "margin": 0, "quantile": -1},
        {"task": "favours", "margin": 0.5, "quantile": 1},
    ],
)
def test_terms_that_ask_nothing_are_refused(change: dict[str, Any]) -> None:
    question_in(GOOD)
    with pytest.raises(ProtocolError, match="asks nothing this client knows"):
        question_in({**GOOD, **change})


def test_gains_are_rounded_and_clipped() -> None:
    found = [gain_in(ClientState({"g": np.array([g])}), "g") for g in (0.5, -0.0004, 0.0006, 1.0, 7.0, -7.0)]
    assert found == [512, 0, 1, 1023, 1023, -1024]


@pytest.mark.parametrize("gain", [np.array(np.nan), np.array([np.inf], np.float32)])
def test_gains_that_are_no_numbers_are_refused(gain: np.ndarray) -> None:
    with pytest.raises(FieldRangeError, match="training diverged"):
        gain_in(ClientState({"g": gain}), "g")


@pytest.mark.parametrize("own", [None, np.zeros(2), np.array(1)])
def test_states_without_a_gain_are_refused(own: np.ndarray | None) -> None:
    with pytest.raises(ProtocolError, match="not the one real number"):
        gain_in(ClientState({} if own is None else {"g": own}), "g")


def test_bits_are_bits() -> None:
    read = bits_in(ClientState({"b": np.array([True, False])}), "b", 2)
    assert read.dtype == np.uint8 and read.tolist() == [1, 0]
    for own, said in [
        (np.array([1, 0, 1], np.uint8), r"uint8 \(3,\) in 'b', not the 2 bits"),
        (np.array([1.0, 0.0]), "float64"),
        (np.array([1, 2], np.uint8), "2 in 'b': bits are 0 or 1"),
    ]:
        with pytest.raises(ProtocolError, match=said):
            bits_in(ClientState({"b": own}), "b", 2)
    with pytest.raises(ProtocolError, match="nothing in 'b'"):
        bits_in(ClientState(), "b", 2)
