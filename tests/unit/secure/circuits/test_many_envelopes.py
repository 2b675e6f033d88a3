"""What was dealt by more clients than a message has room for in arrays of their own."""

from __future__ import annotations

import json

import numpy as np
import pytest

from secfpp.errors import ProtocolError
from secfpp.protocol import wire
from secfpp.secure.circuits import messages
from secfpp.secure.circuits.messages import enveloped, envelopes_in, let_go

DEALT = {f"c{number:05}": np.full(40 + 8 * (number < 16), number % 256, np.uint8) for number in range(3000)}


@pytest.mark.parametrize("count", [16, messages.APART, messages.APART + 1, 3000])
def test_envelopes_arrive_by_their_senders(count: int) -> None:
    sent = dict(list(DEALT.items())[:count])
    arrived = envelopes_in(wire.decode(wire.encode({"attempt": np.array(1), **enveloped(sent, None)})))
    assert arrived.keys() == sent.keys()
    assert all(np.array_equal(arrived[client], envelope) for client, envelope in sent.items())


def test_few_arrays_hold_many_envelopes() -> None:
    message = {"attempt": np.array(1), **enveloped(DEALT, np.zeros((3000, 16, 32), np.uint8))}
    assert len(message) == 2 + 2 + 16  # those of holders, who deal more, stay apart
    let_go(message)
    assert sorted(message) == ["attempt", "digests"]


@pytest.mark.parametrize(
    "change",
    [
        {"senders": np.array("[]")},
        {"senders": np.array(json.dumps(sorted(DEALT)))},  # more than there are rows, and some twice
        {"senders": np.array("no list")},
        {"envelopes": np.zeros(5, np.uint8)},
    ],
)
def test_envelopes_without_their_senders_are_refused(change: dict[str, np.ndarray]) -> None:
    with pytest.raises(ProtocolError, match=r"senders|list of clients"):
        envelopes_in({**enveloped(DEALT, None), **change})


def test_a_message_that_names_no_senders_is_refused() -> None:
    message = enveloped(DEALT, None)
    del message["senders"]
    with pytest.raises(ProtocolError, match="list of clients"):
        envelopes_in(message)
