"""What every way to average has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import ClassVar

from secfpp.crypto.fixed_point import FixedPoint
from secfpp.errors import ConfigError, FieldRangeError, Problem
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientId, Program
from secfpp.secure.means.updates import Base, Mean


class Aggregator(ABC):
    """A way to average; a field named ``aggregator`` of an algorithm, which gives its steps their name."""

    kind: ClassVar[str]
    needs_keys: ClassVar[bool] = False
    min_responders: int
    """Fewer updates than this give no mean."""
    most_weight: float
    """Largest share that one client has in a mean; one with more counts less."""

    @property
    @abstractmethod
    def colluding(self) -> int:
        """How many clients may tell the same falsehood together."""

    @abstractmethod
    def mean(
        self, cohort: Cohort, slot: str, known: Base | None = None, group: Collection[ClientId] | None = None
    ) -> Program[Mean]:
        """Average the updates of `slot` and make base plus mean the clients' new value and base.

        Args:
            cohort: who takes part.
            slot: of their states.
            known: the base that the last mean left, if the server knows it.
            group: all who may have it, also those who are not there; None if that is everybody.
        """

    @abstractmethod
    def refresh(
        self, cohort: Cohort, slot: str, known: Base | None = None, group: Collection[ClientId] | None = None
    ) -> Program[None]:
        """Give those of the cohort that missed a mean the present base, so that what they train next counts.

        Args:
            cohort: who is there of those who may have it.
            slot: of their states.
            known: as in `mean`.
            group: as in `mean`.
        """

    def require(self, clients: int) -> None:
        """Refuse a number of clients, in a round, of whom no mean could be made.

        Raises:
            ConfigError: fewer than `min_responders`.
        """
        if clients < self.min_responders:
            allowed = f"at most the {clients} clients of a round"
            raise ConfigError([Problem("aggregator.min_responders", self.min_responders, allowed)])


def capped(weights: Mapping[ClientId, int], most: float) -> dict[ClientId, int]:
    """Weights of which none is above the share `most` of all, unless clients are too few: the largest are less."""
    capped_, ratio = dict(weights), most / (1 - most) if most < 1 else float("inf")
    if len(capped_) * most <= 1:
        return capped_
    while True:
        client = max(capped_, key=lambda name: capped_[name])
        rest = sum(capped_.values()) - capped_[client]
        if capped_[client] <= max(ratio * rest, 1):
            return capped_
        capped_[client] = max(int(ratio * rest), 1)


def check_share(most: float) -> None:
    """Refuse a largest share that is none.

    Raises:
        ConfigError: it is.
    """
    if not 0 < most <= 1:
        raise ConfigError([Problem("aggregator.most_weight", most, "a share, above 0 and at most 1")])


def check_codec(clip: float, bits: int) -> None:
    """Refuse settings of the fixed-point encoding that cannot work.

    Raises:
        ConfigError: they cannot.
    """
    try:
        FixedPoint(clip, bits)
    except FieldRangeError as error:
        raise ConfigError([Problem("aggregator.clip, bits", (clip, bits), str(error))]) from error
