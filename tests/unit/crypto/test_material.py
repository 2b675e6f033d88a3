from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pytest
from scipy import stats

from secfpp.crypto import material
from secfpp.crypto.arithmetic import Computation, Pool, Shared, lowered, opened, product
from secfpp.crypto.field import PrimeField
from secfpp.crypto.material import UNIFORM, Deal, Estimate, Material, extract, width
from secfpp.crypto.sharing import LagrangeCode, alpha
from support.shares import evaluate, recombined, stream

P = PrimeField.p


def determinant(matrix: list[list[int]]) -> int:
    """Determinant modulo p, by elimination."""
    rows, result = [row[:] for row in matrix], 1
    for i in range(len(rows)):
        pivot = next((r for r in range(i, len(rows)) if rows[r][i] % P), None)
        if pivot is None:
            return 0
        rows[i], rows[pivot] = rows[pivot], rows[i]
        result = result * rows[i][i] * (1 if pivot == i else -1) % P
        inverse = pow(rows[i][i], -1, P)
        for r in range(i + 1, len(rows)):
            factor = rows[r][i] * inverse % P
            rows[r] = [(a - factor * b) % P for a, b in zip(rows[r], rows[i], strict=True)]
    return result


def extractor(holders: int, threshold: int) -> np.ndarray:
    """The matrix [c - T, c] of `extract`: what it makes of the unit vectors."""
    units = np.eye(holders, dtype=np.uint64)
    return extract(list(units), threshold).reshape(holders - threshold, holders)


def singular_minors(matrix: np.ndarray, seed: int = 0, most: int = 1500) -> int:
    """How many minors of all rows vanish: all if they are few, else a sample."""
    kept, holders = matrix.shape
    every: Iterable[Sequence[int]] = combinations(range(holders), kept)
    if comb(holders, kept) > most:
        rng = np.random.default_rng(seed)
        every = [np.sort(rng.choice(holders, kept, replace=False)).tolist() for _ in range(most)]
    return sum(determinant([[int(v) for v in row[list(columns)]] for row in matrix]) == 0 for columns in every)


def test_large_committees_extract_too() -> None:
    for holders, threshold in ((48, 6), (50, 16), (90, 12), (100, 33)):
        assert singular_minors(extractor(holders, threshold), most=3) == 0


@pytest.mark.parametrize("holders", range(6, 17))
@pytest.mark.parametrize("threshold", range(1, 6))
def test_whoever_deals_nothing_useful_the_extracted_elements_are_uniform(holders: int, threshold: int) -> None:
    assert singular_minors(extractor(holders, threshold), most=4500) == 0


def test_a_broken_extractor_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = extractor(7, 2)
    repeated = whole.copy()
    repeated[1, 5:] = repeated[0, 5:]  # two rows alike in the last columns
    forgotten = whole.copy()
    forgotten[2, 6] = 0
    assert singular_minors(repeated) > 0
    assert singular_minors(forgotten) > 0
    monkeypatch.setattr(material, "compiled", None)
    monkeypatch.setattr(material.PrimeField, "mul", staticmethod(lambda left, right: left))  # every power is 1
    assert singular_minors(extractor(7, 2)) > 0


@pytest.mark.parametrize(("holders", "threshold"), [(6, 1), (16, 2), (16, 5)])
def test_extracting_shares_gives_shares_of_what_is_extracted(holders: int, threshold: int) -> None:
    code, randomness = LagrangeCode(holders, threshold), stream("extract", holders, threshold)
    dealt = [randomness.elements((20,)) for _ in range(holders)]
    shares = np.stack([code.encode(vector[None], randomness) for vector in dealt])  # [dealer, holder, 20]
    made = [extract(list(shares[:, h]), threshold) for h in range(holders)]
    assert recombined(made, threshold + 1).tolist() == extract(dealt, threshold).tolist()


def test_extracting_a_part_gives_that_part() -> None:
    dealt = [stream("part", h).elements((9000,)) for h in range(7)]
    whole = extract(dealt, 2)
    for start, stop in ((0, 1), (8999, 9001), (100, 30000), (17999, 45000), (44999, 45000)):
        assert extract(dealt, 2, start, stop).tolist() == whole[start:stop].tolist()


@pytest.mark.parametrize(("holders", "threshold", "blocks"), [(6, 1, 1), (11, 2, 1), (16, 3, 1), (9, 2, 3), (12, 4, 2)])
def test_any_few_shares_are_masked_by_an_invertible_matrix(holders: int, threshold: int, blocks: int) -> None:
    """A share is a fixed combination of the blocks plus one of T uniform masks: that one decides."""

    class Units:
        def elements(self, shape: tuple[int, ...]) -> np.ndarray:
            return np.eye(*shape, dtype=np.uint64)

    code = LagrangeCode(holders, threshold, blocks)
    masks: Any = Units()
    matrix = code.encode(np.zeros((blocks, threshold), np.uint64), masks)  # [holders, T]
    for chosen in combinations(range(holders), threshold):
        assert determinant([[int(v) for v in matrix[h]] for h in chosen]) != 0


@pytest.mark.parametrize(("prime", "holders", "threshold"), [(7, 4, 1), (7, 4, 2), (11, 5, 2), (5, 4, 3)])
def test_every_view_is_equally_likely_for_every_secret(prime: int, holders: int, threshold: int) -> None:
    """The same code over a field small enough to list all masks; its first points are those of the large field."""
    points = [x if x <= P // 2 else x - P for x in map(alpha, range(holders))]
    assert len({x % prime for x in points}) == holders and 0 not in {x % prime for x in points}
    for chosen in combinations(points, threshold):
        views = []
        for secret in range(prime):
            tally: dict[tuple[int, ...], int] = {}
            for number in range(prime**threshold):
                coefficients = [secret, *((number // prime**t) % prime for t in range(threshold))]
                view = tuple(sum(c * x**t for t, c in enumerate(coefficients)) % prime for x in chosen)
                tally[view] = tally.get(view, 0) + 1
            views.append(tally)
        assert all(tally == views[0] for tally in views)
        assert set(views[0].values()) == {1}


def test_shares_of_the_full_field_look_uniform_whatever_the_secret() -> None:
    code = LagrangeCode(7, 2)
    for secret in (0, 1, P - 1):
        shares = code.encode(np.full((1, 40000), secret, np.uint64), stream("uniform", secret))
        for first, second in ((0, 1), (2, 6)):
            cells = (shares[first] >> np.uint64(58)) * np.uint64(8) + (shares[second] >> np.uint64(58))
            counts = np.bincount(cells.astype(np.int64), minlength=64)
            assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize(("holders", "threshold"), [(6, 1), (11, 2), (16, 3)])
def test_integers_are_sums_of_small_ones_and_permutations_products_of_permutations(
    holders: int, threshold: int
) -> None:
    def circuit(x: Shared, pool: Pool) -> Computation[Any]:
        small, none = pool.integers(9, (50,)), pool.integers(0, (4,))
        matrices = yield from product(pool.permutations(3, 20), pool, matrices=True)
        return (yield from opened([small, none, matrices, pool.uniform((2, 30))]))

    small, none, matrices, uniform = evaluate(
        circuit, np.zeros(1, np.int64), holders=holders, threshold=threshold, limit=5
    ).result
    assert small.min() >= 0 and small.max() <= (threshold + 1) * 511 and len(set(small.tolist())) > 30
    assert none.tolist() == [0] * 4
    assert set(matrices.reshape(-1).tolist()) == {0, 1}
    assert np.all(matrices.sum(1) == 1) and np.all(matrices.sum(2) == 1)
    assert len({matrix.tobytes() for matrix in matrices}) > 3
    assert len(set(uniform.reshape(-1).tolist())) == 60


def test_nothing_is_handed_out_twice() -> None:
    deal = Deal(6, 1, {UNIFORM: 12, ("integers", 4): 9, ("permutations", 2): 5})
    vectors = [np.arange(deal.size, dtype=np.uint64) + np.uint64(1000 * h) for h in range(6)]
    pool = Material(deal, vectors, 5)
    taken = np.concatenate([pool.uniform((5,)).values, pool.uniform((7,)).values])
    assert len(set(taken.tolist())) == 12
    again = Material(deal, vectors, 5)
    assert again.uniform((12,)).values.tolist() == taken.tolist()
    with pytest.raises((ValueError, IndexError)):
        again.uniform((1,))
    early, late = pool.permutations(2, 2), pool.permutations(2, 3)
    factors = np.concatenate([part.values.reshape(-1) for part in (*early, *late)])
    assert len(set(factors.tolist())) == 2 * 5 * 4


@pytest.mark.parametrize(("holders", "threshold"), [(6, 1), (16, 2), (7, 2)])
@pytest.mark.parametrize("count", [1, 10, 33])
def test_the_deal_is_as_large_as_what_is_taken_makes_necessary(holders: int, threshold: int, count: int) -> None:
    deal = Deal(holders, threshold, {UNIFORM: count, ("integers", 7): count, ("permutations", 3): count})
    assert deal.pieces(UNIFORM) == -(-count // (holders - threshold))
    assert deal.pieces(("integers", 7)) * holders >= (threshold + 1) * count
    assert deal.size == sum(deal.pieces(kind) * width(kind) for kind in deal.demand)
    assert sorted((s.start, s.stop) for s in deal.sections.values())[-1][1] == deal.size
    made = deal.make(stream("make"))
    assert made.shape == (deal.size,)
    assert made[deal.sections["integers", 7]].max() < 128
    matrices = made[deal.sections["permutations", 3]].reshape(-1, 3, 3)
    assert np.all(matrices.sum(1) == 1) and np.all(matrices.sum(2) == 1)
    assert Deal(holders, threshold, {}).make(stream("make")).size == 0


def test_every_integer_and_permutation_has_one_part_from_t_plus_one_dealers_each() -> None:
    """With one dealer's part set to a marker, it turns up at most once in every sum: T colluders never have all."""
    holders, threshold = 7, 2
    deal = Deal(holders, threshold, {("integers", 8): 35, ("permutations", 1): 35})
    parts = np.zeros((holders, 35), np.int64)
    for dealer in range(holders):
        vectors = [np.full(deal.size, int(h == dealer), np.uint64) for h in range(holders)]
        pool = Material(deal, vectors, 5)
        parts[dealer] = pool.integers(8, (35,)).values
        factors = np.stack([f.values.reshape(-1) for f in pool.permutations(1, 35)])
        assert factors.sum(0).max() <= 1
    assert parts.max() == 1
    assert np.all(parts.sum(0) == threshold + 1)


def test_the_estimate_counts_what_is_taken() -> None:
    pool = Estimate(2, 5)
    pool.uniform((3, 4))
    pool.integers(8, (5,))
    assert len(pool.permutations(3, 2)) == 3
    list(lowered([Shared(np.zeros(7, np.uint64), 2)], pool).send(None))
    assert dict(pool.demand) == {UNIFORM: 19, ("integers", 8): 5, ("permutations", 3): 2}
