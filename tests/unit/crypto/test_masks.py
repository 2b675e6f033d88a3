from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from itertools import combinations

import networkx
import numpy as np
import pytest
from scipy import stats

from secfpp.crypto import masks
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.masks import masked, neighbours, split, unmasked
from secfpp.crypto.randomness import Stream
from secfpp.crypto.sharing import LagrangeCode, weights_at_zero
from support.shares import stream

P = PrimeField.p
Keys = Callable[[int], Callable[[int], bytes]]


def keys(seed: object = 0) -> Keys:
    """For each holder what it has in common with each other one."""

    def of(own: int) -> Callable[[int], bytes]:
        return lambda other: sha256(f"{seed} {min(own, other)} {max(own, other)}".encode()).digest()

    return of


def answers(shares: Elements, responders: list[int], threshold: int, pads: Keys) -> dict[int, Elements]:
    return {own: masked([shares[own]], responders, own, threshold, pads(own)) for own in responders}


def graph(count: int, connectivity: int) -> networkx.Graph:
    result = networkx.Graph()
    result.add_nodes_from(range(count))
    result.add_edges_from((i, j) for i in range(count) for j in neighbours(i, count, connectivity))
    return result


@pytest.mark.parametrize("threshold", range(1, 6))
def test_pads_join_responders_in_a_graph_that_survives_any_t_of_them(threshold: int) -> None:
    for count in range(2, 34):
        found = graph(count, threshold + 1)
        for i in range(count):
            own = neighbours(i, count, threshold + 1)
            assert list(own) == sorted(set(own)) and i not in own
            assert all(i in neighbours(j, count, threshold + 1) for j in own)
        if count > threshold + 1:
            assert networkx.node_connectivity(found) >= threshold + 1
            degrees = sorted(dict(found.degree).values())
            assert degrees[-2] <= threshold + 1 or count <= threshold + 2  # one vertex at most has one more
        if count <= 9:
            for gone in combinations(range(count), min(threshold, count - 2)):
                rest = found.copy()
                rest.remove_nodes_from(gone)
                assert networkx.is_connected(rest)


def test_a_ring_would_not_do() -> None:
    ring = networkx.cycle_graph(9)
    ring.remove_nodes_from([0, 4])
    assert not networkx.is_connected(ring)


@pytest.mark.parametrize(("holders", "threshold", "degree"), [(6, 1, 5), (11, 2, 5), (16, 3, 5), (16, 3, 2), (4, 1, 1)])
@pytest.mark.parametrize("dropped", [0, 2])
def test_pads_cancel_and_the_sum_is_the_value(holders: int, threshold: int, degree: int, dropped: int) -> None:
    responders = list(range(holders))[dropped if holders - dropped > degree * threshold else 0 :]
    code, randomness = LagrangeCode(holders, threshold), stream("cancel", holders, dropped)
    secret = randomness.elements((3, 5))
    shares, expected = np.ones((holders, 3, 5), np.uint64), np.ones((3, 5), np.uint64)
    for _ in range(degree):
        shares = PrimeField.mul(shares, code.encode(secret[None], randomness))
        expected = PrimeField.mul(expected, secret)
    sent = [masked([shares[own][0], shares[own][1:]], responders, own, threshold, keys()(own)) for own in responders]
    first, rest = unmasked(sent, [(5,), (2, 5)])
    assert first.tolist() == expected[0].tolist()
    assert rest.tolist() == expected[1:].tolist()


def test_nothing_to_open_is_an_empty_answer() -> None:
    assert masked([], [0, 1, 2], 0, 1, keys()(0)).shape == (0,)
    assert unmasked([np.zeros(0, np.uint64)] * 3, []) == []
    assert [part.tolist() for part in split(np.arange(5, dtype=np.uint64), [(), (2, 2)])] == [0, [[1, 2], [3, 4]]]


def test_one_history_more_and_the_sum_says_nothing() -> None:
    """Whoever saw something else has other pads: what comes out is as good as random, and differs from the value."""
    holders, threshold = 11, 2
    shares = LagrangeCode(holders, threshold).encode(np.zeros((1, 4000), np.uint64), stream("equivocation"))
    responders = list(range(holders))
    told = answers(shares, responders, threshold, keys("one")) | {
        own: masked([shares[own]], responders, own, threshold, keys("other")(own)) for own in (3, 4, 9)
    }
    (value,) = unmasked(list(told.values()), [(4000,)])
    assert np.count_nonzero(value) == 4000
    counts = np.bincount((value >> np.uint64(57)).astype(np.int64), minlength=16)
    assert stats.chisquare(counts).pvalue > 1e-4


def coefficients(factors: tuple[int, int], repetitions: int) -> tuple[Elements, Elements]:
    """What the server and holder 3 take for the linear and quadratic coefficients of an opened product, T = 1, c = 4.

    They know the pads that holder 3 has a part in, and treat what is left as if there were no others.
    """
    code, randomness = LagrangeCode(4, 1), stream("coefficients", factors)
    shares = np.ones((4, repetitions), np.uint64)
    for factor in factors:
        shares = PrimeField.mul(shares, code.encode(np.full((1, repetitions), factor, np.uint64), randomness))
    responders, of = [0, 1, 2, 3], keys(factors)
    sent = answers(shares, responders, 1, of)
    seen = []
    for own in (0, 1):
        pad = (
            Stream(of(own)(3)).elements((repetitions,))
            if 3 in masks.neighbours(own, 4, 2)
            else np.zeros(repetitions, np.uint64)
        )
        weight = PrimeField.inverse(weights_at_zero((0, 1, 2, 3))[own])
        seen.append(PrimeField.mul(PrimeField.sub(sent[own], pad), weight))
    half = PrimeField.inverse(np.array(2, np.uint64))
    product = np.array(factors[0] * factors[1], np.uint64)
    linear = PrimeField.mul(PrimeField.sub(seen[0], seen[1]), half)  # v(1) - v(-1) = 2 c1
    quadratic = PrimeField.sub(PrimeField.mul(PrimeField.add(seen[0], seen[1]), half), product)
    return linear, quadratic


def vanishing(factors: tuple[int, int]) -> float:
    """How often the linear coefficient is 0: always for 0 x 0, never for 0 x 5, if it can be seen."""
    return float((coefficients(factors, 500)[0] == 0).mean())


def split_polynomials(factors: tuple[int, int]) -> float:
    """How often c1^2 - 4 c0 c2 is a square: always for what is a product, in half of all cases for anything else."""
    linear, quadratic = coefficients(factors, 2000)
    four = np.array(4 * factors[0] * factors[1], np.uint64)
    discriminant = PrimeField.sub(PrimeField.mul(linear, linear), PrimeField.mul(four, quadratic))
    return float((PrimeField.power(discriminant, (P - 1) // 2) == 1).mean())


def test_answers_to_an_opened_product_tell_nothing_about_its_factors() -> None:
    assert vanishing((0, 0)) == vanishing((0, 5)) == 0
    assert abs(split_polynomials((6, 6)) - 0.5) < 0.06
    for factors in ((0, 0), (0, 5), (6, 6), (4, 9)):
        for coefficient in coefficients(factors, 4000):
            counts = np.bincount((coefficient >> np.uint64(57)).astype(np.int64), minlength=16)
            assert stats.chisquare(counts).pvalue > 1e-5


def test_without_pads_they_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "neighbours", lambda position, count, connectivity: ())
    assert (vanishing((0, 0)), vanishing((0, 5))) == (1, 0)
    assert split_polynomials((6, 6)) == 1
