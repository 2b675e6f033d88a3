"""A server that wants a group's prompt or class sums sealed to a client of another group, which tells it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from secfpp.algorithms.secfpp import PROMPT
from secfpp.algorithms.sharing import GROUP
from secfpp.models.backbone import Backbone, load_backbone
from secfpp.protocol.program import Ask, Program
from secfpp.secure.means.insiders import restricted
from secfpp.secure.means.relay import Relay
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.secure.means.updates import base_in, rebased, told_base, version_of
from secfpp.secure.session import terms, with_keys
from support.group_runs import GroupRun

SPY, SPONSOR = "sketch-0", "pixel-1"
OTHERS = tuple(f"pixel-{i}" for i in range(5))
"""The group that the spy is not in."""
CLAIMS = pytest.mark.parametrize("claim", [OTHERS, (*OTHERS, SPY), (SPONSOR, SPY), None], ids=str)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("mini", device="cpu")


@pytest.fixture
def run(backbone: Backbone) -> GroupRun:
    """Two rounds of training; then the server stops being honest."""
    run = GroupRun(backbone)
    for _ in range(2):
        run.round()
    assert run.members(SPONSOR) == OTHERS and SPY not in OTHERS
    assert not run.driver.refusals
    assert not np.array_equal(run.base(SPY, PROMPT), run.base(SPONSOR, PROMPT))
    run.begin()
    return run


@pytest.fixture
def unguarded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SecureMean, "_insiders", lambda self, run, state: None)


def sealing(run: GroupRun, slot: str, claim: tuple[str, ...] | None) -> Program[None]:
    """Have the sponsor seal its base to the spy, said to be a member that was away."""
    few = yield from with_keys(run.cohort([SPONSOR, SPY]), size=2)
    group = {} if claim is None else {"group": sorted(claim)}
    relay = Relay(terms("aggregator", few, {"task": "base", "slot": slot, **group}, holders=[SPONSOR]))
    payload = {**relay.agreed, "attempt": relay.attempt, "late": np.array(json.dumps([SPY]))}
    shown = yield Ask("aggregator.show", {SPONSOR: payload})
    present = base_in(SPONSOR, told_base(run.driver.states[SPONSOR], slot))
    yield from relay.catch_up(SPONSOR, shown, [SPY], present, first=True)


def told(run: GroupRun, slot: str) -> bool:
    return np.array_equal(run.base(SPY, slot), run.base(SPONSOR, slot))


@CLAIMS
@pytest.mark.parametrize("slot", [PROMPT, GROUP])
def test_what_a_group_averaged_is_sealed_to_no_client_of_another(
    slot: str, claim: tuple[str, ...] | None, run: GroupRun
) -> None:
    run.driver.run(sealing(run, slot, claim))
    assert not told(run, slot)
    assert {(one.by, one.step) for one in run.driver.refusals} == {(SPONSOR, "aggregator.show")}


@CLAIMS
@pytest.mark.parametrize("slot", [PROMPT, GROUP])
def test_without_the_list_it_would_be(slot: str, claim: tuple[str, ...] | None, run: GroupRun, unguarded: None) -> None:
    run.driver.run(sealing(run, slot, claim))
    assert told(run, slot)


def average_with_the_spy(run: GroupRun, claim: tuple[str, ...] | None) -> np.ndarray:
    """A mean of the other group that the spy takes no part in, but gets the sums of; by how much its base moves."""
    run.ask("method.train", {client: {"round": np.array(run.number)} for client in OTHERS})
    state, version = run.driver.states[SPY], version_of(run.driver.states[SPONSOR], PROMPT)
    base = run.base(SPONSOR, PROMPT)
    run.driver.states[SPY] = restricted(rebased(state, PROMPT, base, version), PROMPT)  # it knows of no groups
    run.driver.dropouts = lambda _, step, client: "before" if (step, client) == ("aggregator.share", SPY) else None
    known = base_in(SPONSOR, told_base(run.driver.states[SPONSOR], PROMPT))
    run.driver.run(run.algorithm.aggregator.mean(run.cohort([*OTHERS, SPY]), PROMPT, known, claim))
    return run.base(SPY, PROMPT) - base


@CLAIMS
def test_the_sums_of_a_group_are_sealed_to_no_client_of_another(claim: tuple[str, ...] | None, run: GroupRun) -> None:
    before = {client: run.base(client, PROMPT) for client in OTHERS}
    assert not average_with_the_spy(run, claim).any()
    assert all(np.array_equal(run.base(client, PROMPT), base) for client, base in before.items())
    assert {one.by for one in run.driver.refusals if one.step == "aggregator.share"} == set(OTHERS)


@CLAIMS
def test_without_the_list_they_would_be(claim: tuple[str, ...] | None, run: GroupRun, unguarded: None) -> None:
    before = run.base(SPONSOR, PROMPT)
    learned = average_with_the_spy(run, claim)
    assert learned.any()
    np.testing.assert_allclose(before + learned, run.base(SPONSOR, PROMPT), atol=1e-6)


@pytest.mark.parametrize("step", ["method.part", "method.rebase"])
def test_a_group_is_not_undone_to_be_told_of(step: str, run: GroupRun) -> None:
    payload = {} if step == "method.part" else {"round": np.array(run.number)}
    assert not run.ask(step, dict.fromkeys(OTHERS, payload))
    assert {(one.by, one.step) for one in run.driver.refusals} == {(client, step) for client in OTHERS}
    run.driver.refusals.clear()
    run.driver.run(sealing(run, PROMPT, None))
    assert not told(run, PROMPT)


def test_a_group_that_shared_sums_does_not_become_everybody(backbone: Backbone) -> None:
    shares: list[str] = []

    def lose(round_: int, step: str, client: str) -> Any:
        shares.extend([client] * (step == "aggregator.share"))
        return "before" if shares.count(client) > 2 else None  # everybody's sums and the group's come before prompts

    run = GroupRun(backbone, lose)
    run.round()
    run.driver.dropouts = None
    start = run.base(SPONSOR, PROMPT)
    assert np.array_equal(start, run.base(SPY, PROMPT)) and run.members(SPONSOR) == OTHERS
    run.begin()
    run.ask("method.train", {client: {"round": np.array(run.number)} for client in OTHERS})
    assert run.driver.run(run.algorithm.aggregator.mean(run.cohort(OTHERS), PROMPT, None, None)).members == ()
    assert np.array_equal(run.base(SPONSOR, PROMPT), start)


def test_nobody_refuses_who_was_away_or_comes_later(backbone: Backbone) -> None:
    run = GroupRun(backbone, proof=False)
    everybody = set(run.contexts)
    for away in ({"pixel-4", "sketch-0"}, {"sketch-4"}, {"pixel-0"}, {"pixel-4", "sketch-1"}, set()):
        run.round(everybody - away)
        assert not run.driver.refusals
    assert run.members("pixel-4") == OTHERS and run.members("sketch-0") != OTHERS
    assert run.alike(PROMPT) and run.alike(GROUP)


def test_a_client_that_lets_no_newcomers_in_takes_part_in_no_mean_with_one(backbone: Backbone) -> None:
    strict = SecureMean(threshold=1, min_responders=3, newcomers=False)
    run = GroupRun(backbone, proof=False, aggregator=strict)
    run.round(set(run.contexts) - {"pixel-4"})
    before = run.base("pixel-0", PROMPT)
    run.round(set(run.contexts))
    assert np.array_equal(run.base("pixel-0", PROMPT), before)
    assert {one.by for one in run.driver.refusals} >= {"pixel-0", "pixel-1", "pixel-2", "pixel-3"}


@pytest.mark.parametrize("fate", ["before", "after"])
def test_who_does_not_hear_that_groups_are_of_no_use_is_no_obstacle(fate: Any, backbone: Backbone) -> None:
    run = GroupRun(
        backbone, lambda r, step, client: fate if (r, step, client) == (1, "method.part", SPY) else None, min_gain=99.0
    )
    for number in (1, 2):
        run.round()
        assert run.server.behind == (frozenset({SPY}) if number == 1 else frozenset())
    assert not run.driver.refusals and run.alike(PROMPT)
    assert run.server.assignment is not None and run.server.assignment.k == 1
