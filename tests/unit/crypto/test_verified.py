"""What holders show each other of what they were told."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.sharing import LagrangeCode, alpha, interpolation, weights_at_zero
from secfpp.crypto.verified import blended, mask_shape, of_degree, of_zeros, zero_share
from support.shares import stream


def polynomial(degree: int, at_zero: int, holders: int, seed: object) -> dict[int, Elements]:
    """Shares [1] of a random polynomial."""
    if not degree:
        return {h: np.array([at_zero], np.uint64) for h in range(holders)}
    shares = LagrangeCode(holders, degree).encode(np.array([[at_zero]], np.uint64), stream("polynomial", seed))
    return dict(enumerate(shares))


@pytest.mark.parametrize(("holders", "threshold", "limit"), [(16, 2, 5), (7, 1, 5), (16, 3, 3), (5, 1, 3)])
def test_masks_are_shares_of_zero_of_full_degree(holders: int, threshold: int, limit: int) -> None:
    shape = mask_shape(holders, threshold, limit)
    made = stream("masks", holders).elements((1, int(np.prod(shape))))
    dealt = LagrangeCode(holders, threshold).encode(made, stream("deal", holders))
    told = [zero_share(dealt[h].reshape(shape), h, stream("told", 1)) for h in range(holders)]
    shares, degree = dict(enumerate(told)), limit * threshold
    assert of_zeros(shares, degree)
    if degree - 1 < holders - 1:
        assert not of_degree(shares, degree - 1)
    other = {h: zero_share(dealt[h].reshape(shape), h, stream("told", 2)) for h in range(holders)}
    assert not np.array_equal(other[0], told[0])


def test_masks_of_different_histories_are_independent() -> None:
    """As many as there are honest holders: each one's share is uniform by itself, whatever the others know."""
    holders, threshold, limit = 7, 1, 5
    _, sharings, each = mask_shape(holders, threshold, limit)
    honest, corrupt = range(1, holders), 0
    rows = []
    for holder in honest:  # what its share is made of, given the corrupt holder's shares: multiples of x - alpha_0
        weights = stream("history", holder).elements((sharings,))
        powers = [pow(alpha(holder), i, PrimeField.p) for i in range(1, each + 1)]
        free = (alpha(holder) - alpha(corrupt)) % PrimeField.p
        rows.append([int(w) * power * free % PrimeField.p for w in weights for power in powers])
    assert rank(rows) == len(rows)
    same = [[row[i] for i in range(each)] for row in rows]  # of one sharing alone they are not
    assert rank(same) == each < len(rows)


def rank(rows: list[list[int]]) -> int:
    rows, found, p = [list(row) for row in rows], 0, PrimeField.p
    for column in range(len(rows[0])):
        pivot = next((r for r in range(found, len(rows)) if rows[r][column]), None)
        if pivot is None:
            continue
        rows[found], rows[pivot] = rows[pivot], rows[found]
        inverse = pow(rows[found][column], -1, p)
        for r in range(found + 1, len(rows)):
            factor = rows[r][column] * inverse % p
            rows[r] = [(a - factor * b) % p for a, b in zip(rows[r], rows[found], strict=True)]
        found += 1
    return found


@pytest.mark.parametrize("degree", [0, 1, 5])
def test_degrees(degree: int) -> None:
    shares = polynomial(degree, 3, 9, "degrees")
    assert of_degree(shares, degree) and not of_zeros(shares, degree)
    assert of_zeros(polynomial(5, 0, 9, "zero"), 5)
    if degree:
        assert not of_degree(shares, degree - 1)
    for holder in range(9):
        wrong = {**shares, holder: PrimeField.add(shares[holder], np.ones(1, np.uint64))}
        assert not of_degree(wrong, degree)


def test_t_liars_do_not_make_a_false_value_right_if_t_more_than_decoding_takes_are_there() -> None:
    """Here one of 6 + 1 with degree 5: it can make any six fit a value of 0, but not the seventh too."""
    shares = polynomial(5, 7, 7, "false")
    for liar in range(7):
        for left_out in range(7):
            if left_out == liar:
                continue
            six = tuple(h for h in range(7) if h != left_out)
            needed = -7 * pow(int(weights_at_zero(six)[six.index(liar)]), -1, PrimeField.p) % PrimeField.p
            told = {**shares, liar: PrimeField.add(shares[liar], np.array([needed], np.uint64))}
            assert of_zeros({h: told[h] for h in six}, 5)
            assert not of_zeros(told, 5)


def test_two_liars_of_thirteen() -> None:
    shares = polynomial(10, 7, 13, "two")
    for pair in list(combinations(range(13), 2))[::7]:
        honest = [h for h in range(13) if h not in pair]
        wanted = np.concatenate([np.zeros(1, np.uint64), *[shares[h] for h in honest[1:]]])[:, None]  # 0 at 0
        points = (0, *[alpha(h) for h in honest[1:]])
        found = PrimeField.matmul(interpolation(points, tuple(alpha(h) for h in pair)), wanted)
        told = {**shares, pair[0]: found[0], pair[1]: found[1]}
        assert of_zeros({h: told[h] for h in range(13) if h != honest[0]}, 10)
        assert not of_zeros(told, 10)


def test_blends_are_linear_in_what_is_dealt() -> None:
    a, b = stream("a").elements((2, 3, 4)), stream("b").elements((2, 3, 4))
    whole = blended(PrimeField.add(a, b), stream("told"))
    assert np.array_equal(whole, PrimeField.add(blended(a, stream("told")), blended(b, stream("told"))))
    assert whole.shape == (2, 3)
