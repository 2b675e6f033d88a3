"""The compiled kernel gives what numpy gives, element by element."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secfpp.crypto import (
    arithmetic,
    checks,
    comparison,
    field,
    kernel,
    masks,
    material,
    minimum,
    randomness,
    sharing,
)
from secfpp.crypto.arithmetic import Shared
from secfpp.crypto.field import PrimeField as F
from secfpp.crypto.masks import masked
from secfpp.crypto.material import extract
from secfpp.crypto.randomness import Stream
from secfpp.crypto.sharing import LagrangeCode

pytestmark = pytest.mark.skipif(kernel.compiled is None, reason="no kernel in this installation")
MODULES = (arithmetic, checks, comparison, field, masks, material, minimum, randomness, sharing)
EDGES = np.array([0, 1, 2, F.half, F.half + 1, F.p - 2, F.p - 1], np.uint64)
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(autouse=True, scope="module", params=["vectors", "plain"])
def products(request: pytest.FixtureRequest) -> Iterator[None]:
    """With and without the processor's vectors."""
    wanted = request.param == "vectors"
    if kernel.compiled.vectors(wanted) != wanted:
        pytest.skip("this processor has no vectors for products")
    yield
    kernel.compiled.vectors(True)


def in_numpy(way: Callable[[], Any]) -> Any:
    """What `way` gives without the kernel."""
    with pytest.MonkeyPatch.context() as patch:
        for module in MODULES:
            patch.setattr(module, "compiled", None)
        return way()


def elements(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Uniform ones, with all that is special among them."""
    drawn = rng.integers(0, F.p, shape, dtype=np.uint64)
    return np.where(rng.random(shape) < 0.3, rng.choice(EDGES, shape), drawn)


def same(way: Callable[[], Any]) -> None:
    np.testing.assert_array_equal(way(), in_numpy(way), strict=True)


SHAPES = [
    ((), ()), ((5,), ()), ((), (5,)), ((0,), ()), ((3, 4), (3, 4)), ((3, 4), (4,)), ((3, 1), (1, 4)),
    ((2, 3, 1), (3, 7)), ((40_000,), (1,)), ((3, 40_000), (3, 1)), ((70_000, 3), (3,)), ((0, 4), (4,)),
]  # fmt: skip


@pytest.mark.parametrize("way", [F.add, F.sub, F.mul])
@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_elementwise(way: Any, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    a, b = elements(rng, *left), elements(rng, *right)
    same(lambda: way(a, b))
    assert np.array_equal(way(a, b), way(np.broadcast_to(a, np.broadcast_shapes(left, right)), b))


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 1031)])
def test_products_and_sums_in_one(shape: tuple[int, ...]) -> None:
    a, b, c = (elements(np.random.default_rng(seed), *shape) for seed in range(3))
    same(lambda: F.muladd(a, b, c))
    assert np.array_equal(F.muladd(a, b, c), F.add(F.mul(a, b), c))
    edges = [part.reshape(-1) for part in np.meshgrid(EDGES, EDGES, EDGES)]
    same(lambda: F.muladd(*edges))


@pytest.mark.parametrize("way", [F.add, F.sub, F.mul])
def test_every_pair_of_what_is_special(way: Any) -> None:
    a, b = (part.reshape(-1) for part in np.meshgrid(EDGES, EDGES))
    same(lambda: way(a, b))
    same(lambda: way(a[::2], b[::2]))


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 70), st.integers(1, 140), st.integers(1, 20), st.sampled_from([(), (1,), (3,)]))
def test_matrix_products(seed: int, rows: int, inner: int, columns: int, batch: tuple[int, ...]) -> None:
    rng = np.random.default_rng(seed)
    a, b = elements(rng, *batch, rows, inner), elements(rng, *batch, inner, columns)
    same(lambda: F.matmul(a, b))


@pytest.mark.parametrize("rows", [1, 3, 33, 100])
@pytest.mark.parametrize("columns", range(1, 10))
def test_matrix_products_with_one_for_all(rows: int, columns: int) -> None:
    rng = np.random.default_rng(columns)
    a, b = elements(rng, 2, 3, rows, 35), elements(rng, 35, columns)
    same(lambda: F.matmul(a, b))
    same(lambda: F.matmul(a[..., ::2, :], b))


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.lists(st.integers(1, 40), min_size=1, max_size=3), st.integers(-3, 2))
def test_sums(seed: int, shape: list[int], axis: int) -> None:
    a = elements(np.random.default_rng(seed), *shape)
    axis = max(min(axis, len(shape) - 1), -len(shape))
    same(lambda: F.sum_axis(a, axis))
    same(lambda: F.sum_axis(np.full(shape, F.p - 1, np.uint64), axis))


def test_sums_of_nothing() -> None:
    for shape, axis in (((0, 3), 0), ((0, 3), 1), ((2, 0), -1)):
        same(lambda shape=shape, axis=axis: F.sum_axis(np.zeros(shape, np.uint64), axis))


@pytest.mark.parametrize("columns", [2, 9])
def test_sums_of_the_largest_products_do_not_overflow(columns: int) -> None:
    largest = np.full((columns, 5000), F.p - 1, np.uint64)
    assert F.matmul(largest, largest.T).tolist() == [[5000] * columns] * columns
    half = np.full((columns, 5000), F.half + (1 << 52) - 1, np.uint64)
    assert F.matmul(half, half.T).tolist() == [[5000 * int(half[0, 0]) ** 2 % F.p] * columns] * columns


@pytest.mark.parametrize("count", [0, 1, 40, 61])
def test_rows_weighed_by_powers_of_two(count: int) -> None:
    rows = elements(np.random.default_rng(count), count, 3, 400)
    same(lambda: F.weighed(rows))
    expected = sum((row.astype(object) << j for j, row in enumerate(rows)), np.zeros((3, 400), object)) % F.p
    assert F.weighed(rows).tolist() == expected.tolist()


def test_inverse_roots() -> None:
    square = F.mul(*[np.maximum(elements(np.random.default_rng(1), 3, 700), np.uint64(1))] * 2)
    same(lambda: arithmetic.inverse_square_root(square))


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(1, 122), st.integers(1, 9), st.integers(1, 3000))
def test_shares(seed: int, holders: int, threshold: int, count: int) -> None:
    code = LagrangeCode(max(holders, threshold + 1), threshold)
    data, key = elements(np.random.default_rng(seed), 1, count), seed.to_bytes(32, "big")
    same(lambda: code.encode(data, Stream(key)))


def test_shares_of_more_than_a_block() -> None:
    data = elements(np.random.default_rng(1), 1, 20_001)
    same(lambda: LagrangeCode(16, 2).encode(data, Stream(bytes(32))))


def test_what_is_drawn_and_what_answers_are_masked_by() -> None:
    values = [elements(np.random.default_rng(2), 3, 7), elements(np.random.default_rng(3), 20_000)]
    same(lambda: Stream(bytes(32)).elements((5, 1000)))
    for own in (0, 3, 9):
        same(lambda own=own: masked(values, [0, 2, 3, 5, 9], own, 2, lambda other: bytes([own ^ other]) * 32))


def test_the_word_of_all_ones_is_drawn_as_zero() -> None:
    words, drawn = np.array([2**64 - 1, 2**64 - 8, 8, 7], np.uint64), np.empty(4, np.uint64)
    kernel.compiled.elements(words, drawn)
    assert drawn.tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("threshold", [1, 2, 5])
def test_extracted_elements(threshold: int) -> None:
    dealt = [elements(np.random.default_rng(i), 300) for i in range(2 * threshold + 2)]
    same(lambda: extract(dealt, threshold))
    same(lambda: extract(dealt, threshold, 17, 350))


@pytest.mark.parametrize("bits", range(1, 9))
def test_digits_compared(bits: int) -> None:
    rng = np.random.default_rng(bits)
    characters = elements(rng, (1 << bits) - 1, 2000)
    digits = rng.integers(0, 1 << bits, 2000)
    same(lambda: np.stack(comparison._at(characters, digits, bits)))


@pytest.mark.parametrize("bits", range(1, 7))
@pytest.mark.parametrize("shape", [(1,), (3, 257)])
def test_transforms_and_characters(bits: int, shape: tuple[int, ...]) -> None:
    table = elements(np.random.default_rng(bits), 1 << bits, *shape)
    same(lambda: comparison.walsh_hadamard(table, bits))
    same(lambda: comparison.walsh_hadamard(table, bits, whole=True))
    pool: Any = SimpleNamespace(limit=8)

    def characters() -> np.ndarray:
        with pytest.raises(StopIteration) as stop:
            next(comparison.characters(Shared(table[:bits], 1), pool))
        found: Shared = stop.value.value
        assert found.degree == bits
        return found.values

    same(characters)


@pytest.mark.parametrize(("bits", "candidates"), [(1, 1), (1, 2), (3, 5), (3, 8), (5, 20)])
@pytest.mark.parametrize("count", [1, 600])
def test_convolutions(bits: int, candidates: int, count: int) -> None:
    rng = np.random.default_rng(bits)
    loss, table = elements(rng, candidates, count), elements(rng, 1 << bits, 1 << bits, count)
    same(lambda: minimum._convolved(table[0], loss))
    same(lambda: minimum._convolved(table, loss))


def test_arrays_that_do_not_go_together_are_refused() -> None:
    three, four, compiled = np.zeros(3, np.uint64), np.zeros(4, np.uint64), kernel.compiled
    for wrong in (
        lambda: compiled.add(three, three, four),
        lambda: compiled.mul(three, four, four),
        lambda: compiled.elements(three, four),
        lambda: compiled.pad(three, four, True),
        lambda: compiled.muladd(three, three, three, four),
        lambda: compiled.muladd(three, four, three, three),
        lambda: compiled.hadamard(three, three, 1, 0),
        lambda: compiled.hadamard(four, four, 1, 61),
        lambda: compiled.weigh(four, three),
        lambda: compiled.weigh(np.zeros(62, np.uint64), three[:1].copy()),
        lambda: compiled.characters(four, four, 2),
        lambda: compiled.root(three, four),
        lambda: compiled.convolve(four, four, four, 3),
        lambda: compiled.convolve(three, four, four, 2),
        lambda: compiled.encode(three, three, four, 2, 0),
        lambda: compiled.encode(three, three, np.zeros(6, np.uint64), 2, 1),
        lambda: compiled.matmul(three, four, four, 1, 3, 1),
        lambda: compiled.sum(four, three, 1),
        lambda: compiled.sum(four, three[:2].copy(), 3),
        lambda: compiled.sum(four, three[:1].copy(), 0),
        lambda: compiled.compare(three, np.array([2], np.uint64), three[:1].copy(), three[:1].copy(), 1),
        lambda: compiled.compare(three[:1], np.array([2], np.uint64), three[:1].copy(), three[:1].copy(), 1),
    ):
        with pytest.raises(ValueError, match="do not go together"):
            wrong()
    with pytest.raises(TypeError, match="2 arguments, not 3"):
        compiled.add(three, three)


def test_an_array_that_may_not_be_written_to_is_not() -> None:
    three = np.zeros(3, np.uint64)
    three.setflags(write=False)
    with pytest.raises(ValueError, match="read-only"):
        kernel.compiled.add(three, three, three)


def test_products_go_without_vectors_if_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    possible = kernel.compiled.vectors(True)
    monkeypatch.setenv("SECFPP_KERNEL", "plain")
    kernel._load()
    monkeypatch.delenv("SECFPP_KERNEL")
    assert kernel.uses_vectors() is False
    kernel._load()
    assert kernel.uses_vectors() is possible


def test_numpy_does_it_all_if_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECFPP_KERNEL", "numpy")
    assert kernel._load() is None
    monkeypatch.delenv("SECFPP_KERNEL")
    assert kernel._load() is not None
    monkeypatch.setattr(kernel, "REVISION", -1)
    assert kernel._load() is None
