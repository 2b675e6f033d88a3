"""Polls of clients in memory, in the clear and on shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import ClientState
from secfpp.protocol.transcript import Transcript
from secfpp.runtime.in_process import InProcessDriver
from secfpp.secure.polls.plain_poll import PlainPoll
from secfpp.secure.polls.poll import Poll
from secfpp.secure.polls.secure_poll import SecurePoll
from secfpp.secure.session import parties_in_memory
from support.secure_runs import OnAsk, OnReplies, between, names
from support.toy import Fate, Toy, toy_driver

DEAL, BEGIN, PROCEED = "poll.deal", "poll.begin", "poll.proceed"


@dataclass(frozen=True)
class Polled(Toy):
    """An algorithm that polls."""

    poll: Poll = field(default_factory=PlainPoll)


def voters(bits: np.ndarray) -> dict[str, ClientState]:
    """Clients that hold these bits [n, m] in the slot ``has``."""
    return {c: ClientState({"has": own}) for c, own in zip(names(len(bits)), bits.astype(np.uint8), strict=True)}


def gainers(gains: np.ndarray) -> dict[str, ClientState]:
    """Clients that hold these gains [n] in the slot ``gain``."""
    return {c: ClientState({"gain": np.array(own)}) for c, own in zip(names(len(gains)), gains, strict=True)}


class PollRun:
    """Clients with keys in memory, ready to be polled."""

    def __init__(
        self,
        states: Mapping[str, ClientState],
        poll: Poll | None = None,
        dropouts: Callable[[int, str, str], Fate] | None = None,
        theirs: Poll | None = None,
        transcript: Transcript | None = None,
    ) -> None:
        self.poll, self.states = poll or SecurePoll(), dict(states)
        self.driver: InProcessDriver = toy_driver(
            states, Polled(poll=theirs or self.poll), dropouts, parties_in_memory(states), transcript=transcript
        )

    def cohort(self, number: int = 0) -> Cohort:
        return Cohort(dict.fromkeys(self.states, 1), number, 0)

    def at_least(
        self,
        least: int,
        groups: Assignment | None = None,
        on_ask: OnAsk | None = None,
        on_replies: OnReplies | None = None,
        number: int = 0,
    ) -> tuple[np.ndarray, Cohort]:
        bits = next(iter(self.states.values()))["has"].size
        program = self.poll.at_least(self.cohort(number), "has", bits, least, groups)
        result: tuple[np.ndarray, Cohort] = self.driver.run(between(program, on_ask, on_replies))
        return result

    def favours(
        self,
        margin: float = 0.0,
        error: float = 0.05,
        on_ask: OnAsk | None = None,
        on_replies: OnReplies | None = None,
        number: int = 0,
    ) -> tuple[bool, Cohort]:
        program = self.poll.favours(self.cohort(number), "gain", margin, error)
        result: tuple[bool, Cohort] = self.driver.run(between(program, on_ask, on_replies))
        return result


def in_the_clear(states: Mapping[str, ClientState], without: Any = ()) -> PollRun:
    """The same poll by a server that sees everything, of all others than those without."""
    return PollRun({c: state for c, state in states.items() if c not in set(without)}, PlainPoll())


def grouped(clients: Mapping[str, ClientState], k: int) -> Assignment:
    """Clients in `k` groups, in turn."""
    return Assignment({client: i % k for i, client in enumerate(clients)})
