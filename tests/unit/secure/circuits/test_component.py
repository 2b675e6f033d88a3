"""A small circuit as a component of its own: which of several things at least so many clients have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest

from secfpp.crypto.arithmetic import Computation, Future, Pool, Shared, opened, side_by_side
from secfpp.crypto.checks import bit_defects
from secfpp.crypto.comparison import Comparator
from secfpp.crypto.field import Elements, PrimeField
from secfpp.errors import ClientError, DropoutError, ProtocolError, TamperError
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientState
from secfpp.runtime.in_process import InProcessDriver
from secfpp.secure.circuits.component import Circuit
from secfpp.secure.circuits.plan import Plan
from secfpp.secure.session import Joined, Session, parties_in_memory
from support.clustering_runs import Missing
from support.secure_runs import names
from support.toy import Fate, toy_driver

T, LIMIT = 1, 5


@dataclass(frozen=True)
class Frequent(Circuit[list[bool]]):
    """Which of `things` at least `least` clients have; nothing else becomes public."""

    component: ClassVar[str] = "frequent"

    things: int = 3
    least: int = 4

    def run(self, inputs: Shared, pool: Pool) -> Computation[list[bool]]:
        drawn = yield from Comparator.plan(len(inputs.values), T, LIMIT, 0).prepare(self.things, pool)
        masks = Future(drawn.expand(pool))
        beyond = inputs.sum(0) - self.least
        _, rare = yield from side_by_side(masks.run(), drawn.negative(beyond, masks, pool))
        (public,) = yield from opened([rare])
        return [not value for value in public.tolist()]

    def planned(self, facts: Mapping[str, Any]) -> Plan:
        clients, holders = len(facts["clients"]), len(facts["holders"])
        return Plan.of(
            self.run, bit_defects, clients=clients, width=self.things, holders=holders, threshold=T, limit=LIMIT
        )

    def shared_by(self, joined: Joined, state: ClientState) -> Elements:
        if joined.fact("least", int) != self.least:
            raise ProtocolError("the server asks for another number than this client agreed to")
        return PrimeField.lift(state["has"])


@dataclass(frozen=True)
class OnlyFrequent:
    frequent: Frequent = field(default_factory=Frequent)
    session: Session = field(default_factory=Session)


HAS = np.array([[1, 0, 1], [1, 0, 1], [1, 0, 0], [1, 1, 1], [0, 0, 1], [0, 0, 0], [0, 1, 0], [1, 0, 1]])
COHORT = Cohort(dict.fromkeys(names(len(HAS)), 1), 0, 0)


def driver(has: np.ndarray = HAS, dropouts: Callable[[int, str, str], Fate] | None = None) -> InProcessDriver:
    states = {name: ClientState({"has": row}) for name, row in zip(names(len(has)), has, strict=True)}
    return toy_driver(states, OnlyFrequent(), dropouts, parties_in_memory(states), transcript=None)


def about(cohort: Cohort) -> Mapping[str, Any] | None:
    if len(cohort) < 6:
        raise DropoutError("frequent.deal", 6, len(cohort), ())
    return {"least": 4} if len(cohort) > 6 else None


def test_the_result_is_that_in_the_clear() -> None:
    assert driver().run(Frequent().compute(COHORT, about)) == ((HAS.sum(0) >= 4).tolist(), COHORT)


def test_who_does_not_deal_is_left_out() -> None:
    found, left = driver(dropouts=Missing("frequent.deal", {0})).run(Frequent().compute(COHORT, about))
    assert left.clients == COHORT.clients[1:]
    assert found == (HAS[1:].sum(0) >= 4).tolist()


def test_holders_that_go_missing_later_change_nothing() -> None:
    gone = Missing("frequent.proceed", set(), {2}, {4})
    assert driver(dropouts=gone).run(Frequent().compute(COHORT, about))[0] == (HAS.sum(0) >= 4).tolist()


def test_with_too_few_left_nothing_is_computed() -> None:
    one_by_one = Missing("frequent.deal", {0, 3})
    found, left = driver(dropouts=one_by_one).run(Frequent().compute(COHORT, about))
    assert found is None and len(left) == 6


def test_with_still_fewer_it_is_an_error_before_they_deal_again() -> None:
    with pytest.raises(DropoutError, match="at least 6 are needed"):
        driver(dropouts=Missing("frequent.deal", {0, 3, 5})).run(Frequent().compute(COHORT, about))


def test_inputs_are_checked() -> None:
    has = HAS.copy()
    has[2, 1] = 5
    with pytest.raises(TamperError, match="out of range") as caught:
        driver(has).run(Frequent().compute(COHORT, about))
    assert caught.value.party == "c02"


def test_clients_share_nothing_on_other_terms_than_theirs() -> None:
    with pytest.raises(ClientError, match="another number than this client agreed to"):
        driver().run(Frequent().compute(COHORT, lambda cohort: {"least": 1}))
