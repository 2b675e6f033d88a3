"""What is computed on shares, and how much randomness that takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from secfpp.crypto.arithmetic import Computation, Shared, decisive
from secfpp.crypto.material import UNIFORM, Deal, Estimate
from secfpp.crypto.replicated import SLOT, Sets, key_sets
from secfpp.crypto.sharing import LagrangeCode
from secfpp.crypto.verified import mask_shape
from secfpp.secure import committee

Security = Literal["active", "passive"]
"""Whether holders verify what they were told, or believe it."""


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
        checks: how often holders verify what they were told, see `secfpp.crypto.verified`; 0 if they believe it.
        sets: who has keys in common, where integers are not dealt, see `secfpp.crypto.replicated`.
    """

    holders: int
    threshold: int
    limit: int
    width: int
    run: Callable[[Shared, Any], Computation[Any]]
    defects: Callable[[Shared], Shared]
    clients: int
    deal: Deal
    checks: int
    sets: Sets

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
        security: Security = "passive",
        estimate: Estimate | None = None,
    ) -> Plan:
        """The plan with as much randomness as `run` takes, which is counted if there is no `estimate` of it."""
        sets = sets_of(holders, threshold, limit, security)
        estimate = estimate or estimated(run, (clients, width), threshold, limit, len(sets))
        demand = estimate.demand.copy()
        checks = estimate.decisive if security == "active" else 0
        if checks:
            demand[UNIFORM] += verifying(checks, holders, threshold, limit)
        return cls(
            holders, threshold, limit, width, run, defects, clients, Deal(holders, threshold, demand), checks, sets
        )

    @property
    def code(self) -> LagrangeCode:
        """How everything is shared."""
        return LagrangeCode(self.holders, self.threshold)

    @property
    def keys(self) -> int:
        """Field elements that a holder deals of keys, on top of `deal`."""
        return SLOT * len(self.sets)

    @property
    def needed(self) -> int:
        """Fewest holders that an exchange takes: enough to decode, and a quorum."""
        return max(self.limit * self.threshold + 1, committee.quorum(self.holders, self.threshold))

    @property
    def verifiers(self) -> int:
        """Fewest holders that verify what they were told: so many that the honest ones could open it alone."""
        return verifiers(self.holders, self.threshold, self.limit)


def sets_of(holders: int, threshold: int, limit: int, security: Security) -> Sets:
    """See `Plan.sets`."""
    return key_sets(holders, threshold, limit * threshold) if security == "active" else ()


def carry(holders: int, threshold: int, limit: int, security: Security) -> int:
    """See `secfpp.crypto.comparison.Comparator`."""
    return len(sets_of(holders, threshold, limit, security)) - 1 if security == "active" else threshold


def verifiers(holders: int, threshold: int, limit: int) -> int:
    """See `Plan.verifiers`."""
    return max((limit + 1) * threshold + 1, committee.quorum(holders, threshold))


def verifying(checks: int, holders: int, threshold: int, limit: int) -> int:
    """Uniform elements that so many checks take, with that of what was dealt if there are any."""
    shape = mask_shape(holders, threshold, limit)
    return checks and checks * math.prod(shape) + shape[1]


def to_verify(exchange: int, values: Sequence[Shared]) -> bool:
    """Whether what was dealt and told has to be verified before these are opened in an exchange of this number."""
    return not exchange or decisive(values)


def estimated(
    run: Callable[[Shared, Any], Computation[Any]],
    shape: tuple[int, int],
    threshold: int,
    limit: int,
    replicated: int = 0,
) -> Estimate:
    """How much randomness a computation on inputs of `shape` takes and opens: counted by running it on zeros."""
    estimate = Estimate(threshold, limit, replicated)
    exchange, estimate.decisive = 0, 1  # its end
    computation = run(Shared(np.zeros(shape, np.uint64), 1), estimate)
    try:
        wanted = next(computation)
        while True:
            estimate.decisive += to_verify(exchange, wanted)
            exchange += 1
            estimate.opened += sum(value.values.size for value in wanted)
            wanted = computation.send([np.zeros(value.shape, np.uint64) for value in wanted])
    except StopIteration:
        return estimate
