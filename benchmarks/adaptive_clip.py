"""Whether a clip that follows the length of updates would help averages of prompts under client-level privacy.

    python benchmarks/adaptive_clip.py [--members 20] [--seeds 0 1 2] [--epsilons 8]

Clients and rounds as in `client_level.py`. Rows: clips that stay, and clips that follow a quantile of the updates'
lengths (arXiv 1905.03871), here without what that costs: each is the exact quantile of the round before, and nothing is
paid for it. Columns: `own` and `domain` accuracy in percent after the last round, means over clients and seeds; how
much more `domain` has than with the clip that stays at 0.5, with its standard error over seeds; the mean clip over
rounds; and the share of updates that are shortened.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
from client_level import clients_of, measured, rows_of

from secfpp.algorithms import noisy_prompts
from secfpp.privacy.ledger import VARIABLE
from secfpp.runtime.in_process import InProcessDriver
from secfpp.secure.means.updates import clipped

STAY, FOLLOW = (0.25, 0.5, 1.0, 2.0), (0.1, 0.5)


class Lengths:
    """Watches the lengths of updates, and sets the next round's clip to their quantile, if there is one."""

    def __init__(self, quantile: float | None) -> None:
        self.quantile, self.seen, self.clips = quantile, list[float](), list[float]()
        self.shortened, self.all = 0, 0

    def clipped(self, update: np.ndarray, clip: float) -> np.ndarray:
        """In the place of `secfpp.secure.means.updates.clipped`."""
        self.seen.append(float(np.linalg.norm(update)))
        return clipped(update, clip)

    def before(self, driver: InProcessDriver) -> None:
        """Take in the round that is over."""
        algorithm: Any = driver.algorithm
        if not self.seen:
            return
        self.clips.append(algorithm.privacy.bound)
        self.shortened += sum(length > algorithm.privacy.bound for length in self.seen)
        self.all += len(self.seen)
        if self.quantile is not None:
            clip = float(np.quantile(self.seen, self.quantile))
            driver.algorithm = replace(algorithm, privacy=replace(algorithm.privacy, clip=clip))
        self.seen = []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=20)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epsilons", nargs="+", type=float, default=[8])
    given = parser.parse_args()
    given.floors = []
    name = "secfpp+client_dp"
    rows: dict[str, tuple[float, float | None]] = {f"clip {clip:g}": (clip, None) for clip in STAY}
    rows |= {f"quantile {quantile:g}": (0.5, quantile) for quantile in FOLLOW}
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as ledgers:
        os.environ[VARIABLE] = ledgers
        for seed in given.seeds:
            algorithms: dict[str, Any] = rows_of(name, given, given.members)
            data, contexts = clients_of(given.members, 50, seed, next(iter(algorithms.values())))
            for of, algorithm in algorithms.items():
                for row, (clip, quantile) in rows.items():
                    lengths = Lengths(quantile)
                    own = replace(algorithm, privacy=replace(algorithm.privacy, clip=clip))
                    with patch.object(noisy_prompts, "clipped", lengths.clipped):
                        cell = measured(contexts, data, own, sorted(contexts), before=lengths.before)
                    cell |= {"clip": float(np.mean(lengths.clips)), "shortened": 100 * lengths.shortened / lengths.all}
                    found.setdefault((of, row), []).append(cell)
    print(f"{given.members} clients, seeds {' '.join(map(str, given.seeds))}")
    print(f"{'epsilon':8}{'':14}{'own':>6}{'domain':>8}{'to clip 0.5':>16}{'clip':>7}{'shortened':>11}")
    for (of, row), cells in found.items():
        less = [cell["domain"] - floor["domain"] for cell, floor in zip(cells, found[of, "clip 0.5"], strict=True)]
        error = np.std(less, ddof=1) / len(less) ** 0.5
        mean = {key: float(np.mean([cell[key] for cell in cells])) for key in cells[0]}
        print(
            f"{of:8}{row:14}{mean['own']:6.1f}{mean['domain']:8.1f}{np.mean(less):+10.1f} +-{error:4.1f}"
            f"{mean['clip']:7.2f}{mean['shortened']:10.0f}%"
        )


if __name__ == "__main__":
    main()
