"""The server's side of `secfpp.secure.circuits.holder`: it relays, adds up, and follows on shares of nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from secfpp.crypto.arithmetic import Shared, Square, inverse_square_root
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.masks import unmasked
from secfpp.crypto.material import Estimate
from secfpp.errors import DropoutError, FieldRangeError, TamperError
from secfpp.protocol.program import Arrays, Ask, ClientId, Program
from secfpp.secure.circuits.checks import CHECKED, blame
from secfpp.secure.circuits.plan import Plan


def compute(
    component: str,
    attempt: int,
    clients: Sequence[ClientId],
    holders: Sequence[ClientId],
    plan: Plan,
    dealt: dict[ClientId, Arrays],
) -> Program[Any]:
    """Lead the holders through a computation after everybody has dealt; its public result.

    Args:
        component: the component whose steps ``proceed`` and ``begin`` the holders run.
        attempt: the number of this attempt.
        clients: everybody who shared an input, sorted.
        holders: who holds shares, sorted.
        plan: what is computed.
        dealt: everybody's reply to ``deal``; emptied, because it is large.

    Raises:
        DropoutError: fewer holders are left than an exchange takes.
        TamperError: a check failed; names whose if that can be told.
    """
    lead = _Lead(component, attempt, tuple(clients), tuple(holders), plan, dealt)
    follower = plan.run(
        Shared(np.zeros((len(clients), plan.width), np.uint64), 1), Estimate(plan.threshold, plan.limit)
    )
    try:
        wanted = next(follower)
        while True:
            wanted = follower.send((yield from lead.open(wanted)))
    except StopIteration as stop:
        return stop.value


class _Lead:
    """What the server knows of a running computation."""

    def __init__(
        self,
        component: str,
        attempt: int,
        clients: tuple[str, ...],
        holders: tuple[str, ...],
        plan: Plan,
        dealt: dict[ClientId, Arrays],
    ) -> None:
        self.component, self.step = component, f"{component}.proceed"
        self.attempt, self.clients, self.holders, self.plan = attempt, clients, holders, plan
        self.envelopes: dict[ClientId, dict[str, np.ndarray]] = {
            holder: {
                f"from.{client}": dealt[client][f"to.{holder}"]
                for client in clients
                if client != holder and f"to.{holder}" in dealt[client]
            }
            for holder in holders
        }
        self.public: dict[str, np.ndarray] = {
            f"commitment.{holder}": dealt[holder]["coin"] for holder in holders if "coin" in dealt[holder]
        }
        dealt.clear()
        self.coins: dict[str, np.ndarray] = {}
        self.opened: list[tuple[np.ndarray, Elements]] = []
        self.told = dict.fromkeys(holders, -1)
        self.unreliable: set[ClientId] = set()

    def open(self, wanted: Sequence[Shared]) -> Program[list[Elements]]:
        """One exchange, asked again with others for those who go missing in it; `wanted` says what is opened."""
        shapes = [value.shape for value in wanted]
        size = sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes)
        missing: set[ClientId] = set()
        while True:
            # Those who missed an exchange come last, whoever has nothing to catch up with first.
            order = sorted(
                set(self.holders) - missing, key=lambda h: (h in self.unreliable, -self.told[h], self.holders.index(h))
            )
            if len(order) < self.plan.needed:
                raise DropoutError(self.step, self.plan.needed, len(order), sorted(missing))
            responders = sorted(order[: self.plan.needed])
            if self.opened and (late := [holder for holder in responders if holder in self.envelopes]):
                missing |= set((yield from self._begin(late)))
                self.unreliable |= missing
                continue
            replies = yield Ask(self.step, {holder: self._payload(holder, responders) for holder in responders})
            for holder in replies:
                self.told[holder] = len(self.opened)
                self.envelopes.pop(holder, None)
            if not replies.missing:
                break
            missing |= set(replies.missing)
            self.unreliable |= missing
        numbers = np.array([self.holders.index(holder) for holder in responders], np.uint8)
        values = unmasked([self._vector(replies[h], "masked", size, h) for h in responders], shapes)
        values = [
            inverse_square_root(value) if isinstance(of, Square) else value
            for of, value in zip(wanted, values, strict=True)
        ]
        if len(self.opened) == CHECKED - 1:
            self.coins = {f"coin.{h}": replies[h]["coin"] for h in responders if "coin" in replies[h]}
        elif len(self.opened) == CHECKED:
            self._judge(responders, replies)
        if not self.opened:  # what stays is a small part of the messages it came in: let go of these
            self.envelopes = {h: {name: e.copy() for name, e in rest.items()} for h, rest in self.envelopes.items()}
        vector = np.concatenate([value.reshape(-1) for value in values]) if values else np.zeros(0, np.uint64)
        self.opened.append((numbers, vector))
        return values

    def _begin(self, late: Sequence[ClientId]) -> Program[Sequence[ClientId]]:
        """Send those who stood by what was dealt to them, in a message of its own as it is large; who is missing."""
        attempt = {"attempt": np.array(self.attempt)}
        replies = yield Ask(f"{self.component}.begin", {holder: attempt | self.envelopes[holder] for holder in late})
        for holder in replies:
            del self.envelopes[holder]
        return replies.missing

    def _payload(self, holder: ClientId, responders: Sequence[ClientId]) -> Arrays:
        """What a holder has not been told yet, and who else answers."""
        number = len(self.opened)
        payload: dict[str, np.ndarray] = {
            "attempt": np.array(self.attempt),
            "exchange": np.array(number),
            "responders": np.array([self.holders.index(r) for r in responders], np.uint8),
            **self.envelopes.get(holder, {}),
        }
        for missed in range(max(self.told[holder], 0), number):
            payload[f"responders.{missed}"], payload[f"opened.{missed}"] = self.opened[missed]
        if self.told[holder] < CHECKED <= number:
            payload |= self.public | self.coins
        return payload

    def _vector(self, reply: Arrays, name: str, size: int, holder: ClientId) -> Elements:
        vector = reply.get(name)
        if vector is None or vector.shape != (size,):
            raise TamperError(holder, self.step, f"{0 if vector is None else vector.size} values, {size} were expected")
        try:
            return PrimeField.checked(vector)
        except FieldRangeError as error:
            raise TamperError(holder, self.step, "an answer that holds no field elements") from error

    def _judge(self, responders: Sequence[ClientId], replies: Mapping[ClientId, Arrays]) -> None:
        shapes = [(len(responders), len(self.clients)), (len(self.clients),)]
        size = (len(responders) + 1) * len(self.clients)
        degree, zero = unmasked([self._vector(replies[h], "checks", size, h) for h in responders], shapes)
        blame(self.clients, responders, degree, zero, self.step)
