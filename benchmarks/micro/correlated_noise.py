"""Whether correlated noise would help averages of prompts under client-level differential privacy.

    python benchmarks/micro/correlated_noise.py [--releases 5 10]

The base after t releases is the sum of t updates. Noise z that is fresh in each release may be correlated: with a lower
triangular matrix C, the updates X are released as C^-1 (C X + z), and the bases' noise is A C^-1 z, A of ones in its
lower triangle (the matrix mechanism; banded C as in arXiv 2306.08153). It costs what z on C X costs. A
client's updates, of length 1 at most, move C X by the longest column of C if it takes part once, and by the root of the
sum of |C'C| at most if it takes part every time, which is |C 1| if C'C has no negative number.

Columns: standard deviation of the noise at the same epsilon, over that of one release of one client (of length 1), on
the last base, on the mean of the last three, and on all bases (root mean square). Rows: independent noise, C found by
descent for each column (with two and four diagonals, and with all), and what no C can be below where a client
always takes part: the row of A C^-1 times |C 1| is the row of A times 1 at least (Cauchy-Schwarz).
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.optimize import minimize


def targets(releases: int) -> dict[str, np.ndarray]:
    """What is used of the bases, each [n, releases] in updates."""
    bases = np.tril(np.ones((releases, releases)))
    return {"last": bases[-1:], "last three": bases[-3:].mean(0, keepdims=True), "all": bases}


def norm(factor: np.ndarray, always: bool) -> float:
    """How far a client moves ``factor @ updates`` at most."""
    if always:
        return float(np.sqrt(np.abs(factor.T @ factor).sum()))
    return float(np.linalg.norm(factor, axis=0).max())


def noise(factor: np.ndarray, target: np.ndarray, always: bool) -> float:
    """Root mean square of the noise on `target`, for noise on ``factor @ updates`` of the size that it needs."""
    rows = np.linalg.solve(factor.T, target.T)
    return float(np.sqrt((rows**2).sum() / len(target))) * norm(factor, always)


def best(target: np.ndarray, band: int, always: bool) -> float:
    """The least noise that descent finds with a factor of so many diagonals."""
    releases = target.shape[1]
    places = [(i, j) for i in range(releases) for j in range(max(0, i - band + 1), i + 1)]

    def factor(values: np.ndarray) -> np.ndarray:
        filled = np.zeros((releases, releases))
        filled[tuple(zip(*places, strict=True))] = values
        filled[np.diag_indices(releases)] = np.exp(np.clip(np.diag(filled), -20, 20))
        return filled

    found = np.inf
    for start in (0.0, 0.3, -0.3):  # noise that is independent, and that partly repeats or takes back what was before
        values = np.array([0.0 if i == j else start ** (i - j) if start else 0.0 for i, j in places])
        value = minimize(lambda x: np.log(noise(factor(x), target, always)), values, method="BFGS").fun
        found = min(found, float(np.exp(value)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--releases", nargs="+", type=int, default=[5, 10])
    for releases in parser.parse_args().releases:
        wanted = targets(releases)
        print(f"\n{releases} releases{'':10}" + "".join(f"{name:>12}" for name in wanted))
        for always in (False, True):
            print("a client takes part " + ("every time" if always else "once"))
            rows = {"independent": [noise(np.eye(releases), target, always) for target in wanted.values()]}
            rows |= {
                f"band of {band}": [best(target, band, always) for target in wanted.values()]
                for band in (2, 4, releases)
            }
            if always:
                rows["no less than"] = [float(np.sqrt((t.sum(1) ** 2).mean())) for t in wanted.values()]
            for name, values in rows.items():
                print(f"  {name:18}" + "".join(f"{value:12.3f}" for value in values), flush=True)


if __name__ == "__main__":
    main()
