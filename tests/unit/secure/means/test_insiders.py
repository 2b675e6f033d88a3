"""Whom a client lets have what its group averaged: the list it keeps, and what may change it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secfpp.errors import ProtocolError
from secfpp.protocol.program import ClientState
from secfpp.secure.means.insiders import Insiders, accepted, insiders, let_in, restricted, stated, stated_in, word
from secfpp.secure.means.updates import with_base

NAMES = st.frozensets(st.sampled_from([f"c{i}" for i in range(9)] + ["ä b", '"']), max_size=6)
A, B = frozenset({"a1", "a2", "a3"}), frozenset({"b1", "b2"})
ALL = A | B


def by_terms(known: Insiders | None, group: Any, clients: Any = None, met: Any = (), **rule: Any) -> Insiders:
    settings = {"fewest": 2, "newcomers": True, **rule}
    return accepted(known, group, group if clients is None else clients, frozenset(met), **settings)


@given(st.none() | NAMES, NAMES)
def test_what_is_kept_is_read_again(members: frozenset[str] | None, others: frozenset[str]) -> None:
    known = Insiders(members, others)
    assert Insiders.read(known.array()) == known
    state = restricted(ClientState({"p": np.zeros(1)}), "p")
    assert insiders(state, "p") is None and not word(state, "p")
    assert insiders(let_in(state, "p", known), "p") == known
    assert Insiders.read(word(let_in(state, "p", known), "p")["group"]) == known


@pytest.mark.parametrize("text", [b"", b"\xff", b"3", b"[]", b'{"members": 3, "others": []}', b'{"members": []}'])
def test_a_list_that_cannot_be_read_is_refused(text: bytes) -> None:
    with pytest.raises(ProtocolError, match="members that cannot be read"):
        Insiders.read(np.frombuffer(text, np.uint8))
    with pytest.raises(ProtocolError, match="members that cannot be read"):
        Insiders.read(None)


@pytest.mark.parametrize("group", ["abc", [1], {"a": 1}, 7])
def test_terms_with_a_list_that_is_none_are_refused(group: Any) -> None:
    with pytest.raises(ProtocolError, match="members that cannot be read"):
        stated_in({"group": group})


def test_terms_say_a_group_or_everybody() -> None:
    assert stated_in(stated(A)) == A and stated_in(stated(None)) is None


def test_a_new_start_is_nobodys_secret() -> None:
    state = let_in(restricted(with_base(ClientState(), "p", np.zeros(2)), "p"), "p", Insiders(A, B))
    assert insiders(with_base(state, "p", np.ones(2), 3), "p") is None


def test_who_was_grouped_too_and_is_not_on_the_list_is_in_another_group() -> None:
    assert by_terms(None, A, met=ALL) == Insiders(A, B)


def test_a_list_grows_by_who_was_met_in_no_group() -> None:
    assert by_terms(Insiders(A, B), A | {"new"}) == Insiders(A | {"new"}, B)
    assert by_terms(Insiders(A, B), {"a1", "a2"}) == Insiders(A, B)


@pytest.mark.parametrize(
    ("known", "group", "clients", "rule", "match"),
    [
        (Insiders(A, B), A | {"b1"}, A, {}, "b1 belong to another one"),
        (Insiders(A, B), A, A | {"b1"}, {}, "b1 take part and are not in it"),
        (Insiders(A, B), A | {"new"}, A, {"newcomers": False}, "aggregator.newcomers is off"),
        (Insiders(A), A | {"new"}, A, {}, "new were not in it before.*knows of no groups"),
        (Insiders(A, B), None, ALL, {}, "everybody's, this client knows 3 members"),
        (None, None, A, {"met": ALL}, "everybody's, but b1, b2, grouped too, take no part"),
    ],
)
def test_terms_that_let_others_in_are_refused(known: Any, group: Any, clients: Any, rule: Any, match: str) -> None:
    with pytest.raises(ProtocolError, match=match):
        by_terms(known, group, clients, **rule)


def test_a_mean_of_everybody_lacks_fewer_than_a_group_would_have() -> None:
    assert by_terms(None, None, ALL - {"b1"}, met=ALL) == Insiders()
    assert by_terms(Insiders(), A, met=ALL) == Insiders(A, B)  # groups may be found later
