"""The server's side of `secfpp.secure.circuits.holder`: it relays, adds up, and follows on shares of nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from secfpp.crypto.arithmetic import Shared, Square, inverse_square_root
from secfpp.crypto.field import Elements
from secfpp.crypto.masks import unmasked
from secfpp.crypto.material import Estimate
from secfpp.errors import DropoutError, ReplyError, TamperError
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.fields import parsed
from secfpp.protocol.program import Arrays, Ask, ClientId, Program, Replies
from secfpp.secure.circuits.checks import Answers, coin_in, judge, leading
from secfpp.secure.circuits.messages import Opened, Told, elements_in, let_go
from secfpp.secure.circuits.plan import Plan, to_verify
from secfpp.secure.circuits.tally import DIGEST_BYTES, digest
from secfpp.secure.envelopes import ENVELOPES, handed_out, others, rows_of, unpacked
from secfpp.secure.session import in_short, terms, with_keys

About = Callable[[Cohort], Mapping[str, Any] | None]
"""What those who are left agree on, ready for JSON; None if nothing is to be computed of so few."""
Part = Callable[[Cohort], Iterable[ClientId]]
"""Who of those who are left shares an input."""
Lacking = Mapping[ClientId, Arrays]
"""By holder, what it needs for its shares of the inputs and, where it verifies, to know what came out."""


@dataclass(frozen=True)
class Dealing:
    """What everybody dealt.

    Args:
        facts: the terms, see `secfpp.secure.session.terms`.
        dealt: everybody's reply; large, so whoever uses it empties it.
    """

    facts: Mapping[str, Any]
    dealt: dict[ClientId, Arrays] = field(repr=False)

    @property
    def attempt(self) -> int:
        """The number of this attempt."""
        return int(self.facts["attempt"])

    @property
    def clients(self) -> tuple[ClientId, ...]:
        """Everybody who shared an input, sorted."""
        return tuple(self.facts["clients"])

    @property
    def holders(self) -> tuple[ClientId, ...]:
        """Who holds shares, sorted."""
        return tuple(self.facts["holders"])

    def handed_out(self) -> dict[ClientId, dict[str, np.ndarray]]:
        """What was dealt to each holder, as it is told that; empties `dealt`."""
        sealed = {}
        for client in self.clients:
            reply = self.dealt.pop(client)
            sealed[client] = reply[ENVELOPES]
            if isinstance(reply, dict):
                reply.clear()  # whoever delivered it still has it
        return handed_out(sealed, self.clients, self.holders)


def dealing(
    component: str, cohort: Cohort, about: About, size: int, part: Part | None = None, coins: bool = True
) -> Program[tuple[Cohort, Dealing | None]]:
    """Let everybody deal; whoever does not is left out, and the rest starts anew.

    Args:
        component: the component whose step ``deal`` the clients run.
        cohort: who is asked.
        about: what those who are left agree on, or None if there is nothing to do.
        size: most holders.
        part: who of those who are left takes part, beside the holders; None for all.
        coins: whether holders commit to coins.

    Returns:
        Who is left, also of those who take no part, and what they dealt; None if there was nothing to do.
    """
    cohort = yield from with_keys(cohort, size)
    while (wanted := about(cohort)) is not None:
        agreed = terms(component, cohort, wanted, size, asked=part and part(cohort))
        facts, short = parsed(agreed["about"].item()), in_short(agreed)
        replies = yield Ask(
            f"{component}.deal", {c: agreed if c in facts["holders"] else short for c in facts["clients"]}
        )
        dealt = replies.readable(partial(_dealt, facts["holders"], coins))
        if len(dealt) == len(facts["clients"]):
            return cohort, Dealing(facts, dealt)
        cohort = cohort.subset(set(cohort.clients) - (set(facts["clients"]) - set(dealt)))
    return cohort, None


def _dealt(holders: Sequence[ClientId], coins: bool, client: ClientId, reply: Arrays) -> Arrays:
    """What a client dealt.

    Raises:
        ReplyError: it dealt nothing to some holder, or commits to no coin.
    """
    rows_of(client, reply, ENVELOPES, len(others(client, holders)))
    if coins and client in holders:
        coin_in(client, reply)
    return reply


def compute(component: str, dealing: Dealing, plan: Plan) -> Program[tuple[Any, Lacking]]:
    """Lead the holders through a computation after everybody has dealt.

    Args:
        component: the component whose steps ``proceed``, ``verify`` and ``begin`` the holders run.
        dealing: what was dealt; emptied.
        plan: what is computed.

    Returns:
        The public result, and what holders lack: those who were not needed what was dealt to them, and where openings
        are verified, those who fell behind what they were not told.

    Raises:
        DropoutError: fewer holders are left than an exchange takes.
        TamperError: a check failed; names whose if that can be told.
    """
    lead = _Lead(component, dealing, plan)
    follower = plan.run(
        Shared(np.zeros((len(dealing.clients), plan.width), np.uint64), 1),
        Estimate(plan.threshold, plan.limit, len(plan.sets)),
    )
    try:
        wanted = next(follower)
        while True:
            wanted = follower.send((yield from lead.open(wanted)))
    except StopIteration as stop:
        if plan.checks:  # opens nothing: only holders who verified everything answer it
            yield from lead.open(())
            lead.opened.pop()
        return stop.value, lead.lacking()


class _Lead:
    """What the server knows of a running computation."""

    def __init__(self, component: str, dealing: Dealing, plan: Plan) -> None:
        self.component, self.step = component, f"{component}.proceed"
        self.attempt, self.holders, self.plan = dealing.attempt, dealing.holders, plan
        clients, holders = dealing.clients, dealing.holders
        # Copies, so that large messages do not stay for a part of them.
        self.commitments = {holder: dealing.dealt[holder]["coin"].copy() for holder in holders}
        self.envelopes = dealing.handed_out()
        if plan.checks:
            digests = self._digests(clients)
            for told in self.envelopes.values():
                told["digests"] = digests
        self.tallies: dict[int, dict[ClientId, Mapping[ClientId, np.ndarray]]] = {}
        self.clients, self.checks = clients, leading(clients, self.step)
        next(self.checks)
        self.opened: list[Opened] = []
        self.coins: dict[ClientId, np.ndarray] = {}
        self.fixed = False  # whether coins were told to anybody
        self.told = dict.fromkeys(holders, -1)
        self.heard = dict.fromkeys(holders, -1)  # the last exchange to which a holder was told tallies
        self.unreliable: set[ClientId] = set()

    def open(self, wanted: Sequence[Shared]) -> Program[list[Elements]]:
        """One exchange, asked again with others for those who go missing in it; `wanted` says what is opened."""
        shapes = [value.shape for value in wanted]
        size = sum(map(math.prod, shapes))
        if self.plan.checks and to_verify(len(self.opened), wanted):
            yield from self._verify()
        responders, replies = yield from self._answers(self.step, self.plan.needed)
        values = unmasked([elements_in(replies[h], "masked", size, h, self.step) for h in responders], shapes)
        values = [
            inverse_square_root(value) if isinstance(of, Square) else value
            for of, value in zip(wanted, values, strict=True)
        ]
        if not self.plan.checks:
            self.coins.update(self.checks.send(Answers(responders, replies)))
        vector = np.concatenate([value.reshape(-1) for value in values]) if values else np.zeros(0, np.uint64)
        self.opened.append(Opened(self._numbers(responders), vector))
        return values

    def lacking(self) -> Lacking:
        """After the end, see `Lacking`."""
        end = len(self.opened) if self.plan.checks else -1
        behind = [holder for holder in self.holders if holder not in self.envelopes and self.heard[holder] < end]
        return self.envelopes | {holder: self._tell(holder, behind) for holder in behind}

    def _verify(self) -> Program[None]:
        """What holders have to say each other of what they were told, the first time also to the server of the rest."""
        verifiers, replies = yield from self._answers(f"{self.component}.verify", self.plan.verifiers)
        if not self.opened:
            judge(self.clients, Answers(verifiers, replies), f"{self.component}.verify")
        self.tallies[len(self.opened)] = {holder: self._tally(holder, replies[holder]) for holder in verifiers}

    def _answers(self, step: str, needed: int) -> Program[tuple[Sequence[ClientId], Replies]]:
        """The responders of an exchange, as many as are needed, and their replies."""
        missing: set[ClientId] = set()
        while True:
            # Those who missed an exchange come last, whoever has nothing to catch up with first.
            order = sorted(
                set(self.holders) - missing, key=lambda h: (h in self.unreliable, -self.told[h], self.holders.index(h))
            )
            if len(order) < needed:
                raise DropoutError(step, needed, len(order), sorted(missing))
            responders = sorted(order[:needed])
            late = [holder for holder in responders if holder in self.envelopes]
            if late and (self.opened or self.plan.checks):
                missing |= set((yield from self._begin(late)))
                self.unreliable |= missing
                continue
            self.fixed = bool(self.coins)
            messages = {holder: self._tell(holder, responders) for holder in responders}
            replies = yield Ask(step, messages, arrived=partial(self._arrived, messages))
            for holder in replies:
                self.told[holder] = len(self.opened)
                self.heard[holder] = max(self.heard[holder], len(self.opened) - (step != self.step))
                self._arrived(messages, holder)
            if not replies.missing:
                return responders, replies
            missing |= set(replies.missing)
            self.unreliable |= missing

    def _arrived(self, messages: Mapping[ClientId, dict[str, np.ndarray]], holder: ClientId) -> None:
        """Let go what was dealt to a holder that has it: together, this is the most that the server keeps."""
        self.envelopes.pop(holder, None)
        let_go(messages[holder])

    def _begin(self, late: Sequence[ClientId]) -> Program[Sequence[ClientId]]:
        """Send those who stood by what was dealt to them, in a message of its own as it is large; who is missing.

        Where what was dealt is verified, all are sent it so, and show their coins before anything else is done.
        """
        attempt = {"attempt": np.array(self.attempt)}
        payloads = {holder: attempt | self.envelopes[holder] for holder in late}
        replies = yield Ask(f"{self.component}.begin", payloads)
        begun = set(replies)
        if self.plan.checks and not self.fixed:
            coins = replies.readable(coin_in)
            self.coins.update(coins)
            begun = set(coins)
        for holder in begun:
            del self.envelopes[holder]
        return sorted(set(late) - begun)

    def _tell(self, holder: ClientId, responders: Sequence[ClientId]) -> dict[str, np.ndarray]:
        """What a holder has not been told yet, and who else answers."""
        since = max(self.told[holder], 0)
        told = Told(self.attempt, len(self.opened), self._numbers(responders), since, self.opened[since:])
        coins = self.coins if self.told[holder] < (not self.plan.checks) else {}
        tallies = {n: _for(holder, every) for n, every in self.tallies.items() if n > self.heard[holder]}
        told = replace(told, coins=coins, commitments=self.commitments, tallies=tallies)
        return told.write(self.holders) | self.envelopes.get(holder, {})

    def _tally(self, holder: ClientId, reply: Arrays) -> Mapping[ClientId, np.ndarray]:
        """What a holder says to each other one of what it was told, sealed.

        Raises:
            TamperError: nothing to one of them.
        """
        try:
            recipients = others(holder, self.holders)
            return dict(zip(recipients, rows_of(holder, reply, ENVELOPES, len(recipients)), strict=True))
        except ReplyError as error:
            raise TamperError(
                holder, f"{self.component}.verify", "it does not say all others what it was told"
            ) from error

    def _digests(self, clients: Sequence[ClientId]) -> np.ndarray:
        """Hashes of what each client dealt to each holder [clients, holders, 32], 0 of what it keeps."""
        digests = np.zeros((len(clients), len(self.holders), DIGEST_BYTES), np.uint8)
        row_of = {client: row for row, client in enumerate(clients)}
        for column, holder in enumerate(self.holders):
            for client, envelope in unpacked(ENVELOPES, self.envelopes[holder], clients, self.step).items():
                digests[row_of[client], column] = digest(envelope)
        return digests

    def _numbers(self, holders: Sequence[ClientId]) -> np.ndarray:
        return np.array([self.holders.index(holder) for holder in holders], np.uint8)


def _for(holder: ClientId, every: Mapping[ClientId, Mapping[ClientId, np.ndarray]]) -> dict[ClientId, np.ndarray]:
    """What the others have for a holder."""
    return {name: sealed[holder] for name, sealed in every.items() if name != holder}
