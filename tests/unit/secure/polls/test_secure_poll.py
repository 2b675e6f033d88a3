"""Polls on shares as clients and server run them: beside polls in the clear, and with dropouts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from secfpp.errors import ClientError, ConfigError, DropoutError, FieldRangeError, ProtocolError
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import ClientState, gather
from secfpp.secure.polls.plain_poll import PlainPoll
from secfpp.secure.polls.poll import Poll
from secfpp.secure.polls.secure_poll import SecurePoll
from support.clustering_runs import HELLO, REVEAL, Missing
from support.poll_runs import DEAL, PROCEED, PollRun, gainers, grouped, in_the_clear, voters
from support.secure_runs import answering, everyone, names
from support.toy import Fate

HIGH = SecurePoll(threshold="high")


def some_bits(n: int, seed: int = 0) -> dict[str, ClientState]:
    """Among other bits some that are held by 0, 2, 3, n - 1 and n clients."""
    rng = np.random.default_rng(seed)
    counts = np.array([0, 2, 3, n - 1, n])
    return voters(np.concatenate([np.arange(n)[:, None] < counts, rng.integers(0, 2, (n, 6)) > 0], axis=1))


def some_gains(n: int, seed: int = 0) -> dict[str, ClientState]:
    return gainers(np.random.default_rng(seed).normal(0.05, 0.1, n))


@pytest.mark.parametrize(
    ("n", "poll"), [(4, SecurePoll()), (5, SecurePoll()), (6, SecurePoll()), (17, SecurePoll()), (9, HIGH)]
)
@pytest.mark.parametrize("k", [None, 1, 2])
def test_answers_are_those_in_the_clear(n: int, poll: SecurePoll, k: int | None) -> None:
    states = some_bits(n)
    groups = grouped(states, k) if k else None
    for least in (3, n - 1, n):
        found, left = PollRun(states, poll).at_least(least, groups)
        assert found.dtype == bool and found.shape == (k or 1, 11)
        np.testing.assert_array_equal(found, in_the_clear(states).at_least(least, groups)[0])
        assert left.clients == tuple(states)


@pytest.mark.parametrize(
    ("n", "poll"), [(4, SecurePoll()), (5, SecurePoll()), (6, SecurePoll()), (17, SecurePoll()), (9, HIGH)]
)
def test_the_test_is_that_in_the_clear(n: int, poll: SecurePoll) -> None:
    answers = set()
    for seed, margin, error in [(0, 0.0, 0.05), (1, 0.0, 0.2), (2, 0.5, 0.05), (3, -0.5, 1e-4)]:
        states = some_gains(n, seed)
        found, left = PollRun(states, poll).favours(margin, error)
        assert found is in_the_clear(states).favours(margin, error)[0]
        assert left.clients == tuple(states)
        answers.add(found)
    assert answers == {True, False}


def test_a_poll_of_everybody_and_one_by_groups_share_their_exchanges() -> None:
    states = some_bits(8)
    run, groups = PollRun(states), grouped(states, 2)
    programs = {
        "all": run.poll.at_least(run.cohort(), "has", 11, 3),
        "groups": run.poll.at_least(run.cohort(), "has", 11, 3, groups),
    }
    found = run.driver.run(gather(programs))
    np.testing.assert_array_equal(found["all"][0], in_the_clear(states).at_least(3)[0])
    np.testing.assert_array_equal(found["groups"][0], in_the_clear(states).at_least(3, groups)[0])
    assert run.driver.costs.exchanges == 5


# ---- Dropouts


@pytest.mark.parametrize("fate", ["before", "after"])
@pytest.mark.parametrize(("step", "n"), [(HELLO, 8), (DEAL, 8), (REVEAL, 18), (DEAL, 18)])
def test_who_is_missing_before_shares_are_complete_is_left_out(step: str, n: int, fate: Fate) -> None:
    states = some_bits(n)
    groups = grouped(states, 2)
    run = PollRun(states, dropouts=Missing(step, {1, 2}, fate=fate))
    found, left = run.at_least(3, groups)
    assert left.clients == tuple(c for c in states if c not in ("c01", "c02"))
    np.testing.assert_array_equal(found, in_the_clear(states, ["c01", "c02"]).at_least(3, groups)[0])
    gains = some_gains(n)
    answer, left = PollRun(gains, dropouts=Missing(step, {1, 2}, fate=fate)).favours()
    assert answer is in_the_clear(gains, ["c01", "c02"]).favours()[0] and len(left) == n - 2


@pytest.mark.parametrize("number", range(4))
def test_holders_that_drop_out_while_answers_are_computed_change_nothing(number: int) -> None:
    gone = [set()] * number + [{0, 3}]
    bits, gains = some_bits(8), some_gains(8)
    found, left = PollRun(bits, dropouts=Missing(PROCEED, *gone)).at_least(4)
    np.testing.assert_array_equal(found, in_the_clear(bits).at_least(4)[0])
    assert len(left) == 8
    assert PollRun(gains, dropouts=Missing(PROCEED, *gone)).favours()[0] is in_the_clear(gains).favours()[0]


def test_too_few_holders_are_an_error_that_names_the_missing() -> None:
    with pytest.raises(DropoutError, match="at least 6 are needed") as caught:
        PollRun(some_bits(8), dropouts=Missing(PROCEED, {0, 3, 7})).at_least(3)
    assert caught.value.step == PROCEED
    assert set(caught.value.missing) == {"c00", "c03", "c07"}


@pytest.mark.parametrize("step", [HELLO, DEAL])
def test_too_few_clients_left_are_an_error_that_names_the_missing(step: str) -> None:
    with pytest.raises(DropoutError, match="3 clients answered, at least 4 are needed") as caught:
        PollRun(some_bits(5), dropouts=Missing(step, {0, 4})).at_least(3)
    assert set(caught.value.missing) == {"c00", "c04"}
    with pytest.raises(DropoutError, match="1 clients answered, at least 2"):
        PollRun(some_bits(3), PlainPoll(), Missing("poll.tell_bits", {0, 1})).at_least(1)


def test_a_cohort_that_shrinks_to_four_is_still_polled() -> None:
    states = some_bits(7)
    found, left = PollRun(states, dropouts=Missing(DEAL, {0}, {1, 2})).at_least(3)
    assert left.clients == ("c03", "c04", "c05", "c06")
    np.testing.assert_array_equal(found, in_the_clear(states, ["c00", "c01", "c02"]).at_least(3)[0])


# ---- Refusals


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"min_count": 1}, "poll.min_count = 1: at least 2"),
        ({"dropouts": -1}, "poll.dropouts = -1: must not be negative"),
        ({"committee": 3}, "poll.committee = 3: 4 to 100"),
        ({"committee": 6, "dropouts": 3}, "poll.committee = 6: 7 to 100"),
        ({"threshold": "low"}, "poll.threshold"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SecurePoll(**changes)


@pytest.mark.parametrize(
    ("n", "poll", "ask", "kind", "said"),
    [
        (
            3,
            SecurePoll(),
            lambda run: run.at_least(3),
            ConfigError,
            "clients = 3: at least 4 to hold shares; poll.kind",
        ),
        (3, SecurePoll(), lambda run: run.favours(), ConfigError, "clients = 3: at least 4 to hold shares"),
        (4, SecurePoll(dropouts=1), lambda run: run.at_least(3), ConfigError, "or fewer poll.dropouts than 1"),
        (4, SecurePoll(), lambda run: run.at_least(2), ConfigError, "least = 2: at least poll.min_count = 3"),
        (4, PlainPoll(min_count=3), lambda run: run.at_least(2), ConfigError, "least = 2: at least poll.min_count"),
        (4, SecurePoll(), lambda run: run.favours(2.0), ConfigError, "margin = 2.0"),
        (4, PlainPoll(), lambda run: run.favours(0.0, 0.7), ConfigError, "error = 0.7"),
        (1, PlainPoll(), lambda run: run.favours(), ConfigError, "clients = 1: at least 2"),
    ],
)
def test_whoever_cannot_be_polled_is_refused_before_anything_is_sent(
    n: int, poll: Poll, ask: Callable[[PollRun], Any], kind: type[Exception], said: str
) -> None:
    states = {c: ClientState({**state.arrays, "gain": np.array(0.1)}) for c, state in some_bits(n).items()}
    run = PollRun(states, poll)
    with pytest.raises(kind, match=said):
        ask(run)
    assert run.driver.costs.messages == 0


def test_too_many_clients_for_exact_arithmetic_are_refused_before_anything_is_sent() -> None:
    program = SecurePoll().favours(Cohort({f"c{i:04}": 1 for i in range(2000)}, 0, 0), "gain", 0.0, 0.05)
    with pytest.raises(FieldRangeError, match="fewer bits or clients"):
        next(program)


def test_numbers_of_clients() -> None:
    for n, limit, collusion in [(4, 3, 1), (5, 3, 1), (6, 5, 1), (14, 5, 1), (15, 5, 2), (16, 5, 2), (500, 5, 2)]:
        SecurePoll().require(n)
        assert (SecurePoll().limit(n), SecurePoll().collusion(n)) == (limit, collusion)
        told = {"reveal": "answers", "holders": min(n, 16), "threshold": collusion, "security": "passive"}
        assert SecurePoll().protection(n) == told
    assert (HIGH.limit(16), HIGH.collusion(16)) == (3, 5)
    assert (SecurePoll(dropouts=4).limit(9), SecurePoll(dropouts=4).collusion(9)) == (3, 1)
    with pytest.raises(ConfigError, match="clients = 3"):
        SecurePoll().require(3)
    with pytest.raises(ConfigError, match="clients = 1"):
        PlainPoll().require(1)


@pytest.mark.parametrize("changes", [{"min_count": 4}, {"threshold": "high"}, {"dropouts": 1}, {"committee": 9}])
def test_clients_share_nothing_under_other_settings_than_theirs(changes: dict[str, Any]) -> None:
    with pytest.raises(ClientError, match="other settings") as caught:
        PollRun(some_bits(8), replace(SecurePoll(), **changes), theirs=SecurePoll()).at_least(4)
    assert isinstance(caught.value.__cause__, ProtocolError)
    assert caught.value.step == DEAL


def edited(**facts: Any) -> Callable[[dict[str, np.ndarray]], None]:
    """Terms that say something else."""

    def change(message: dict[str, np.ndarray]) -> None:
        about = {**json.loads(message["about"].item()), **facts}
        message["about"] = np.array(json.dumps(about, sort_keys=True))

    return change


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"least": 2}, "a poll for 2 clients or more, this client insists on 3"),
        ({"least": 0}, "asks nothing this client knows"),
        ({"bits": 12}, r"uint8 \(11,\) in 'has', not the 12 bits"),
        ({"slot": "other"}, "nothing in 'other'"),
        ({"groups": [0] * 7}, "asks nothing"),
        ({"threshold": 2}, "threshold 2, which is not what this client agreed to"),
        ({"task": "favours"}, "asks nothing"),
    ],
)
def test_terms_that_a_client_does_not_agree_to(facts: dict[str, Any], said: str) -> None:
    with pytest.raises(ClientError, match=said):
        PollRun(some_bits(8)).at_least(3, on_ask=everyone(DEAL, edited(**facts)))


def test_clients_are_not_polled_in_cohorts_of_three() -> None:
    with pytest.raises(ClientError, match="polls 3 clients with up to 16 holders"):
        PollRun(some_bits(3), SecurePoll(), theirs=SecurePoll()).driver.run(_of_three())


def _of_three() -> Any:
    class Lax(SecurePoll):
        fewest = 1  # type: ignore[assignment]

        def collusion(self, clients: int) -> int:
            return 1

        def require(self, clients: int) -> None: ...

    return Lax().at_least(Cohort(dict.fromkeys(names(3), 1), 0, 0), "has", 11, 3)


@pytest.mark.parametrize("least", [3, 4])
def test_nobody_answers_the_same_poll_twice_in_a_round(least: int) -> None:
    """Two numbers, or two cohorts, would tell more than one bit."""
    run = PollRun(some_bits(8))
    run.at_least(3)
    with pytest.raises(ClientError, match="asked for a second time in one round"):
        run.at_least(least)
    run.at_least(3, grouped(run.states, 2))
    with pytest.raises(ClientError, match="asked for a second time in one round"):
        run.at_least(3, grouped(run.states, 3))
    run.at_least(least, number=1)
    gains = PollRun(some_gains(8))
    gains.favours(0.0)
    with pytest.raises(ClientError, match="asked for a second time in one round"):
        gains.favours(0.1)


def test_holders_who_stood_by_answer_no_second_poll_either() -> None:
    run = PollRun(some_bits(8), dropouts=Missing(PROCEED, set(), {0, 1}))
    run.at_least(3)
    parties = [context.party for context in run.driver.contexts.values()]
    assert all(party.ledger.done == {"poll.at_least 'has'"} for party in parties)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda reply: {}, "sent no 11 bits"),
        (lambda reply: {"bits": reply["bits"] + np.uint8(1)}, "sent no 11 bits"),
        (lambda reply: {"bits": reply["bits"].astype(np.int64)}, "sent no 11 bits"),
        (lambda reply: {"bits": reply["bits"][1:]}, "sent no 11 bits"),
    ],
)
def test_bits_that_are_none_are_refused_in_the_clear(change: Any, said: str) -> None:
    run = PollRun(some_bits(4), PlainPoll())
    with pytest.raises(ProtocolError, match=f"'c01' {said}"):
        run.at_least(1, on_replies=answering("poll.tell_bits", "c01", change))


@pytest.mark.parametrize("gain", [np.array(1024), np.array(-1025), np.array(0.5), np.array([1])])
def test_gains_out_of_range_are_refused_in_the_clear(gain: np.ndarray) -> None:
    run = PollRun(some_gains(4), PlainPoll())
    with pytest.raises(ProtocolError, match="'c01' sent no gain from -1024 to 1023"):
        run.favours(on_replies=answering("poll.tell_gain", "c01", lambda reply: {"gain": gain}))


def test_states_without_bits_or_gains_are_named() -> None:
    states = {**some_bits(6), "c03": ClientState({"has": np.full(11, 2, np.uint8)})}
    for poll in (SecurePoll(), PlainPoll()):
        with pytest.raises(ClientError, match=r"'c03'.*2 in 'has': bits are 0 or 1"):
            PollRun(states, poll).at_least(3)
    gains = {**some_gains(6), "c03": ClientState({"gain": np.array(np.nan)})}
    for poll in (SecurePoll(), PlainPoll()):
        with pytest.raises(ClientError, match=r"'c03'.*a gain of nan"):
            PollRun(gains, poll).favours()


def test_who_is_in_no_group_holds_shares_and_is_counted_in_none() -> None:
    states = voters(np.ones((6, 1)))
    groups = Assignment({"c00": 0, "c01": 0, "c02": 0, "c03": 1, "c04": 1})
    found, left = PollRun(states).at_least(3, groups)
    assert found.tolist() == [[True], [False]] and len(left) == 6
