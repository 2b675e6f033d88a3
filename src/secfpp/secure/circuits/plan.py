"""What is computed on shares, and how much randomness that takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from secfpp.crypto.arithmetic import Computation, Shared
from secfpp.crypto.material import Deal, Estimate
from secfpp.crypto.sharing import LagrangeCode
from secfpp.secure import committee


@dataclass(frozen=True)
class Plan:
    """What is computed: public, and the same for all.

    Args:
        holders: c.
        threshold: T.
        limit: the largest degree opened, in multiples of T.
        width: field elements that each client shares.
        run: the computation on everybody's input [clients, width].
        defects: what vanishes if the inputs are valid, degree at most `limit`: [clients, width] to [clients, m].
        clients: how many there are.
        deal: how much randomness it takes; see `estimated`.
    """

    holders: int
    threshold: int
    limit: int
    width: int
    run: Callable[[Shared, Any], Computation[Any]]
    defects: Callable[[Shared], Shared]
    clients: int
    deal: Deal

    @classmethod
    def of(
        cls,
        run: Callable[[Shared, Any], Computation[Any]],
        defects: Callable[[Shared], Shared],
        *,
        clients: int,
        width: int,
        holders: int,
        threshold: int,
        limit: int,
    ) -> Plan:
        """The plan with as much randomness as `run` takes."""
        demand = estimated(run, (clients, width), threshold, limit).demand
        return cls(holders, threshold, limit, width, run, defects, clients, Deal(holders, threshold, demand))

    @property
    def code(self) -> LagrangeCode:
        """How everything is shared."""
        return LagrangeCode(self.holders, self.threshold)

    @property
    def needed(self) -> int:
        """Fewest holders that an exchange takes: enough to decode, and a quorum."""
        return max(self.limit * self.threshold + 1, committee.quorum(self.holders, self.threshold))


def estimated(
    run: Callable[[Shared, Any], Computation[Any]], shape: tuple[int, int], threshold: int, limit: int
) -> Estimate:
    """How much randomness a computation on inputs of `shape` takes and opens: counted by running it on zeros."""
    estimate = Estimate(threshold, limit)
    computation = run(Shared(np.zeros(shape, np.uint64), 1), estimate)
    try:
        wanted = next(computation)
        while True:
            estimate.opened += sum(value.values.size for value in wanted)
            wanted = computation.send([np.zeros(value.shape, np.uint64) for value in wanted])
    except StopIteration:
        return estimate
