from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secfpp.errors import ProtocolError
from secfpp.protocol.cohort import Assignment, Cohort


def test_clients_are_sorted_whatever_the_order_given() -> None:
    cohort = Cohort({"b": 2, "a": 1, "c": 3}, round=4, seed=5)
    assert cohort.clients == ("a", "b", "c")
    assert len(cohort) == 3
    assert cohort == Cohort({"c": 3, "a": 1, "b": 2}, 4, 5)


def test_a_subset_keeps_weights_round_and_seed() -> None:
    assert Cohort({"a": 1, "b": 2, "c": 3}, 4, 5).subset(["c", "a"]) == Cohort({"a": 1, "c": 3}, 4, 5)


def test_a_stranger_in_a_subset_is_named() -> None:
    with pytest.raises(ProtocolError, match=r"x, y: not in this cohort of a"):
        Cohort({"a": 1}, 0, 0).subset(["y", "a", "x"])


@pytest.mark.parametrize("weight", [0, -3])
def test_weights_below_one_are_refused(weight: int) -> None:
    with pytest.raises(ProtocolError, match=f"'b' has weight {weight}"):
        Cohort({"a": 1, "b": weight}, 0, 0)


def test_members_and_sizes() -> None:
    assignment = Assignment({"d": 0, "a": 1, "b": 0, "c": 1, "e": 0})
    assert assignment.k == 2
    assert assignment.sizes == (3, 2)
    assert assignment.members(0) == ("b", "d", "e")
    assert assignment.members(1) == ("a", "c")


@pytest.mark.parametrize("clusters", [{}, {"a": 1}, {"a": 0, "b": 2}, {"a": -1, "b": 0}])
def test_gaps_and_emptiness_are_refused(clusters: dict[str, int]) -> None:
    with pytest.raises(ProtocolError, match="without gaps"):
        Assignment(clusters)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8))
def test_labels_give_the_partition_numbered_by_first_client(labels: list[int]) -> None:
    clients = [f"c{i}" for i in range(len(labels))]
    assignment = Assignment.from_labels(clients, labels)
    for i, left in enumerate(clients):
        for j, right in enumerate(clients):
            together = assignment.cluster_of[left] == assignment.cluster_of[right]
            assert together == (labels[i] == labels[j])
    firsts = [assignment.members(cluster)[0] for cluster in range(assignment.k)]
    assert firsts == sorted(firsts)
    renamed = Assignment.from_labels(clients[::-1], [f"label {-label}" for label in labels[::-1]])
    assert renamed == assignment


def test_a_partition_extends_another_and_keeps_who_is_absent():
    old = Assignment.from_labels(["a", "b", "c", "d", "e"], ["x", "x", "y", "y", "z"])
    new = Assignment.from_labels(["a", "c", "f"], [0, 1, 1])
    assert new.extends(old) and not Assignment.from_labels(["a", "b"], [0, 1]).extends(old)
    assert not Assignment.from_labels(["a", "c"], [0, 0]).extends(old)
    both = new.with_absent(old)
    together = [{"a", "b"}, {"c", "d", "f"}, {"e"}]
    assert sorted(set(both.members(s)) for s in range(both.k)) == sorted(together) and both.k == 3
    assert new.with_absent(new) == new
