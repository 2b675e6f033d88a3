"""Field arithmetic by the compiled kernel beside numpy's, and both beside what the machine does in floating point.

In numpy a product of matrices modulo 2^61 - 1 is nine float64 products of 21-bit limbs and what it takes to make the
limbs and to reduce; its efficiency is nine times BLAS's own time for the shape over numpy's. Processor time, on one
thread; each way's best over the repeats. Without a kernel both columns are numpy's.

Run: OMP_NUM_THREADS=1 python benchmarks/micro/field.py
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from secfpp.crypto import arithmetic, field, kernel, randomness, sharing
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


def both(way: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Seconds by the kernel and in numpy, the repeats in turn."""
    modules: tuple[Any, ...] = (arithmetic, field, randomness, sharing)
    found = []
    for compiled in (kernel.compiled, None):
        for module in modules:
            module.compiled = compiled
        found.append(best(way, repeats))
    for module in modules:
        module.compiled = kernel.compiled
    return found[0], found[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--elements", type=int, default=1 << 20)
    arguments = parser.parse_args()
    stream, rng = Stream.fresh(SystemEntropy()), np.random.default_rng(0)
    print(f"kernel: {'compiled' if kernel.compiled else 'none'}, vectors: {kernel.uses_vectors()}, ", end="")
    print(f"numpy {np.__version__}, ", end="")
    print(f"threads of BLAS: {os.environ.get('OMP_NUM_THREADS', 'all')}, best of {arguments.repeats}")
    print(f"{'product, ms':<24}{'kernel':>10}{'numpy':>10}{'times':>8}{'9 x BLAS':>11}{'efficiency':>12}")
    for m, k, n in SHAPES:
        a, b = stream.elements((m, k)), stream.elements((k, n))
        x, y = (rng.integers(0, 1 << 21, shape).astype(np.float64) for shape in ((m, k), (k, n)))
        fast, slow = both(lambda a=a, b=b: PrimeField.matmul(a, b), arguments.repeats)
        blas = LIMB_PRODUCTS * best(lambda x=x, y=y: x @ y, arguments.repeats)
        row = f"{1e3 * fast:>10.3f}{1e3 * slow:>10.3f}{slow / fast:>8.1f}{1e3 * blas:>11.3f}{blas / slow:>12.0%}"
        print(f"[{m}, {k}] x [{k}, {n}]".ljust(24) + row)
    print()
    count = arguments.elements
    print(f"{'ns for each of ' + format(count, ','):<32}{'kernel':>10}{'numpy':>10}{'times':>8}")
    a, b, code = stream.elements((count,)), stream.elements((count,)), LagrangeCode(16, 2)
    squares = PrimeField.mul(a, a)
    ways: dict[str, Callable[[], object]] = {
        "add": lambda: PrimeField.add(a, b),
        "multiply": lambda: PrimeField.mul(a, b),
        "inverse root": lambda: arithmetic.inverse_square_root(squares),
        "uniform": lambda: stream.elements((count,)),
        "share among 16, T = 2": lambda: code.encode(a[None], stream),
    }
    for name, way in ways.items():
        fast, slow = (1e9 * seconds / count for seconds in both(way, arguments.repeats))
        print(f"{name:<32}{fast:>10.2f}{slow:>10.2f}{slow / fast:>8.1f}")


if __name__ == "__main__":
    main()
