"""A computation on shares as a component of an algorithm: what is left to write is what is computed, and of what."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from secfpp.crypto.field import Elements
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.fields import integer_in
from secfpp.protocol.program import Arrays, ClientState, Program, step
from secfpp.secure import committee
from secfpp.secure.circuits import holder
from secfpp.secure.circuits.plan import Plan
from secfpp.secure.circuits.server import About, compute, dealing
from secfpp.secure.session import Joined, bind, join, kept, once, undone

R = TypeVar("R")


class Circuit(ABC, Generic[R]):
    """A component whose result holders compute on shares: the program that leads them, and their steps.

    Attributes:
        component: the field of an algorithm that this is, which gives its steps their name.
    """

    component: ClassVar[str]

    @abstractmethod
    def planned(self, facts: Mapping[str, Any]) -> Plan:
        """What is computed on terms of these facts, see `secfpp.secure.session.terms`; for server and clients alike."""

    @abstractmethod
    def shared_by(self, joined: Joined, state: ClientState) -> Elements:
        """What this client shares, field elements [width].

        Raises:
            ProtocolError: terms that it does not agree to.
        """

    def compute(self, cohort: Cohort, about: About, size: int = committee.LARGEST) -> Program[tuple[R | None, Cohort]]:
        """The result, and whose input is in it; no result if there was nothing to compute.

        Args:
            cohort: who is asked.
            about: what those who are left agree on, ready for JSON, or None if nothing is to be computed of so few; it
                may raise instead. It is asked again whenever somebody drops out before all have dealt.
            size: most holders.

        Raises:
            DropoutError: fewer holders are left than an exchange takes.
            TamperError: a check failed; names whose if that can be told.
        """
        cohort, dealt = yield from dealing(self.component, cohort, about, size)
        if dealt is None:
            return None, cohort
        result, _ = yield from compute(self.component, dealt, self.planned(dealt.facts))
        return result, cohort

    @step
    def deal(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Share the client's input with all holders, and randomness if it is one of them."""
        joined = self.joined(context, payload)
        own = self.shared_by(joined, state)
        return state, holder.deal(joined, self.plan_of(joined), own)

    def joined(self, context: object, payload: Arrays) -> Joined:
        """This client's place in a computation that it is asked to deal for.

        Raises:
            ProtocolError: see `secfpp.secure.session.join`.
            TamperError: likewise; or it held shares in one of this kind, which is over or goes on without it.
        """
        joined = join(context, self.component, payload)
        undone(joined, self.deed(joined))
        return joined

    def plan_of(self, joined: Joined) -> Plan:
        """What this client computes if it is a holder: what is `planned`, of what it knows beside."""
        return self.planned(joined.about)

    def deed(self, joined: Joined) -> str:
        """What is computed, as a holder's `Ledger` names it: it takes part in one such computation in a round."""
        return f"{self.task(joined)} {joined.about.get('slot', '')!r}"

    def task(self, joined: Joined) -> str:
        """Its kind."""
        return str(joined.about.get("task", "task"))

    def bound(self, joined: Joined) -> object:
        """With whom, and of what, a holder computes its deed, see `secfpp.secure.session.bind`."""
        return None

    def take_part(self, context: object, payload: Arrays, step_name: str) -> None:
        """Take part in one computation of a kind in a round; dealing may be repeated until everybody has done it.

        Raises:
            TamperError: it is the second.
        """
        holding = kept(context, integer_in(payload, "attempt"), holder.Holding, step_name)
        if isinstance(holding.state, holder.Dealt):
            once(holding.joined, self.deed(holding.joined))
            bind(holding.joined, self.deed(holding.joined), self.bound(holding.joined))

    @step
    def begin(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Take in what was dealt, by a holder that stood by, or by all where openings are verified."""
        self.take_part(context, payload, f"{self.component}.begin")
        return state, holder.begin(context, payload, f"{self.component}.begin")

    @step
    def verify(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Say all other holders what this one was told, sealed."""
        self.take_part(context, payload, f"{self.component}.verify")
        return state, holder.verify(context, payload, f"{self.component}.verify")

    @step
    def proceed(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """A holder's part of one exchange."""
        self.take_part(context, payload, f"{self.component}.proceed")
        return state, holder.proceed(context, payload, f"{self.component}.proceed")
