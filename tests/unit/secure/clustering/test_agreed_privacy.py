"""Views of groups by agreement can be made up from what becomes public; see tests/unit/secure/test_privacy_evidence.py.

`tests/unit/attacks/test_agreement_views.py` compares views of different inputs of which the same becomes public.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any
from unittest import mock

import numpy as np
import pytest

from secfpp.crypto import masks
from secfpp.crypto.arithmetic import Shared
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.material import Estimate, Material
from secfpp.crypto.minimum import DrawnRotations
from secfpp.crypto.sharing import weights_at_zero
from secfpp.secure.clustering.agreed import Agreed
from secfpp.secure.clustering.found import Found
from secfpp.secure.clustering.search import Search
from support.telling_apart import distinguish, told_apart
from support.views import View, real_view, simulated_view, tops_without_pads

N = 6
SEARCH = Search.plan(
    n=N,
    dimensions=1,
    radius=3,
    k=None,
    k_max=2,
    restarts=4,
    finalists=2,
    iterations=2,
    min_size=3,
    pull=1,
    seed=1,
    round_=0,
    self_products=False,
)
CIRCUIT = Agreed(SEARCH, threshold=1, limit=5, levels=1, allowances={1: 0, 2: 1 << 20})
POINTS = np.array([[1], [2], [3], [-2], [-1], [-3]])
"""Two groups of three that are worth their allowance."""


def features(view: View) -> np.ndarray:
    """Each number's bits from the top and from further down, and whether it is small."""
    numbers = view.numbers()
    turned = [PrimeField.turn(numbers, power) / PrimeField.p for power in (0, 20, 40)]
    return np.concatenate([*turned, numbers < 1 << 20])


def sample(count: int) -> np.ndarray:
    return np.stack([features(real_view(CIRCUIT, POINTS, run)[0]) for run in range(count)])


@cache
def made_up(count: int) -> np.ndarray:
    """From what becomes public of the points, and the first of them, alone."""
    found: Found = real_view(CIRCUIT, POINTS, 0)[1]
    assert found.labels is not None and found.k == 2 and not found.inertia
    return np.stack([features(simulated_view(CIRCUIT, found, POINTS[0], run)) for run in range(count)])


def test_a_view_can_be_made_up() -> None:
    assert not told_apart(sample(40), made_up(40))


@pytest.mark.slow
def test_a_view_can_be_made_up_in_many_runs() -> None:
    assert not told_apart(sample(400), made_up(400))


def bare(values: Sequence[Elements], responders: Sequence[int], own: int, threshold: int, pad_key: object) -> Elements:
    """`masks.masked` without pads."""
    weight = weights_at_zero(tuple(responders))[responders.index(own)]
    return PrimeField.mul(np.concatenate([value.reshape(-1) for value in values]), weight)


_PREPARE = DrawnRotations.prepare


def unturned(candidates: int, count: int, pool: Any, **how: bool) -> Any:
    """`DrawnRotations.prepare` that rotates by nothing."""
    drawn = yield from _PREPARE(candidates, count, pool, **how)
    return replace(drawn, signs=Shared(np.ones_like(drawn.signs.values), 1))


def known(value: int) -> Any:
    """A pool's method that deals `value` only."""
    return lambda self, *about: Shared(np.full(about[-1], value, np.uint64), 1)


BREAKS = {
    "masks without their low part": mock.patch.object(Material, "integers", known(0)),
    "minima and contests that are not rotated": mock.patch.object(DrawnRotations, "prepare", unturned),
    "uniform elements that are known": mock.patch.object(Material, "uniform", known(1)),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_a_broken_mask_is_noticed(broken: str) -> None:
    runs = 40 if "rotated" in broken else 24
    with BREAKS[broken]:
        real = sample(runs)
    right, p = distinguish(real, made_up(40)[:runs])
    assert right >= (0.8 if "rotated" in broken else 0.9), (right, p)


@pytest.mark.parametrize("pads", [True, False])
def test_answers_without_pads_would_show_products_of_what_hides_the_points(pads: bool) -> None:
    """Of c_ij = m_i m_j, with m_i the coefficients that hide points: c_12 c_34 = c_13 c_24."""
    with mock.patch.object(masks, "masked", masks.masked if pads else bare):
        view, _ = real_view(CIRCUIT, POINTS, 5)
    beside = sum(value.values.size for value in next(CIRCUIT._late(Estimate(1, 5))))
    tops = tops_without_pads(view, beside + N * (N - 1) // 2)[beside:]
    table = dict(zip(zip(*np.triu_indices(N, 1), strict=True), tops, strict=True))
    one = PrimeField.mul(table[1, 2], table[3, 4]) == PrimeField.mul(table[1, 3], table[2, 4])
    assert bool(one) is not pads
