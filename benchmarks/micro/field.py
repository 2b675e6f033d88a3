"""How close field arithmetic comes to the machine: products beside the float64 BLAS that they consist of.

A product of matrices modulo 2^61 - 1 is nine float64 products of 21-bit limbs and what it takes to make the limbs and
to reduce. Its efficiency is nine times BLAS's own time for the shape over the measured time. Processor time, on one
thread; each way's best over the repeats.

Run: OMP_NUM_THREADS=1 python benchmarks/micro/field.py
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import numpy as np

from secfpp.crypto.field import PrimeField
from secfpp.crypto.randomness import Stream
from secfpp.crypto.sharing import LagrangeCode
from secfpp.seeding import SystemEntropy

LIMB_PRODUCTS = 9
SHAPES = (
    *((size, size, size) for size in (64, 256, 512, 1024)),
    (16, 16, 8192),
    (8192, 16, 16),
    (192, 24, 24),
    (512, 100, 100),
)


def best(way: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of some calls, each long enough for the clock."""
    started = time.process_time()
    way()
    calls = max(1, int(2e-3 / max(time.process_time() - started, 1e-7)))
    times = []
    for _ in range(repeats):
        started = time.process_time()
        for _ in range(calls):
            way()
        times.append((time.process_time() - started) / calls)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--elements", type=int, default=1 << 20)
    arguments = parser.parse_args()
    stream, rng = Stream.fresh(SystemEntropy()), np.random.default_rng(0)
    print(f"numpy {np.__version__}, threads of BLAS: {os.environ.get('OMP_NUM_THREADS', 'all')}, ", end="")
    print(f"best of {arguments.repeats}")
    print(f"{'product':<24}{'field, ms':>11}{'9 x BLAS, ms':>14}{'efficiency':>12}")
    for m, k, n in SHAPES:
        a, b = stream.elements((m, k)), stream.elements((k, n))
        x, y = (rng.integers(0, 1 << 21, shape).astype(np.float64) for shape in ((m, k), (k, n)))
        field = best(lambda a=a, b=b: PrimeField.matmul(a, b), arguments.repeats)
        blas = LIMB_PRODUCTS * best(lambda x=x, y=y: x @ y, arguments.repeats)
        print(f"[{m}, {k}] x [{k}, {n}]".ljust(24) + f"{1e3 * field:>11.3f}{1e3 * blas:>14.3f}{blas / field:>11.0%}")
    print()
    count = arguments.elements
    print(f"{'of ' + format(count, ',') + ' elements':<32}{'ns each':>9}")
    a, b, code = stream.elements((count,)), stream.elements((count,)), LagrangeCode(16, 2)
    ways: dict[str, Callable[[], object]] = {
        "add": lambda: PrimeField.add(a, b),
        "multiply": lambda: PrimeField.mul(a, b),
        "multiply by a power of two": lambda: PrimeField.turn(a, 20),
        "uniform": lambda: stream.elements((count,)),
        "share among 16, T = 2": lambda: code.encode(a[None], stream),
    }
    for name, way in ways.items():
        print(f"{name:<32}{1e9 * best(way, arguments.repeats) / count:>9.2f}")


if __name__ == "__main__":
    main()
