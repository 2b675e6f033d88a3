from __future__ import annotations

import importlib.util
import sys
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats

from secfpp.crypto import comparison
from secfpp.crypto.arithmetic import Computation, Pool, Shared, opened
from secfpp.crypto.comparison import Comparator, characters, one_hot
from secfpp.crypto.field import PrimeField
from secfpp.errors import FieldRangeError
from support.shares import ChosenPool, Circuit, evaluate, in_the_clear

LARGEST = (1 << 59) // 5 - 1
"""A bound that takes all 60 bits with T = 3."""


def interesting(bound: int, rng: np.random.Generator, uniform: int = 60) -> np.ndarray:
    """0, the bound, everything next to a power of two, numbers of all magnitudes; of either sign."""
    near = {0, 1, bound, bound - 1, bound // 2, bound // 3}
    for power in range(bound.bit_length()):
        near |= {(1 << power) - 1, 1 << power, (1 << power) + 1}
    positive = np.array(sorted(x for x in near if 0 <= x <= bound), np.int64)
    magnitudes = rng.integers(0, bound + 1, uniform) >> rng.integers(0, bound.bit_length() + 1, uniform)
    return np.concatenate([positive, -positive, rng.integers(-bound, bound + 1, uniform), magnitudes, -magnitudes])


def negative(comparator: Any, count: int) -> Circuit:
    """The circuit that opens the signs of `count` integers."""

    def circuit(x: Shared, pool: Pool) -> Computation[np.ndarray]:
        drawn = yield from comparator.prepare(count, pool)
        masks = yield from drawn.expand(pool)
        result = yield from masks.negative(x, pool)
        assert result.degree <= pool.limit - 1
        (public,) = yield from opened([result])
        return PrimeField.lower(public)

    return circuit


def with_every_edge(module: Any, bound: int, threshold: int, limit: int, levels: int, bits: int | None) -> np.ndarray:
    """Values [n] whose sign came out wrong for some choice of the masks, among edges and random ones."""
    comparator = module.Comparator.plan(bound, threshold, limit, levels, bits)
    rng = np.random.default_rng(bound % 1000)
    x = interesting(bound, rng)
    wrong = []
    for top, low in product((-1, 1, 0), ("lowest", "highest", "random")):
        signs = rng.choice([-1, 1], (comparator.w, len(x))) if top == 0 else np.full((comparator.w, len(x)), top)
        pool = ChosenPool(threshold, limit, signs, low)
        found = in_the_clear(negative(comparator, len(x)), x, pool)
        wrong.append(x[found != (x < 0)])
    return np.concatenate(wrong)


EXACT = [(5, levels, threshold) for levels in (0, 1) for threshold in (1, 2, 3)] + [(3, 2, 1), (3, 2, 2), (3, 1, 2)]


@pytest.mark.parametrize("bound", [1, 2, 100, 64516])
@pytest.mark.parametrize(("limit", "levels", "threshold"), EXACT)
def test_every_sign_is_right_whatever_the_masks_are(bound: int, limit: int, levels: int, threshold: int) -> None:
    assert Comparator.plan(bound, threshold, limit, levels).exact
    assert with_every_edge(comparison, bound, threshold, limit, levels, None).size == 0


@pytest.mark.parametrize("bound", [(1 << 40) + 5, LARGEST])
@pytest.mark.parametrize(("limit", "levels", "threshold"), [s for s in EXACT if s[0] ** s[1] > 4])
def test_every_sign_of_large_numbers_is_right(bound: int, limit: int, levels: int, threshold: int) -> None:
    assert with_every_edge(comparison, bound, threshold, limit, levels, None).size == 0


@pytest.mark.parametrize(("holders", "threshold", "limit", "levels"), [(6, 1, 5, 1), (16, 3, 5, 1), (7, 2, 3, 2)])
@pytest.mark.parametrize("bound", [7, 64516, LARGEST])
def test_every_sign_is_right_on_shares(holders: int, threshold: int, limit: int, levels: int, bound: int) -> None:
    x = interesting(bound, np.random.default_rng(1))
    comparator = Comparator.plan(bound, threshold, limit, levels)
    evaluation = evaluate(negative(comparator, len(x)), x, holders=holders, threshold=threshold, limit=limit)
    assert all(np.array_equal(found, x < 0) for found in evaluation.results)
    widest = max(comparator.widths)
    characters_ = 0 if widest == 1 else 1 if widest <= limit else 2
    assert len(evaluation.openings) == 1 + characters_ + 1 + levels + 1  # signs, digits, the difference, the result


@pytest.mark.slow
@pytest.mark.parametrize(("limit", "levels", "threshold"), [s for s in EXACT if s[0] ** s[1] > 4])
def test_hundred_thousand_uniform_numbers(limit: int, levels: int, threshold: int) -> None:
    rng = np.random.default_rng(threshold)
    for bound in (64516, 1 << 40, LARGEST):
        comparator = Comparator.plan(bound, threshold, limit, levels)
        for _ in range(4):
            x = interesting(bound, rng, 8000)
            pool = ChosenPool(threshold, limit, rng.choice([-1, 1], (comparator.w, len(x))), "random", rng.random())
            assert np.array_equal(in_the_clear(negative(comparator, len(x)), x, pool), x < 0)


@pytest.mark.parametrize("bits", [20, 24])
@pytest.mark.parametrize("threshold", [1, 2, 3])
@pytest.mark.parametrize("bound", [1 << 35, LARGEST])
def test_fewer_bits_are_wrong_of_small_negative_numbers_only(bits: int, threshold: int, bound: int) -> None:
    comparator = Comparator.plan(bound, threshold, 5, 0, bits)
    assert comparator.w == bits and not comparator.exact
    wrong = with_every_edge(comparison, bound, threshold, 5, 0, bits)
    assert wrong.size > 0
    assert wrong.max() < 0
    assert wrong.min() > -comparator.blur
    assert comparator.blur < bound >> (bits - 6)


def test_few_bits_are_all_bits_of_small_numbers() -> None:
    comparator = Comparator.plan(1000, 1, 5, 0, 24)
    assert comparator.exact and comparator.blur == 1 and comparator.w < 20
    assert with_every_edge(comparison, 1000, 1, 5, 0, 24).size == 0


def test_bounds_that_need_more_bits_than_there_are_are_refused() -> None:
    assert Comparator.plan(LARGEST, 3, 5, 1).w == 60
    with pytest.raises(FieldRangeError, match=rf"numbers up to {LARGEST * 2} takes 61 bits, 60 are there"):
        Comparator.plan(LARGEST * 2, 3, 5, 1)


MUTANTS = {
    "no fold of the sign": (
        "PrimeField.add(PrimeField.sub(greater[-1], above), digit[-1] >> np.uint64(bits - 1))",
        "greater[-1]",
    ),
    "half a fold of the sign": ("PrimeField.sub(equal[-1], same)", "equal[-1]"),
    "the offset on the other side": ("scaled + (1 << self.k) + mask", "scaled - (1 << self.k) + mask"),
    "wrong weights of bits": ("drawn.weighed()", "drawn[::-1].weighed()"),
    "wrong place of digits": (
        "row, start = row + count, start + bits * count\n",
        "row, start = row + count, start + bits * count - 1\n",
    ),
    "no room for carries": ("((carry + 2) * (bound + 1))", "((bound + 1))"),
    "equal taken for greater": ("muladd(same, g[: len(higher)], higher)", "add(same, higher)"),
    "no low bits in the mask": (".turn(self.k - 1)", ".turn(self.k)"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_check_of_signs_finds_mistakes(mutant: str, tmp_path: Path) -> None:
    assert any(
        with_every_edge(mutated(*MUTANTS[mutant], tmp_path), bound, 2, 5, 1, None).size for bound in (64516, 1 << 40)
    )


def mutated(text: str, instead: str, folder: Path) -> ModuleType:
    """The module `secfpp.crypto.comparison` with one mistake."""
    source = Path(comparison.__file__).read_text(encoding="utf-8")
    assert source.count(text) == 1, f"the module does not contain {text!r} once: write this mistake anew"
    path = folder / "mutated_comparison.py"
    path.write_text(source.replace(text, instead), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("mutated_comparison", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[spec.name]
    return module


@pytest.mark.parametrize("x", [0, 1, -1, 12345, 64516, -64516])
def test_what_is_opened_is_uniform_whatever_is_compared(x: int) -> None:
    comparator = Comparator.plan(64516, 1, 5, 1)
    evaluation = evaluate(negative(comparator, 3000), np.full(3000, x), seed=x)
    public = next(values[0] for values in evaluation.openings if values[0].shape == (3000,))  # the first is masked
    for shift in (57, 30, 0):  # 16 classes of the top, middle and low bits
        counts = np.bincount((public >> np.uint64(shift)).astype(np.int64) % 16, minlength=16)
        assert stats.chisquare(counts).pvalue > 1e-5


@pytest.mark.parametrize("bits", [1, 2, 3, 5, 6, 8])
@pytest.mark.parametrize("limit", [3, 5])
def test_characters_give_one_hot_vectors(bits: int, limit: int) -> None:
    numbers = np.random.default_rng(bits).integers(0, 1 << bits, 40)
    signs = 1 - 2 * ((numbers >> np.arange(bits)[:, None]) & 1)

    def circuit(x: Shared, pool: Pool) -> Computation[np.ndarray]:
        found = yield from characters(x, pool)
        (public,) = yield from opened([Shared(one_hot(found.values, bits), found.degree)])
        return public

    found = evaluate(circuit, signs, limit=limit).result
    assert np.array_equal(found, np.arange(1 << bits)[:, None] == numbers)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_results_are_of_no_higher_degree_than_planned(degree: int) -> None:
    comparator = Comparator.plan(64516, 1, 5, 1, degree=degree)
    x = interesting(64516, np.random.default_rng(degree))

    def circuit(x: Shared, pool: Pool) -> Computation[tuple[np.ndarray, int]]:
        drawn = yield from comparator.prepare(len(x.values), pool)
        masks = yield from drawn.expand(pool)
        result = yield from masks.negative(x, pool)
        (public,) = yield from opened([result])
        return PrimeField.lower(public), result.degree

    found, reached = evaluate(circuit, x).result
    assert reached <= degree
    assert np.array_equal(found, x < 0)
