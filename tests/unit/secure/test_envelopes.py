"""Sealed envelopes as messages hold them."""

from __future__ import annotations

import numpy as np
import pytest

from secfpp.errors import ProtocolError, ReplyError
from secfpp.protocol import wire
from secfpp.secure.circuits.messages import let_go
from secfpp.secure.envelopes import ENVELOPES, handed_out, others, packed, rows_of, unpacked

CLIENTS = tuple(f"c{number:05}" for number in range(3000))
HOLDERS = CLIENTS[:16]


def envelope(sender: str, recipient: str) -> np.ndarray:
    """Those of holders are longer, and no two are equal."""
    text = f"{sender} to {recipient}".encode() + bytes(8 * (sender in HOLDERS))
    return np.frombuffer(text, np.uint8)


def sealed(senders: tuple[str, ...]) -> dict[str, np.ndarray]:
    return {s: np.stack([envelope(s, recipient) for recipient in others(s, HOLDERS)]) for s in senders}


@pytest.mark.parametrize("count", [16, 17, 3000])
def test_envelopes_arrive_by_their_senders(count: int) -> None:
    senders = CLIENTS[:count]
    made = sealed(senders)
    told = handed_out(made, senders, HOLDERS)
    assert not made  # large, so it is let go piece by piece
    for holder in HOLDERS:
        arrived = unpacked(ENVELOPES, wire.decode(wire.encode(told[holder])), senders, "deal")
        assert tuple(arrived) == others(holder, senders)
        assert all(np.array_equal(found, envelope(sender, holder)) for sender, found in arrived.items())


def test_what_few_senders_have_is_packed_by_name() -> None:
    found = {"b": np.arange(5, dtype=np.uint8), "d": np.arange(3, dtype=np.uint8)}
    arrived = unpacked("coins", wire.decode(wire.encode(packed("coins", found, "abcd"))), "abcd", "proceed")
    assert {name: array.tolist() for name, array in arrived.items()} == {"b": [0, 1, 2, 3, 4], "d": [0, 1, 2]}
    assert unpacked("coins", packed("coins", {}, "abcd"), "abcd", "proceed") == {}
    assert unpacked("coins", {}, "abcd", "proceed") == {}


@pytest.mark.parametrize(
    "change",
    [
        {"coins": np.zeros(9, np.uint8)},
        {"coins": np.zeros(8, np.int8)},
        {"coins": np.zeros((8, 1), np.uint8)},
        {"sizes.coins": np.array([5, 3], np.uint32)},
        {"sizes.coins": np.array([0, 5, 0, 3])},
        {"sizes.coins": np.array([0, 5, 0, 2**32 - 5], np.uint32)},
        {"sizes.coins": None},
        {"coins": None},
    ],
)
def test_what_is_packed_otherwise_is_refused(change: dict[str, np.ndarray | None]) -> None:
    good = packed("coins", {"b": np.zeros(5, np.uint8), "d": np.zeros(3, np.uint8)}, "abcd")
    message = {name: array for name, array in {**good, **change}.items() if array is not None}
    with pytest.raises(ProtocolError, match="step 'proceed': coins that do not come as 4 senders sealed them"):
        unpacked("coins", message, "abcd", "proceed")


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"envelopes": np.zeros((2, 40), np.uint8)},
        {"envelopes": np.zeros((3, 40), np.int8)},
        {"envelopes": np.zeros(120, np.uint8)},
        {"envelopes": np.zeros((3, 16), np.uint8)},  # sealed, and empty
    ],
)
def test_rows_that_are_no_envelopes_are_refused(reply: dict[str, np.ndarray]) -> None:
    assert rows_of("a", {"envelopes": np.zeros((3, 17), np.uint8)}, "envelopes", 3).shape == (3, 17)
    with pytest.raises(ReplyError, match=r"client 'a' sent .* as its envelopes, not 3 envelopes"):
        rows_of("a", reply, "envelopes", 3)


def test_envelopes_are_let_go_of_a_message() -> None:
    message = {"attempt": np.array(1), **handed_out(sealed(HOLDERS), HOLDERS, HOLDERS)["c00003"]}
    let_go(message)
    assert sorted(message) == ["attempt", "sizes.envelopes"]
