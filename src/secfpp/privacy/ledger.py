"""All that was ever released about a data set, what it costs each client, and a budget that stops in time."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from platformdirs import user_data_path

from secfpp.errors import BudgetExceeded, ConfigError, DataError, Problem, UnsupportedMechanism
from secfpp.privacy.accounting import epsilon
from secfpp.privacy.events import Adjacency, Composed, Event, Uncovered, Unit, from_json, to_json
from secfpp.privacy.ledger_file import LedgerFile, keep_aside, lock
from secfpp.settings import check_types

FORMAT = "secfpp-privacy-ledger-1"
VARIABLE = "SECFPP_LEDGERS"


@dataclass(frozen=True)
class Terms:
    """What a guarantee is about, and how much of it may be spent.

    Args:
        unit: whose presence is hidden.
        adjacency: which neighbours the guarantee is for.
        delta: above 0 and below 1.
        budget: the most that epsilon may be, for every client and over all runs on the data; None for no limit.
    """

    unit: Unit = "client"
    adjacency: Adjacency = "add_remove"
    delta: float = 1e-5
    budget: float | None = None

    def __post_init__(self) -> None:
        check_types(self, "privacy")
        problems = [Problem("privacy.delta", self.delta, "above 0 and below 1")] * (not 0 < self.delta < 1)
        if self.budget is not None and not (math.isfinite(self.budget) and self.budget > 0):
            problems += [Problem("privacy.budget", self.budget, "a positive finite number, or None")]
        if problems:
            raise ConfigError(problems)


@dataclass(frozen=True)
class Charge:
    """One entry: a release, made or about to be made.

    Attributes:
        run: which run made it.
        round: in which of its rounds.
        clients: whose data it touches.
        event: the release.
        at: when, UTC, ISO 8601.
    """

    run: str
    round: int
    clients: tuple[str, ...]
    event: Event
    at: str


def default_path(data: str) -> Path:
    """Where the ledger of the data with this fingerprint is kept: in $SECFPP_LEDGERS, else with the user's data.

    Raises:
        ConfigError: a fingerprint that cannot be the name of a file.
    """
    if not re.fullmatch(r"\w[\w.-]{0,127}", data):
        raise ConfigError([Problem("fingerprint", data, "letters, digits, dots and dashes, at most 128")])
    chosen = os.environ.get(VARIABLE)
    folder = Path(chosen).expanduser() if chosen else user_data_path("secfpp", appauthor=False) / "ledgers"
    return folder.absolute() / f"{data}.jsonl"


@dataclass
class PrivacyLedger:
    """The ledger of one data set; make it by `open`.

    Several runs, also at once, may use one file: each charge is checked against all that is in it by then.

    Attributes:
        terms: what `charge` holds to, and what `spent` is about.
        charges: all that was released, in order.
    """

    terms: Terms
    charges: list[Charge]
    _file: LedgerFile
    _totals: dict[str, Counter[Event]] = field(default_factory=dict)
    _known: dict[frozenset[tuple[Event, int]], float] = field(default_factory=dict)
    _taken: int = 0

    @classmethod
    def open(cls, path: Path, data: str, terms: Terms, *, new: bool | datetime = False) -> PrivacyLedger:
        """The ledger at `path`, or a new one.

        Args:
            path: the file; see `default_path`.
            data: fingerprint of the data set.
            terms: of the run that is going to charge it.
            new: begin another one, or do so if the one that is there was begun before a time; the old one is kept
                beside it, and the new one's first line names it.

        Raises:
            DataError: a ledger of other data, a damaged or a half-written one, or one that cannot be written.
        """
        head = {"kind": "ledger", "format": FORMAT, "data": data, "at": _now()}
        path = path.absolute()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with lock(path):
                if new and path.exists() and (new is True or _begun(path) < new.astimezone(UTC)):
                    LedgerFile.create(path, {**head, "replaces": keep_aside(path)})
                elif not path.exists():
                    LedgerFile.create(path, head)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}. Name another place for the ledger") from error
        return cls.read(path, terms, data)

    @classmethod
    def read(cls, path: Path, terms: Terms, data: str | None = None) -> PrivacyLedger:
        """The ledger at `path` as it is, for its figures.

        Raises:
            DataError: no ledger, a damaged one, or one of other data than `data`.
        """
        file = LedgerFile(path)
        file.follow()
        head = file.lines[0] if file.lines else {}
        if head.get("kind") != "ledger" or head.get("format") != FORMAT:
            raise DataError(f"{path}: not a privacy ledger of this version of secfpp ({FORMAT})")
        if data not in (None, head["data"]):
            raise DataError(
                f"{path}: the ledger of the data {head['data']}, not of {data}. Each data set has its own: name "
                "another file"
            )
        ledger = cls(terms, [], file)
        ledger._take()
        return ledger

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return self._file.path

    @property
    def data(self) -> str:
        """Fingerprint of the data set."""
        return str(self._file.lines[0]["data"])

    @property
    def replaces(self) -> str | None:
        """The file of an earlier ledger of the same data that is not counted here."""
        return self._file.lines[0].get("replaces")

    @property
    def half_written(self) -> bool:
        """Whether the last line is; nothing can be charged until it is settled."""
        return bool(self._file.torn)

    @property
    def torn(self) -> int:
        """How many half-written lines were settled."""
        return sum(line["kind"] == "torn" for line in self._file.lines)

    def settle(self) -> int:
        """Note that the half-written last line stands for a release that was not made; how many bytes it had."""
        with self._file.locked():
            return len(self._file.settle())

    def charge(self, event: Event, clients: Iterable[str], *, run: str, round_: int) -> float:
        """Write down a release before it is made; once this returns, it may leave.

        Every attempt is charged: what fails afterwards stays written, and the next try is charged again.

        Args:
            event: the release, or all that is released at once.
            clients: whose data it touches; a client by itself names itself.
            run: which run makes it.
            round_: in which of its rounds.

        Returns:
            Epsilon of the client that has spent most, this release included.

        Raises:
            BudgetExceeded: it would cost more than the budget; nothing is written.
            UnsupportedMechanism: no accountant covers it; nothing is written.
            DataError: the ledger cannot be written, or its last line is half-written.
            DiskFullError: there is no room for the entry.
        """
        touched = tuple(sorted(set(clients)))
        if not touched:
            raise ConfigError([Problem("clients", touched, "at least one, whose data the release touches")])
        restated = event.restated(self.terms.unit, self.terms.adjacency)
        with self._file.locked():
            self._take()
            most = 0.0
            for client in touched:
                past = self._totals.get(client, Counter())
                asked = self._epsilon(past + Counter([restated]))
                if self.terms.budget is not None and asked > self.terms.budget:
                    spent = self._epsilon(past)
                    raise BudgetExceeded(client, spent, asked, self.terms.budget, self.terms.delta)
                most = max(most, asked)
            entry = {"kind": "charge", "run": run, "round": round_, "clients": touched, "event": to_json(event)}
            self._file.append({**entry, "at": _now()})
            self._take()
        return most

    def spent(self, upto: int | None = None) -> dict[str, float]:
        """Epsilon of each client that was ever charged, by name; infinite where something was not covered.

        Args:
            upto: count the first so many charges only.

        Raises:
            UnsupportedMechanism: a sample by replace_one.
        """
        totals = self._totals if upto is None else self._added(self.charges[:upto], {})
        return {client: self._epsilon(totals[client]) for client in sorted(totals)}

    def summary(self) -> dict[str, Any]:
        """The guarantee in words and figures, as JSON can say it; an epsilon of None is infinite."""
        most = max(self.spent().values(), default=0.0)
        parts = [leaf for charge in self.charges for leaf in leaves(charge.event)]
        return {
            "unit": self.terms.unit,
            "adjacency": self.terms.adjacency,
            "epsilon": most if math.isfinite(most) else None,
            "delta": self.terms.delta,
            "budget": self.terms.budget,
            "mechanism": sorted({leaf.kind for leaf in parts if not isinstance(leaf, Uncovered)}),
            "releases": len(self.charges),
            "covers": sorted({leaf.covers for leaf in parts if not isinstance(leaf, Uncovered)}),
            "not_covered": sorted({leaf.covers for leaf in parts if isinstance(leaf, Uncovered)}),
        }

    def _added(self, charges: Iterable[Charge], totals: dict[str, Counter[Event]]) -> dict[str, Counter[Event]]:
        """What touched each client's data, under the terms; what says nothing under them is not covered."""
        terms = self.terms
        for charge in charges:
            try:
                event = charge.event.restated(terms.unit, terms.adjacency)
            except UnsupportedMechanism:
                event = Uncovered(covers=charge.event.covers, unit=terms.unit, adjacency=terms.adjacency)
            for client in charge.clients:
                totals.setdefault(client, Counter())[event] += 1
        return totals

    def _epsilon(self, counts: Counter[Event]) -> float:
        key = frozenset(counts.items())
        if key not in self._known:
            about: dict[str, Any] = {"unit": self.terms.unit, "adjacency": self.terms.adjacency}
            events = [Composed(covers="", events=(event,), times=times, **about) for event, times in counts.items()]
            self._known[key] = epsilon(events, self.terms.delta)
        return self._known[key]

    def _take(self) -> None:
        """Read on in the file."""
        known = len(self.charges)
        for number, line in enumerate(self._file.lines[self._taken :], self._taken + 1):
            if line["kind"] == "charge":
                self.charges.append(_charge(line, self.path, number))
            elif line["kind"] not in ("ledger", "torn"):
                raise DataError(f"{self.path}, line {number}: of kind {line['kind']!r}, by a later version of secfpp")
        self._taken = len(self._file.lines)
        self._added(self.charges[known:], self._totals)


@dataclass(frozen=True)
class RunLedger:
    """A ledger in the hands of one run.

    Args:
        ledger: of the run's data.
        run: what it is called there.
    """

    ledger: PrivacyLedger
    run: str

    def charge(self, event: Event, clients: Iterable[str], round_: int) -> float:
        """See `PrivacyLedger.charge`."""
        return self.ledger.charge(event, clients, run=self.run, round_=round_)


def _begun(path: Path) -> datetime:
    file = LedgerFile(path)
    file.follow()
    try:
        return datetime.fromisoformat(file.lines[0]["at"])
    except (LookupError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a privacy ledger of this version of secfpp ({FORMAT})") from error


def _charge(line: dict[str, Any], path: Path, number: int) -> Charge:
    try:
        event = from_json(line["event"])
        return Charge(line["run"], int(line["round"]), tuple(map(str, line["clients"])), event, line["at"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}, line {number}: no entry of a ledger ({error})") from error


def leaves(event: Event) -> list[Event]:
    """The releases that an event is made of, each once."""
    if isinstance(event, Composed):
        return [leaf for part in event.events for leaf in leaves(part)]
    return [event]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")  # runs may follow each other within a second
