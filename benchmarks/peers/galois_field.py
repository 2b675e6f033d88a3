"""Field products and interpolation of SecFPP beside galois, in the same field: integers modulo 2^61 - 1.

galois computes in a field of this size with Python's integers; ours are uint64 arrays. Both sides run in turn, their
results are compared, and each way's least processor time counts.

Run: OMP_NUM_THREADS=1 python benchmarks/peers/galois_field.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import galois
import numpy as np

from secfpp.crypto.field import PrimeField
from secfpp.crypto.sharing import LagrangeCode, alpha

HOLDERS, THRESHOLD = 16, 2


def best(way: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of some calls."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        way()
        times.append(time.process_time() - started)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    field = galois.GF(PrimeField.p)
    rng = np.random.default_rng(0)
    print(f"galois {galois.__version__}, numpy {np.__version__}, best of {repeats}")
    print(f"{'':<44}{'galois, s':>11}{'ours, s':>11}{'ratio':>9}")

    def report(what: str, theirs: Callable[[], object], ours: Callable[[], object]) -> None:
        assert np.array_equal(np.array(theirs(), np.uint64), np.asarray(ours()))
        one, two = best(theirs, repeats), best(ours, 10 * repeats)
        print(f"{what:<44}{one:>11.5f}{two:>11.6f}{one / two:>8.0f}x")

    for m, k, n in ((32, 32, 32), (128, 128, 128), (16, 16, 2048)):
        a, b = (rng.integers(0, PrimeField.p, shape, np.uint64) for shape in ((m, k), (k, n)))
        slow_a, slow_b = field(a.astype(object)), field(b.astype(object))
        report(
            f"product [{m}, {k}] x [{k}, {n}]",
            lambda a=slow_a, b=slow_b: a @ b,
            lambda a=a, b=b: PrimeField.matmul(a, b),
        )

    code = LagrangeCode(HOLDERS, THRESHOLD)
    points = field([alpha(holder) for holder in range(HOLDERS)])
    shares = rng.integers(0, PrimeField.p, (HOLDERS, 256), np.uint64)
    slow = field(shares.astype(object))
    numbers = dict(enumerate(shares))
    degree = (HOLDERS - 1) // THRESHOLD
    needed = code.required(degree)
    assert needed <= HOLDERS
    report(
        f"secrets of 256 shared numbers, {needed} shares each",
        lambda: [int(galois.lagrange_poly(points[:needed], slow[:needed, i])(0)) for i in range(shares.shape[1])],
        lambda: code.decode({holder: numbers[holder] for holder in range(needed)}, degree)[0],
    )


if __name__ == "__main__":
    main()
