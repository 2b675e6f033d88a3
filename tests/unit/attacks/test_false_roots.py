"""A server that tells false roots, from which the masks of comparisons are made: what it reads, guarded and not.

Only the server's program is another one. Where the guard is taken out, it reads everything that is compared.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from secfpp.crypto import comparison
from secfpp.crypto.arithmetic import Pool, Shared, Square
from secfpp.crypto.comparison import Comparator
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.gate import SUMS
from secfpp.errors import SecFPPError
from secfpp.secure.clustering import agreement, secpc
from secfpp.secure.clustering.kmeans import INERTIA_SCALE
from secfpp.secure.clustering.scores import SeedPairs
from secfpp.secure.clustering.secure_agreement import SecureAgreement, Size
from secfpp.secure.clustering.secure_kmeans import SecureKMeans
from secfpp.secure.polls.circuit import Counting
from secfpp.secure.polls.questions import AtLeast
from support.agreement_runs import AgreementRun, disagreeing
from support.clustering_runs import TINY, Run
from support.false_values import Lie, lying
from support.poll_runs import PollRun, voters


def roots(change: Callable[[Elements], Elements]) -> Lie:
    return lambda exchange, of, value: change(value) if isinstance(of, Square) else value


def first_top_bit(roots: Elements) -> Elements:
    """0 for the bit of most weight of one comparison."""
    told = roots.copy()
    told[-1, 0] = 0
    return told


def tiny(comparator: Comparator) -> Callable[[Elements], Elements]:
    """So small that the random part of masks is below what is compared: no root is 0."""
    return lambda roots: PrimeField.turn(roots, 1 - comparator.k)


def read(comparator: Comparator, m: Elements) -> np.ndarray:
    """The integers that were compared, if random signs are 0, or so small that they are lost among the low bits."""
    known = (((1 << comparator.w) - 1) << (comparator.k - 1)) + (1 << comparator.k)
    rest = PrimeField.lower(PrimeField.sub(m, np.array(known % PrimeField.p, np.uint64)))
    return (rest + (1 << comparator.w)) // comparator.factor


def zero(roots: Elements) -> Elements:
    return np.zeros_like(roots)


def bare(value: Shared, pool: Pool) -> Shared:
    """`arithmetic.gated` that lets everything through; it takes as much randomness."""
    pool.uniform((SUMS, *value.shape))
    return value


def unguarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "gated", bare)


N, DIMENSIONS = 8, 24
GROUPING = SecureAgreement(k=2, restarts=120, finalists=4, min_cluster_size=3)


def compared(monkeypatch: pytest.MonkeyPatch, lie: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Differences of products as the server reads them in the first iteration, as they are, and of how many pairs.

    The difference of a client's products with itself, which is 0, and with another one, is the latter.
    """
    circuit = GROUPING.circuit(Size(N, DIMENSIONS, 1))
    told = {"zero": zero, "tiny": tiny(circuit.nearer), "one": first_top_bit}[lie]
    seen = lying(monkeypatch, roots(told))
    run = AgreementRun(disagreeing(2, N // 2, dimensions=DIMENSIONS), GROUPING)
    with suppress(SecFPPError):  # what comes out is no partition, or is
        run.find()
    pairs = SeedPairs(circuit.search)
    (m,) = [value for value in seen[1] if value.shape == (pairs.count,)]
    points = np.stack([GROUPING.described(state["z"]) for state in run.states.values()])
    true = PrimeField.lower(pairs.differences(Shared.public(agreement.products(points))).values)
    return read(circuit.nearer, m), true, pairs.count // N


@pytest.mark.parametrize("lie", ["zero", "tiny"])
def test_all_products_are_read_where_comparisons_are_not_gated(monkeypatch: pytest.MonkeyPatch, lie: str) -> None:
    unguarded(monkeypatch)
    found, true, pairs = compared(monkeypatch, lie)
    assert pairs == N * (N - 1) // 2
    assert found.tolist() == true.tolist()


@pytest.mark.parametrize("lie", ["zero", "tiny", "one"])
def test_none_is_read_where_they_are(monkeypatch: pytest.MonkeyPatch, lie: str) -> None:
    found, true, _ = compared(monkeypatch, lie)
    assert (found == true).mean() < 0.1
    assert len(np.unique(found)) > len(found) // 2


def test_a_partition_comes_out_as_before_if_the_server_is_honest() -> None:
    run = AgreementRun(disagreeing(2, N // 2, dimensions=DIMENSIONS), GROUPING)
    assert run.assign() == run.expected()


COUNTS = np.random.default_rng(3).integers(0, 2, (8, 40))


def counted(monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, np.ndarray]:
    """What the server reads of how many clients have each bit, and how many do."""
    comparator = Counting(AtLeast(8, 40, 3), 1, 5).comparator
    seen = lying(monkeypatch, roots(zero))
    with suppress(SecFPPError):
        PollRun(voters(COUNTS)).at_least(3)
    (m,) = [value for value in seen[1] if value.shape == (40,)]
    return 2 - read(comparator, m), COUNTS.sum(0)


def test_all_counts_of_a_poll_are_read_where_comparisons_are_not_gated(monkeypatch: pytest.MonkeyPatch) -> None:
    unguarded(monkeypatch)
    found, true = counted(monkeypatch)
    assert found.tolist() == true.tolist()


def test_no_count_is_read_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    found, true = counted(monkeypatch)
    assert (found == true).mean() < 0.4  # as by chance, counts are few numbers


def inertia(monkeypatch: pytest.MonkeyPatch) -> tuple[list[int], int]:
    """What the server sees as inertias of clusters that it knows to be empty, and the sum of all squared lengths."""
    settings = SecureKMeans(**TINY | {"k": 2, "restarts": 4})
    sizes = (3, 2)

    def lie(exchange: int, of: Shared, value: Elements) -> Elements:
        if isinstance(of, Square):
            return zero(value)
        return np.full_like(value, 4) if value.shape == sizes else value  # large enough

    seen = lying(monkeypatch, lie)
    run = Run(8, settings)
    with suppress(SecFPPError):
        run.find()
    number = next(i for i, values in enumerate(seen) if [value.shape for value in values] == [sizes])
    points = np.stack([settings.described(state["z"], 0) for state in run.states.values()]).astype(np.int64)
    return [int(PrimeField.lower(value)) for value in seen[number + 1]], INERTIA_SCALE * int((points * points).sum())


def test_lengths_are_read_where_inertias_are_not_gated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secpc, "gated", bare)
    found, true = inertia(monkeypatch)
    assert found == [true] * 3


def test_and_not_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    found, true = inertia(monkeypatch)
    assert len(set(found)) == 3 and true not in found


def test_honest_clients_notice_nothing_of_false_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the guard does not rest on their noticing: an error is the server's own, if at all."""
    seen: list[Any] = lying(monkeypatch, roots(zero))
    run = AgreementRun(disagreeing(2, N // 2, dimensions=DIMENSIONS), GROUPING)
    with suppress(SecFPPError):
        run.find()
    assert not run.driver.refusals and len(seen) > 5
