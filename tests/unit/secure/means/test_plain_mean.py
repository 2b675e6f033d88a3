from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from secfpp.crypto.field import PrimeField
from secfpp.errors import ClientError, ConfigError, FieldRangeError, ProtocolError
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientState, gather
from secfpp.runtime.in_process import InProcessDriver
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.updates import Base, Mean, clipped, with_base
from support.toy import Fate, Toy, dropping, toy_driver

SHARE, RECEIVE, KEEP, CATCH_UP = (f"aggregator.{name}" for name in ("share", "receive", "keep", "catch_up"))
BASE = np.array([[1.0, -2.0], [0.5, 4.0]], np.float32)
STEP = 2.0**-24


class Run:
    """Clients a, b, ... whose local training adds their own update in every round."""

    def __init__(
        self,
        updates: Mapping[str, float],
        weights: Mapping[str, int] | None = None,
        dropouts: Callable[[int, str, str], Fate] | None = None,
        aggregator: PlainMean | None = None,
        **driver: Any,
    ) -> None:
        self.known: Base | None = None
        self.updates, self.weights = updates, weights or dict.fromkeys(updates, 1)
        self.aggregator = aggregator or PlainMean(clip=10.0)
        states = {client: with_base(ClientState(), "p", BASE) for client in updates}
        self.driver: InProcessDriver = toy_driver(states, Toy(aggregator=self.aggregator), dropouts, **driver)

    def train(self) -> None:
        for client, state in self.driver.states.items():
            self.driver.states[client] = state.replace(p=state["p"] + np.float32(self.updates[client]))

    def round(self, number: int) -> tuple[str, ...]:
        """Train, then average; returns who is in the mean."""
        self.train()
        self.driver.round_ = number
        return self._made(self.driver.run(self.aggregator.mean(Cohort(self.weights, number, 0), "p", self.known)))

    def _made(self, mean: Mean) -> tuple[str, ...]:
        self.known = mean.base or self.known
        return mean.members

    def value(self, client: str) -> float:
        """How far the client's value lies from the start, the same in each element."""
        moved = self.driver.states[client]["p"] - BASE
        assert np.ptp(moved) <= 1e-6
        return float(moved.mean())

    def settled(self, client: str) -> bool:
        """The client's value is its base."""
        return np.array_equal(self.driver.states[client]["p"], self.driver.states[client]["p.base"])

    def version(self, client: str) -> int:
        return int(self.driver.states[client]["p.version"])


def close(value: float) -> Any:
    return pytest.approx(value, abs=1e-6)


def test_the_mean_is_weighted_and_everybody_gets_it() -> None:
    run = Run({"a": 0.5, "b": 1.0, "c": -1.0}, {"a": 1, "b": 2, "c": 1})
    assert run.round(0) == ("a", "b", "c")
    for client in "abc":
        assert run.value(client) == close((0.5 + 2.0 - 1.0) / 4)
        assert run.settled(client)
        assert run.version(client) == 2
        assert run.driver.states[client]["p"].dtype == np.float32
    assert run.driver.costs.exchanges == 2
    assert run.driver.costs.messages == 12


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(hnp.arrays(np.float64, 4, elements=st.floats(-3, 3)), st.integers(1, 1000)), min_size=1, max_size=5
    ),
    st.booleans(),
)
def test_all_members_hold_the_same_bits_within_half_a_step(
    clients: list[tuple[np.ndarray, int]], force_wire: bool
) -> None:
    base = np.array([0.25, -1.0, 3.0, 0.0])
    names = [f"c{i}" for i in range(len(clients))]
    states = {
        name: with_base(ClientState(), "p", base).replace(p=base + update)
        for name, (update, _) in zip(names, clients, strict=True)
    }
    driver = toy_driver(states, Toy(aggregator=PlainMean(clip=10.0)), force_wire=force_wire)
    cohort = Cohort({name: weight for name, (_, weight) in zip(names, clients, strict=True)}, 0, 0)
    assert driver.run(PlainMean(clip=10.0).mean(cohort, "p")).members == tuple(names)
    total = sum(weight for _, weight in clients)
    expected = base + sum(weight * update for update, weight in clients) / total
    for name in names:
        np.testing.assert_array_equal(driver.states[name]["p"], driver.states[names[0]]["p"])
        np.testing.assert_allclose(driver.states[name]["p"], expected, rtol=0, atol=STEP / 2 + 1e-12)


def test_the_result_does_not_depend_on_order_or_carrier() -> None:
    updates = {"a": 0.1, "b": 0.7, "c": -0.3}
    runs = [Run(updates), Run(dict(reversed(updates.items()))), Run(updates, force_wire=False)]
    for run in runs:
        run.round(0)
        run.round(1)
    bits = {run.driver.states[client]["p"].tobytes() for run in runs for client in "abc"}
    assert len(bits) == 1


def test_long_updates_are_clipped_before_they_are_averaged() -> None:
    run = Run({"a": 100.0, "b": 0.0}, aggregator=PlainMean(clip=2.0))
    run.round(0)
    assert run.value("b") == close(2.0 / np.sqrt(4) / 2)


@given(hnp.arrays(np.float64, 5, elements=st.floats(-1e6, 1e6)), st.floats(1e-3, 1e3))
def test_clipping_shortens_and_keeps_direction(update: np.ndarray, norm: float) -> None:
    result = clipped(update, norm)
    length = np.linalg.norm(update)
    assert np.linalg.norm(result) <= norm * (1 + 1e-12)
    assert np.abs(result).max() <= norm
    if length <= norm:
        np.testing.assert_array_equal(result, update)
    else:
        np.testing.assert_allclose(result, update * (norm / length), rtol=1e-12, atol=0)


def test_a_diverged_update_is_refused_by_name() -> None:
    with pytest.raises(ClientError, match=r"client 'b', round 0.*lower the learning rate"):
        Run({"a": 0.5, "b": np.nan}).round(0)


def test_a_client_that_drops_before_sharing_is_not_in_the_mean_but_gets_it() -> None:
    run = Run({"a": 0.5, "b": 1.0, "c": 9.0}, dropouts=dropping((0, SHARE, "c", "before")))
    assert run.round(0) == ("a", "b")
    assert [run.value(client) for client in "abc"] == [close(0.75)] * 3
    assert run.round(1) == ("a", "b", "c")


def test_a_lost_update_does_not_count() -> None:
    run = Run({"a": 0.5, "b": 1.0, "c": 3.0}, dropouts=dropping((0, SHARE, "c", "after")))
    assert run.round(0) == ("a", "b")
    assert run.value("a") == close(0.75)


def test_a_client_that_drops_after_sharing_counts_but_misses_the_result() -> None:
    run = Run({"a": 0.5, "b": 1.0, "c": 1.5}, dropouts=dropping((0, RECEIVE, "c", "before")))
    assert run.round(0) == ("a", "b", "c")
    assert run.value("a") == run.value("b") == close(1.0)
    assert not run.settled("c")
    assert (run.version("a"), run.version("c")) == (2, 1)


def test_a_lost_acknowledgement_changes_nothing() -> None:
    run = Run({"a": 0.5, "b": 1.0}, dropouts=dropping((0, RECEIVE, "b", "after")))
    assert run.round(0) == ("a", "b")
    assert run.round(1) == ("a", "b")
    assert run.value("b") == close(1.5)


def test_a_client_that_comes_back_two_rounds_later_catches_up_and_then_takes_part() -> None:
    away = [(r, step, "c", "before") for r in (0, 1) for step in (SHARE, RECEIVE)]
    run = Run({"a": 1.0, "b": 1.0, "c": 1.0}, dropouts=dropping(*away))  # type: ignore[arg-type]
    assert run.round(0) == run.round(1) == ("a", "b")
    assert run.driver.costs.exchanges == 4
    assert run.round(2) == ("a", "b")
    assert run.driver.costs.exchanges == 7
    assert [run.value(client) for client in "abc"] == [close(3.0)] * 3
    assert run.settled("c")
    assert run.version("c") == run.version("a")
    assert run.round(3) == ("a", "b", "c")
    assert run.driver.costs.exchanges == 9


def test_only_one_member_sends_the_base_and_only_when_needed() -> None:
    run = Run(dict.fromkeys("abcd", 1.0), dropouts=dropping((0, RECEIVE, "d", "before")))
    run.round(0)
    assert run.driver.costs.components["aggregator"].exchanges == 2
    run.round(1)
    transcript = [message for message in run.driver.transcript or () if message.round == 1]
    acks = [message.size for message in transcript if message.step == RECEIVE and message.direction == "up"]
    assert sorted(acks)[0] == sorted(acks)[-2] < sorted(acks)[-1]
    assert [m.client for m in transcript if m.step == CATCH_UP and m.direction == "down"] == ["d"]


def test_if_the_sponsor_drops_out_the_late_client_waits_a_round_more() -> None:
    drops = dropping((0, RECEIVE, "c", "before"), (1, RECEIVE, "a", "after"))
    run = Run({"a": 1.0, "b": 1.0, "c": 1.0}, dropouts=drops)
    assert run.round(0) == ("a", "b", "c")
    assert run.round(1) == ("a", "b")
    assert run.version("c") == 1
    assert run.round(2) == ("a", "b")
    assert [run.value(client) for client in "abc"] == [close(3.0)] * 3


def test_a_late_client_that_returns_between_the_exchanges_goes_back_to_its_base() -> None:
    drops = dropping((0, RECEIVE, "c", "before"), (1, SHARE, "c", "before"))
    run = Run({"a": 1.0, "b": 1.0, "c": 1.0}, dropouts=drops)
    run.round(0)
    assert run.round(1) == ("a", "b")
    assert run.settled("c")
    assert run.value("c") == 0.0
    assert run.round(2) == ("a", "b")
    assert run.value("c") == close(3.0)


def test_a_base_that_only_an_absent_client_has_does_not_split_the_cohort() -> None:
    lost = [(0, RECEIVE, client, "before") for client in "bc"]
    away = [(1, step, "a", "before") for step in (SHARE, RECEIVE)]
    run = Run({"a": 1.0, "b": 2.0, "c": 2.0}, dropouts=dropping(*lost, *away))  # type: ignore[arg-type]
    assert run.round(0) == ("a", "b", "c")  # only a learns the result
    assert run.round(1) == ("b", "c")  # who average without it
    assert run.round(2) == ("b", "c")  # a, whose base nobody shares, is late
    assert run.version("a") == run.version("b")
    assert run.round(3) == ("a", "b", "c")
    assert run.value("a") == run.value("b") == run.value("c")


def test_if_all_drop_nothing_happens() -> None:
    everything = [(0, step, client, "before") for step in (SHARE, KEEP, RECEIVE) for client in "ab"]
    run = Run({"a": 1.0, "b": 1.0}, dropouts=dropping(*everything))  # type: ignore[arg-type]
    assert run.round(0) == ()
    assert (run.version("a"), run.version("b")) == (1, 1)
    assert run.round(1) == ("a", "b")
    assert run.value("a") == close(2.0)  # the update of both rounds


def test_if_all_updates_are_lost_everybody_goes_back() -> None:
    run = Run({"a": 1.0, "b": 1.0}, dropouts=dropping((0, SHARE, "a", "after"), (0, SHARE, "b", "before")))
    assert run.round(0) == ()
    assert [run.value(client) for client in "ab"] == [0.0, 0.0]


def test_below_the_minimum_everybody_keeps_its_base() -> None:
    run = Run(
        dict.fromkeys("abc", 1.0),
        dropouts=dropping((0, SHARE, "b", "before")),
        aggregator=PlainMean(clip=10.0, min_responders=3),
    )
    assert run.round(0) == ()
    assert [run.value(client) for client in "abc"] == [0.0] * 3
    assert run.version("a") == 1
    assert run.driver.costs.exchanges == 2
    assert run.round(1) == ("a", "b", "c")
    assert run.value("b") == close(1.0)


def test_late_clients_catch_up_even_below_the_minimum() -> None:
    lost = [(0, RECEIVE, client, "before") for client in "de"]
    run = Run(dict.fromkeys("abcde", 1.0), dropouts=dropping(*lost), aggregator=PlainMean(clip=10.0, min_responders=4))  # type: ignore[arg-type]
    assert run.round(0) == tuple("abcde")
    assert run.round(1) == ()
    assert [run.value(client) for client in "abcde"] == [close(1.0)] * 5
    assert [run.version(client) for client in "abcde"] == [2] * 5
    assert run.round(2) == tuple("abcde")


@settings(max_examples=60)
@given(st.data())
def test_whatever_drops_equal_versions_mean_equal_bases(data: st.DataObject) -> None:
    rounds, clients = 4, "abcd"
    fates = {
        (r, step, client): data.draw(st.sampled_from([None, None, "before", "after"]))
        for r in range(rounds)
        for step in (SHARE, RECEIVE, KEEP, CATCH_UP)
        for client in clients
    }
    aggregator = PlainMean(clip=10.0, min_responders=data.draw(st.integers(1, 3)))
    updates = {"a": 0.5, "b": -0.25, "c": 1.0, "d": 0.125}
    run = Run(updates, dropouts=lambda r, step, client: fates.get((r, step, client)), aggregator=aggregator)
    for number in range(rounds):
        run.round(number)
        bases: dict[int, bytes] = {}
        for client in clients:
            base = run.driver.states[client]["p.base"].tobytes()
            assert bases.setdefault(run.version(client), base) == base
    # two quiet rounds bring everybody back
    run.round(rounds)
    assert run.round(rounds + 1) == tuple(clients)
    assert len({run.driver.states[client]["p"].tobytes() for client in clients}) == 1


def test_one_cluster_of_several_may_fail_while_the_others_go_on() -> None:
    clusters = {"0": "ab", "1": "cd", "2": "e"}
    drops = dropping((0, SHARE, "c", "before"), (0, SHARE, "d", "before"), (0, RECEIVE, "b", "before"))
    run = Run({"a": 1.0, "b": 3.0, "c": 3.0, "d": 4.0, "e": 4.5}, dropouts=drops)
    cohort = Cohort(run.weights, 0, 0)
    run.train()
    programs = {label: run.aggregator.mean(cohort.subset(members), "p") for label, members in clusters.items()}
    made = run.driver.run(gather(programs))
    assert {label: mean.members for label, mean in made.items()} == {"0": ("a", "b"), "1": (), "2": ("e",)}
    assert run.driver.costs.exchanges == 2
    assert [run.value(client) for client in "acde"] == [close(2.0), 0.0, 0.0, close(4.5)]
    run.train()
    run.driver.round_ = 1
    again = {
        label: run.aggregator.mean(Cohort(run.weights, 1, 0).subset(m), "p", made[label].base)
        for label, m in clusters.items()
    }
    made = run.driver.run(gather(again))
    assert {label: mean.members for label, mean in made.items()} == {"0": ("a",), "1": ("c", "d"), "2": ("e",)}
    assert run.driver.costs.exchanges == 2 + 3
    assert [run.value(client) for client in "abcde"] == [close(x) for x in (3.0, 3.0, 3.5, 3.5, 9.0)]


def test_two_slots_do_not_mix() -> None:
    state = with_base(with_base(ClientState(), "p", BASE), "q", np.zeros(3))
    states = {c: state.replace(p=BASE + np.float32(1), q=np.full(3, 2.0)) for c in "ab"}
    driver = toy_driver(states, Toy(aggregator=PlainMean(clip=10.0)))
    cohort = Cohort({"a": 1, "b": 1}, 0, 0)
    driver.run(gather({slot: PlainMean(clip=10.0).mean(cohort, slot) for slot in "pq"}))
    np.testing.assert_allclose(driver.states["a"]["p"], BASE + 1, atol=1e-6)
    np.testing.assert_allclose(driver.states["a"]["q"], 2.0, atol=1e-6)


def test_a_new_base_outranks_earlier_results_and_is_outranked_by_the_rounds_own() -> None:
    run = Run({"a": 1.0, "b": 1.0})
    run.round(4)
    before = run.version("a")
    fresh = with_base(run.driver.states["a"], "p", BASE, round_=5)
    assert before < int(fresh["p.version"])
    run.driver.states.update(dict.fromkeys("ab", fresh))
    run.round(5)
    assert run.version("a") > int(fresh["p.version"])
    assert run.value("a") == close(1.0)


def test_a_missing_base_is_named_with_the_remedy() -> None:
    driver = toy_driver({"a": ClientState({"p": BASE})}, Toy())
    with pytest.raises(ClientError, match=r"no common base for 'p'.*with_base") as caught:
        driver.run(PlainMean(clip=10.0).mean(Cohort({"a": 1}, 0, 0), "p"))
    assert isinstance(caught.value.__cause__, ProtocolError)


def test_an_absent_version_counts_as_the_first() -> None:
    states = {c: ClientState({"p": BASE + np.float32(1), "p.base": BASE}) for c in "ab"}
    driver = toy_driver(states, Toy(aggregator=PlainMean(clip=10.0)))
    assert driver.run(PlainMean(clip=10.0).mean(Cohort({"a": 1, "b": 1}, 0, 0), "p")).members == ("a", "b")
    assert driver.states["a"]["p.version"] == 2


def test_weights_that_could_overflow_are_refused_before_anything_is_sent() -> None:
    aggregator = PlainMean(clip=1.0, bits=40)
    capacity = PrimeField.half // 2**40
    run = Run({"a": 1.0, "b": 1.0}, {"a": capacity, "b": 1}, aggregator=aggregator)
    with pytest.raises(FieldRangeError, match=f"total weight {capacity + 1}.*at most {capacity}"):
        run.round(0)
    assert run.driver.costs.messages == 0
    fits = Run({"a": -0.5, "b": -0.5}, {"a": capacity - 1, "b": 1}, aggregator=aggregator)
    assert fits.round(0) == ("a", "b")
    assert fits.value("a") == close(-0.5)


@pytest.mark.parametrize(
    ("settings_", "key"),
    [
        ({"clip": 0.0}, "clip"),
        ({"bits": -1}, "bits"),
        ({"clip": 1e9, "bits": 40}, "clip"),
        ({"min_responders": 0}, "min"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings_: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"aggregator\..*{key}"):
        PlainMean(**settings_)
