"""Secret integers that nobody deals."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.replicated import SLOT, Replicated, Sets, dealt_keys, key_sets, possible
from secfpp.crypto.sharing import weights_at_zero
from secfpp.crypto.verified import of_degree
from support.shares import stream

SIZES = [(16, 2, 5), (15, 2, 5), (8, 1, 5), (7, 1, 5), (14, 1, 5), (16, 3, 3), (5, 1, 3), (16, 1, 5)]


def dealt(sets: Sets, holders: int, seed: object) -> list[Elements]:
    """What each holder dealt, [holders, size] each."""
    return [
        dealt_keys(sets, holders, dealer, stream("keys", seed, dealer).elements((SLOT * len(sets),)))
        for dealer in range(holders)
    ]


def everybody(sets: Sets, holders: int, made: list[Elements]) -> list[Replicated]:
    return [Replicated(sets, holders, own, [of[own] for of in made]) for own in range(holders)]


@pytest.mark.parametrize(("holders", "threshold", "limit"), SIZES)
def test_whoever_colludes_one_set_is_free_of_them(holders: int, threshold: int, limit: int) -> None:
    sets = key_sets(holders, threshold, limit * threshold)
    assert all(len(members) == holders - limit * threshold for members in sets)
    for colluding in combinations(range(holders), threshold):
        assert any(not set(members) & set(colluding) for members in sets)
    assert threshold < len(sets) <= 16


def test_defaults_take_five_sets() -> None:
    assert len(key_sets(16, 2, 10)) == 5
    assert possible(16, 3) and not possible(100, 3)


@pytest.mark.parametrize(("holders", "threshold", "limit"), SIZES)
@pytest.mark.parametrize("bits", [0, 1, 44])
def test_integers_are_sums_of_one_in_range_for_each_set(holders: int, threshold: int, limit: int, bits: int) -> None:
    degree = limit * threshold
    sets = key_sets(holders, threshold, degree)
    parties = everybody(sets, holders, dealt(sets, holders, 0))
    first = [party.integers(bits, (3, 20)) for party in parties]
    second = [party.integers(bits, (50,)) for party in parties]
    for shares in (first, second):
        flat = dict(enumerate(share.reshape(-1) for share in shares))
        assert of_degree(flat, degree)
        some = tuple(range(degree + 1))
        value = PrimeField.matmul(weights_at_zero(some)[None], np.stack([flat[h] for h in some]))[0]
        assert value.max() <= len(sets) * ((1 << bits) - 1)
        assert bits < 2 or len(np.unique(value)) == len(value)
    again = set(np.stack(first).ravel().tolist()) & set(np.stack(second).ravel().tolist())
    assert bits < 2 or again <= {0}  # who is in no set has 0


def test_only_members_get_a_key_and_other_keys_make_other_integers() -> None:
    sets = key_sets(16, 2, 10)
    made = dealt(sets, 16, 0)
    for number, members in enumerate(sets):
        part = slice(number * SLOT, (number + 1) * SLOT)
        for dealer in range(16):
            has = [bool(made[dealer][recipient, part].any()) for recipient in range(16)]
            assert has == [dealer == members[0] and recipient in members for recipient in range(16)]
    other = everybody(sets, 16, dealt(sets, 16, 1))
    own = everybody(sets, 16, made)
    assert not np.array_equal(own[0].integers(30, (4,)), other[0].integers(30, (4,)))


def test_different_keys_for_one_set_make_shares_of_no_polynomial() -> None:
    sets = key_sets(16, 2, 10)
    made = dealt(sets, 16, 0)
    victim = sets[0][1]
    made[sets[0][0]][victim, :SLOT] += np.uint64(1)
    shares = [party.integers(30, (4,)) for party in everybody(sets, 16, made)]
    assert not of_degree(dict(enumerate(shares)), 10)
