from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secfpp.crypto.field import PrimeField
from secfpp.crypto.randomness import Stream
from secfpp.crypto.sharing import (
    MOST_HOLDERS,
    LagrangeCode,
    alpha,
    beta,
    interpolation,
    interpolation_beyond,
    weights_at_zero,
)
from secfpp.errors import DropoutError, ProtocolError, TamperError

P = PrimeField.p
KEY = bytes(range(32))
SIZES = st.tuples(st.integers(1, 12), st.integers(1, 5), st.integers(1, 6)).filter(lambda s: s[1] + s[2] <= s[0])


def random_data(blocks: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, P, (blocks, *shape), np.uint64)


def shared(code: LagrangeCode, data: np.ndarray, key: bytes = KEY) -> dict[int, np.ndarray]:
    return dict(enumerate(code.encode(data, Stream(key))))


def lagrange(points: list[int], values: list[int], target: int) -> int:
    """Interpolation as in a textbook, in Python integers."""
    total = 0
    for i, (x, y) in enumerate(zip(points, values, strict=True)):
        for k, other in enumerate(points):
            if k != i:
                y = y * (target - other) * pow(x - other, -1, P) % P
        total += y
    return total % P


def rank(rows: list[list[int]]) -> int:
    """Rank modulo p."""
    rows, found = [list(row) for row in rows], 0
    for column in range(len(rows[0])):
        pivot = next((r for r in range(found, len(rows)) if rows[r][column]), None)
        if pivot is None:
            continue
        rows[found], rows[pivot] = rows[pivot], rows[found]
        inverse = pow(rows[found][column], -1, P)
        for r in range(len(rows)):
            if r != found and rows[r][column]:
                factor = rows[r][column] * inverse % P
                rows[r] = [(a - factor * b) % P for a, b in zip(rows[r], rows[found], strict=True)]
        found += 1
    return found


def test_points_are_all_different() -> None:
    points = [alpha(j) for j in range(MOST_HOLDERS)] + [beta(i) for i in range(200)]
    assert len(set(points)) == len(points)
    assert 0 not in [alpha(j) for j in range(MOST_HOLDERS)]
    assert [alpha(j) for j in range(4)] == [1, P - 1, 2, P - 2]


def test_interpolation_is_the_textbooks() -> None:
    points, targets = [1, P - 1, 2, 7], [0, 3, 11]
    values = [5, 6, P - 7, 123456789]
    matrix = interpolation(tuple(points), tuple(targets))
    found = PrimeField.matmul(matrix, np.array(values, np.uint64)[:, None])[:, 0].tolist()
    assert found == [lagrange(points, values, target) for target in targets]


def test_weights_at_zero_recombine() -> None:
    code = LagrangeCode(7, 2)
    data = random_data(1, 5)
    shares = shared(code, data)
    weights = weights_at_zero((1, 4, 6))
    total = PrimeField.sum((PrimeField.mul(shares[h], w) for h, w in zip((1, 4, 6), weights, strict=True)), (5,))
    assert np.array_equal(total, data[0])


@settings(max_examples=50)
@given(SIZES, st.data())
def test_any_required_shares_give_the_blocks(sizes: tuple[int, int, int], data: st.DataObject) -> None:
    holders, threshold, blocks = sizes
    code = LagrangeCode(holders, threshold, blocks)
    secret = random_data(blocks, 2, 3)
    shares = shared(code, secret)
    count = data.draw(st.integers(code.required(), holders))
    chosen = data.draw(st.permutations(range(holders)))[:count]
    assert np.array_equal(code.decode({h: shares[h] for h in chosen}), secret)


def test_shares_lie_on_the_polynomial_through_the_blocks() -> None:
    code = LagrangeCode(9, 3, 4)
    data = random_data(4, 1)
    shares = shared(code, data)
    points = [alpha(h) for h in range(7)]
    values = [int(shares[h][0]) for h in range(7)]
    assert [lagrange(points, values, beta(i)) for i in range(4)] == data[:, 0].tolist()
    assert [lagrange(points, values, alpha(h)) for h in (7, 8)] == [int(shares[h][0]) for h in (7, 8)]


def test_long_arrays_are_shared_as_short_ones() -> None:
    code, size = LagrangeCode(5, 2, 2), (1 << 13) + 3
    data = random_data(2, size)
    shares = shared(code, data)
    assert np.array_equal(code.decode({h: shares[h] for h in (0, 2, 3, 4)}), data)
    assert shares[0].shape == (size,)


@pytest.mark.parametrize("sizes", [(5, 2, 1), (6, 2, 3), (7, 3, 4), (16, 2, 8), (8, 1, 3)])
def test_sums_and_products_of_codewords(sizes: tuple[int, int, int]) -> None:
    code = LagrangeCode(*sizes)
    one, two = random_data(code.blocks, 3, seed=1), random_data(code.blocks, 3, seed=2)
    a, b = shared(code, one), shared(code, two, bytes(32))
    added = {h: PrimeField.add(a[h], b[h]) for h in a}
    assert np.array_equal(code.decode(added), PrimeField.add(one, two))
    if code.required(2) <= code.holders:
        multiplied = {h: PrimeField.mul(a[h], b[h]) for h in a}
        assert np.array_equal(code.decode(multiplied, 2), PrimeField.mul(one, two))
        with pytest.raises(TamperError):
            code.decode(multiplied)


@pytest.mark.parametrize("sizes", [(5, 2, 1), (6, 2, 3), (8, 3, 4), (16, 2, 8), (9, 5, 1), (12, 4, 2)])
def test_any_threshold_of_shares_is_uniform_whatever_the_secret(sizes: tuple[int, int, int]) -> None:
    """The masks move the shares of any T holders through all T-tuples: their matrix is invertible, so one to one."""
    holders, threshold, blocks = sizes
    code = LagrangeCode(*sizes)

    class Counting(Stream):
        def elements(self, shape: tuple[int, ...]) -> np.ndarray:
            return np.eye(threshold, threshold + 1, dtype=np.uint64)  # masks (1, 0, ...), (0, 1, ...), ..., (0, 0, ...)

    data = np.repeat(random_data(blocks, 1), threshold + 1, axis=1)
    shares = code.encode(data, Counting(KEY))
    for chosen in combinations(range(holders), threshold):
        moved = [[(int(shares[h][t]) - int(shares[h][threshold])) % P for t in range(threshold)] for h in chosen]
        assert rank(moved) == threshold


def test_each_number_has_masks_of_its_own() -> None:
    code, same = LagrangeCode(5, 2, 2), np.ones((2, 1000), np.uint64)
    shares = shared(code, same)
    assert all(len(np.unique(share)) == 1000 for share in shares.values())
    again = shared(code, same, bytes(32))
    assert not any(np.array_equal(shares[h], again[h]) for h in shares)


def test_nothing_is_shared_without_a_threshold() -> None:
    with pytest.raises(ProtocolError, match="threshold 0"):
        LagrangeCode(4, 0, 1).encode(np.array([[5, 6]], np.uint64), Stream(KEY))


def test_too_few_shares_do_not_decode() -> None:
    code = LagrangeCode(6, 2, 3)
    shares = shared(code, random_data(3, 2))
    with pytest.raises(DropoutError, match="4 clients answered, at least 5 are needed"):
        code.decode({h: shares[h] for h in range(4)})


def spoiled(shares: dict[int, np.ndarray], liars: Any, where: int = 0) -> dict[int, np.ndarray]:
    found = {h: share.copy() for h, share in shares.items()}
    for liar in liars:
        found[liar][where] = (int(found[liar][where]) + 1 + liar) % P
    return found


def test_one_wrong_number_of_a_redundant_share_is_noticed() -> None:
    code = LagrangeCode(6, 2, 3)
    shares = shared(code, random_data(3, 50))
    for holder in range(6):
        for where in (0, 49):
            with pytest.raises(TamperError, match="not of one polynomial"):
                code.decode(spoiled(shares, [holder], where))


@pytest.mark.parametrize(("sizes", "most"), [((16, 2, 8), 3), ((7, 2, 1), 2), ((5, 2, 1), 1), ((5, 2, 2), 0)])
def test_liars_are_found_up_to_half_the_redundancy(sizes: tuple[int, int, int], most: int) -> None:
    code = LagrangeCode(*sizes)
    shares = shared(code, random_data(code.blocks, 4))
    assert code.liars(shares) == ()
    rng = np.random.default_rng(0)
    for count in range(1, most + 1):
        for _ in range(3):
            liars = sorted(rng.choice(code.holders, count, replace=False).tolist())
            assert code.liars(spoiled(shares, liars)) == tuple(liars)
    too_many = rng.choice(code.holders, most + 1, replace=False).tolist()
    assert code.liars(spoiled(shares, too_many)) is None


def test_liars_among_the_shares_that_are_there() -> None:
    code = LagrangeCode(9, 2, 3)
    shares = shared(code, random_data(3, 2))
    present = {h: share for h, share in spoiled(shares, [4]).items() if h not in (0, 7)}
    assert code.liars(present) == (4,)
    assert code.liars({h: present[h] for h in list(present)[:4]}) is None


def test_liars_of_products() -> None:
    code = LagrangeCode(9, 1, 2)
    shares = shared(code, random_data(2, 3))
    squares = {h: PrimeField.mul(share, share) for h, share in shares.items()}
    assert code.liars(squares, 2) == ()
    assert code.liars(spoiled(squares, [8, 2]), 2) == (2, 8)


@pytest.mark.parametrize("sizes", [(0, 0, 1), (MOST_HOLDERS + 1, 1, 1), (4, -1, 1), (4, 1, 0), (4, 2, 3)])
def test_codes_that_cannot_be_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ProtocolError):
        LagrangeCode(*sizes)


def test_data_of_another_number_of_blocks_is_refused() -> None:
    with pytest.raises(ProtocolError, match=r"shape \(3, 2\): the first axis holds the 2 blocks"):
        LagrangeCode(5, 1, 2).encode(random_data(3, 2), Stream(KEY))


@pytest.mark.parametrize("length", [1, 2, 5, 38])
def test_values_beyond_consecutive_ones_are_those_of_the_interpolation(length: int) -> None:
    known, beyond = tuple(range(length + 1)), tuple(range(length + 1, 2 * length + 1))
    assert np.array_equal(interpolation_beyond(length), interpolation(known, beyond))
