"""Why clients were grouped as they are: what a run keeps about it, read and averaged, for the report and the terminal.

See `secfpp.algorithms.base.FederatedAlgorithm.explain` for what its figures mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from secfpp.errors import ConfigError, DataError, Problem
from secfpp.experiment.results.statistics import t_bounds
from secfpp.experiment.results.text import counted, points

if TYPE_CHECKING:
    from secfpp.runtime.trainer import RunResult

LEVELS = {
    "start": "start prompt",
    "own": "+ own means",
    "everybody": "+ everybody's",
    "group": "+ the group's",
    "method": "+ training",
}
"""What a client predicts with, from little to all, in words; each level holds those before it."""


@dataclass(frozen=True)
class Candidate:
    """A number of groups that was tried; figures are in units of the spread of one product.

    Attributes:
        k: the number.
        score: what the largest of decides; 0 for one group.
        agreement: of the members of the groups, in the best run.
        null: what it is without anything in common.
        null_spread: of that; None if `null` holds an allowance for it already.
    """

    k: int
    score: float
    agreement: float
    null: float
    null_spread: float | None = None

    @property
    def allowance(self) -> float:
        """The agreement that chance may give: `score` counts what is beyond it."""
        return self.null + 2 * (self.null_spread or 0.0)


@dataclass(frozen=True)
class Proof:
    """The test of whether groups are of use; percentage points.

    Attributes:
        margin: mean gain that was asked for.
        error: probability of taking groups for useful that are not.
        mean: mean gain over clients.
        low: its one-sided lower bound.
        n: clients.
    """

    margin: float
    error: float
    mean: float
    low: float
    n: int

    @property
    def confidence(self) -> str:
        """Of the bound, in percent."""
        return f"{100 * (1 - self.error):g} %"

    def __str__(self) -> str:
        """E.g. ``gain 0.4 ± 1.2, 1.0 needed``; mean less half of the interval is the bound that must be above."""
        half = points(self.mean - self.low)
        return f"gain {points(self.mean)} \N{PLUS-MINUS SIGN} {half}, {points(self.margin)} needed"


@dataclass(frozen=True)
class Client:
    """What groups are to one client: its group (-1: none), the gain by it, accuracy by level; None where unknown."""

    client: str
    group: int
    gain: float | None
    levels: Mapping[str, float | None]


@dataclass(frozen=True)
class Members:
    """Means over some clients, over those where a figure is known."""

    clients: tuple[Client, ...]
    gain: float | None
    levels: Mapping[str, float | None]

    @classmethod
    def of(cls, clients: Iterable[Client]) -> Members:
        """The means over `clients`."""
        members = tuple(clients)
        return cls(
            members,
            mean(client.gain for client in members),
            {level: mean(client.levels.get(level) for client in members) for level in LEVELS},
        )

    def least_gain(self, error: float) -> float | None:
        """The one-sided lower bound of the mean gain; None for fewer than two known gains."""
        bounds = t_bounds([client.gain for client in self.clients if client.gain is not None], 1 - error)
        return bounds and bounds[0]


@dataclass(frozen=True)
class Why:
    """Why one run groups its clients as it does; see the module's head.

    Attributes:
        seed: of the run.
        verdict: in words.
        found: number of groups found.
        used: number of groups used.
        candidates: numbers of groups that were tried, rising; none if they were not compared in this way.
        kappa: disagreement between groups as a share of what tells classes apart; None with one group.
        kappa_null: values of kappa when the classes of every client are permuted.
        test: of their use; None if they were not put to one.
        clients: all of them.
    """

    seed: int
    verdict: str
    found: int
    used: int
    candidates: tuple[Candidate, ...]
    kappa: float | None
    kappa_null: tuple[float, ...]
    test: Proof | None
    clients: tuple[Client, ...]

    @classmethod
    def of(cls, result: RunResult) -> Why | None:
        """What a run keeps about it; None for a method that does not explain its groups.

        Raises:
            DataError: something else than this version keeps.
        """
        if not result.why:
            return None
        try:
            return _why(result.seed, result.why)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{result.method}, seed {result.seed}: what it says of its groups is not what this version keeps "
                f"({type(error).__name__}: {error}); train it again"
            ) from error

    @property
    def decision(self) -> str:
        """How many groups are used and why, e.g. ``3 groups found, gain 0.4 ± 1.2, 1.0 needed: one group used``."""
        used, several = f"{counted(self.used, 'group')} used", [one for one in self.candidates if one.k > 1]
        if self.found > 1:
            reason = f", {self.test}" if self.test else "" if self.useful else ", too few clients could compare them"
            if self.test and not self.useful and self.test.low > self.test.margin:
                reason += ", but too few answered the test"
            return f"{counted(self.found, 'group')} found{reason}: {used}"
        if several:
            score = points(max(one.score for one in several))
            return f"no groups found, agreement beyond chance {score}, above 0 needed: {used}"
        return f"no groups of enough clients found: {used}" if self.candidates else used

    @property
    def best(self) -> int | None:
        """The candidate with the largest score, the smallest of equals."""
        ranked = sorted(self.candidates, key=lambda candidate: (-candidate.score, candidate.k))
        return ranked[0].k if ranked else None

    @property
    def groups(self) -> dict[int, Members]:
        """The groups found, by number; those in none last."""
        numbers = sorted({client.group for client in self.clients}, key=lambda number: (number < 0, number))
        return {number: Members.of(c for c in self.clients if c.group == number) for number in numbers}

    @property
    def useful(self) -> bool:
        """Whether clients were put into groups in the end."""
        return self.used > 1

    @property
    def everybody(self) -> Members:
        """All clients."""
        return Members.of(self.clients)

    @property
    def levels(self) -> list[str]:
        """The levels that at least one client has."""
        return [level for level in LEVELS if any(client.levels.get(level) is not None for client in self.clients)]


def decision(result: RunResult) -> str:
    """How many groups a run uses, and why if it says so; empty for a method that has no groups."""
    if result.assignment is None:
        return ""
    why = Why.of(result)
    return why.decision if why else f"{counted(len(set(result.assignment) - {-1}), 'group')} used"


def mean(values: Iterable[float | None]) -> float | None:
    """Over those that are known; None without any."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def group_name(number: int) -> str:
    """A group in words."""
    return f"group {number}" if number >= 0 else "in no group"


def explanations(results: Sequence[RunResult], wanted: str = "", preferred: str = "") -> tuple[str, list[Why]]:
    """The method that is asked about, and why its groups are as they are, by seed.

    Args:
        results: of one run directory, one at least.
        wanted: the method's label; if empty, the one that is `preferred` or else the first that explains groups.
        preferred: see `wanted`.

    Raises:
        ConfigError: that method does not group clients, or no method of these does.
        DataError: it does, but its results do not say why.
    """
    of = {label: [r for r in results if r.method == label] for label in dict.fromkeys(r.method for r in results)}
    able = sorted((label for label, runs in of.items() if any(r.why for r in runs)), key=lambda n: n != preferred)
    label = wanted or next(iter(able), "")
    found = [why for why in map(Why.of, of.get(label, ())) if why]
    if found:
        return label, found
    grouping = [name for name in of if any(r.assignment is not None for r in of[name])]
    if not (wanted in grouping if wanted else grouping):
        others = f"methods of this run that say why: {', '.join(able)}" if able else "train secfpp, for example"
        who = f"{wanted} does not group clients" if wanted else "no method of this run groups clients"
        raise ConfigError([Problem("--method", wanted, f"{who}; {others}")] if wanted else f"{who}; {others}")
    raise DataError(
        f"{wanted or ', '.join(grouping)}: the results do not say why clients were grouped so. Only groups by class "
        'residuals (descriptor = "class_residuals") are explained, and not by older versions: train it again'
    )


def _why(seed: int, kept: Mapping[str, Any]) -> Why:
    test, kappa = kept.get("test"), kept.get("kappa")
    return Why(
        seed,
        str(kept["verdict"]),
        int(kept["found"]),
        int(kept["used"]),
        tuple(sorted(map(_candidate, kept.get("candidates", ())), key=lambda candidate: candidate.k)),
        None if kappa is None else float(kappa),
        tuple(map(float, kept.get("kappa_null") or ())),
        None if test is None else _proof(test),
        tuple(_client(row) for row in kept["clients"]),
    )


def _proof(test: Mapping[str, Any]) -> Proof:
    margin, error, mean_, low = (float(test[name]) for name in ("margin", "error", "mean", "low"))
    return Proof(margin, error, mean_, low, int(test["n"]))


def _candidate(row: Mapping[str, Any]) -> Candidate:
    score, agreement, null = (float(row[name]) for name in ("score", "agreement", "null"))
    return Candidate(int(row["k"]), score, agreement, null, _number(row.get("null_spread")))


def _client(row: Mapping[str, Any]) -> Client:
    levels = {level: _number(row["levels"].get(level)) for level in LEVELS}
    return Client(str(row["client"]), int(row["group"]), _number(row["gain"]), levels)


def _number(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
