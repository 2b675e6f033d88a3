"""Counts of clustering runs on shares, to be compared with formulas."""

from __future__ import annotations

from collections.abc import Mapping

from secfpp.protocol import wire
from secfpp.runtime.in_process import InProcessDriver
from secfpp.secure.circuits.cost import Role

NAME = 3
"""Bytes of a client's name."""


def texts(n: int, exchanges: int, tallies: int = 0) -> int:
    """The room that names, settings and the framing of messages may take beside what `received` counts.

    With `tallies`, that of the names of so many.
    """
    return 1500 + n * (3 * (NAME + 6) + NAME + 12) + 150 * exchanges + (NAME + 18) * tallies


def kept(step: str) -> bool:
    return step == "clusterer.proceed"


def openings(driver: InProcessDriver) -> tuple[int, ...]:
    """Elements in one holder's answers, exchange by exchange."""
    answers = [m for m in driver.transcript or () if kept(m.step) and m.direction == "up"]
    first = min(m.client for m in answers)
    sizes = [wire.decode(m.content or b"")["masked"].size for m in answers if m.client == first]
    verified = any(m.step == "clusterer.verify" for m in driver.transcript or ())
    return tuple(sizes[:-1] if verified else sizes)  # at its end nothing is opened


def roles(driver: InProcessDriver, clients: list[str], holders: int) -> Mapping[str, Role]:
    messages = driver.transcript or ()
    sent = {m.client for m in messages if kept(m.step)}
    told = {m.client for m in messages if m.step == "clusterer.verify"}
    dealt = {m.client: m.size for m in driver.transcript or () if m.step == "clusterer.deal" and m.direction == "up"}
    least = min(dealt.values()) if len(clients) > holders else 0
    standing_by: dict[str, Role] = {c: "client" if dealt[c] == least else "standby" for c in clients}
    return {c: "responder" if c in sent else "verifier" if c in told else standing_by[c] for c in clients}
