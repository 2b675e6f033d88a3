from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secfpp.errors import ProtocolError
from secfpp.protocol.program import Ask, ClientState, Joint, Program, Replies, ending, gather, resolve
from secfpp.secure.clustering.clusterer import OneCluster, OracleClusters
from support.toy import Toy, adding, toy_driver

LENGTHS = st.lists(st.integers(0, 4), max_size=5)


def echo(label: str, length: int) -> Program[list[int]]:
    """Ask `length` times, each time for the number told last time plus one."""
    told, heard = np.array(0), []
    for _ in range(length):
        replies = yield Ask("method.echo", {label: {"n": told}})
        told = replies[label]["n"]
        heard.append(int(told))
    return heard


def answer(ask: Ask) -> Replies:
    return Replies({client: {"n": payload["n"] + 1} for client, payload in ask.payloads.items()})


def drive(program: Program[dict[str, list[int]]]) -> tuple[dict[str, list[int]], list[list[str]]]:
    """Run a gathered program; returns its result and the labels of each exchange."""
    exchanges: list[list[str]] = []
    try:
        request = next(program)
        while True:
            assert isinstance(request, Joint)
            exchanges.append(list(request.asks))
            request = program.send(Replies({}, joint={label: answer(ask) for label, ask in request.asks.items()}))
    except StopIteration as stop:
        return stop.value, exchanges


@given(LENGTHS)
def test_gather_takes_as_many_exchanges_as_the_longest_program(lengths: list[int]) -> None:
    programs = {f"p{i}": echo(f"p{i}", length) for i, length in enumerate(lengths)}
    results, exchanges = drive(gather(programs))
    assert len(exchanges) == max(lengths, default=0)
    assert results == {f"p{i}": list(range(1, length + 1)) for i, length in enumerate(lengths)}
    assert list(results) == list(programs)
    for number, labels in enumerate(exchanges):
        assert labels == [f"p{i}" for i, length in enumerate(lengths) if length > number]


@given(LENGTHS)
def test_staggered_programs_begin_an_exchange_after_each_other(lengths: list[int]) -> None:
    programs = {f"p{i}": echo(f"p{i}", length) for i, length in enumerate(lengths)}
    results, exchanges = drive(gather(programs, staggered=True))
    assert results == {f"p{i}": list(range(1, length + 1)) for i, length in enumerate(lengths)}
    asking = [i for i, length in enumerate(lengths) if length]  # the others end at once and delay nobody
    spans = {f"p{i}": range(start, start + lengths[i]) for start, i in enumerate(asking)}
    assert len(exchanges) == max((span.stop for span in spans.values()), default=0)
    for number, labels in enumerate(exchanges):
        assert labels == [label for label, span in spans.items() if number in span]


@given(LENGTHS, LENGTHS)
def test_nesting_changes_nothing_but_the_labels(left: list[int], right: list[int]) -> None:
    def group(name: str, lengths: list[int]) -> Program[dict[str, list[int]]]:
        return gather({str(i): echo(f"{name}/{i}", length) for i, length in enumerate(lengths)})

    nested, exchanges = drive(gather({"l": group("l", left), "r": group("r", right)}))  # type: ignore[arg-type]
    flat, flat_exchanges = drive(
        gather(
            {
                f"{s}/{i}": echo(f"{s}/{i}", n)
                for s, lengths in (("l", left), ("r", right))
                for i, n in enumerate(lengths)
            }
        )
    )
    assert exchanges == flat_exchanges
    assert {f"{s}/{i}": heard for s, inner in nested.items() for i, heard in inner.items()} == flat  # type: ignore[attr-defined]


@given(LENGTHS, st.booleans(), st.randoms(use_true_random=False))
def test_clients_end_up_the_same_whatever_the_interleaving(lengths: list[int], together: bool, random: object) -> None:
    clients = [f"c{i}" for i in range(len(lengths))]
    driver = toy_driver(clients)
    order = list(zip(clients, lengths, strict=True))
    random.shuffle(order)  # type: ignore[attr-defined]
    if together:
        driver.run(gather({client: adding([client], length) for client, length in order}))
    else:
        for client, length in order:
            driver.run(adding([client], length))
    assert [int(driver.states[client]["count"]) for client in clients] == lengths
    assert driver.costs.exchanges == (max(lengths, default=0) if together else sum(lengths))


def test_an_error_in_one_program_ends_the_whole() -> None:
    def broken() -> Program[None]:
        yield Ask("method.echo", {})
        raise ProtocolError("no use")

    program = gather({"good": echo("good", 3), "broken": broken()})  # type: ignore[dict-item]
    with pytest.raises(ProtocolError, match="no use"):
        drive(program)  # type: ignore[arg-type]


def test_the_asks_of_one_step_can_be_marked_as_the_last_ones_of_a_round() -> None:
    def program() -> Program[str]:
        first = yield Ask("method.a", {"x": {}})
        yield Joint({"one": Ask("method.b", {"x": {}})})
        second = yield Ask("method.b", {"y": {}})
        return f"{list(first)} {list(second)}"

    made = ending(program(), "method.b")
    assert next(made) == Ask("method.a", {"x": {}})
    assert isinstance(made.send(Replies({"x": {}})), Joint)
    assert made.send(Replies({})) == Ask("method.b", {"y": {}}, last=True)
    with pytest.raises(StopIteration) as stopped:
        made.send(Replies({"y": {}}))
    assert stopped.value.value == "['x'] ['y']"


def test_replies_are_sorted_and_know_who_is_missing() -> None:
    replies = Replies({"b": {}, "a": {}}, missing=["d", "c"])
    assert list(replies) == ["a", "b"]
    assert replies.missing == ("c", "d")
    assert len(replies) == 2 and "c" not in replies and replies.joint == {}


def test_states_are_replaced_not_changed() -> None:
    state = ClientState({"x": np.array(1)})
    other = state.replace(x=np.array(2), y=np.array(3))
    assert state["x"] == 1 and "y" not in state
    assert other["x"] == 2 and other["y"] == 3


def test_steps_resolve_to_the_method_or_a_component() -> None:
    toy = Toy(clusterer=OracleClusters())
    state = ClientState({"domain": np.array(4)})
    assert resolve(toy, "clusterer.domain").one(None, state, {})[1]["domain"] == 4
    assert resolve(toy, "method.add").many is None
    assert resolve(toy, "method.add_together").many is not None


@dataclass(frozen=True)
class Louder(Toy):
    """Inherits all steps."""


def test_inherited_steps_are_found() -> None:
    assert resolve(Louder(), "method.add").one is not None


@pytest.mark.parametrize(
    "name",
    [
        "method.not_a_step",
        "method.nothing",
        "method.__init__",
        "nothing.add",
        "method",
        "",
        "add",
        "clusterer.domain",
        "clusterer.assign",
        "method.add.x",
        "__class__.add",
        "aggregator.clip",
    ],
)
def test_nothing_but_steps_can_be_asked_for(name: str) -> None:
    with pytest.raises(ProtocolError, match="unknown step"):
        resolve(Toy(clusterer=OneCluster()), name)
