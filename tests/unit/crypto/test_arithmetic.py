from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from secfpp.crypto.arithmetic import (
    Computation,
    Future,
    Pool,
    Shared,
    concatenate,
    fitting,
    inverse_square_root,
    lowered,
    opened,
    product,
    require_degree,
    side_by_side,
    signs,
    stack,
    together,
)
from secfpp.crypto.field import PrimeField
from secfpp.errors import ProtocolError
from support.shares import Circuit, evaluate

RNG = np.random.default_rng(11)
SETTINGS = [(6, 1, 5), (11, 2, 5), (16, 3, 5), (7, 2, 3), (4, 1, 3)]


def shown(expression: Any) -> Circuit:
    """A circuit that opens the value of an expression of the inputs."""

    def circuit(inputs: Shared, pool: Pool) -> Computation[list[np.ndarray]]:
        return (yield from opened([expression(inputs)]))

    return circuit


def value(circuit: Circuit, inputs: np.ndarray, **settings: Any) -> list[Any]:
    evaluation = evaluate(circuit, inputs, **settings)
    assert all(np.array_equal(evaluation.result[0], other[0]) for other in evaluation.results)
    return PrimeField.lower(evaluation.result[0]).tolist()


EXPRESSIONS = [
    lambda x: x + x[::-1],
    lambda x: x - x[0],
    lambda x: 5 - x,
    lambda x: x * 7 + 3,
    lambda x: x * x * x - x,
    lambda x: (x * x * x * x * x).sum(0),
    lambda x: (x @ x.transpose(1, 0)).reshape(-1),
    lambda x: x[:, 1:] * x[:, :1],
    lambda x: concatenate([x, x * x], 1) if isinstance(x, Shared) else np.concatenate([x, x * x], 1),
    lambda x: stack([x, -1 + x * 2], 0) if isinstance(x, Shared) else np.stack([x, x * 2 - 1], 0),
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize(("holders", "threshold", "limit"), [(6, 1, 5), (11, 2, 5)])
def test_expressions_have_the_values_they_have_in_the_clear(
    expression: Any, holders: int, threshold: int, limit: int
) -> None:
    inputs = RNG.integers(-1000, 1001, (4, 3))
    shared = value(shown(expression), inputs, holders=holders, threshold=threshold, limit=limit)
    assert shared == np.asarray(expression(inputs)).tolist()


def test_public_values_have_degree_zero_and_powers_of_two_turn() -> None:
    inputs = RNG.integers(-(1 << 20), 1 << 20, (5,))
    public = Shared.public(np.array([-3, 0, 1, 2, 5]))
    assert public.degree == 0
    assert value(shown(lambda x: public * x), inputs) == (np.array([-3, 0, 1, 2, 5]) * inputs).tolist()
    assert value(shown(lambda x: x.turn(7)), inputs) == (inputs << 7).tolist()
    assert value(shown(lambda x: x.turn(7).turn(-7)), inputs) == inputs.tolist()
    assert [part.shape for part in Shared.public(np.zeros((2, 3)))] == [(3,), (3,)]
    assert repr(public) == "Shared(shape=(5,), degree=0)"


@pytest.mark.parametrize(("holders", "threshold", "limit"), SETTINGS)
def test_lowering_keeps_the_value_and_makes_degree_one(holders: int, threshold: int, limit: int) -> None:
    inputs = RNG.integers(-9, 10, (2, 6))

    def circuit(x: Shared, pool: Pool) -> Computation[Shared]:
        power = x
        for _ in range(limit - 1):
            power = power * x
        assert power.degree == limit
        first, second = yield from lowered([power, x], pool)
        assert first.degree == 1 and second is x
        return first

    evaluation = evaluate(circuit, inputs, holders=holders, threshold=threshold, limit=limit)
    assert len(evaluation.openings) == 1
    assert PrimeField.lower(evaluation.secret(1, threshold)).tolist() == (inputs**limit).tolist()


def test_nothing_to_lower_takes_no_exchange() -> None:
    evaluation = evaluate(lambda x, pool: lowered([x, x + 1], pool), np.arange(3))
    assert evaluation.openings == []


@pytest.mark.parametrize("limit", [3, 5])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 13])
def test_products_of_many_factors_lower_where_they_must(limit: int, count: int) -> None:
    inputs = RNG.integers(-3, 4, (count, 4))

    def circuit(x: Shared, pool: Pool) -> Computation[Any]:
        return (yield from opened([(yield from product(list(x), pool))]))

    evaluation = evaluate(circuit, inputs, limit=limit)
    assert PrimeField.lower(evaluation.result[0]).tolist() == inputs.prod(0).tolist()
    rounds = 0
    while count > 1:
        count = -(-count // limit)
        rounds += count > 1
    assert len(evaluation.openings) == rounds + 1


def test_products_of_matrices_keep_their_order() -> None:
    inputs = RNG.integers(-3, 4, (7, 2, 3, 3))

    def circuit(x: Shared, pool: Pool) -> Computation[Any]:
        return (yield from opened([(yield from product(list(x), pool, matrices=True))]))

    expected = inputs[0]
    for matrix in inputs[1:]:
        expected = expected @ matrix
    assert PrimeField.lower(evaluate(circuit, inputs).result[0]).tolist() == expected.tolist()


def test_fitting_lowers_only_what_would_not_fit() -> None:
    def circuit(x: Shared, pool: Pool) -> Computation[tuple[int, int]]:
        kept = yield from fitting(x * x * x, 2, pool)
        reduced = yield from fitting(x * x * x, 3, pool)
        return kept.degree, reduced.degree

    evaluation = evaluate(circuit, np.arange(3))
    assert evaluation.result == (3, 1)
    assert len(evaluation.openings) == 1


@pytest.mark.parametrize(("holders", "threshold", "limit"), SETTINGS)
def test_signs_are_minus_one_or_one_both_often_and_their_squares_tell_nothing(
    holders: int, threshold: int, limit: int
) -> None:
    def circuit(x: Shared, pool: Pool) -> Computation[Any]:
        return (yield from opened([(yield from signs((600,), pool))]))

    evaluation = evaluate(circuit, np.zeros(1, np.int64), holders=holders, threshold=threshold, limit=limit)
    drawn = PrimeField.lower(evaluation.result[0])
    assert set(drawn.tolist()) == {-1, 1}
    assert abs(drawn.sum()) < 5 * 600**0.5
    roots = evaluation.openings[0][0]  # what is public: as likely with either sign
    low = (roots & np.uint64(1)).astype(np.int64) * 2 - 1
    assert abs((low * drawn).sum()) < 5 * 600**0.5


def test_a_dealt_zero_is_refused_where_a_square_root_is_taken() -> None:
    with pytest.raises(ProtocolError, match="the square of a random element is 0"):
        inverse_square_root(np.array([4, 0], np.uint64))


def test_inverse_square_roots_in_blocks() -> None:
    values = RNG.integers(1, PrimeField.p, (3, 9000), dtype=np.uint64)
    roots = inverse_square_root(PrimeField.mul(values, values))
    products = PrimeField.lower(PrimeField.mul(roots, values))
    assert set(products.reshape(-1).tolist()) == {-1, 1}


def test_a_future_is_used_by_what_runs_beside_it_once_it_is_there() -> None:
    def shown(x: Shared) -> Computation[list[int]]:
        (public,) = yield from opened([x])
        return PrimeField.lower(public).tolist()

    def user(x: Shared, future: Future[list[int]]) -> Computation[list[int]]:
        mine = yield from shown(x)
        return [*mine, *future.result]

    def circuit(x: Shared, pool: Pool) -> Computation[Any]:
        future = Future(shown(x[0]))
        return (yield from side_by_side(future.run(), user(x[1], future)))

    def too_early(x: Shared, pool: Pool) -> Computation[Any]:
        future = Future(shown(x[0]))
        return (yield from side_by_side(user(x[1], future), future.run()))

    inputs = np.array([[1], [2]])
    evaluation = evaluate(circuit, inputs)
    assert evaluation.result == ([1], [2, 1])
    assert len(evaluation.openings) == 1
    with pytest.raises(ProtocolError, match="used before it is there"):
        evaluate(too_early, inputs, wanted={})


def test_computations_side_by_side_share_exchanges_and_keep_their_values_apart() -> None:
    def chain(start: Shared, length: int) -> Computation[list[list[int]]]:
        seen = []
        for step in range(length):
            (public,) = yield from opened([start + step])
            seen.append(PrimeField.lower(public).tolist())
        return seen

    def circuit(x: Shared, pool: Pool) -> Computation[Any]:
        return (yield from side_by_side(together([chain(x[i], i) for i in range(3)]), chain(x[3], 5), together([])))

    inputs = RNG.integers(-50, 51, (4, 2))
    evaluation = evaluate(circuit, inputs)
    few, many, none = evaluation.result
    assert few == [[(inputs[i] + step).tolist() for step in range(i)] for i in range(3)]
    assert many == [(inputs[3] + step).tolist() for step in range(5)]
    assert none == []
    assert [len(values) for values in evaluation.openings] == [3, 2, 1, 1, 1]


@pytest.mark.parametrize("degree", [6, 9])
def test_what_cannot_be_decoded_is_not_opened(degree: int) -> None:
    high = [Shared(np.zeros(2, np.uint64), 1), Shared(np.zeros(2, np.uint64), degree)]
    with pytest.raises(ProtocolError, match=f"degree {degree} T, at most 5 T"):
        require_degree(high, 5)
    require_degree(high[:1], 5)
    require_degree([], 5)


def test_the_evaluator_finds_a_wrongly_declared_degree() -> None:
    def circuit(x: Shared, pool: Pool) -> Computation[Sequence[Any]]:
        square = x * x
        return (yield [Shared(square.values, 1)])

    with pytest.raises(AssertionError, match="not of the degree"):
        evaluate(circuit, np.arange(1, 4))


def test_openings_are_the_same_with_every_set_of_survivors() -> None:
    def circuit(x: Shared, pool: Pool) -> Computation[Any]:
        (low,) = yield from lowered([x * x * x], pool)
        return (yield from opened([low * x]))

    inputs = RNG.integers(-30, 31, (5,))
    for gone in ({}, {0: (0, 3)}, {0: (10,), 1: (1, 2, 4)}, {1: (6, 7)}):
        evaluation = evaluate(circuit, inputs, holders=11, threshold=2, away=gone)
        assert PrimeField.lower(evaluation.result[0]).tolist() == (inputs**4).tolist()
