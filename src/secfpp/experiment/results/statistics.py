"""Small exact statistics: t intervals over seeds, and how well found clusters agree with true domains."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np


def t_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """The two-sided Student t interval of the mean of `values`; None for fewer than two values."""
    if len(values) < 2:
        return None
    from scipy.stats import t

    sample = np.asarray(values, dtype=np.float64)
    half = float(t.ppf(0.5 + confidence / 2, len(sample) - 1) * sample.std(ddof=1) / np.sqrt(len(sample)))
    mean = float(sample.mean())
    return mean - half, mean + half


def t_bounds(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """One-sided Student t bounds of the mean of `values`: each alone holds with `confidence`; None below two values."""
    return t_interval(values, 2 * confidence - 1)


def contingency(truth: Sequence[Hashable], found: Sequence[Hashable]) -> np.ndarray:
    """How many members each pair (true group, found group) shares: int64 [n_truth, n_found]."""
    if len(truth) != len(found):
        raise ValueError(f"{len(truth)} true labels but {len(found)} found labels: one of each per member is needed")
    rows, columns = (
        {g: i for i, g in enumerate(dict.fromkeys(truth))},
        {g: i for i, g in enumerate(dict.fromkeys(found))},
    )
    table = np.zeros((len(rows), len(columns)), dtype=np.int64)
    for true, cluster in zip(truth, found, strict=True):
        table[rows[true], columns[cluster]] += 1
    return table


def can_be_judged(truth: Sequence[Hashable], found: Sequence[Hashable]) -> bool:
    """Whether indices of agreement say more of the clusters `found` than how many there are.

    There are two or more true groups, one of them of several members, and two or more clusters.
    """
    return 1 < len(set(truth)) < len(truth) and len(set(found)) > 1


def adjusted_rand_index(truth: Sequence[Hashable], found: Sequence[Hashable]) -> float:
    """Adjusted Rand index (Hubert and Arabie, 1985): 1 for equal partitions, 0 on average by chance.

    Computed in integers up to the last division. Two partitions that agree trivially (both one
    group, or both all singletons) have index 1.
    """
    table = contingency(truth, found)

    def pairs(counts: np.ndarray) -> int:
        return int((counts * (counts - 1) // 2).sum())

    together, in_truth, in_found = pairs(table), pairs(table.sum(1)), pairs(table.sum(0))
    total = len(truth) * (len(truth) - 1) // 2
    if total == 0:
        return 1.0
    # (together - expected) / (maximum - expected), both sides times 2 * total
    numerator = 2 * (together * total - in_truth * in_found)
    denominator = (in_truth + in_found) * total - 2 * in_truth * in_found
    return 1.0 if denominator == 0 else numerator / denominator


def purity(truth: Sequence[Hashable], found: Sequence[Hashable]) -> float:
    """Share of members whose found cluster has their true group as its most frequent one, in [0, 1]."""
    table = contingency(truth, found)
    return float(table.max(axis=0).sum() / len(truth)) if len(truth) else 1.0
