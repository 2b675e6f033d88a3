"""The compiled kernel of field arithmetic, where the installation has it: ``kernel.c`` beside this file.

`PrimeField` and a few others ask for `compiled`, and do the same in numpy without it, element by element. It is None
where no compiler was at hand when the package was installed, where the kernel is another revision's, or where
``SECFPP_KERNEL=numpy`` says so. ``SECFPP_KERNEL=plain`` keeps the kernel from making products with instructions that
not all processors have.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

__all__ = ["MOST_BITS", "compiled", "elementwise", "uses_vectors"]

REVISION = 3
"""Of what is asked of the kernel, see ``kernel.c``."""
MOST_BITS = 8
"""Bits of a digit that the kernel compares."""
_BLOCK = 1 << 15
"""Elements of operands of different shapes copied at a time."""


def _load() -> Any:
    wanted = os.environ.get("SECFPP_KERNEL")
    if wanted == "numpy":
        return None
    try:
        kernel = import_module("secfpp.crypto._kernel")
    except ImportError:
        return None
    if kernel.REVISION != REVISION:
        return None
    kernel.vectors(wanted != "plain")
    return kernel


compiled: Any = _load()


def uses_vectors() -> bool:
    """Whether products use the processor's vectors."""
    return bool(compiled and compiled.vectors(None))


def elementwise(
    way: Callable[[np.ndarray, np.ndarray, np.ndarray], None], left: np.ndarray, right: np.ndarray
) -> np.ndarray:
    """``way(left, right, out)`` on uint64 arrays, with broadcasting; a number if both are."""
    if left.shape == right.shape or not right.ndim:
        shape = left.shape
    elif not left.ndim:
        shape = right.shape
    else:
        return _broadcast(way, left, right)
    if not left.flags.c_contiguous:
        left = np.ascontiguousarray(left)
    if not right.flags.c_contiguous:
        right = np.ascontiguousarray(right)
    out = np.empty(shape, np.uint64)
    way(left, right, out)
    return out if shape else out[()]


def _broadcast(
    way: Callable[[np.ndarray, np.ndarray, np.ndarray], None], left: np.ndarray, right: np.ndarray
) -> np.ndarray:
    left, right = np.broadcast_arrays(left, right)
    out = np.empty(left.shape, np.uint64)
    if out.size <= _BLOCK:
        way(np.ascontiguousarray(left), np.ascontiguousarray(right), out)
        return out
    rows = max(1, _BLOCK * len(out) // out.size)
    for start in range(0, len(out), rows):
        part = slice(start, start + rows)
        if rows == 1:
            out[start] = elementwise(way, left[start], right[start])
        else:
            way(np.ascontiguousarray(left[part]), np.ascontiguousarray(right[part]), out[part])
    return out
