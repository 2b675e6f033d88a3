from __future__ import annotations

from hashlib import sha256

import pytest

from secfpp.protocol.transcript import SERVER, Total, Transcript


def filled(keep: object = False) -> Transcript:
    transcript = Transcript(keep)  # type: ignore[arg-type]
    common = {"exchange": 0, "round_": 2, "label": ""}
    transcript.record(b"ask", step="method.train", client="a", direction="down", **common)  # type: ignore[arg-type]
    transcript.record(b"ask!", step="method.train", client="b", direction="down", delivered=False, **common)  # type: ignore[arg-type]
    transcript.record(b"reply", step="method.train", client="a", direction="up", delivered=False, **common)  # type: ignore[arg-type]
    transcript.record(b"sum", step="aggregator.share", client="a", direction="up", **common)  # type: ignore[arg-type]
    return transcript


def test_sizes_and_hashes_are_always_there() -> None:
    messages = list(filled())
    assert [message.size for message in messages] == [3, 4, 5, 3]
    assert messages[0].sha256 == sha256(b"ask").hexdigest()
    assert [message.component for message in messages] == ["method"] * 3 + ["aggregator"]
    assert (messages[0].exchange, messages[0].round, messages[0].direction) == (0, 2, "down")


@pytest.mark.parametrize(
    ("keep", "contents"),
    [
        (False, [None] * 4),
        (True, [b"ask", b"ask!", b"reply", b"sum"]),
        (lambda step: step.startswith("aggregator"), [None, None, None, b"sum"]),
    ],
)
def test_contents_are_kept_on_demand(keep: object, contents: list[bytes | None]) -> None:
    assert [message.content for message in filled(keep)] == contents


def test_a_party_sees_what_it_sent_and_what_arrived() -> None:
    transcript = filled()
    asked_a, asked_b, reply_a, sum_a = transcript
    assert transcript.seen_by(SERVER) == (asked_a, asked_b, sum_a)
    assert transcript.seen_by("a") == (asked_a, reply_a, sum_a)
    assert transcript.seen_by("b") == ()
    assert len(transcript) == 4


def test_totals_group_by_any_key() -> None:
    totals = filled().totals(lambda message: (message.component, message.direction))
    assert totals == {
        ("method", "down"): Total(2, 7),
        ("method", "up"): Total(1, 5),
        ("aggregator", "up"): Total(1, 3),
    }


def test_the_digest_notices_any_difference() -> None:
    digest = filled().digest()
    assert filled(keep=True).digest() == digest
    more = filled()
    more.record(b"", exchange=1, round_=2, step="s.t", label="x", client="a", direction="up")
    assert more.digest() != digest
    kinds = [Transcript(), Transcript(), Transcript()]
    kinds[0].record(b"x", exchange=0, round_=0, step="s.t", label="", client="a", direction="up")
    kinds[1].record(b"x", exchange=0, round_=0, step="s.t", label="", client="a", direction="up", delivered=False)
    kinds[2].record(b"y", exchange=0, round_=0, step="s.t", label="", client="a", direction="up")
    assert len({transcript.digest() for transcript in kinds}) == 3
