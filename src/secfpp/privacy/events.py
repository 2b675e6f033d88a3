"""Releases as data: which mechanism, whose data, next to what.

An event says what was done, not what it costs; see `secfpp.privacy.accounting` for that. Every mechanism here adds
noise to a sum in which each unit has one contribution of bounded norm. Bounds are of one contribution, so a caller
never doubles one: that is done where the adjacency asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any, ClassVar, Literal

from secfpp.errors import ConfigError, Problem, UnsupportedMechanism
from secfpp.settings import check_types

Unit = Literal["record", "client"]
"""Whose presence is hidden: one image with its label, or all that a client has."""

Adjacency = Literal["add_remove", "replace_one"]
"""Which data sets are neighbours: a unit contributes or does not, or it contributes one thing or any other.

Who takes part is public here; so ``add_remove`` reads: the contribution is made, or zeros stand in its place.
"""


@dataclass(frozen=True, kw_only=True)
class Event:
    """A release.

    Args:
        covers: what was released, in words.
        unit: whose contribution is bounded.
        adjacency: which neighbours the guarantee is for.
    """

    kind: ClassVar[str]

    covers: str
    unit: Unit
    adjacency: Adjacency = "add_remove"

    def __post_init__(self) -> None:
        check_types(self, self.kind)

    @property
    def changes(self) -> int:
        """How many bounded contributions two neighbours differ by: what a sensitivity is a multiple of."""
        return 2 if self.adjacency == "replace_one" else 1

    def restated(self, unit: Unit, adjacency: Adjacency) -> Event:
        """The same release as a statement on another unit or adjacency.

        A record is a part of what its client contributes: another record, or none, makes it any other contribution
        within the bound. So neighbours by records are two bounded contributions apart, by either adjacency.

        Raises:
            UnsupportedMechanism: a bound on records says nothing of clients; nor does a sample of clients of records.
        """
        asked = replace(self, unit=unit, adjacency=adjacency)
        if unit == self.unit:
            return asked
        if unit == "client":
            raise UnsupportedMechanism(
                f"{self.covers}: a {self.kind} release with a bound on each record; nothing bounds what a client has "
                "in it. Ask for the unit 'record', or clip what a client gives"
            )
        return asked._scaled(2 / asked.changes)

    def _scaled(self, factor: float) -> Event:
        """The same release with bounds that are `factor` times as large."""
        return self


@dataclass(frozen=True, kw_only=True)
class Gaussian(Event):
    """A sum with Gaussian noise.

    Args:
        norm: largest L2 norm of one contribution, positive.
        sd: standard deviation of the noise in each coordinate, in the same measure as `norm`, positive.
    """

    kind: ClassVar[str] = "gaussian"

    norm: float
    sd: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_positive(self, norm=self.norm, sd=self.sd)

    @property
    def sensitivity(self) -> float:
        """How far neighbours' sums are apart at most, in L2."""
        return self.changes * self.norm

    def _scaled(self, factor: float) -> Event:
        return replace(self, norm=factor * self.norm)


@dataclass(frozen=True, kw_only=True)
class SampledGaussian(Gaussian):
    """A sum with Gaussian noise over a Poisson sample of the units.

    To be used only if each unit was drawn independently by secret randomness, and towards those who cannot see who was
    drawn.

    Args:
        rate: the probability of each unit to be in the sample, above 0 and below 1.
    """

    kind: ClassVar[str] = "sampled_gaussian"

    rate: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.rate < 1:
            raise ConfigError([Problem("sampled_gaussian.rate", self.rate, "above 0 and below 1; 1 is kind gaussian")])

    def _scaled(self, factor: float) -> Event:
        raise UnsupportedMechanism(
            f"{self.covers}: a sample of clients; what that does for a record of one of them is not covered. Ask for "
            "the unit 'client', or release without a sample"
        )


@dataclass(frozen=True, kw_only=True)
class Skellam(Event):
    """A sum of integer vectors with Skellam noise, symmetric around 0.

    Args:
        l1: largest L1 norm of one contribution after rounding, in steps of the rounding, positive.
        l2: largest L2 norm of it, likewise.
        variance: of the noise in each coordinate, in squared steps, positive.
    """

    kind: ClassVar[str] = "skellam"

    l1: float
    l2: float
    variance: float

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_positive(self, l1=self.l1, l2=self.l2, variance=self.variance)
        if self.l1 < self.l2:
            raise ConfigError(
                [Problem("skellam.l1, l2", (self.l1, self.l2), "no vector has an L1 norm below its L2 norm")]
            )

    def _scaled(self, factor: float) -> Event:
        return replace(self, l1=factor * self.l1, l2=factor * self.l2)


@dataclass(frozen=True, kw_only=True)
class Composed(Event):
    """Releases that belong together, such as all that one round releases at once, each with noise of its own.

    Args:
        events: the releases, all of the unit and adjacency of the whole.
        times: how often all of them were made, from 1.
    """

    kind: ClassVar[str] = "composed"

    events: tuple[Event, ...]
    times: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.times < 1:
            raise ConfigError([Problem("composed.times", self.times, "a whole number from 1")])
        for event in self.events:
            if (event.unit, event.adjacency) != (self.unit, self.adjacency):
                raise ConfigError(
                    f"{self.covers}: made of releases on {self.unit}s by {self.adjacency}, but {event.covers} is on "
                    f"{event.unit}s by {event.adjacency}: restate it first"
                )

    def restated(self, unit: Unit, adjacency: Adjacency) -> Event:
        """All of it as a statement on another unit or adjacency, see `Event.restated`."""
        parts = tuple(event.restated(unit, adjacency) for event in self.events)
        return replace(self, unit=unit, adjacency=adjacency, events=parts)


@dataclass(frozen=True, kw_only=True)
class Uncovered(Event):
    """Something that was released without a guarantee: its epsilon is infinite."""

    kind: ClassVar[str] = "uncovered"


KINDS: Mapping[str, type[Event]] = {
    each.kind: each for each in (Gaussian, SampledGaussian, Skellam, Composed, Uncovered)
}


def to_json(event: Event) -> dict[str, Any]:
    """The event as JSON can say it."""
    if isinstance(event, Composed):
        parts = [to_json(each) for each in event.events]
        return {"kind": event.kind, **_own(event), "events": parts}
    return {"kind": event.kind, **_own(event)}


def from_json(told: Any) -> Event:
    """The event of `to_json`.

    Raises:
        UnsupportedMechanism: a kind or a field that this version does not know.
        ConfigError: values that no event has.
    """
    kind = str(told.get("kind")) if isinstance(told, Mapping) else ""
    if kind not in KINDS:
        raise UnsupportedMechanism(
            f"a release of kind {kind!r}: known are {', '.join(KINDS)}. Read it with the version of "
            "secfpp that wrote it"
        )
    known = {field.name: field.default is MISSING for field in fields(KINDS[kind])}
    given = {key: value for key, value in told.items() if key != "kind"}
    if not given.keys() <= known.keys() or any(needed and key not in given for key, needed in known.items()):
        raise UnsupportedMechanism(
            f"a release of kind {kind!r} with the fields {', '.join(given)}; it has {', '.join(known)}. Read it "
            "with the version of secfpp that wrote it"
        )
    if kind == Composed.kind:
        given["events"] = tuple(from_json(each) for each in given["events"])
    return KINDS[kind](**given)


def _own(event: Event) -> dict[str, Any]:
    return {key: value for key, value in asdict(event).items() if key != "events"}


def _require_positive(event: Event, **values: float) -> None:
    problems = [
        Problem(f"{event.kind}.{name}", value, "a positive finite number")
        for name, value in values.items()
        if not (math.isfinite(value) and value > 0)
    ]
    if problems:
        raise ConfigError(problems)
