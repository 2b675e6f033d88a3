"""The circuits of polls on shares, beside the same questions in the clear."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from secfpp.crypto.arithmetic import Computation, Pool, Shared, together
from secfpp.crypto.field import Elements
from secfpp.secure.polls.circuit import Counting, MeanTest, encode
from secfpp.secure.polls.questions import QUANTILE_UNIT, UNIT, AtLeast, Favours
from support.shares import Apart, evaluate

PARTIES = {"4 holders": (4, 1, 3), "6 holders": (6, 1, 5), "16 holders": (16, 2, 5), "high": (16, 5, 3)}


def counted(parties: tuple[int, int, int], asked: AtLeast, bits: np.ndarray, seed: object = 0) -> list[list[int]]:
    holders, threshold, limit = parties
    circuit = Counting(asked, threshold, limit)
    found = evaluate(circuit.run, bits, holders=holders, threshold=threshold, limit=limit, seed=seed)
    assert all(np.array_equal(found.result, other) for other in found.results)
    answer: list[list[int]] = found.result.tolist()
    return answer


@pytest.mark.parametrize("parties", PARTIES.values(), ids=PARTIES)
@pytest.mark.parametrize("n", [4, 7, 30])
def test_every_count_is_compared_with_every_number(parties: tuple[int, int, int], n: int) -> None:
    """Each bit of the instance has another count, from 0 to n."""
    bits = (np.arange(n)[:, None] < np.arange(n + 1)).astype(np.int64)
    for least in {1, 2, 3, n // 2, n - 1, n, n + 1, n + 7}:
        asked = AtLeast(n, n + 1, least)
        expected = np.arange(n + 1) >= least
        assert counted(parties, asked, bits) == [expected.astype(int).tolist()]
        assert asked.answer(bits).tolist() == [expected.tolist()]


@pytest.mark.parametrize("parties", PARTIES.values(), ids=PARTIES)
def test_groups_of_random_bits(parties: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    for n, k, least in product([5, 13, 30], [1, 2, 6], [1, 3, 4]):
        groups = tuple(None if g == k else int(g) for g in rng.integers(0, k + 1, n))
        asked, bits = AtLeast(n, 9, least, groups, k), rng.integers(0, 2, (n, 9))
        assert counted(parties, asked, bits, (n, k, least)) == asked.answer(bits).astype(int).tolist()


def judged(parties: tuple[int, int, int], test: Favours, gains: np.ndarray, seed: object) -> list[bool]:
    """The answers about `gains` [instances, n], computed side by side."""
    holders, threshold, limit = parties
    circuit, n = MeanTest(test, threshold, limit), test.clients

    def run(inputs: Shared, pool: Pool) -> Computation[list[Elements]]:
        return together([circuit.run(inputs[i * n : (i + 1) * n], Apart(pool)) for i in range(len(gains))])

    bits = np.stack([encode(int(gain)) for gain in gains.reshape(-1)]).astype(np.int64)
    found = evaluate(run, bits, holders=holders, threshold=threshold, limit=limit, seed=seed).result
    assert all(answer.tolist() in ([0], [1]) for answer in found)
    return [bool(answer[0]) for answer in found]


@pytest.mark.parametrize("parties", PARTIES.values(), ids=PARTIES)
def test_random_gains(parties: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(1)
    answers: list[bool] = []
    for n, margin, error in [(4, 0.0, 0.2), (9, 0.01, 0.05), (30, -0.3, 1e-6), (30, 0.1, 0.05), (122, 0.9, 0.01)]:
        test = Favours.of(n, margin, error)
        means = margin + rng.uniform(-0.01, 0.2, (5, 1))
        gains = np.clip(np.rint((means + rng.normal(0, 0.2, (5, n))) * UNIT), -UNIT, UNIT - 1).astype(np.int64)
        expected = [test.answer(each).item() for each in gains]
        assert judged(parties, test, gains, n) == expected
        answers += expected
    assert 5 < sum(answers) < len(answers) - 5


@pytest.mark.parametrize("parties", PARTIES.values(), ids=PARTIES)
def test_ties_and_extreme_gains(parties: tuple[int, int, int]) -> None:
    tie = np.array([3, 1, 1, 1])
    special = np.array([tie, -tie, 0 * tie, [1, -1, 1, -1], [0, 0, 0, 1], [0, 0, 0, -1], *np.eye(4, dtype=int) * 900])
    extreme = np.array([[UNIT - 1] * 4, [-UNIT] * 4, [UNIT - 1, UNIT - 1, -UNIT, -UNIT], [UNIT - 1, *[-UNIT] * 3]])
    gains = np.concatenate([special, extreme])
    least = 9 * QUANTILE_UNIT
    for quantile, margin in [(least - 1, 0), (least, 0), (least + 1, 0), (0, -UNIT), (1, UNIT - 1)]:
        test = Favours(4, margin, quantile)
        expected = [test.answer(each).item() for each in gains]
        assert judged(parties, test, gains, quantile) == expected


def test_the_only_thing_opened_that_is_not_uniform_is_the_answer() -> None:
    n = 9
    bits = np.random.default_rng(0).integers(0, 2, (n, 400))
    gains = np.stack([encode(gain) for gain in range(n)]).astype(np.int64)
    for run, inputs in (
        (Counting(AtLeast(n, 400, 5), 1, 5).run, bits),
        (lambda x, pool: together([MeanTest(Favours.of(n, 0.0, 0.05), 1, 5).run(x, pool)] * 1), gains),
    ):
        openings = evaluate(run, inputs, seed=3).openings
        assert set(np.concatenate([v.reshape(-1) for v in openings[-1]]).tolist()) <= {0, 1}
        for number, values in enumerate(openings[:-1]):
            public = np.concatenate([value.reshape(-1) for value in values])
            for shift in (57, 20, 0):
                places = np.bincount((public >> np.uint64(shift)).astype(np.int64) % 16, minlength=16)
                assert stats.chisquare(places).pvalue > 1e-5, f"exchange {number}"


@pytest.mark.parametrize("away", [{0: (0,)}, {1: (3, 7)}, {e: (e, e + 5, 15) for e in range(5)}])
def test_other_survivors_open_the_same(away: dict[int, tuple[int, ...]]) -> None:
    bits, asked = np.random.default_rng(1).integers(0, 2, (20, 6)), AtLeast(20, 6, 10)
    found = evaluate(Counting(asked, 2, 5).run, bits, holders=16, threshold=2, away=away).result
    assert found.tolist() == asked.answer(bits).astype(int).tolist()
    test, gains = Favours.of(20, 0.0, 0.05), np.arange(-5, 15)
    shared = np.stack([encode(int(gain)) for gain in gains]).astype(np.int64)
    found = evaluate(MeanTest(test, 2, 5).run, shared, holders=16, threshold=2, away=away).result
    assert found.tolist() == [int(test.answer(gains).item())]
