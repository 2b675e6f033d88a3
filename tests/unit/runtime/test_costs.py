from __future__ import annotations

import json
import time

import pytest

from secfpp.runtime.costs import Costs, Share


def spent() -> Costs:
    costs = Costs()
    costs.count_exchange(["method", "aggregator", "method"])
    costs.count_down("method", "a", 10)
    costs.count_up("method", "a", 3)
    costs.count_down("aggregator", "b", 5)
    costs.count_seconds("method", 0.5)
    return costs


def test_counters_by_client_and_by_component() -> None:
    costs = spent()
    assert (costs.exchanges, costs.messages) == (1, 3)
    assert costs.up == {"a": 3} and costs.down == {"a": 10, "b": 5}
    assert (costs.client_up, costs.client_down) == (3, 15)
    assert costs.components == {"method": Share(1, 2, 3, 10), "aggregator": Share(1, 1, 0, 5)}
    assert costs.seconds == {"method": 0.5}


def test_seconds_that_cannot_be_told_apart_are_split() -> None:
    costs = spent()
    costs.split_seconds(["method", "clusterer"], 3.0)
    costs.split_seconds([], 7.0)
    assert costs.seconds == {"method": 2.0, "clusterer": 1.5}


def test_a_block_is_timed_even_if_it_fails() -> None:
    costs = Costs()

    def ending() -> None:
        with costs.timed(["session"]):
            time.sleep(0.002)
            raise StopIteration

    with pytest.raises(StopIteration):
        ending()
    assert 0.002 <= costs.seconds["session"] < 2


def test_a_copy_does_not_follow() -> None:
    costs = spent()
    before = costs.copy()
    costs.count_up("method", "a", 1)
    costs.count_seconds("method", 1.0)
    assert before == spent()


def test_since_is_what_was_added() -> None:
    costs = spent()
    before = costs.copy()
    costs.count_exchange(["clusterer"])
    costs.count_up("clusterer", "b", 7)
    costs.count_down("method", "a", 2)
    costs.count_seconds("method", 0.25)
    added = costs.since(before)
    assert (added.exchanges, added.messages) == (1, 2)
    assert added.up == {"a": 0, "b": 7} and added.down == {"a": 2, "b": 0}
    assert added.seconds == {"method": 0.25}
    assert added.components["clusterer"] == Share(1, 1, 7, 0)
    assert added.components["method"] == Share(0, 1, 0, 2)
    assert costs.since(Costs()) == costs


def test_as_dict_is_ready_for_json() -> None:
    loaded = json.loads(json.dumps(spent().as_dict()))
    assert loaded["client_up"] == 3 and loaded["client_down"] == 15
    assert loaded["components"]["method"] == {"exchanges": 1, "messages": 2, "up": 3, "down": 10}


def test_a_dictionary_comes_back_as_costs() -> None:
    for costs in (spent(), Costs()):
        assert Costs.from_dict(json.loads(json.dumps(costs.as_dict()))) == costs


@pytest.mark.parametrize("broken", [{}, {"components": {"method": {"sideways": 1}}}])
def test_another_dictionary_is_refused(broken: dict[str, object]) -> None:
    table = {} if not broken else {**spent().as_dict(), **broken}
    with pytest.raises((KeyError, TypeError)):
        Costs.from_dict(table)
