from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secfpp.crypto import bounds
from secfpp.crypto.bounds import Bound, Challenge, digits_of
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.fixed_point import FixedPoint
from secfpp.crypto.projections import coefficients_of
from secfpp.crypto.randomness import Stream
from secfpp.crypto.sharing import LagrangeCode
from secfpp.errors import FieldRangeError
from secfpp.seeding import SystemEntropy
from support.long_updates import digits_for

CODEC = FixedPoint(2.5, 24)
CODE = LagrangeCode(7, 2, 3)
PROJECT, CHECK = b"p" * 32, b"c" * 32
P = PrimeField.p


def fresh() -> Stream:
    return Stream.fresh(SystemEntropy())


def bound_for(size: int, code: LagrangeCode = CODE) -> Bound:
    length = -(-size // code.blocks)
    return Bound(code.blocks, length, CODEC.most_squares(code.blocks * length))


def spread(bound: Bound, vector: np.ndarray) -> Elements:
    """As elements, [blocks * length]."""
    padded = np.zeros(bound.blocks * bound.length, np.int64)
    padded[: vector.size] = vector
    return PrimeField.lift(padded)


def checked(bound: Bound, vectors: list[Elements], proofs: list[Elements], code: LagrangeCode = CODE) -> list[bool]:
    """What the check finds, with the vectors and proofs shared and the answers decoded."""
    drawn = Challenge(bound, PROJECT, CHECK)
    shares = [code.encode(v.reshape(bound.blocks, -1), fresh()) for v in vectors]
    proofs = [code.encode(proof, fresh()) for proof in proofs]
    answers = {
        h: drawn.answers(np.stack([s[h] for s in shares]), np.stack([q[h] for q in proofs]))
        for h in range(code.holders)
    }
    found: list[bool] = drawn.good(code.decode(answers)).tolist()
    return found


def of_norm(size: int, norm: float, seed: int = 0) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=size)
    return np.rint(vector * (norm / np.linalg.norm(vector)) * 2**24).astype(np.int64)


@pytest.mark.parametrize("code", [LagrangeCode(4, 2, 2), CODE, LagrangeCode(16, 2, 8), LagrangeCode(16, 5, 6)])
@pytest.mark.parametrize("size", [1, 2, 7, 512])
def test_vectors_up_to_the_limit_pass(code: LagrangeCode, size: int) -> None:
    bound = bound_for(size, code)
    vectors = [np.zeros(size, np.int64), of_norm(size, 1e-3), of_norm(size, 2.5), -of_norm(size, 2.5, 1)]
    vectors.append(np.array([int(CODEC.largest), *[0] * (size - 1)]))
    proofs = [bound.prove(PROJECT, [(vector, fresh())])[0] for vector in vectors]
    assert checked(bound, [spread(bound, v) for v in vectors], proofs, code) == [True] * len(vectors)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 2.5), st.integers(1, 60))
def test_honest_proofs_hold_for_all_seeds(seed: int, norm: float, size: int) -> None:
    bound, vector = bound_for(size), of_norm(size, norm, seed)
    assert checked(bound, [spread(bound, vector)], [bound.prove(PROJECT, [(vector, fresh())])[0]]) == [True]


def test_who_proves_a_vector_that_is_too_long_is_stopped_at_home() -> None:
    with pytest.raises(FieldRangeError, match="should have been shortened"):
        bound_for(40).prove(PROJECT, [(of_norm(40, 2.6), fresh())])


def lied(bound: Bound, vector: Elements, digits: np.ndarray) -> bool:
    (found,) = checked(bound, [vector], [bound.prove_digits(vector[None], digits[None], [fresh()])[0]])
    return found


LONG = [2.5001, 3.0, 20.0, 1e3, 1e6]


@pytest.mark.parametrize("norm", LONG)
def test_longer_vectors_do_not_pass_with_any_bits_that_fit_best(norm: float) -> None:
    bound = bound_for(40)
    vector = spread(bound, of_norm(40, norm))
    assert not lied(bound, vector, digits_for(bound, vector, PROJECT))


def test_bits_that_are_none_would_let_a_long_vector_pass() -> None:
    """What each part of the check is for: a digit may be anything where bits are not checked."""
    bound = bound_for(40)
    vector = spread(bound, of_norm(40, 100.0))
    digits = np.zeros(bound.bits, np.uint64)
    coefficients = PrimeField.lift(coefficients_of(PROJECT, bound.projections, vector.size))
    projected = PrimeField.matmul(coefficients, vector[:, None])[:, 0].tolist()
    digits[: -len(bound.slack) : len(bound.digits)] = [(y + bound.reach) % P for y in projected]
    digits[-len(bound.slack)] = (bound.limit - sum(int(v) ** 2 for v in vector.tolist())) % P
    proof = bound.prove_digits(vector[None], digits[None], [fresh()])[0]
    assert checked(bound, [vector], [proof]) == [False]
    drawn = Challenge(bound, PROJECT, CHECK)
    opened = CODE.decode(answered(drawn, vector, proof))
    bits, squares = opened[:, :, : bound.bit_rows.count], slice(bound.bit_rows.count, 2 * bound.bit_rows.count)
    opened[:, :, squares] = PrimeField.mul(bits, bits)
    assert drawn.good(opened).tolist() == [True]


def answered(drawn: Challenge, vector: Elements, proof: Elements) -> dict[int, Elements]:
    shares = CODE.encode(vector.reshape(drawn.bound.blocks, -1), fresh())
    proofs = CODE.encode(proof, fresh())
    return {h: drawn.answers(shares[h][None], proofs[h][None]) for h in range(CODE.holders)}


def wrapping(bound: Bound) -> Elements:
    """A long vector whose squares add up to little modulo p: 2^31 and 2^30 times square roots of small numbers."""
    rng = np.random.default_rng(1)
    while True:
        a, b, c = (int(x) for x in rng.integers(1, P, 3))
        rest = (bound.limit // 2 - a * a - b * b - c * c) % P
        root = pow(rest, (P + 1) // 4, P)
        if root * root % P == rest:
            return spread_elements(bound, [a, b, c, root])


def spread_elements(bound: Bound, numbers: list[int]) -> Elements:
    padded = np.zeros(bound.blocks * bound.length, np.uint64)
    padded[: len(numbers)] = numbers
    return padded


def test_squares_that_wrap_are_found_by_projections_alone() -> None:
    bound = bound_for(40)
    vector = wrapping(bound)
    digits = digits_for(bound, vector, PROJECT)
    slack = sum(int(bit) * int(weight) for bit, weight in zip(digits[-len(bound.slack) :], bound.slack, strict=True))
    total = sum(int(v) ** 2 for v in vector.tolist()) + slack
    assert total % P == bound.limit  # the check of squares alone is content
    assert not lied(bound, vector, digits)


def test_projections_by_signs_alone_would_miss_two_halves_of_p() -> None:
    bound = bound_for(40)
    halves = spread_elements(bound, [(P - 1) // 2, (P - 1) // 2])

    def in_range(coefficients: np.ndarray) -> float:
        projected = PrimeField.lower(PrimeField.matmul(PrimeField.lift(coefficients), halves[:, None])[:, 0])
        return float((np.abs(projected) <= bound.reach).mean())

    drawn = coefficients_of(PROJECT, 2000, halves.size)
    assert 0.4 < in_range(drawn) < 0.6  # all projections: with probability 2^-37 or so
    assert in_range(np.where(drawn > 0, 1, -1)) == 1.0


SHAPES = {
    "spike": np.eye(1, 300)[0],
    "pair": np.eye(2, 300).sum(0),
    "few": np.eye(16, 300).sum(0),
    "flat": np.ones(300),
    "gauss": np.random.default_rng(2).normal(size=300),
    "powers": 0.8 ** np.arange(300),
    "spike and rest": np.ones(300) / 300 + np.eye(1, 300)[0],
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_projection_is_out_of_range_as_often_as_the_argument_needs(shape: np.ndarray) -> None:
    """Vectors whose squares just wrap, the shortest that must be found: fewer in range than the count provides for."""
    bound = bound_for(300)
    vector = shape * ((P - bound.limit) ** 0.5 / np.linalg.norm(shape))
    projected = coefficients_of(PROJECT, 4000, 300) @ vector
    passing = (np.abs(projected) <= bound.reach).mean()
    assert passing <= 2 ** (-bounds.SOUNDNESS / bound.projections) + 0.03


@pytest.mark.parametrize("numerator", [1, 2, 3])
def test_entries_near_fractions_of_p_are_out_of_range_half_of_the_time(numerator: int) -> None:
    """Where products wrap to small numbers, half of the coefficients at most lead to one."""
    bound = bound_for(40)
    for denominator in (2, 3, 5, 7, 21):
        entry = numerator * P // denominator % P
        if min(entry, P - entry) > 2 * bound.reach:
            products = [c * entry % P for c in range(-10, 11)]
            assert sum(min(y, P - y) <= bound.reach for y in products) <= 11


def test_coefficients_are_uniform() -> None:
    drawn = coefficients_of(b"s" * 32, 50, 1000)
    assert drawn.shape == (50, 1000)
    assert np.array_equal(drawn, np.rint(drawn))
    counts = np.bincount(drawn.reshape(-1).astype(int) + 10)
    assert len(counts) == 21
    assert np.abs(counts - 50_000 / 21).max() < 6 * (50_000 / 21) ** 0.5
    assert not np.array_equal(drawn, coefficients_of(b"t" * 32, 50, 1000))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 1000, 2**40 + 5])
def test_digits_make_every_number_in_range_and_no_other(count: int) -> None:
    weights = bounds._digit_weights(count)
    assert sum(weights.tolist()) == count - 1
    assert all(weight >= 1 for weight in weights.tolist())
    numbers = np.unique(np.linspace(0, count - 1, 50).astype(np.int64))
    bits = digits_of(numbers, weights).reshape(len(numbers), -1)
    assert set(bits.reshape(-1).tolist()) <= {0, 1}
    assert (bits @ weights.astype(np.int64) == numbers).all()


@pytest.mark.parametrize("part", ["bits", "bit squares", "bit masks", "masks", "squares", "pads"])
def test_every_part_of_a_proof_counts(part: str) -> None:
    bound = bound_for(40)
    vector = of_norm(40, 1.0)
    proof = bound.prove(PROJECT, [(vector, fresh())])[0]
    start = 0
    for name, size in bound._parts.items():
        if name == part:
            proof[0, start] = PrimeField.add(proof[0, start], np.uint64(1))
        start += size
    assert checked(bound, [spread(bound, vector)], [proof]) == [False]


def test_another_vector_than_was_proven_does_not_pass() -> None:
    bound = bound_for(40)
    vector = of_norm(40, 1.0)
    proof = bound.prove(PROJECT, [(vector, fresh())])[0]
    other = vector.copy()
    other[3] += 1
    assert checked(bound, [spread(bound, other)], [proof]) == [False]


def views(vector: np.ndarray, holders: list[int], count: int, **broken: bool) -> np.ndarray:
    """What `holders` and the server see, in `count` runs with fresh randomness: shares of proof, what is opened."""
    bound = Bound(2, 2, 50)
    code = LagrangeCode(5, 2, 2)
    rows = []
    for _ in range(count):
        drawn = Challenge(bound, PROJECT, CHECK)
        proof = bound.prove(PROJECT, [(vector, fresh())])[0]
        parts = bound._split(proof)
        for name in ("masks", "pads"):
            if broken.get(name):
                parts[name][:] = 0
        shares = code.encode(spread(bound, vector).reshape(2, -1), fresh())
        proofs = code.encode(proof, fresh())
        answers = {h: drawn.answers(shares[h][None], proofs[h][None])[0] for h in range(5)}
        seen = [*(shares[h] for h in holders), *(proofs[h] for h in holders), *answers.values(), *code.decode(answers)]
        rows.append(np.concatenate(seen))
    return np.stack(rows).astype(np.float64) / P


@pytest.mark.parametrize("broken", [None, "masks", "pads"])
def test_what_is_opened_tells_nothing_of_the_vector(broken: str | None) -> None:
    """Every single number of a view is uniform for two vectors, and is not where masks or pads are left out."""
    options = {broken: True} if broken else {}
    one, other = (views(np.array(v), [0, 3], 400, **options) for v in ([3, -2, 1, 0], [0, 0, 0, -5]))
    worst = 0.0
    for column, another in zip(one.T, other.T, strict=True):
        both = np.sort(np.concatenate([column, another]))
        gap = np.searchsorted(np.sort(column), both, "right") - np.searchsorted(np.sort(another), both, "right")
        worst = max(worst, float(np.abs(gap).max()) / len(column))
    assert (worst > 0.5) is bool(broken)


@pytest.mark.parametrize(
    ("clip", "bits", "works"), [(2.5, 24, True), (10.0, 22, True), (10.0, 24, False), (1.0, 40, False)]
)
def test_limits_that_could_wrap_unseen_are_refused(clip: float, bits: int, works: bool) -> None:
    limit = FixedPoint(clip, bits).most_squares(512)
    if works:
        bound = Bound(8, 64, limit)
        share, variance = 2 * bound.reach / (P - limit) ** 0.5, 110 / 3
        skew = 110**2 / 42 / variance**1.5
        cases = [
            max(share / t / 21 + 1 / 21, share / (2 * np.pi * variance) ** 0.5 + 1.12 * skew * t)
            for t in np.linspace(0.01, 1, 500)
        ]
        passing = max(min(cases), 11 / 21)
        assert passing**bound.projections <= 2**-31.5
        assert (passing - 0.01) ** (bound.projections - 2) > 2**-32
        assert 2 * bound.projections * np.exp(-(bound.reach**2) / (2 * variance * limit)) <= 2**-40
    else:
        with pytest.raises(FieldRangeError, match="use fewer bits or a smaller clip"):
            Bound(8, 64, limit)


def test_a_challenge_at_a_secret_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = Challenge(bound_for(40), PROJECT, CHECK)
    assert drawn.point > 1000
    at_secret = replace(drawn)
    at_secret.__dict__["_drawn"] = np.array([3, *drawn._drawn[1:]], np.uint64)
    with pytest.raises(FieldRangeError, match="holds a secret"):
        at_secret.__post_init__()
