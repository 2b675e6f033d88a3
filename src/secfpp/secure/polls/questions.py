"""What a poll can ask, on integers: exactly the same answers in the clear and on shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Any

import numpy as np

from secfpp.errors import ConfigError, FieldRangeError, Problem, ProtocolError
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import ClientState

GAIN_BITS = 11
UNIT = 1 << (GAIN_BITS - 1)
"""A gain of 1, in the integers that gains are rounded to."""
QUANTILE_UNIT = 256
"""A squared quantile of 1, in the integers that it is rounded up to."""


@dataclass(frozen=True)
class AtLeast:
    """Which bits are set at `least` or more members of each group.

    Args:
        clients: how many there are.
        bits: of each client.
        least: so many have to have one.
        groups: the number of each client's group, None if it is in none; None is one group of everybody.
        k: how many groups there are; those without members included.
    """

    clients: int
    bits: int
    least: int
    groups: tuple[int | None, ...] | None = None
    k: int = 1

    @classmethod
    def of(cls, cohort: Cohort, bits: int, least: int, groups: Assignment | None) -> AtLeast:
        """The question about these clients.

        Raises:
            ConfigError: it cannot be asked.
        """
        problems = [
            Problem(name, value, "at least 1") for name, value in (("bits", bits), ("least", least)) if value < 1
        ]
        if problems:
            raise ConfigError(problems)
        if groups is None:
            return cls(len(cohort), bits, least)
        return cls(len(cohort), bits, least, tuple(map(groups.cluster_of.get, cohort.clients)), groups.k)

    @property
    def members(self) -> np.ndarray:
        """Who is in which group, int64 0 or 1, [k, clients]."""
        groups = (0,) * self.clients if self.groups is None else self.groups
        numbers = np.array([-1 if group is None else group for group in groups])
        members: np.ndarray = (numbers == np.arange(self.k)[:, None]).astype(np.int64)
        return members

    def answer(self, told: np.ndarray) -> np.ndarray:
        """The answer, bool [k, bits], from everybody's bits [clients, bits]."""
        answer: np.ndarray = self.members @ told.astype(np.int64) >= self.least
        return answer


@dataclass(frozen=True)
class Favours:
    """Whether a one-sided t-test on one sample says that the mean gain is above a margin.

    With u_i the gain of client i less the margin, T the sum of all u_i, Q that of their squares and t the quantile,
    Student's statistic is above t if and only if T > 0 and T^2 (n - 1 + t^2) > t^2 n Q. Everything is an integer:
    gains and the margin in units of 1 / `UNIT`, t^2 in units of 1 / `QUANTILE_UNIT`.

    Args:
        clients: n.
        margin: in units.
        quantile: t^2, in units.
    """

    clients: int
    margin: int
    quantile: int

    @classmethod
    def of(cls, clients: int, margin: float, error: float) -> Favours:
        """The test with so many clients; the margin is rounded up, and so is t^2.

        Raises:
            ConfigError: it cannot be made.
        """
        from scipy.special import stdtrit

        problems = []
        if clients < 2:
            problems.append(Problem("clients", clients, "at least 2 for a test of their mean"))
        if not -1 < margin < 1:
            problems.append(Problem("margin", margin, "between -1 and 1, as gains are"))
        if not 1e-6 <= error < 0.5:
            problems.append(Problem("error", error, "from 1e-6 to below 0.5"))
        if problems:
            raise ConfigError(problems)
        squared = float(stdtrit(clients - 1, error)) ** 2
        return cls(clients, ceil(margin * UNIT), ceil(squared * QUANTILE_UNIT))

    @property
    def factors(self) -> tuple[int, int]:
        """(n - 1 + t^2, t^2 n), in units of t^2: see `evidence`."""
        return (self.clients - 1) * QUANTILE_UNIT + self.quantile, self.quantile * self.clients

    @property
    def largest_total(self) -> int:
        """What |T| is at most: |u_i| is at most `UNIT` + |margin|."""
        return self.clients * (UNIT + abs(self.margin))

    @property
    def largest_evidence(self) -> int:
        """What |T^2 (n - 1 + t^2) - t^2 n Q| is at most.

        It is T^2 (n - 1) - t^2 (n Q - T^2), and T^2 <= n Q <= `largest_total`^2. With 122 clients, the most that hold
        shares, it is below 2^51.
        """
        return self.largest_total**2 * max((self.clients - 1) * QUANTILE_UNIT, self.quantile)

    def answer(self, gains: np.ndarray) -> np.ndarray:
        """The answer, bool [1], from everybody's gains [clients], integers."""
        u = [int(gain) - self.margin for gain in gains.tolist()]
        total, squares = sum(u), sum(each * each for each in u)
        of_total, of_squares = self.factors
        return np.array([total > 0 and total * total * of_total > of_squares * squares])


Question = AtLeast | Favours


def question_in(facts: Mapping[str, Any]) -> Question:
    """The question that terms agree on, see `facts_of`.

    Raises:
        ProtocolError: there is none that an honest server asks.
    """
    try:
        return _read(facts, len(facts["clients"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError(f"terms of a poll that asks nothing this client knows: {error}") from error


def facts_of(question: Question) -> dict[str, Any]:
    """The question as terms hold it, ready for JSON, but for what they say of clients anyway."""
    if isinstance(question, Favours):
        return {"task": "favours", "margin": question.margin, "quantile": question.quantile}
    groups = None if question.groups is None else list(question.groups)
    return {"task": "at_least", "bits": question.bits, "least": question.least, "groups": groups, "k": question.k}


def _read(facts: Mapping[str, Any], clients: int) -> Question:
    if facts["task"] == "favours":
        margin, quantile = _integers(facts, "margin", "quantile")
        if abs(margin) > UNIT or quantile < 0:
            raise ValueError(f"margin = {margin}, quantile = {quantile}")
        return Favours(clients, margin, quantile)
    if facts["task"] != "at_least":
        raise ValueError(f"task = {facts['task']!r}")
    bits, least, k = _integers(facts, "bits", "least", "k")
    groups = facts["groups"]
    if min(bits, least, k) < 1 or (groups is None and k != 1):
        raise ValueError(f"bits = {bits}, least = {least}, k = {k}")
    if groups is None:
        return AtLeast(clients, bits, least)
    if len(groups) != clients or not all(g is None or (type(g) is int and 0 <= g < k) for g in groups):
        raise ValueError(f"groups that are not those of {clients} clients")
    return AtLeast(clients, bits, least, tuple(groups), k)


def _integers(facts: Mapping[str, Any], *names: str) -> list[int]:
    values = [facts[name] for name in names]
    if not all(type(value) is int for value in values):
        raise TypeError(f"{', '.join(names)} = {values}")
    return values


def bits_in(state: ClientState, slot: str, bits: int) -> np.ndarray:
    """The client's own bits, uint8 [bits].

    Raises:
        ProtocolError: there are none of this name, or another number of them.
    """
    own = state.arrays.get(slot)
    if own is None or own.dtype not in (np.uint8, np.bool_) or own.shape != (bits,):
        found = "nothing" if own is None else f"{own.dtype} {own.shape}"
        raise ProtocolError(f"this client has {found} in {slot!r}, not the {bits} bits that the poll is about")
    if (own > 1).any():
        raise ProtocolError(f"this client has {int(own.max())} in {slot!r}: bits are 0 or 1")
    return own.astype(np.uint8)


def gain_in(state: ClientState, slot: str) -> int:
    """The client's own gain, rounded to units and clipped to -1 ... 1 - 1 / `UNIT`.

    Raises:
        ProtocolError: there is none of this name.
        FieldRangeError: it is no number.
    """
    own = state.arrays.get(slot)
    if own is None or own.size != 1 or own.dtype.kind != "f":
        found = "nothing" if own is None else f"{own.dtype} {own.shape}"
        raise ProtocolError(f"this client has {found} in {slot!r}, not the one real number that the poll is about")
    gain = float(own.reshape(-1)[0])
    if not isfinite(gain):
        raise FieldRangeError(f"a gain of {gain} in {slot!r}: training diverged, lower the learning rate")
    return int(np.clip(np.rint(gain * UNIT), -UNIT, UNIT - 1))
