"""The plain mean of clients who share in several batches."""

from __future__ import annotations

import weakref
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secfpp.errors import ProtocolError
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import Ask, ClientState, Replies
from secfpp.secure.means import batches
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.updates import Base, with_base
from support.toy import Toy, toy_driver

CLIENTS = "abcdefg"
STEPS = [f"aggregator.{name}" for name in ("share", "receive", "keep", "catch_up")]
COHORT = Cohort(dict.fromkeys(CLIENTS, 1), 0, 0)


def reply(update: np.ndarray, version: int = 0) -> dict[str, np.ndarray]:
    return {"update": update, "version": np.array(version), "digest": np.full(32, version, np.uint8)}


@settings(max_examples=25)
@given(st.data())
def test_batches_change_nothing_but_the_number_of_exchanges(data: st.DataObject) -> None:
    fates = {
        (r, step, client): data.draw(st.sampled_from([None, None, None, "before", "after"]))
        for r in range(3)
        for step in STEPS
        for client in CLIENTS
    }
    aggregator, found = PlainMean(clip=10.0, min_responders=data.draw(st.integers(1, 3))), []
    for most in (512, 2):
        states = {client: with_base(ClientState(), "p", np.zeros(3, np.float32)) for client in CLIENTS}
        driver = toy_driver(states, Toy(aggregator=aggregator), lambda r, step, client: fates.get((r, step, client)))
        known: Base | None = None
        told: list[object] = []
        for number in range(3):
            for place, (client, state) in enumerate(driver.states.items(), start=1):
                driver.states[client] = state.replace(p=state["p"] + np.float32(0.3 * place))
            driver.round_ = number
            with patch.object(batches, "MOST", most):
                mean = driver.run(aggregator.mean(Cohort({c: 1 + ord(c) % 3 for c in CLIENTS}, number, 0), "p", known))
            known = mean.base or known
            told.append(mean)
        bits = {c: {slot: array.tobytes() for slot, array in own.arrays.items()} for c, own in driver.states.items()}
        found.append((told, bits))
        assert driver.costs.exchanges >= 3 * (2 if most == 512 else 4)
    assert found[0] == found[1]


def test_of_each_batch_only_the_sum_is_kept() -> None:
    """Beside the batch that came last."""
    alive: list[list[weakref.ref[np.ndarray]]] = []
    with patch.object(batches, "MOST", 2):
        program = PlainMean().mean(COHORT, "p")
        asked = next(program)
        while isinstance(asked, Ask) and asked.step == "aggregator.share":
            replies = Replies({client: reply(np.ones(2, np.uint64)) for client in asked.payloads})
            alive.append([weakref.ref(own["update"]) for own in replies.values()])
            asked = program.send(replies)
            del replies
            assert not any(one() is not None for batch in alive[:-1] for one in batch)
    assert len(alive) == 4 and not any(one() is not None for batch in alive for one in batch)
    assert isinstance(asked, Ask) and asked.step == "aggregator.receive"
    assert asked.payloads["a"]["total"].tolist() == [7, 7] and asked.payloads["a"]["weight"] == 7


def test_another_form_than_that_of_most_in_all_batches_is_refused() -> None:
    """The form that is odd has the majority in its own batch."""
    shapes = dict(zip(CLIENTS, (3, 3, 2, 2, 2, 2, 2), strict=True))
    with patch.object(batches, "MOST", 2):
        program, refused = PlainMean().mean(COHORT, "p"), []

        def refuse(client: str, error: ProtocolError) -> None:
            refused.append((client, str(error)))

        asked = next(program)
        while isinstance(asked, Ask) and asked.step == "aggregator.share":
            own = {c: reply(np.ones(shapes[c], np.uint64), version=2 if c == "d" else 0) for c in asked.payloads}
            asked = program.send(Replies(own, refuse=refuse))
    assert [client for client, _ in refused] == ["a", "b"]
    assert all("another form than most: (3,), not (2,)" in why for _, why in refused)
    assert isinstance(asked, Ask) and asked.payloads["c"]["total"].tolist() == [4, 4]
    assert sorted(asked.payloads) == [*"abcefg"]  # not d, which is late


def test_a_batch_of_which_nobody_answers_is_left_out() -> None:
    with patch.object(batches, "MOST", 4):
        program = PlainMean().mean(COHORT, "p")
        first = next(program)
        assert isinstance(first, Ask)
        program.send(Replies({}, missing=[*first.payloads]))
        last = program.send(Replies({c: reply(np.ones(2, np.uint64)) for c in "efg"}))
    assert isinstance(last, Ask) and last.payloads["a"]["total"].tolist() == [3, 3]


@pytest.mark.parametrize(("clients", "wanted"), [(512, 1), (513, 2)])
def test_up_to_512_clients_share_at_once(clients: int, wanted: int) -> None:
    cohort = Cohort({f"{i:04}": 1 for i in range(clients)}, 0, 0)
    program, asks = PlainMean().mean(cohort, "p"), 0
    asked = next(program)
    while isinstance(asked, Ask) and asked.step == "aggregator.share":
        asks += 1
        asked = program.send(Replies({c: reply(np.ones(2, np.uint64)) for c in asked.payloads}))
    assert asks == wanted and isinstance(asked, Ask) and asked.payloads["0000"]["total"].tolist() == [clients] * 2
