from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from secfpp.crypto.bounds import Bound, challenge
from secfpp.crypto.field import PrimeField
from secfpp.crypto.fixed_point import FixedPoint
from secfpp.crypto.randomness import Stream
from secfpp.crypto.sharing import LagrangeCode
from secfpp.errors import ProtocolError
from secfpp.secure import tasks
from secfpp.secure.means.bounded import bound_of
from secfpp.secure.means.client import code_for
from secfpp.secure.tasks import Task, Work, side_by_side

PROJECT, CHECK = b"p" * 32, b"c" * 32
CODEC = FixedPoint(2.5, 24)


def stream(number: int) -> Stream:
    return Stream(bytes([number]) * 32)


def updates(bound: Bound, count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(count)
    return [rng.integers(-1000, 1000, bound.blocks * bound.length - i) for i in range(count)]


@pytest.mark.parametrize("holders", [4, 5, 16])
@pytest.mark.parametrize("length", [1, 7, 64])
def test_what_is_done_together_is_what_each_does_alone(holders: int, length: int) -> None:
    code = code_for(holders, 2)
    bound = bound_of(code, length, CODEC)
    vectors = updates(bound, 3)
    alone = [bound.prove(PROJECT, [(vector, stream(i))])[0] for i, vector in enumerate(vectors)]
    proofs = bound.prove(PROJECT, [(vector, stream(i)) for i, vector in enumerate(vectors)])
    assert np.array_equal(proofs, alone)
    shares = [code.encode(proof, stream(10 + i)) for i, proof in enumerate(proofs)]
    dealt = code.encode_each([(proof, stream(10 + i)) for i, proof in enumerate(proofs)])
    assert all(np.array_equal(one, other) for one, other in zip(shares, dealt, strict=True))
    drawn, blocks = challenge(bound, PROJECT, CHECK), np.zeros((bound.blocks, length), np.uint64)
    held = [code.encode(PrimeField.add(blocks, np.uint64(i)), stream(20 + i)) for i in range(3)]
    of_holders = [
        (np.stack([each[h] for each in held[: h + 1]]), np.stack([each[h] for each in shares[: h + 1]]))
        for h in range(3)  # who answers about one client, about two, about three
    ]
    for own, answers in zip(of_holders, drawn.answers_each(of_holders), strict=True):
        assert np.array_equal(answers, drawn.answers(*own))


def test_long_data_is_shared_as_it_is_alone() -> None:
    code, data = LagrangeCode(5, 2, 2), np.arange(2 * 9000, dtype=np.uint64).reshape(2, 9000)
    dealt = code.encode_each([(data, stream(1)), (data, stream(2))])
    assert np.array_equal(dealt[1], code.encode(data, stream(2)))


class Counted:
    """Work that notes how much of it is done at once."""

    def __init__(self) -> None:
        self.done: list[list[int]] = []

    def double(self, own: Sequence[int]) -> list[int]:
        self.done.append(list(own))
        return [2 * number for number in own]


def quadrupled(counted: Counted, number: int, shape: tuple[int, ...]) -> Task[int]:
    if number < 0:
        raise ProtocolError(f"{number} is refused")
    twice = yield Work(counted.double, (), number, shape)
    if twice == 10:
        raise ValueError("ten")
    result: int = yield Work(counted.double, (), twice, shape)
    return result


def test_tasks_go_on_where_others_fail() -> None:
    counted = Counted()
    results: list[Any] = side_by_side([quadrupled(counted, number, (1,)) for number in (1, -1, 5, 3)])
    assert results[0] == 4 and results[3] == 12
    assert isinstance(results[1], ProtocolError) and isinstance(results[2], ValueError)
    assert counted.done == [[1, 5, 3], [2, 6]]
    assert side_by_side([]) == []


def test_only_what_is_of_one_shape_and_small_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted()
    assert side_by_side([quadrupled(counted, number, (number % 2,)) for number in range(4)]) == [0, 4, 8, 12]
    assert counted.done == [[0, 2], [1, 3], [0, 4], [2, 6]]
    monkeypatch.setattr(tasks, "_MOST", 100)
    counted = Counted()
    side_by_side([quadrupled(counted, number, (5, 8)) for number in range(5)])
    assert counted.done[:3] == [[0, 1], [2, 3], [4]]
