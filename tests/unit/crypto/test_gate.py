from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from secfpp.crypto import comparison
from secfpp.crypto.arithmetic import Computation, Pool, Shared, gated, inverse_square_root, opened, signs
from secfpp.crypto.comparison import Comparator
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.gate import Gate, Idle
from secfpp.crypto.randomness import Stream
from secfpp.errors import ProtocolError
from support import shares
from support.shares import evaluate, stream

P = PrimeField.p
SETTINGS = [(6, 1, 5), (16, 2, 5), (4, 1, 3), (7, 2, 3)]


def tell(monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    """Let roots be told that `change` makes of the right ones [n], flat."""

    def told(squares: Elements) -> Elements:
        roots = inverse_square_root(squares)
        return np.asarray(change(roots.reshape(-1).copy()), np.uint64).reshape(roots.shape)

    monkeypatch.setattr(shares, "inverse_square_root", told)


def opening(x: Shared, pool: Pool) -> Computation[Elements]:
    """Opens x after random signs of some shapes."""
    yield from signs((3, 5), pool)
    yield from signs((700,), pool)
    (public,) = yield from opened([gated(x, pool)])
    return public


@pytest.mark.parametrize(("holders", "threshold", "limit"), SETTINGS)
def test_with_right_roots_what_is_opened_is_what_it_is(holders: int, threshold: int, limit: int) -> None:
    x = np.arange(-20, 20).reshape(2, 20)
    evaluation = evaluate(opening, x, holders=holders, threshold=threshold, limit=limit)
    assert PrimeField.lower(evaluation.result).tolist() == x.tolist()
    assert evaluation.degrees[-1] == [3]


def one(number: int, value: int) -> Any:
    def change(roots: Elements) -> Elements:
        if number < len(roots):
            roots[number] = np.uint64(value)
        return roots

    return change


FALSE = {
    "all zero": lambda roots: roots * np.uint64(0),
    "one zero": one(2, 0),
    "the last one zero": one(699, 0),
    "all twice as large": lambda roots: PrimeField.turn(roots, 1),
    "all tiny": lambda roots: PrimeField.turn(roots, -40),
    "two exchanged": lambda roots: roots[[1, 0, *range(2, len(roots))]],
}


@pytest.mark.parametrize("lie", FALSE)
@pytest.mark.parametrize(("holders", "threshold", "limit"), SETTINGS)
def test_with_false_roots_it_is_uniform(
    monkeypatch: pytest.MonkeyPatch, lie: str, holders: int, threshold: int, limit: int
) -> None:
    tell(monkeypatch, FALSE[lie])
    public = evaluate(opening, np.zeros(4000, np.int64), holders=holders, threshold=threshold, limit=limit).result
    assert len(set(public.tolist())) == 4000
    for shift in (57, 20, 0):
        places = np.bincount((public >> np.uint64(shift)).astype(np.int64) % 16, minlength=16)
        assert stats.chisquare(places).pvalue > 1e-5


def test_the_other_root_is_right_too(monkeypatch: pytest.MonkeyPatch) -> None:
    tell(monkeypatch, PrimeField.neg)
    assert evaluate(opening, np.arange(5)).result.tolist() == list(range(5))


def guesses(monkeypatch: pytest.MonkeyPatch, runs: int) -> int:
    """How often the sign of a number is guessed by a server that tells 0 as the root of one bit, that of most weight.

    The mask is then in the middle half of the field, so that numbers of half the bound come out on their own side.
    """
    comparator = Comparator.plan(1000, 1, 5, 1)
    tell(monkeypatch, one(comparator.w - 1, 0))
    right = 0
    for run in range(runs):
        x = np.array([500 if run % 3 else -500])

        def circuit(x: Shared, pool: Pool) -> Computation[Elements]:
            drawn = yield from comparator.prepare(1, pool)
            return (yield from comparator.opening(x, drawn.mask, pool))

        (m,) = evaluate(circuit, x, seed=run).result.tolist()
        right += (m > P // 2) == (x[0] > 0)
    return right


def test_a_single_false_root_tells_a_sign_where_nothing_is_gated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "gated", lambda value, pool: value)
    assert guesses(monkeypatch, 60) == 60


def test_and_tells_nothing_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert abs(guesses(monkeypatch, 200) - 100) < 5 * 50**0.5


def test_signs_that_come_too_late_are_refused() -> None:
    def circuit(x: Shared, pool: Pool) -> Computation[Any]:
        yield from opening(x, pool)
        return (yield from signs((3,), pool))

    with pytest.raises(ProtocolError, match="made after something was opened that relies on all of them"):
        evaluate(circuit, np.arange(3), wanted={("uniform", 0): 9999})
    idle = Idle()
    idle.use()
    with pytest.raises(ProtocolError, match="made after something"):
        idle.watch(np.zeros(1, np.uint64), np.zeros(1, np.uint64))


def test_the_sums_are_those_of_independent_weights_for_each_set_of_roots() -> None:
    """Nobody can choose roots by the weights, nor later roots that make up for earlier ones."""
    defects = stream("defects").elements((5000,))
    told = [stream("told", i).elements((5000,)) for i in range(3)]

    def sums(*roots: Elements) -> tuple[int, ...]:
        gate = Gate()
        for each in roots:
            gate.watch(defects, each)
        return tuple(gate.use().tolist())

    found = [sums(told[0]), sums(told[1]), sums(told[0], told[2]), sums(told[1], told[2]), sums(told[2], told[0])]
    assert found == [sums(told[0]), sums(told[1]), sums(told[0], told[2]), sums(told[1], told[2]), sums(*told[2::-2])]
    assert len({one for pair in found for one in pair}) == 10
    later = [PrimeField.lower(np.array(found[i + 2], np.uint64)) - np.array(found[i]) for i in (0, 1)]
    assert not np.array_equal(*later)


@pytest.mark.parametrize("size", [1, 681, 682, 683, 22 * 682, 32 * 682 + 1])
def test_a_defect_at_any_place_is_in_both_sums(size: int) -> None:
    told = stream("told", size).elements((size,))
    for place in {0, size // 2, size - 1}:
        gate, defects = Gate(), np.zeros(size, np.uint64)
        defects[place] = 7
        gate.watch(defects, told)
        weights = Stream(gate._told)
        columns, rows = weights.elements((682, 2)), weights.elements((-(-size // 682), 2))
        expected = [7 * int(columns[place % 682, s]) * int(rows[place // 682, s]) % P for s in (0, 1)]
        assert gate.use().tolist() == expected
        assert all(expected)
    gate = Gate()
    gate.watch(np.zeros(size, np.uint64), told)
    assert gate.use().tolist() == [0, 0]
