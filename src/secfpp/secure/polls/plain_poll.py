"""The poll by a server that sees every bit and every gain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from secfpp.errors import ConfigError, DropoutError, Problem, ReplyError
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.fields import integer_in, text_in
from secfpp.protocol.program import Arrays, Ask, ClientState, Program, Replies, step
from secfpp.secure.polls.poll import Poll
from secfpp.secure.polls.questions import UNIT, AtLeast, Favours, bits_in, gain_in
from secfpp.settings import check_types


@dataclass(frozen=True)
class PlainPoll(Poll):
    """The poll by a server that sees every bit and every gain; one exchange. Who does not answer is left out.

    Args:
        min_count: the smallest number that `at_least` may ask for.

    Raises:
        ConfigError: values that cannot work.
    """

    kind: ClassVar[str] = "plain"

    min_count: int = 1

    def __post_init__(self) -> None:
        check_types(self, "poll")
        if self.min_count < 1:
            raise ConfigError([Problem("poll.min_count", self.min_count, "at least 1")])

    @property
    def fewest(self) -> int:
        """See `Poll.fewest`."""
        return 2

    def at_least(
        self, cohort: Cohort, slot: str, bits: int, least: int, groups: Assignment | None = None
    ) -> Program[tuple[np.ndarray, Cohort]]:
        """See `Poll.at_least`."""
        self.require(len(cohort))
        self.require_count(least)
        AtLeast.of(cohort, bits, least, groups)
        payload = {"slot": np.array(slot), "bits": np.array(bits)}
        replies = yield from self._asked("poll.tell_bits", cohort, payload)
        left = cohort.subset(replies)
        told = np.stack([_bits(client, reply, bits) for client, reply in replies.items()])
        return AtLeast.of(left, bits, least, groups).answer(told), left

    def favours(self, cohort: Cohort, slot: str, margin: float, error: float) -> Program[tuple[bool, Cohort]]:
        """See `Poll.favours`."""
        self.require(len(cohort))
        Favours.of(len(cohort), margin, error)
        replies = yield from self._asked("poll.tell_gain", cohort, {"slot": np.array(slot)})
        gains = np.array([_gain(client, reply) for client, reply in replies.items()])
        return bool(Favours.of(len(gains), margin, error).answer(gains)[0]), cohort.subset(replies)

    def _asked(self, step_name: str, cohort: Cohort, payload: Arrays) -> Program[Replies]:
        replies = yield Ask(step_name, dict.fromkeys(cohort.clients, payload))
        if len(replies) < self.fewest:
            raise DropoutError(step_name, self.fewest, len(replies), replies.missing)
        return replies

    @step
    def tell_bits(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Reply the bits."""
        return state, {"bits": bits_in(state, text_in(payload, "slot"), integer_in(payload, "bits"))}

    @step
    def tell_gain(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Reply the rounded gain."""
        return state, {"gain": np.array(gain_in(state, text_in(payload, "slot")))}


def _bits(client: str, reply: Arrays, bits: int) -> np.ndarray:
    told = reply.get("bits")
    if told is None or told.dtype != np.uint8 or told.shape != (bits,) or (told > 1).any():
        raise ReplyError(client, f"sent no {bits} bits")
    return told


def _gain(client: str, reply: Arrays) -> int:
    told = reply.get("gain")
    if told is None or told.dtype != np.int64 or told.shape != () or not -UNIT <= told < UNIT:
        raise ReplyError(client, f"sent no gain from {-UNIT} to {UNIT - 1}")
    return int(told)
