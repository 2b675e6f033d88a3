from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secfpp.errors import ClientError, ProtocolError, WireError
from secfpp.protocol import wire
from secfpp.protocol.program import Arrays, Ask, ClientState, Joint, Program, Replies, gather, step
from secfpp.protocol.transcript import SERVER, Transcript
from secfpp.runtime import in_process
from secfpp.runtime.in_process import InProcessDriver
from support.toy import Toy, adding, dropping, toy_driver

BY = {"by": np.array(1)}


def ask_once(request: Ask | Joint) -> Program[Replies]:
    return (yield request)


@pytest.mark.parametrize("force_wire", [True, False])
def test_a_program_runs_and_states_follow(force_wire: bool) -> None:
    driver = toy_driver(["b", "a"], force_wire=force_wire)
    assert driver.run(adding(["a", "b"], 3)) == [("a", "b")] * 3
    assert {client: int(state["count"]) for client, state in driver.states.items()} == {"a": 3, "b": 3}


def test_the_callers_mapping_of_states_stays_as_it_was() -> None:
    states = {"a": ClientState({"count": np.array(5)})}
    driver = toy_driver(states)
    driver.run(adding(["a"], 1))
    assert states["a"]["count"] == 5 and driver.states["a"]["count"] == 6


@given(st.integers(0, 9), st.integers(1, 4))
def test_batched_steps_come_in_chunks_of_sorted_clients(n: int, chunk: int) -> None:
    clients = [f"c{i}" for i in range(n)]
    driver = toy_driver(clients[::-1], chunk=chunk)
    driver.run(adding(clients, 1, "method.add_together"))
    calls = driver.contexts[clients[0]].calls if clients else []
    assert calls == [tuple(clients[i : i + chunk]) for i in range(0, n, chunk)]


def test_large_messages_come_to_few_clients_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_process, "_LARGEST", 80)
    driver = toy_driver("abcdef", chunk=4)
    sizes = zip("abcdef", [99, 4, 4, 4, 1, 1], strict=True)
    payloads = {client: {"by": np.array(1), "more": np.zeros(size)} for client, size in sizes}
    driver.run(ask_once(Ask("method.add_together", payloads)))
    assert driver.contexts["a"].calls == [("a",), ("b", "c"), ("d",), ("e", "f")]


@pytest.mark.parametrize("tolerant", [True, False])
def test_of_clients_in_one_call_only_who_refuses_counts_as_missing(tolerant: bool) -> None:
    driver = toy_driver("abcd", tolerant=tolerant)
    request = Ask("method.add_or_refuse", {client: {"by": np.array(-(client == "b"))} for client in "abcd"})
    if not tolerant:
        with pytest.raises(ClientError, match=r"client 'b', .*nothing below 0"):
            driver.run(ask_once(request))
        return
    replies = driver.run(ask_once(request))
    assert list(replies) == ["a", "c", "d"] and replies.missing == ("b",)
    assert [(refusal.by, refusal.reason) for refusal in driver.refusals] == [("b", "protocol")]


def test_batched_and_single_steps_agree() -> None:
    one, many = toy_driver("abcde"), toy_driver("abcde", chunk=2)
    assert one.run(adding("abcde", 2)) == many.run(adding("abcde", 2, "method.add_together"))
    assert {c: int(s["count"]) for c, s in one.states.items()} == {c: int(s["count"]) for c, s in many.states.items()}
    assert one.costs.up == many.costs.up


@pytest.mark.parametrize("force_wire", [True, False])
@pytest.mark.parametrize("transcript", [True, False])
def test_no_party_can_write_into_anothers_arrays(force_wire: bool, transcript: bool) -> None:
    settings = {"transcript": Transcript() if transcript else None}
    driver = toy_driver("ab", force_wire=force_wire, **settings)
    payload = {"by": np.array([1, 2])}
    replies = driver.run(ask_once(Ask("method.scribble", {"a": payload, "b": payload})))
    assert payload["by"].tolist() == [1, 2]
    assert not np.shares_memory(driver.states["a"]["kept"], driver.states["b"]["kept"])
    replies["a"]["count"][...] = 50
    assert driver.states["a"]["count"] == 0


def test_what_several_clients_are_sent_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[Arrays] = []
    encode = wire.encode
    monkeypatch.setattr(wire, "encode", lambda arrays, **how: (encoded.append(arrays), encode(arrays, **how))[1])
    driver, other = toy_driver("abcd"), {"by": np.array(1)}
    driver.run(ask_once(Ask("method.add", {"a": BY, "b": BY, "c": other, "d": BY})))
    assert [sum(arrays is sent for arrays in encoded) for sent in (BY, other)] == [1, 1]
    assert driver.costs.down == dict.fromkeys("abcd", len(encode(BY)))
    down = [message for message in driver.transcript or () if message.direction == "down"]
    assert [message.client for message in down] == list("abcd") and len({message.sha256 for message in down}) == 1


@pytest.mark.parametrize("order", ["C", "F"])
def test_both_ways_of_carrying_hand_over_the_same_bits(order: str) -> None:
    start = np.array([[1.5, -0.0], [np.nan, 3]], ">f4", order=order)
    states = {"a": ClientState({"count": start})}
    got = []
    for force_wire in (True, False):
        driver = toy_driver(states, force_wire=force_wire)
        reply = driver.run(ask_once(Ask("method.add", {"a": {"by": np.array(0, np.float32)}})))["a"]["count"]
        got.append((reply.dtype, reply.flags.c_contiguous, reply.tobytes()))
    assert got[0] == got[1]


def test_the_size_is_the_same_with_and_without_the_wire() -> None:
    wired, copied = toy_driver("abc"), toy_driver("abc", force_wire=False, transcript=None)
    for driver in (wired, copied):
        driver.run(adding("abc", 2))
    size = len(wire.encode(BY))
    assert wired.costs.down == copied.costs.down == dict.fromkeys("abc", 2 * size)
    assert wired.costs.up == copied.costs.up == dict.fromkeys("abc", 2 * wire.measure({"count": np.array(1)}))
    assert wired.costs.messages == copied.costs.messages == 12
    assert wired.costs.exchanges == copied.costs.exchanges == 2
    assert wired.costs.seconds["method"] > 0


def test_before_and_after_dropouts() -> None:
    dropouts = dropping((3, "method.add", "a", "before"), (3, "method.add", "b", "after"))
    transcript = Transcript()
    driver = toy_driver("abc", dropouts=dropouts, round_=3, transcript=transcript)
    replies = driver.run(ask_once(Ask("method.add", dict.fromkeys("abc", BY))))
    assert list(replies) == ["c"] and replies.missing == ("a", "b")
    assert {client: int(state["count"]) for client, state in driver.states.items()} == {"a": 0, "b": 1, "c": 1}
    assert set(driver.costs.down) == {"b", "c"} and set(driver.costs.up) == {"b", "c"}
    assert driver.costs.messages == 4
    assert {m.client for m in transcript.seen_by(SERVER) if m.direction == "up"} == {"c"}
    assert transcript.seen_by("a") == ()
    assert [m.direction for m in transcript.seen_by("b")] == ["down", "up"]


def test_dropouts_are_asked_with_the_present_round() -> None:
    driver = toy_driver("a", dropouts=dropping((1, "method.add", "a", "before")))
    assert driver.run(adding("a", 1)) == [("a",)]
    driver.round_ = 1
    assert driver.run(adding("a", 1)) == [()]


def test_a_joint_is_one_exchange_in_order_of_labels() -> None:
    driver = toy_driver("ab")
    asks = {"y": Ask("method.add", {"b": BY, "a": BY}), "x": Ask("method.add", {"a": {"by": np.array(10)}})}
    replies = driver.run(ask_once(Joint(asks)))
    assert driver.costs.exchanges == 1 and len(replies) == 0
    assert replies.joint["x"]["a"]["count"] == 10
    assert replies.joint["y"]["a"]["count"] == 11
    assert driver.contexts["a"].calls == [("a",), ("a",), ("b",)]
    assert [message.label for message in driver.transcript or ()] == ["x"] * 2 + ["y"] * 4


def test_exchanges_are_told_before_they_begin() -> None:
    driver, told = toy_driver("a"), []
    driver.on_exchange = lambda number, components: told.append((number, components, driver.costs.exchanges))
    for _ in range(2):
        driver.run(adding("a", 2))
    driver.run(ask_once(Joint({"x": Ask("method.add", {})})))
    assert told == [(1, ["method"], 0), (2, ["method"], 1), (1, ["method"], 2), (2, ["method"], 3)]


def test_costs_are_split_by_component() -> None:
    driver = toy_driver("a")
    driver.states["a"] = driver.states["a"].replace(x=np.zeros(3), **{"x.base": np.zeros(3)})
    share = Ask("aggregator.share", {"a": {"slot": np.array("x"), "weight": np.array(1)}})
    driver.run(ask_once(Joint({"l": Ask("method.add", {"a": BY}), "r": share})))
    driver.run(adding("a", 1))
    method, aggregator = driver.costs.components["method"], driver.costs.components["aggregator"]
    assert driver.costs.exchanges == 2
    assert (method.exchanges, aggregator.exchanges) == (2, 1)
    assert (method.messages, aggregator.messages) == (4, 2)
    assert method.up + aggregator.up == driver.costs.client_up
    assert method.down + aggregator.down == driver.costs.client_down
    assert set(driver.costs.seconds) == {"method", "aggregator"}


@dataclass(frozen=True)
class Slow:
    """A component whose step takes so many seconds of a clock that stands still by itself."""

    takes: float = 0.0
    work: Callable[[float], None] = print

    @step
    def answer(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        self.work(self.takes)
        return state, {}


@dataclass(frozen=True)
class SlowParts:
    clusterer: Slow = field(default_factory=Slow)
    aggregator: Slow = field(default_factory=Slow)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """What moves the clock, in place of real work."""
    now = [0.0]

    def pass_by(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return pass_by


def test_seconds_are_those_of_clients_and_server(work: Callable[[float], None]) -> None:
    group, mean = (Ask(f"{part}.answer", {"a": {}, "b": {}}) for part in ("clusterer", "aggregator"))

    def program() -> Program[None]:
        work(1)  # before the first ask: that ask's
        yield group
        work(10)  # on the replies of the clusterer
        yield Joint({"x": group, "y": mean})
        work(200)  # shared: half and half
        yield Joint({"x": mean, "y": Ask("clusterer.answer", {})})
        work(4000)  # nobody was asked for the clusterer

    driver = toy_driver("ab", SlowParts(Slow(0.25, work), Slow(0.5, work)))
    driver.run(program())
    assert driver.costs.seconds == {"clusterer": 1 + 10 + 100 + 4 * 0.25, "aggregator": 100 + 4000 + 4 * 0.5}


def test_the_servers_seconds_count_when_its_program_fails(work: Callable[[float], None]) -> None:
    def program() -> Program[None]:
        yield Ask("clusterer.answer", {"a": {}})
        work(3)
        raise ProtocolError("no")

    driver = toy_driver("a", SlowParts(Slow(0.25, work)))
    with pytest.raises(ProtocolError, match="no"):
        driver.run(program())
    assert driver.costs.seconds == {"clusterer": 3.25}


@pytest.mark.parametrize("force_wire", [True, False])
def test_carrying_messages_takes_time_too(
    work: Callable[[float], None], monkeypatch: pytest.MonkeyPatch, force_wire: bool
) -> None:
    def slowed(real: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def taking_a_second(value: Any, **how: Any) -> Any:
            work(1)
            return real(value, **how)

        return taking_a_second

    for name in ("encode", "decode", "detach"):
        monkeypatch.setattr(wire, name, slowed(getattr(wire, name)))
    driver = toy_driver("ab", SlowParts(Slow(0.0, work)), transcript=None, force_wire=force_wire)
    driver.run(ask_once(Ask("clusterer.answer", {"a": {}, "b": {}})))
    assert driver.costs.seconds["clusterer"] >= 2 * 2 * (1 + force_wire)  # two messages each: copied, or made and read


def test_transcript_and_costs_agree() -> None:
    transcript = Transcript(keep_contents=True)
    driver = toy_driver("abc", transcript=transcript)
    driver.run(gather({client: adding([client], n) for n, client in enumerate("abc")}))
    for direction, counted in (("up", driver.costs.up), ("down", driver.costs.down)):
        totals = transcript.totals(lambda m: (m.client, m.direction))
        assert {c: t.size for (c, d), t in totals.items() if d == direction} == counted
    assert sorted({message.exchange for message in transcript}) == [0, 1]
    assert all(message.content is not None and wire.decode(message.content) for message in transcript)


def test_equal_runs_have_equal_transcripts() -> None:
    digests = set()
    for force_wire in (True, False):
        transcript = Transcript()
        toy_driver("abc", transcript=transcript, force_wire=force_wire).run(adding("abc", 2))
        digests.add(transcript.digest())
    assert len(digests) == 1


def test_asking_nobody_costs_nothing() -> None:
    driver = toy_driver("a")
    assert driver.run(adding([], 2)) == [(), ()]
    assert driver.run(ask_once(Joint({"x": Ask("method.add", {})}))).joint["x"].missing == ()
    assert driver.costs.exchanges == driver.costs.messages == 0


@pytest.mark.parametrize(("step", "who"), [("method.fail", "b"), ("method.add_together", "a, b")])
def test_a_failing_step_names_client_round_and_step(step: str, who: str) -> None:
    driver = toy_driver("abc", round_=7, chunk=2)
    with pytest.raises(ClientError, match=f"client '{who}', round 7, step '{step}'") as caught:
        driver.run(ask_once(Ask(step, {client: {"victim": np.array("b")} for client in "abc"})))
    assert isinstance(caught.value.__cause__, ValueError | KeyError)


@pytest.mark.parametrize(
    ("how", "cause"),
    [("none", TypeError), ("list", TypeError), ("state", TypeError), ("object", WireError)],
)
@pytest.mark.parametrize("force_wire", [True, False])
def test_a_step_that_returns_nonsense_is_named(how: str, cause: type[Exception], force_wire: bool) -> None:
    driver = toy_driver("a", force_wire=force_wire, transcript=None)
    with pytest.raises(ClientError, match=r"'a', round 0, step 'method.misbehave'") as caught:
        driver.run(ask_once(Ask("method.misbehave", {"a": {"how": np.array(how)}})))
    assert isinstance(caught.value.__cause__, cause)
    assert driver.states["a"]["count"] == 0


def test_unknown_steps_and_clients_are_refused_before_anything_runs() -> None:
    driver = toy_driver("a")
    good = Ask("method.add", {"a": BY})
    with pytest.raises(ProtocolError, match=r"unknown step 'method\.nothing'"):
        driver.run(ask_once(Joint({"good": good, "worse": Ask("method.nothing", {"a": BY})})))
    with pytest.raises(ProtocolError, match="unknown clients: z"):
        driver.run(ask_once(Joint({"good": good, "worse": Ask("method.add", {"z": BY})})))
    assert driver.states["a"]["count"] == 0 and driver.costs.exchanges == 0


def test_a_program_is_closed_when_a_step_fails() -> None:
    closed = []

    def program() -> Program[None]:
        try:
            yield Ask("method.fail", {"a": {"victim": np.array("a")}})
        finally:
            closed.append(True)

    with pytest.raises(ClientError):
        toy_driver("a").run(program())
    assert closed == [True]


def test_contexts_and_states_belong_to_the_same_clients() -> None:
    with pytest.raises(ProtocolError, match="only one of context and state: a, b"):
        InProcessDriver(Toy(), {"a": None}, {"b": ClientState()})
    with pytest.raises(ProtocolError, match="chunk = 0"):
        InProcessDriver(Toy(), {}, {}, chunk=0)
