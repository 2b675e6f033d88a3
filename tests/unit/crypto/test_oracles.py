"""The field and the sharing beside two independent implementations: galois and MPyC."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from secfpp.crypto.arithmetic import inverse_square_root
from secfpp.crypto.field import PrimeField
from secfpp.crypto.sharing import LagrangeCode, alpha, beta, interpolation, weights_at_zero
from support.shares import stream

galois = pytest.importorskip("galois")
finfields = pytest.importorskip("mpyc.finfields")
thresha = pytest.importorskip("mpyc.thresha")
P = PrimeField.p
EDGES = np.array([0, 1, 2, 3, 7, P - 1, P - 2, P // 2, P // 2 + 1, 1 << 60, (1 << 60) - 1, 1 << 32, 1 << 29], np.uint64)


@pytest.fixture(scope="module")
def gf() -> Any:
    return galois.GF(P, primitive_element=37, verify=False)


def elements(label: str, *shape: int) -> np.ndarray:
    return stream("oracle", label).elements(shape)


def equal(ours: np.ndarray, theirs: Any) -> bool:
    return bool(ours.shape == theirs.shape and np.array_equal(ours.astype(object), np.asarray(theirs, dtype=object)))


def test_sums_differences_and_products_are_those_of_galois(gf: Any) -> None:
    left, right = (a.reshape(-1) for a in np.meshgrid(EDGES, EDGES))
    left, right = np.concatenate([left, elements("a", 300)]), np.concatenate([right, elements("b", 300)])
    x, y = gf(left.astype(object)), gf(right.astype(object))
    assert equal(PrimeField.add(left, right), x + y)
    assert equal(PrimeField.sub(left, right), x - y)
    assert equal(PrimeField.mul(left, right), x * y)
    assert equal(PrimeField.neg(left), -x)


def test_inverses_and_square_roots_are_those_of_galois(gf: Any) -> None:
    values = np.concatenate([EDGES[1:], elements("inverse", 100)])
    theirs = gf(values.astype(object))
    assert equal(PrimeField.inverse(values), gf(1) / theirs)
    roots = gf(inverse_square_root(PrimeField.mul(values, values)).astype(object))
    assert np.all((roots * theirs) ** 2 == 1)


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 1, 1), (7, 30, 2)])
def test_matrix_products_are_those_of_galois(gf: Any, shape: tuple[int, int, int]) -> None:
    left, right = elements(f"l{shape}", *shape[:2]), elements(f"r{shape}", *shape[1:])
    left.flat[: min(left.size, 5)] = P - 1
    assert equal(PrimeField.matmul(left, right), gf(left.astype(object)) @ gf(right.astype(object)))


@pytest.mark.parametrize(("holders", "threshold", "blocks"), [(5, 1, 1), (7, 2, 1), (9, 2, 3), (12, 3, 4)])
def test_shares_lie_on_the_polynomial_that_galois_finds(gf: Any, holders: int, threshold: int, blocks: int) -> None:
    code = LagrangeCode(holders, threshold, blocks)
    data = elements("blocks", blocks, 3)
    shares = code.encode(data, stream("masks", holders))
    some = range(holders - code.required(), holders)
    points = gf([alpha(h) for h in some])
    for column in range(3):
        polynomial = galois.lagrange_poly(points, gf(shares[list(some), column].astype(object)))
        assert polynomial.degree <= code.required() - 1
        assert [int(v) for v in polynomial(gf([alpha(h) for h in range(holders)]))] == shares[:, column].tolist()
        assert [int(v) for v in polynomial(gf([beta(b) for b in range(blocks)]))] == data[:, column].tolist()


@pytest.mark.parametrize(("holders", "threshold"), [(4, 1), (7, 3), (16, 5)])
def test_mpyc_recombines_our_shares_and_we_mpycs(holders: int, threshold: int) -> None:
    field = finfields.GF(P)
    secret = elements("secret", 6)
    shares = LagrangeCode(holders, threshold).encode(secret[None], stream("shamir", holders))
    chosen = list(range(holders))[-threshold - 1 :]
    points = [(alpha(h), [field(int(v)) for v in shares[h]]) for h in chosen]
    assert [int(v) % P for v in thresha.recombine(field, points)] == secret.tolist()

    theirs = thresha.random_split(field, [field(int(v)) for v in secret], threshold, holders)
    some = tuple(range(holders - threshold, holders + 1))  # their points are 1, 2, ...
    vectors = np.array([[int(v) % P for v in theirs[x - 1]] for x in some], np.uint64)
    assert PrimeField.matmul(interpolation(some, (0,)), vectors)[0].tolist() == secret.tolist()


@pytest.mark.parametrize("degree", [2, 5])
def test_mpyc_recombines_products_with_our_weights(degree: int) -> None:
    holders, threshold = 5 * 2 + 1, 2
    field, code = finfields.GF(P), LagrangeCode(holders, threshold)
    factors = [elements(f"factor {i}", 4) for i in range(degree)]
    product, shares = np.ones(4, np.uint64), np.ones((holders, 4), np.uint64)
    for i, factor in enumerate(factors):
        product = PrimeField.mul(product, factor)
        shares = PrimeField.mul(shares, code.encode(factor[None], stream("product", i)))
    present = tuple(range(holders))[-degree * threshold - 1 :]
    points = [(alpha(h), [field(int(v)) for v in shares[h]]) for h in present]
    assert [int(v) % P for v in thresha.recombine(field, points)] == product.tolist()
    weighted = PrimeField.matmul(weights_at_zero(present)[None], shares[list(present)])
    assert weighted[0].tolist() == product.tolist()
