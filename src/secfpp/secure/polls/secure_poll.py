"""The poll on shares: nobody sees a bit, a gain or a count."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np

from secfpp.crypto.checks import bit_defects
from secfpp.crypto.field import Elements
from secfpp.errors import ConfigError, DropoutError, Problem, ProtocolError, TamperError
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import ClientState, Program
from secfpp.secure import committee
from secfpp.secure.circuits.component import Circuit
from secfpp.secure.circuits.plan import Plan, Security, carry
from secfpp.secure.polls.circuit import circuit_of, encode
from secfpp.secure.polls.poll import Poll
from secfpp.secure.polls.questions import AtLeast, Favours, Question, bits_in, facts_of, gain_in, question_in
from secfpp.secure.session import Joined
from secfpp.settings import check_types


@dataclass(frozen=True)
class SecurePoll(Circuit[Elements], Poll):
    """The poll on shares, equal to `PlainPoll`'s: the server and up to T holders together learn the answer alone.

    Dealing and three exchanges for `at_least`, four for `favours`, after those of key agreement if the cohort has no
    keys yet; with few holders or ``threshold = "high"`` up to two more. Who does not deal is left out. Later, as many
    holders may drop out as `dropouts` says.

    A holder answers one poll of everybody and one by groups in a round about the same bits, and one about the same
    gain, so that two answers cannot be compared. Colluding clients who hold a bit themselves, or know that they do not,
    learn what the answer says of the rest: with T of them in a group, a bit found set is set at `min_count` - T others
    at least.

    Args:
        min_count: the smallest number that `at_least` may ask for; clients insist on it.
        threshold: ``standard`` (c >= 5 T + 1 + dropouts for c holders) or ``high`` (c >= 3 T + 1 + dropouts, one
            exchange more). Where there are too few holders for ``standard``, T = 1 of them may collude as in ``high``.
        dropouts: how many holders may go missing; None tolerates 5 of 16, and fewer of fewer, none with ``high``.
        committee: most holders; of more clients, so many are drawn.
        security: ``active``: a server that tells false values, with T holders who do whatever it likes, gets an abort
            and nothing else; c >= 6 T + 1 + dropouts (``high``: 4 T). ``passive``: holders believe what it tells.

    Raises:
        ConfigError: values that cannot work.
        DropoutError: too few clients or holders are left.
        TamperError: somebody shared something out of range, or changed a message.
    """

    kind: ClassVar[str] = "secure"
    component: ClassVar[str] = "poll"
    needs_keys: ClassVar[bool] = True

    min_count: int = 3
    threshold: Literal["standard", "high"] = "standard"
    dropouts: int | None = None
    committee: int = committee.LARGEST
    security: Security = "passive"

    def __post_init__(self) -> None:
        check_types(self, "poll")
        problems = []
        if self.min_count < 2:
            problems.append(Problem("poll.min_count", self.min_count, "at least 2: less would tell of single clients"))
        if self.dropouts is not None and self.dropouts < 0:
            problems.append(Problem("poll.dropouts", self.dropouts, "must not be negative"))
        elif not self.fewest <= self.committee <= 100:
            problems.append(Problem("poll.committee", self.committee, f"{self.fewest} to 100"))
        if problems:
            raise ConfigError(problems)

    @property
    def fewest(self) -> int:
        """See `Poll.fewest`: T = 1 takes 4 holders, 5 if security is active, and dropouts come on top."""
        return 4 + self._active + (self.dropouts or 0)

    @property
    def _active(self) -> bool:
        return self.security == "active"

    def require(self, clients: int) -> None:
        """See `Poll.require`."""
        if clients < self.fewest:
            fewer = f", or fewer poll.dropouts than {self.dropouts}" if self.dropouts else ""
            allowed = f'at least {self.fewest} to hold shares{fewer}; poll.kind = "plain" shows the server everything'
            raise ConfigError([Problem("clients", clients, allowed)])

    def limit(self, clients: int) -> int:
        """The largest degree that is opened, in multiples of T: 5, or 3 for a high threshold or few holders."""
        enough = min(clients, self.committee) >= 6 + self._active + (self.dropouts or 0)
        return 5 if self.threshold == "standard" and enough else 3

    def collusion(self, clients: int) -> int:
        """T among `clients`.

        Raises:
            ConfigError: too few clients.
        """
        self.require(clients)
        holders = min(clients, self.committee)
        return committee.clustering_threshold(holders, self.limit(clients), self.dropouts, active=self._active)

    def protection(self, n_clients: int) -> Mapping[str, object]:
        """What a report says of a run with so many clients."""
        return {
            "reveal": "answers",
            "holders": min(n_clients, self.committee),
            "threshold": self.collusion(n_clients),
            "security": self.security,
        }

    def at_least(
        self, cohort: Cohort, slot: str, bits: int, least: int, groups: Assignment | None = None
    ) -> Program[tuple[np.ndarray, Cohort]]:
        """See `Poll.at_least`."""
        self.require_count(least)
        return (yield from self._answer(cohort, slot, lambda left: AtLeast.of(left, bits, least, groups)))

    def favours(self, cohort: Cohort, slot: str, margin: float, error: float) -> Program[tuple[bool, Cohort]]:
        """See `Poll.favours`."""
        answer, left = yield from self._answer(cohort, slot, lambda left: Favours.of(len(left), margin, error))
        return bool(answer[0]), left

    def _answer(
        self, cohort: Cohort, slot: str, question: Callable[[Cohort], Question]
    ) -> Program[tuple[np.ndarray, Cohort]]:
        def about(left: Cohort) -> Mapping[str, Any]:
            if len(left) < self.fewest:
                missing = sorted(set(cohort.clients) - set(left.clients))
                raise DropoutError("poll.deal", self.fewest, len(left), missing)
            agreed = {"slot": slot, "threshold": self.collusion(len(left)), "settings": asdict(self)}
            return agreed | facts_of(question(left))

        threshold = self.collusion(len(cohort))
        self.plan(question(cohort), min(len(cohort), self.committee), threshold)
        answer, left = yield from self.compute(cohort, about, self.committee)
        assert answer is not None
        if (answer > 1).any():
            raise TamperError(None, "poll.proceed", "what was opened is no answer: a holder answered wrongly")
        return answer.astype(bool), left

    def planned(self, facts: Mapping[str, Any]) -> Plan:
        """See `Circuit.planned`."""
        return self.plan(question_in(facts), len(facts["holders"]), facts["threshold"])

    def plan(self, question: Question, holders: int, threshold: int) -> Plan:
        """The computation among so many holders.

        Raises:
            FieldRangeError: too many clients for exact arithmetic.
        """
        return _plan(question, holders, threshold, self.limit(holders), self.security)

    def shared_by(self, joined: Joined, state: ClientState) -> Elements:
        """See `Circuit.shared_by`: the client's bits, or those of its gain."""
        question = self._accepted(joined)
        slot = joined.fact("slot", str)
        if isinstance(question, AtLeast):
            return bits_in(state, slot, question.bits).astype(np.uint64)
        return encode(gain_in(state, slot))

    def _accepted(self, joined: Joined) -> Question:
        """The question, if its terms are not weaker than this client's own settings."""
        theirs, n = joined.fact("settings", dict), len(joined.clients)
        if theirs != asdict(self):
            other = {k: (theirs.get(k), v) for k, v in asdict(self).items() if theirs.get(k) != v}
            raise ProtocolError(f"the server polls with other settings than this client agreed to: {other}")
        threshold, size = joined.fact("threshold", int), joined.fact("size", int)
        if n < self.fewest or threshold != self.collusion(n) or size != self.committee:
            raise ProtocolError(
                f"the server polls {n} clients with up to {size} holders of shares and threshold {threshold}, which is "
                "not what this client agreed to"
            )
        question, most = question_in(joined.about), len(joined.party.roster.keys)
        if isinstance(question, AtLeast) and question.k > most:
            raise ProtocolError(f"a poll of {question.k} groups, there are {most} clients")
        if isinstance(question, AtLeast) and question.least < self.min_count:
            raise ProtocolError(
                f"a poll for {question.least} clients or more, this client insists on {self.min_count} or more"
            )
        return question

    def deed(self, joined: Joined) -> str:
        """See `Circuit.deed`: a poll of everybody is another than one by groups."""
        return super().deed(joined) + ("" if joined.about.get("groups") is None else " by groups")


@lru_cache(maxsize=8)  # clients that share a process ask for the same
def _plan(question: Question, holders: int, threshold: int, limit: int, security: Security) -> Plan:
    circuit = circuit_of(question, carry(holders, threshold, limit, security), limit)
    return Plan.of(
        circuit.run,
        bit_defects,
        clients=question.clients,
        width=circuit.width,
        holders=holders,
        threshold=threshold,
        limit=limit,
        security=security,
    )
