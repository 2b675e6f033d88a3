from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from secfpp.crypto.arithmetic import Computation, Pool, Shared, opened
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.lookup import DrawnLookup, hidden_bits
from support.shares import evaluate


def looked_up(table: Elements, largest: int) -> Any:
    def circuit(x: Shared, pool: Pool) -> Computation[Elements]:
        drawn = yield from DrawnLookup.prepare(largest, x.shape[0], pool)
        lookup = yield from drawn.expand(pool)
        turned = yield from lookup.turned(x[:, 0], pool)
        (answer,) = yield from opened([lookup.value(turned, table)])
        return answer

    return circuit


@pytest.mark.parametrize(("holders", "threshold", "limit"), [(6, 1, 5), (16, 2, 5), (7, 2, 3)])
@pytest.mark.parametrize("largest", [1, 2, 3, 7, 8, 30, 31, 126])
def test_any_function_of_every_integer(holders: int, threshold: int, limit: int, largest: int) -> None:
    table = PrimeField.lift(np.random.default_rng(largest).integers(-(1 << 59), 1 << 59, largest + 1))
    numbers = np.arange(largest + 1)
    evaluation = evaluate(
        looked_up(table, largest), numbers[:, None], holders=holders, threshold=threshold, limit=limit, seed=largest
    )
    assert np.array_equal(evaluation.result, table)
    assert max(map(max, evaluation.degrees)) <= limit


def test_what_is_opened_is_spread_alike_for_all_integers() -> None:
    seen = {}
    for value in (0, 7):
        numbers = np.full((2000, 1), value)
        shown = evaluate(looked_up(np.zeros(8, np.uint64), 7), numbers, seed=value).openings[-2][0]
        assert int(shown.max()) < PrimeField.p - 8
        seen[value] = shown
    assert stats.ks_2samp(*(v.astype(float) for v in seen.values())).pvalue > 1e-4
    for bits in (0, 20, 40):
        parts = [np.bincount((v >> np.uint64(bits)).astype(np.int64) % 8, minlength=8) for v in seen.values()]
        assert stats.chi2_contingency(parts).pvalue > 1e-4


def test_masks_hide_to_within_two_to_the_minus_fifty() -> None:
    assert hidden_bits(5, 3) == 53
    assert hidden_bits(7, 6) == 50
