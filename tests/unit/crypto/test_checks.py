from __future__ import annotations

import numpy as np
import pytest

from secfpp.crypto.arithmetic import Shared
from secfpp.crypto.checks import COIN_BYTES, bit_defects, combination, commitment, joint_stream, parity_weights
from secfpp.crypto.field import PrimeField
from secfpp.crypto.sharing import alpha
from support.shares import stream

P = PrimeField.p
COINS = {f"c{i}": bytes([i]) * COIN_BYTES for i in range(5)}


@pytest.mark.parametrize("length", [0, 1, 681, 682, 683, 682 * 32, 682 * 32 + 1, 50000])
def test_combinations_are_sums_of_products(length: int) -> None:
    randomness = stream("combination", length)
    rows, weights = randomness.elements((3, length)), randomness.elements((length,))
    rows[:, : length // 2] = P - 1
    expected = [sum(int(a) * int(w) for a, w in zip(row, weights, strict=True)) % P for row in rows]
    assert combination(rows, weights).tolist() == expected


def test_one_changed_entry_changes_the_combination() -> None:
    randomness = stream("changed")
    rows, weights = randomness.elements((1, 5000)), randomness.elements((5000,))
    before = combination(rows, weights)
    for place in (0, 681, 682, 4999):
        other = rows.copy()
        other[0, place] ^= np.uint64(1)
        assert combination(other, weights)[0] != before[0]


def test_bits_and_nothing_else_have_no_defects() -> None:
    values = np.array([0, 1, 2, P - 1, 3, 1 << 60], np.uint64)
    defects = bit_defects(Shared(values, 1))
    assert defects.degree == 2
    assert (defects.values == 0).tolist() == [True, True, False, False, False, False]


def test_every_coin_decides_the_weights() -> None:
    first = joint_stream(COINS, "degree").words((4,)).tolist()
    assert joint_stream(dict(reversed(COINS.items())), "degree").words((4,)).tolist() == first
    others = [joint_stream(COINS, "zero")]
    others += [joint_stream({**COINS, name: bytes(COIN_BYTES - 1) + b"x"}, "degree") for name in COINS]
    others += [joint_stream({k: v for k, v in COINS.items() if k != name}, "degree") for name in COINS]
    others += [joint_stream({**COINS, "c0": COINS["c1"], "c1": COINS["c0"]}, "degree")]
    found = [other.words((4,)).tolist() for other in others]
    assert first not in found
    assert len({tuple(f) for f in found}) == len(found)


def test_commitments_are_to_one_coin_of_one_client() -> None:
    made = {commitment(name, coin) for name in COINS for coin in COINS.values()}
    assert len(made) == 25
    assert commitment("c0", COINS["c0"]) in made


@pytest.mark.parametrize(("holders", "threshold"), [(6, 1), (11, 2), (16, 5), (16, 3)])
def test_parity_weights_are_the_dual_code(holders: int, threshold: int) -> None:
    """They make polynomials of degree T vanish, and of no higher degree; a holder left out has weight 0."""
    present = tuple(range(holders))
    weights = np.stack([parity_weights(present, h, threshold, joint_stream(COINS, "p")) for h in present])
    for degree in range(holders):
        values = np.array([pow(alpha(h), degree, P) for h in present], np.uint64)
        sums = PrimeField.sum_axis(PrimeField.mul(weights, values[:, None]), 0)
        assert (not sums.any()) == (degree <= threshold) and (degree <= threshold or sums.all())
    assert not np.diag(weights).any() and np.count_nonzero(weights) == holders * (holders - 1)
