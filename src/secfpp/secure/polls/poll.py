"""What every way to poll has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from secfpp.errors import ConfigError, Problem
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import Program


class Poll(ABC):
    """A way to learn one bit of what a sum says; a field named ``poll`` of an algorithm, which names its steps.

    A client's bits and gains are the same from round to round, or nearly so, and every round gives answers of other
    clients: ask rarely.
    """

    kind: ClassVar[str]
    needs_keys: ClassVar[bool] = False
    min_count: int
    """The smallest number that `at_least` may ask for."""

    @property
    @abstractmethod
    def fewest(self) -> int:
        """Fewest clients of a poll."""

    @abstractmethod
    def at_least(
        self, cohort: Cohort, slot: str, bits: int, least: int, groups: Assignment | None = None
    ) -> Program[tuple[np.ndarray, Cohort]]:
        """Which bits are set at `least` or more members of a group.

        A client that is in no group is counted in none, and holds shares all the same. Where a group has exactly
        `least` members, a bit that is found set is set at every one of them.

        Args:
            cohort: who is asked.
            slot: array of the clients' states, uint8 or bool [bits].
            bits: how many bits every client has.
            least: so many have to have one.
            groups: who is in which group; None is one group of everybody.

        Returns:
            The answer, bool [groups, bits], and who is counted.

        Raises:
            ConfigError: too few clients, a `least` below `min_count`, or no bits.
            DropoutError: too few clients are left.
        """

    @abstractmethod
    def favours(self, cohort: Cohort, slot: str, margin: float, error: float) -> Program[tuple[bool, Cohort]]:
        """Whether a one-sided t-test says that the clients' mean gain is above a margin.

        If the gains are independent draws from one normal distribution whose mean is `margin` or less, the answer is
        yes with a probability of at most `error`; of exactly `error` at a mean of `margin`, but for rounding. What
        is tested are gains rounded to multiples of 1/1024, against the margin rounded up to one: a mean of gains
        that all lie just above the middle between two multiples can be taken for one that is 1/2048 larger. For
        gains that are not normal the rate is approximate, the worse the fewer and the more skewed they are; if
        clients are alike in groups, gains are not independent, and the rate is larger.

        Args:
            cohort: who is asked.
            slot: array of the clients' states, one float; what is beyond -1 ... 1 is clipped.
            margin: between -1 and 1.
            error: the error rate, from 1e-6 to below 0.5.

        Returns:
            The answer, and whose gains are in it.

        Raises:
            ConfigError: too few clients, or a margin or error rate that cannot be.
            DropoutError: too few clients are left.
            FieldRangeError: too many clients for exact arithmetic; nothing has been sent then.
        """

    def require(self, clients: int) -> None:
        """Refuse a number of clients, in a round, that cannot be polled.

        Raises:
            ConfigError: says which setting does not fit.
        """
        if clients < self.fewest:
            raise ConfigError([Problem("clients", clients, f"at least {self.fewest} for a poll")])

    def require_count(self, least: int) -> None:
        """Refuse a question for too small a number.

        Raises:
            ConfigError: below `min_count`.
        """
        if least < self.min_count:
            raise ConfigError([Problem("least", least, f"at least poll.min_count = {self.min_count}")])
