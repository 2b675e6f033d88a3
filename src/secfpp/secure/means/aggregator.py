"""What every way to average has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from secfpp.crypto.fixed_point import FixedPoint
from secfpp.errors import ConfigError, FieldRangeError, Problem
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientId, Program


class Aggregator(ABC):
    """A way to average; a field named ``aggregator`` of an algorithm, which gives its steps their name."""

    kind: ClassVar[str]
    needs_keys: ClassVar[bool] = False
    min_responders: int
    """Fewer updates than this give no mean."""

    @abstractmethod
    def mean(self, cohort: Cohort, slot: str) -> Program[tuple[ClientId, ...]]:
        """Average the updates of `slot` and make base plus mean the clients' new value and base.

        Returns:
            The clients whose updates are in the mean, sorted; empty if there was no mean and everybody
            went back to its base.
        """

    @abstractmethod
    def refresh(self, cohort: Cohort, slot: str) -> Program[None]:
        """Give those of the cohort that missed a mean the present base, so that what they train next counts."""

    def require(self, clients: int) -> None:
        """Refuse a number of clients, in a round, of whom no mean could be made.

        Raises:
            ConfigError: fewer than `min_responders`.
        """
        if clients < self.min_responders:
            allowed = f"at most the {clients} clients of a round"
            raise ConfigError([Problem("aggregator.min_responders", self.min_responders, allowed)])


def check_codec(clip: float, bits: int) -> None:
    """Refuse settings of the fixed-point encoding that cannot work.

    Raises:
        ConfigError: they cannot.
    """
    try:
        FixedPoint(clip, bits)
    except FieldRangeError as error:
        raise ConfigError([Problem("aggregator.clip, bits", (clip, bits), str(error))]) from error
