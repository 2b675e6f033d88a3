from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from secfpp.crypto.arithmetic import Computation, Pool, Shared, opened
from secfpp.crypto.field import PrimeField
from secfpp.crypto.minimum import DrawnRotations, defeats
from support.shares import Circuit, evaluate


def scores_to_beats(scores: np.ndarray) -> np.ndarray:
    first, second = np.triu_indices(len(scores), 1)
    return (scores[second] < scores[first]).astype(np.int64)


def minimum(candidates: int, count: int, *, hidden: bool = True, raw: bool = False, scaling: bool = True) -> Circuit:
    """The circuit that finds minima from comparisons, or from losses (`raw`)."""

    def circuit(x: Shared, pool: Pool) -> Computation[tuple[np.ndarray, np.ndarray]]:
        drawn = yield from DrawnRotations.prepare(candidates, count, pool, hidden=hidden, scaling=scaling)
        rotations = yield from drawn.expand(pool)
        loss = x if raw else defeats(x, candidates)
        chosen, decided = yield from rotations.minimum(loss, pool)
        (public,) = yield from opened([chosen])
        return PrimeField.lower(public), decided

    return circuit


@pytest.mark.parametrize(("hidden", "scaling"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("limit", [3, 5])
@pytest.mark.parametrize("candidates", range(2, 10))
def test_the_minimum_is_the_first_of_several(candidates: int, limit: int, hidden: bool, scaling: bool) -> None:
    scores = np.random.default_rng(candidates).integers(0, 4, (candidates, 60))
    circuit = minimum(candidates, 60, hidden=hidden, scaling=scaling)
    found, decided = evaluate(circuit, scores_to_beats(scores), limit=limit).result
    assert decided.all()
    assert np.array_equal(found, np.arange(candidates)[:, None] == scores.argmin(0))


@settings(max_examples=25)
@given(st.lists(st.lists(st.integers(-2, 2), min_size=5, max_size=5), min_size=1, max_size=20))
def test_minima_of_random_scores(rows: list[list[int]]) -> None:
    scores = np.array(rows).T
    found, decided = evaluate(minimum(5, len(rows)), scores_to_beats(scores)).result
    assert decided.all()
    assert found.argmax(0).tolist() == [row.index(min(row)) for row in rows]


def test_a_circle_of_defeats_is_undecided() -> None:
    loss = np.array([[1, 0, 0, 1], [1, 1, 0, 0], [1, 2, 0, 2]])
    _, decided = evaluate(minimum(3, 4, raw=True), loss).result
    assert decided.tolist() == [False, True, False, True]


@pytest.mark.parametrize("scaling", [True, False])
@pytest.mark.parametrize("best", [0, 2, 4])
def test_the_place_of_the_zero_and_everything_beside_it_is_uniform(best: int, scaling: bool) -> None:
    loss = np.full((5, 4000), 1)
    loss[best] = 0
    evaluation = evaluate(minimum(5, 4000, raw=True, scaling=scaling), loss, seed=best)
    public = evaluation.openings[-2][0]  # [8, count]
    places, which = np.nonzero(public == 0)
    assert sorted(which.tolist()) == list(range(4000))
    assert stats.chisquare(np.bincount(places, minlength=8)).pvalue > 1e-5
    others = public[public != 0]
    assert stats.chisquare(np.bincount((others >> np.uint64(57)).astype(np.int64), minlength=16)).pvalue > 1e-5


def test_without_rotations_the_zero_tells_the_minimum() -> None:
    loss = np.full((5, 50), 1)
    loss[3] = 0
    evaluation = evaluate(minimum(5, 50, raw=True, hidden=False), loss)
    assert np.array_equal(np.nonzero(evaluation.openings[-2][0] == 0)[0], np.full(50, 3))


def test_the_lower_of_two_equals_beats_the_higher() -> None:
    beats = Shared.public(np.array([[0], [0], [0]]))  # nobody is strictly better
    assert PrimeField.lower(defeats(beats, 3).values).tolist() == [[0], [1], [2]]
    beats = Shared.public(np.array([[1], [0], [0]]))  # the second is better than the first
    assert PrimeField.lower(defeats(beats, 3).values).tolist() == [[1], [0], [2]]


@pytest.mark.parametrize("limit", [3, 5])
@pytest.mark.parametrize("candidates", [2, 3, 4, 7, 24])
def test_what_belongs_to_the_minimum_is_there_one_exchange_after_it(candidates: int, limit: int) -> None:
    """Any value, of any shape; the products are prepared before anybody knows where the minimum is."""
    rng, count = np.random.default_rng(candidates), 9
    scores = rng.integers(0, 99, (candidates, count))
    values = rng.integers(-1000, 1000, (candidates, count, 2, 3))
    beats = scores_to_beats(scores)

    def circuit(x: Shared, pool: Pool) -> Computation[tuple[np.ndarray, int, np.ndarray]]:
        drawn = yield from DrawnRotations.prepare(candidates, count, pool)
        rotations = yield from drawn.expand(pool)
        mine = x[: values.size].reshape(*values.shape)
        products = yield from rotations.blending(mine, pool)
        place, decided = yield from rotations.place(defeats(x[values.size :].reshape(*beats.shape), candidates), pool)
        found = rotations.blended(products, place)
        (public,) = yield from opened([found])
        return PrimeField.lower(public), found.degree, decided

    both = np.concatenate([values.reshape(-1), beats.reshape(-1)])
    found, degree, decided = evaluate(circuit, both, limit=limit, seed=candidates).result
    assert degree == 1 and decided.all()
    assert np.array_equal(found, values[scores.argmin(0), np.arange(count)])
