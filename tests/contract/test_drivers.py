"""What every way to carry messages has to do: one suite, run on each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from secfpp.errors import ProtocolError
from secfpp.protocol.program import Ask, Joint, Program, Replies
from secfpp.runtime.driver import Driver
from secfpp.runtime.in_process import InProcessDriver
from secfpp.runtime.remote import RemoteDriver
from support import toy_sites
from support.toy_sites import CLIENTS, SECRET, Walk, ask, committed, walking

Way = Callable[[Path], AbstractContextManager[Driver]]
EVERY: dict[str, Way] = {
    "in process": toy_sites.in_process,
    "sites here": toy_sites.here,
    "sites in processes": toy_sites.children,
}
REMOTE = [name for name in EVERY if name != "in process"]


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))


@pytest.fixture(params=EVERY)
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Driver]:
    with EVERY[request.param](tmp_path) as made:
        yield made


@pytest.fixture(params=REMOTE)
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RemoteDriver]:
    with EVERY[request.param](tmp_path) as made:
        assert isinstance(made, RemoteDriver)
        yield made


def once(asked: Ask | Joint) -> Program[Replies]:
    return (yield asked)


def states(driver: Driver, folder: Path) -> dict[str, dict[str, list[float]]]:
    if isinstance(driver, InProcessDriver):
        found = driver.states
    else:
        assert isinstance(driver, RemoteDriver)
        driver.commit({})
        found = dict(committed(folder, driver.round_))
    return {client: {slot: array.tolist() for slot, array in state.arrays.items()} for client, state in found.items()}


def test_the_same_program_has_the_same_end_everywhere(driver: Driver, tmp_path: Path) -> None:
    with toy_sites.in_process(tmp_path) as plain:
        wanted = plain.run(walking(3))
        expected = states(plain, tmp_path)
        assert driver.run(walking(3)) == wanted == [CLIENTS] * 3
        assert states(driver, tmp_path) == expected
        known, other = driver.costs.as_dict(), plain.costs.as_dict()
        assert {**known, "seconds": 0} == {**other, "seconds": 0}


@pytest.mark.parametrize("megabytes", [12, 60])
def test_large_messages_arrive_whole(driver: Driver, megabytes: int) -> None:
    data = np.frombuffer(np.random.default_rng(0).bytes(megabytes << 20), np.uint8)
    replies = driver.run(once(Ask("method.echo", {CLIENTS[0]: {"x": data}})))
    assert np.array_equal(replies[CLIENTS[0]]["x"], data)


def test_what_is_no_step_is_never_asked(driver: Driver) -> None:
    for name in ("method.not_a_step", "method.unheard", "nobody.add", "method.__init__"):
        with pytest.raises(ProtocolError, match="offers no such step"):
            driver.run(once(ask(name)))


def test_a_stranger_is_never_asked(driver: Driver) -> None:
    with pytest.raises(ProtocolError, match="unknown clients: zoe"):
        driver.run(once(ask("method.add", ("zoe",), by=1)))


def test_a_refusal_is_told_and_others_go_on(driver: Driver) -> None:
    replies = driver.run(once(ask("session.reveal", session="round-9")))
    assert not replies
    assert {one.by for one in driver.refusals} == set(CLIENTS)
    assert len(driver.run(once(ask("method.add", by=1)))) == len(CLIENTS)


def test_only_the_kind_of_an_error_leaves_a_site(remote: RemoteDriver, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[bytes] = []
    carry = remote.transport.exchange

    def listening(messages: dict[str, bytes], deadline: float) -> dict[str, bytes]:
        replies = dict(carry(messages, deadline))
        seen.extend(replies.values())
        return replies

    remote.transport.exchange = listening  # type: ignore[assignment, method-assign]
    replies = remote.run(once(ask("method.leak", who="ben")))
    assert tuple(replies) == ("ann", "cleo", "dora", "emil")
    assert replies.missing == ("ben",)
    assert remote.failures == [(1, "ben", "method.leak", "RuntimeError")]
    assert seen
    assert not any(SECRET.encode() in data for data in seen)
    assert len(remote.run(once(ask("method.add", by=1)))) == len(CLIENTS)


def test_a_slow_site_is_set_aside_until_the_round_is_committed(remote: RemoteDriver) -> None:
    if isinstance(remote.transport, toy_sites.LocalTransport):
        pytest.skip("sites of this process are waited for")
    remote.deadline = 1.0
    slow = remote.run(once(ask("method.wait", who="cleo", seconds=2.5)))
    assert slow.missing == ("cleo",)
    assert remote.run(once(ask("method.add", by=1))).missing == ("cleo",)
    remote.deadline = 30.0
    remote.commit({})
    remote.round_ += 1
    back = remote.run(once(ask("method.add", by=1)))
    assert back.missing == ()
    assert back["cleo"]["count"] == back["ben"]["count"] - 1  # it had waited, and not counted


def test_a_site_that_dies_is_missing_and_comes_back_as_it_was(remote: RemoteDriver, tmp_path: Path) -> None:
    if not isinstance(remote.transport, toy_sites.ChildrenTransport):
        pytest.skip("a site of this process would take the test with it")
    remote.run(once(ask("method.add", by=5)))
    remote.commit({})
    remote.round_ += 1
    remote.run(once(ask("method.add", by=1)))
    dead = remote.run(once(ask("method.die", who="ann")))
    assert dead.missing == ("ann",)
    assert remote.run(once(ask("method.add", by=1))).missing == ("ann",)
    remote.transport.start("ann")
    remote.commit({})
    remote.round_ += 1
    back = remote.run(once(ask("method.add", by=0)))
    assert back.missing == ()
    assert back["ann"]["count"] == 5  # what it did in the round in which it died is gone
    assert back["ben"]["count"] == 8


def test_a_site_answers_only_what_is_next(remote: RemoteDriver) -> None:
    sent: list[dict[str, bytes]] = []
    carry = remote.transport.exchange

    def recording(messages: dict[str, bytes], deadline: float) -> dict[str, bytes]:
        sent.append(dict(messages))
        return dict(carry(messages, deadline))

    remote.transport.exchange = recording  # type: ignore[assignment, method-assign]
    for _ in range(2):
        last = remote.run(once(ask("method.add", by=1)))
    assert {int(reply["count"]) for reply in last.values()} == {2}
    again = dict(carry(sent[-1], 10.0))
    assert again == dict(carry(sent[-1], 10.0)), "a repeated message has the reply that it had"
    old = {client: toy_sites.Reply.decode(data).refused for client, data in carry(sent[0], 10.0).items()}
    assert set(old.values()) == {"old"}
    assert {int(reply["count"]) for reply in remote.run(once(ask("method.add", by=1))).values()} == {3}


def ended(clients: tuple[str, ...] = CLIENTS) -> Ask:
    return replace(ask("method.add", clients, by=1), last=True)


def test_a_last_question_is_answered_like_any_other(driver: Driver, tmp_path: Path) -> None:
    assert driver.run(walking(2)) == [CLIENTS] * 2
    told = {client: int(reply["count"]) for client, reply in driver.run(once(ended())).items()}
    assert told == {client: 2 + 200 * (client in CLIENTS[:2]) for client in CLIENTS}
    if isinstance(driver, RemoteDriver):  # the sites have written it, and no commit was sent
        assert {client: int(state["count"]) for client, state in committed(tmp_path, 1).items()} == told


def test_who_ended_its_round_is_not_asked_to_commit_it(remote: RemoteDriver, tmp_path: Path) -> None:
    sent: list[dict[str, bytes]] = []
    carry = remote.transport.exchange

    def recording(messages: dict[str, bytes], deadline: float) -> dict[str, bytes]:
        sent.append(dict(messages))
        return dict(carry(messages, deadline))

    remote.transport.exchange = recording  # type: ignore[assignment, method-assign]
    remote.run(once(Joint({"a": ended(CLIENTS[:2]), "b": ask("method.add", CLIENTS[2:], by=1)})))
    assert remote.commit({}) == {}
    assert [sorted(messages) for messages in sent] == [sorted(CLIENTS), list(CLIENTS[2:])]
    remote.round_ += 1
    assert remote.run(once(ended())).missing == ()
    assert remote.commit({}) == {}
    assert len(sent) == 3, "nobody is left to be asked"
    assert {int(state["count"]) for state in committed(tmp_path, 2).values()} == {2}


def test_a_last_answer_that_is_lost_is_committed_all_the_same(remote: RemoteDriver, tmp_path: Path) -> None:
    carry = remote.transport.exchange
    remote.transport.exchange = (  # type: ignore[method-assign]
        lambda messages, deadline: {c: r for c, r in carry(messages, deadline).items() if c != "ben"}
    )
    assert remote.run(once(ended())).missing == ("ben",)
    assert remote.aside == {"ben"}
    remote.transport.exchange = carry  # type: ignore[method-assign]
    assert remote.commit({}) == {}, "no site had to be opened again"
    remote.round_ += 1
    assert {int(reply["count"]) for reply in remote.run(once(ended())).values()} == {2}
    assert {int(state["count"]) for state in committed(tmp_path, 2).values()} == {2}


def test_nothing_is_answered_behind_the_end_of_a_round(remote: RemoteDriver) -> None:
    remote.run(once(ended()))
    assert remote.run(once(ask("method.add", by=1))).missing == CLIENTS
    assert {reason for _, _, _, reason in remote.failures} == {"old"}
    remote.commit({})
    remote.round_ += 1
    assert {int(reply["count"]) for reply in remote.run(once(ask("method.add", by=1))).values()} == {2}


def test_a_server_killed_behind_last_answers_goes_on_before_them(remote: RemoteDriver, tmp_path: Path) -> None:
    remote.run(once(ended()))
    remote.commit({})
    remote.round_ += 1
    remote.run(once(ended(CLIENTS[:3])))  # and the server is gone, with two sites a round behind the others
    after = toy_sites.opened(remote.transport, round_=1)
    assert {int(reply["count"]) for reply in after.run(once(ended())).values()} == {2}
    assert {int(state["count"]) for state in committed(tmp_path, 2).values()} == {2}


def test_a_reply_to_another_request_counts_for_nothing(remote: RemoteDriver) -> None:
    carry = remote.transport.exchange
    kept: list[dict[str, bytes]] = []

    def late(messages: dict[str, bytes], deadline: float) -> dict[str, bytes]:
        kept.append(dict(carry(messages, deadline)))
        return kept[-1] if len(kept) < 2 else {**kept[-1], "ben": kept[-2]["ben"]}

    remote.transport.exchange = late  # type: ignore[assignment, method-assign]
    remote.run(once(ask("method.add", by=1)))
    assert remote.run(once(ask("method.add", by=1))).missing == ("ben",)


def test_a_server_that_was_killed_goes_on_after_its_last_committed_round(remote: RemoteDriver, tmp_path: Path) -> None:
    remote.run(walking(1))
    remote.commit({})
    remote.round_ += 1
    remote.run(walking(2))
    expected = states(remote, tmp_path)  # which commits round 2
    for lost_with_commit in (False, True):
        after = toy_sites.opened(remote.transport, round_=1)
        after.run(walking(2) if lost_with_commit else walking(1))
        if lost_with_commit:
            assert states(after, tmp_path) == expected
    behind = RemoteDriver(Walk(), remote.transport, deadline=30.0)
    refused = behind.open({}, 0)
    assert {reply.refused for reply in refused.values()} == {"ahead"}
