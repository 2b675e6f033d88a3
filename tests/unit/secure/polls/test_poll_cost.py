"""The formulas of secfpp.secure.polls.cost against counts of real runs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from secfpp.protocol import wire
from secfpp.protocol.cohort import Assignment
from secfpp.protocol.transcript import Transcript
from secfpp.secure.circuits.cost import Role
from secfpp.secure.polls.cost import PollCost
from secfpp.secure.polls.questions import AtLeast, Favours
from secfpp.secure.polls.secure_poll import SecurePoll
from support.poll_runs import DEAL, PROCEED, PollRun, gainers, grouped, voters

NAME = 3
STANDARD, HIGH, ACTIVE = SecurePoll(), SecurePoll(threshold="high"), SecurePoll(security="active")


def kept(step: str) -> bool:
    return step == PROCEED


def compare(cost: PollCost, run: PollRun) -> None:
    costs, transcript = run.driver.costs, run.driver.transcript
    assert cost.exchanges == costs.exchanges
    assert cost.messages == costs.messages
    answers = [m for m in transcript or () if m.step == PROCEED and m.direction == "up"]
    first = min(m.client for m in answers)
    opened = [wire.decode(m.content or b"")["masked"].size for m in answers if m.client == first]
    assert (*cost.opened, *[0] * cost.active) == tuple(opened)
    plan = run.poll.plan(cost.question, cost.holders, cost.threshold)  # type: ignore[attr-defined]
    assert cost.demand == dict(plan.deal.demand)
    answering = {m.client for m in answers}
    dealt = {m.client: m.size for m in transcript or () if m.step == DEAL and m.direction == "up"}
    least = min(dealt.values()) if cost.n > cost.holders else 0
    verifying = {m.client for m in transcript or () if m.step == "poll.verify"}
    standing_by = {c: "client" if dealt[c] == least else "standby" for c in dealt}
    roles = {c: "responder" if c in answering else "verifier" if c in verifying else standing_by[c] for c in dealt}
    assert Counter(roles.values())["responder"] == cost.responders
    for client, role in roles.items():
        assert costs.up[client] == cost.sent(role)  # type: ignore[arg-type]
        room = 1500 + cost.n * (3 * (NAME + 6) + NAME + 20) + 150 * cost.exchanges
        assert 0 <= costs.down[client] - cost.received(role) <= room  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("n", "poll"),
    [(4, STANDARD), (6, STANDARD), (16, STANDARD), (18, STANDARD), (16, HIGH), (5, ACTIVE), (6, ACTIVE), (18, ACTIVE)],
)
@pytest.mark.parametrize("k", [None, 3])
def test_at_least(n: int, poll: SecurePoll, k: int | None) -> None:
    states = voters(np.random.default_rng(n).integers(0, 2, (n, 5)))
    run = PollRun(states, poll, transcript=Transcript(keep_contents=kept))
    groups: Assignment | None = grouped(states, k) if k else None
    run.at_least(3, groups)
    compare(PollCost(poll, AtLeast(n, 5, 3, k=k or 1)), run)


@pytest.mark.parametrize(
    ("n", "poll"), [(4, STANDARD), (7, STANDARD), (16, STANDARD), (19, STANDARD), (16, HIGH), (16, ACTIVE)]
)
def test_favours(n: int, poll: SecurePoll) -> None:
    run = PollRun(gainers(np.linspace(-0.2, 0.4, n)), poll, transcript=Transcript(keep_contents=kept))
    run.favours(0.01, 0.1)
    compare(PollCost(poll, Favours.of(n, 0.01, 0.1)), run)


def test_exchanges_are_few() -> None:
    """Keys and dealing first; with a committee, one more."""
    costs = {n: PollCost(STANDARD, AtLeast(n, 36, 3)).exchanges for n in (4, 5, 6, 16, 17, 100, 1000)}
    assert costs == {4: 5, 5: 5, 6: 5, 16: 5, 17: 6, 100: 6, 1000: 6}
    costs = {n: PollCost(STANDARD, Favours.of(n, 0.0, 0.05)).exchanges for n in (4, 5, 6, 16, 17, 122)}
    assert costs == {4: 7, 5: 7, 6: 6, 16: 6, 17: 7, 122: 7}
    assert PollCost(HIGH, AtLeast(16, 36, 3)).exchanges == 6
    assert PollCost(HIGH, Favours.of(16, 0.0, 0.05)).exchanges == 7


def test_the_documented_bytes() -> None:
    text = (Path(__file__).parents[4] / "docs" / "costs.md").read_text()
    rows = [row.strip("| ").split(" | ") for row in text.split("| N = 30 |")[1].split("\n\n")[0].splitlines()[2:]]
    asked = [AtLeast(30, 36, 3), AtLeast(30, 36, 3, k=6), Favours.of(30, 0.01, 0.05)]
    for (_, exchanges, *shown), question in zip(rows, asked, strict=True):
        cost = PollCost(STANDARD, question)
        roles: list[Role] = ["responder", "standby", "client"]
        assert int(exchanges) == cost.exchanges
        assert shown == [f"{cost.sent(role) / 1000:.1f} kB" for role in roles]
