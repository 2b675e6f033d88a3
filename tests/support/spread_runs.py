"""Runs whose clients may be spread over processes, and what has to be equal then."""

from __future__ import annotations

import numpy as np

from secfpp.runtime.trainer import train
from support.method_runs import make


def run(dataset, backbone, name="secfpp", **options):
    """A short run, in chunks of three clients."""
    return train(dataset, backbone, make(name), method=name, seed=0, **{"rounds": 2, "chunk": 3, **options})


def assert_same(a, b):
    """Bits, rows, groups and all costs but seconds."""
    assert np.array_equal(a.prompts, b.prompts) and a.rows == b.rows and a.assignment == b.assignment
    assert all(np.array_equal(a.metrics[name], b.metrics[name], equal_nan=True) for name in a.metrics)
    counted, other = a.costs.as_dict(), b.costs.as_dict()
    assert counted.pop("seconds").keys() == other.pop("seconds").keys() and counted == other
