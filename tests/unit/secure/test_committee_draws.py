"""The randomness from which holders are drawn, and whom terms may ask of a round."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from secfpp.errors import ClientError, ProtocolError, TamperError
from secfpp.protocol.program import Ask, Replies
from secfpp.secure import committee
from secfpp.secure.session import (
    as_array,
    in_short,
    terms,
)
from support.key_agreement import REVEAL, Agreement, agreed_by, changed
from support.secure_runs import everyone, names


def test_a_small_group_of_a_large_round_shows_no_randomness() -> None:
    run = Agreement(18)
    cohort = run.keys()
    assert set(agreed_by(cohort)) == {"about", "holder_offers", "offers", "nonces"}
    assert set(agreed_by(cohort.subset(names(5)))) == {"about", "holder_offers", "offers"}


def test_randomness_is_shown_for_one_list_of_commitments() -> None:
    run = Agreement(18)
    run.keys()

    def other(message: dict[str, np.ndarray]) -> None:
        message["commitments"] = message["commitments"] ^ np.uint8(1)

    with pytest.raises(ClientError, match="second, different list of commitments"):
        run.keys(0, on_ask=everyone(REVEAL, other))


def test_randomness_is_shown_for_a_list_only() -> None:
    def drop(message: dict[str, np.ndarray]) -> None:
        del message["commitments"]

    with pytest.raises(ClientError, match="without the hash of all commitments"):
        Agreement(18).keys(on_ask=everyone(REVEAL, drop))


def test_a_client_takes_no_part_in_a_draw_from_another_list_than_it_showed_its_randomness_for() -> None:
    run = Agreement(18)

    def swap(message: dict[str, np.ndarray]) -> None:
        message["commitments"] = message["commitments"][::-1].copy()

    agreed = agreed_by(run.keys(on_ask=everyone(REVEAL, swap)))
    with pytest.raises(TamperError, match="not all that was committed to before any of it was shown"):
        run.join("c00", agreed)


def test_the_server_leaves_out_who_shows_other_randomness_than_it_committed_to() -> None:
    def on_replies(ask: Ask, replies: Replies) -> Replies:
        if ask.step != REVEAL or ask.payloads.keys() != set(names(18)):
            return replies
        changed = {**dict(replies.items()), "c07": {"nonce": replies["c07"]["nonce"] ^ np.uint8(1)}}
        return Replies(changed, refuse=lambda client, error: refused.append((client, str(error))))

    refused: list[tuple[str, str]] = []
    cohort = Agreement(18).keys(on_replies=on_replies)
    assert (cohort.draw, set(names(18)) - set(cohort.clients)) == (1, {"c07"})
    assert [client for client, _ in refused] == ["c07"] and "other randomness than it committed to" in refused[0][1]


def test_randomness_that_was_not_committed_to_is_noticed_by_all() -> None:
    run = Agreement(18)
    cohort = run.keys()
    agreed = agreed_by(cohort)
    agreed["nonces"] = agreed["nonces"].copy()
    agreed["nonces"][7] ^= 1
    nonces = {c: row.tobytes() for c, row in zip(cohort.clients, agreed["nonces"], strict=True)}
    with pytest.raises(TamperError, match="not all that was committed to"):
        run.join("c03", changed(agreed, holders=committee.draw(cohort.clients, nonces)))


def test_randomness_is_not_drawn_without_this_client() -> None:
    """A server that replaces a client's commitment and randomness by its own could choose the committee."""
    run, other = Agreement(18), Agreement(18)
    cohort, foreign = run.keys(), other.keys()
    agreed, strange = agreed_by(cohort), agreed_by(foreign)
    agreed = changed({**agreed, "nonces": strange["nonces"]}, holders=json.loads(strange["about"].item())["holders"])
    with pytest.raises(TamperError, match="'c00' is said to have shown other randomness than it did"):
        run.join("c00", agreed)


def test_nobody_else_s_randomness_is_replaced_once_all_was_shown() -> None:
    """Else a server and one client could try until the committee suits them."""
    run = Agreement(18)
    cohort = run.keys()
    nonce = as_array(bytes(16))
    forged = {"nonce": nonce, "commitment": as_array(committee.commitment("c17", bytes(16)))}
    cohort = replace(cohort, keys={**cohort.keys, "c17": {**cohort.keys["c17"], **forged}})
    with pytest.raises(TamperError, match="not all that was committed to before any of it was shown"):
        run.join("c00", agreed_by(cohort))


def test_the_committee_is_what_the_randomness_gives() -> None:
    run = Agreement(18)
    agreed = agreed_by(run.keys())
    drawn = json.loads(agreed["about"].item())["holders"]
    others = [name for name in names(18) if name != drawn[0]][:16]
    with pytest.raises(TamperError, match="holders are not those that the joint randomness gives"):
        run.join("c00", changed(agreed, holders=others))


def test_some_of_a_round_take_part_with_holders_that_are_drawn_of_all() -> None:
    run = Agreement(20)
    cohort = run.keys()
    drawn = json.loads(agreed_by(cohort)["about"].item())["holders"]
    few = [name for name in names(20) if name not in drawn][:2]
    agreed = dict(terms("aggregator", cohort, {}, asked=few[:1]))
    assert run.join(few[0], in_short(agreed)).clients == tuple(sorted([few[0], *drawn]))
    assert run.join(drawn[0], agreed).holders == tuple(drawn)
    with pytest.raises(ProtocolError, match="without"):
        run.join(few[1], agreed)


def test_of_those_who_are_gone_none_is_drawn() -> None:
    run = Agreement(20)
    cohort = run.keys()
    drawn = json.loads(agreed_by(cohort)["about"].item())["holders"]
    left = cohort.subset(set(cohort.clients) - {drawn[0]})
    told = {name: dict(terms("aggregator", left, {}, asked=[name])) for name in left.clients}
    client = next(name for name in told if name not in json.loads(told[name]["about"].item())["holders"])
    agreed = told[client]
    assert drawn[0] not in run.join(client, in_short(agreed)).holders
    with pytest.raises(TamperError, match="holders are not those that the joint randomness gives"):
        run.join(drawn[1], changed(agreed, gone=[]))


def test_the_randomness_of_whoever_is_asked_is_in_the_draw() -> None:
    run = Agreement(20)
    cohort = run.keys()
    asked = names(20)[0]
    agreed = dict(terms("aggregator", cohort, {}, asked=[asked]))
    fewer = {**agreed, "nonces": agreed["nonces"][1:]}
    with pytest.raises(TamperError, match=f"the randomness of {asked} is left out"):
        run.join(asked, changed(fewer, listed=names(20)[1:]))


@pytest.mark.parametrize("said", ["listed", "gone"])
def test_who_takes_part_is_not_left_out_of_those_from_whom_holders_are_drawn(said: str) -> None:
    """Else a server names the 16 that it likes, and all others share with these."""
    run, liked = Agreement(30), names(30)[-16:]
    cohort = run.keys()
    listed, gone = (liked, []) if said == "listed" else (names(30), names(30)[:14])
    offers = np.stack([cohort.keys[client]["offer"] for client in liked])
    agreed = {**changed(agreed_by(cohort), holders=liked, listed=listed, gone=gone), "holder_offers": offers}
    with pytest.raises(TamperError, match="'c00' takes part, and is left out of the 16 from whom holders are drawn"):
        run.join("c00", agreed)


def test_who_is_told_the_same_reads_it_once_and_who_is_told_something_else_reads_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, hashed = Agreement(18), list[int]()
    agreed = agreed_by(run.keys())
    made = committee.commitments

    def counting(nonces: Mapping[str, bytes]) -> list[bytes]:
        hashed.append(len(nonces))
        return made(nonces)

    monkeypatch.setattr(committee, "commitments", counting)
    places = [run.join(client, agreed) for client in names(17)]
    assert hashed == [18] and all(place.agreed is places[0].agreed for place in places)
    drawn = places[0].holders
    others = sorted({*names(18)} - {drawn[0]})[:16]
    with pytest.raises(TamperError, match="holders are not those that the joint randomness gives"):
        run.join("c17", changed(agreed, holders=others))
    assert hashed == [18, 18]
    assert run.join("c17", agreed).digest == places[0].digest
