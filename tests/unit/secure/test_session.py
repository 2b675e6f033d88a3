from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import numpy as np
import pytest

from secfpp.crypto.roster import IdentityKey, Roster
from secfpp.errors import ClientError, ConfigError, ProtocolError, TamperError
from secfpp.protocol import wire
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import Arrays, Ask, Replies
from secfpp.secure.session import (
    PROTOCOL_VERSION,
    Party,
    forget,
    greet,
    greeted,
    in_short,
    join,
    keep,
    kept,
    once,
    party_of,
    takes_part,
    terms,
    with_keys,
)
from support.key_agreement import HELLO, REVEAL, Agreement, agreed_by, changed, cohort_of
from support.secure_runs import names
from support.toy import Context, dropping


def test_everybody_can_talk_to_everybody_under_equal_terms() -> None:
    run = Agreement(4)
    agreed = agreed_by(run.keys(), extra=[1, 2])
    joined = {client: run.join(client, agreed) for client in run.parties}
    assert {place.digest for place in joined.values()} == {joined["c00"].digest}
    assert joined["c00"].about["extra"] == [1, 2]
    assert joined["c00"].clients == joined["c00"].holders == tuple(names(4))
    label = joined["c00"].label("greet", b"so far")
    assert label == joined["c01"].label("greet", b"so far") != joined["c01"].label("greet")
    envelope = joined["c00"].channel.seal("c01", label, b"hello")
    assert joined["c01"].channel.open("c00", label, envelope) == b"hello"


def test_who_holds_nothing_needs_the_keys_of_holders_only() -> None:
    run = Agreement(40)
    agreed = agreed_by(run.keys())
    short = in_short(agreed)
    assert len(wire.encode(short)) < len(wire.encode(agreed)) - 40 * 96
    holders = json.loads(agreed["about"].item())["holders"]
    plain = [client for client in run.parties if client not in holders]
    joined = {client: run.join(client, agreed if client in holders else short) for client in run.parties}
    assert len({place.digest for place in joined.values()}) == 1
    assert set(joined[plain[0]].channel.peers) == set(holders)
    assert len(joined[holders[0]].channel.peers) == 39
    label = joined[plain[0]].label("greet")
    envelope = joined[plain[0]].channel.seal(holders[0], label, b"hello")
    assert joined[holders[0]].channel.open(plain[0], label, envelope) == b"hello"
    again = agreed_by(run.keys())
    with pytest.raises(ProtocolError, match="offers of 40 clients are missing"):
        run.join(holders[0], in_short(again))
    with pytest.raises(ProtocolError, match="holder_offers of 16 clients are missing"):
        run.join(plain[0], {name: array for name, array in again.items() if name != "holder_offers"})


def test_holders_are_not_shown_other_keys_than_everybody() -> None:
    """Those who hold nothing have the hash of all keys, and of holders the keys; labels hold both."""
    run, other = Agreement(18), Agreement(18)
    agreed, strange = agreed_by(run.keys()), agreed_by(other.keys())
    holders = json.loads(agreed["about"].item())["holders"]
    holder, plain = holders[0], min(set(names(18)) - set(holders))
    for change in ({"offers": strange["offers"]}, {"holder_offers": strange["holder_offers"]}):
        with pytest.raises(TamperError, match="the keys are not those that everybody was told of"):
            run.join(holder, {**agreed, **change})
    with pytest.raises(TamperError, match="the session key is not signed, for this session"):
        run.join(plain, in_short({**agreed, "holder_offers": strange["holder_offers"]}))


def test_holders_are_named_by_the_server_only_where_that_is_agreed() -> None:
    run = Agreement(5)
    cohort = run.keys()

    def named() -> Arrays:
        return terms("aggregator", cohort, {}, holders=["c03"])

    with pytest.raises(ProtocolError, match="terms of another protocol run"):
        run.join("c00", named())
    place = join(run.contexts["c00"], "aggregator", in_short(named()), named=True)
    assert place.holders == place.channel.peers == ("c03",)
    with pytest.raises(ProtocolError, match="holders that take no part"):
        join(run.contexts["c00"], "aggregator", changed(named(), holders=["zz"]), named=True)


def test_terms_may_travel_in_a_larger_message() -> None:
    run = Agreement(3)
    agreed = agreed_by(run.keys())
    assert run.join("c00", {**agreed, "more": np.zeros(3)}).digest == run.join("c01", agreed).digest


def test_hundreds_of_clients_fit_a_message() -> None:
    run = Agreement(400, force_wire=False, transcript=None)
    agreed = agreed_by(run.keys())
    assert len(wire.encode(agreed)) < 100_000
    assert len(run.join("c123", agreed).holders) == 16


def test_one_exchange_of_small_groups_and_two_of_large_ones() -> None:
    for count, exchanges in ((16, 1), (17, 2)):
        run = Agreement(count)
        cohort = run.keys()
        assert run.driver.costs.exchanges == exchanges
        again = run.driver.run(with_keys(cohort))
        assert again.keys == cohort.keys
        assert run.driver.costs.exchanges == exchanges


def test_a_session_has_one_key_and_the_next_another() -> None:
    run = Agreement(3)
    first, repeated, later = run.keys(0), run.keys(0), run.keys(1)
    for client in first.clients:
        for part in ("offer", "commitment"):
            assert np.array_equal(first.keys[client][part], repeated.keys[client][part])
            assert not np.array_equal(first.keys[client][part], later.keys[client][part])


def test_the_greeting_may_be_sent_by_the_round() -> None:
    run, cohort = Agreement(4, dropouts=dropping((0, HELLO, "c02", "before"))), cohort_of(4)

    def program() -> Any:
        return greeted(cohort, (yield greet(cohort)))

    found = run.driver.run(program())
    assert found.clients == ("c00", "c01", "c03")
    assert run.driver.run(with_keys(found)).clients == found.clients
    assert run.driver.costs.exchanges == 1


@pytest.mark.parametrize("fate", ["before", "after"])
@pytest.mark.parametrize("step", [HELLO, REVEAL])
def test_whoever_does_not_answer_is_left_out(step: str, fate: Any) -> None:
    run = Agreement(19, dropouts=dropping((0, step, "c04", fate)))
    cohort = run.keys()
    assert cohort.clients == tuple(client for client in names(19) if client != "c04")
    agreed = agreed_by(cohort)
    holders = json.loads(agreed["about"].item())["holders"]
    assert len(holders) == 16
    assert all(run.join(client, agreed).holders == tuple(holders) for client in cohort.clients)


def test_a_run_is_joined_once() -> None:
    run = Agreement(3)
    agreed = agreed_by(run.keys())
    run.join("c00", agreed)
    with pytest.raises(TamperError, match="joined before is offered again"):
        run.join("c00", agreed)
    run.join("c00", agreed_by(run.keys()))  # another attempt


def test_a_second_key_of_a_peer_is_refused_even_if_signed() -> None:
    run = Agreement(3)
    run.join("c00", agreed_by(run.keys()))
    run.parties["c01"].session = None
    with pytest.raises(TamperError, match="second session key for the same round") as caught:
        run.join("c00", agreed_by(run.keys()))
    assert caught.value.party == "c01"


@pytest.mark.parametrize(
    ("facts", "match"),
    [
        ({"version": 99}, f"version 99 of the secure protocol, this client {PROTOCOL_VERSION}: install the same"),
        ({"component": "clusterer"}, "another protocol run"),
        ({"clients": ["c01", "c02"]}, "without 'c00'"),
        ({"clients": ["c00", "c00", "c01"]}, "names one twice"),
        ({"clients": 3}, "cannot be read"),
        ({"clients": []}, "not sorted"),
        ({"clients": names(2)}, "holders are not those"),
        ({"session": "round-1"}, "no keys of session 'round-1': run the round again"),
        ({"session": 1}, "terms that cannot be read"),
        ({"size": "16"}, "terms that cannot be read"),
        ({"size": 2}, "nonces of 3 clients are missing"),
        ({"size": 0}, "terms of another protocol run"),
        ({"size": -1}, "terms of another protocol run"),
        ({"offers": "00"}, "the keys are not those that everybody was told of"),
        ({"holders": ["c00", "c01"]}, "holders are not those"),
    ],
)
def test_terms_of_no_honest_server_are_refused(facts: dict[str, Any], match: str) -> None:
    run = Agreement(3)
    with pytest.raises(ProtocolError, match=match):
        run.join("c00", changed(agreed_by(run.keys()), **facts))


def test_terms_that_are_none_are_refused() -> None:
    run = Agreement(3)
    run.keys()
    for message in ({}, {"about": np.array("[]")}, {"about": np.array("{")}, {"about": np.zeros(3)}):
        with pytest.raises(ProtocolError, match="terms that cannot be read"):
            run.join("c00", message)


@pytest.mark.parametrize(
    ("reply", "match"),
    [
        ({}, "sent no offer of 96 bytes"),
        ({"offer": np.zeros(95, np.uint8)}, "sent no offer of 96 bytes"),
        ({"offer": np.zeros(96, np.int64)}, "sent no offer of 96 bytes"),
    ],
)
def test_keys_of_no_honest_client_are_refused_by_name(reply: Arrays, match: str) -> None:
    def on_replies(ask: Ask, replies: Replies) -> Replies:
        return Replies({**dict(replies.items()), "c01": reply})

    with pytest.raises(ProtocolError, match=f"client 'c01' {match}; leave it out"):
        agreed_by(Agreement(3).keys(on_replies=on_replies))


def test_a_reveal_without_randomness_is_refused_by_name() -> None:
    def on_replies(ask: Ask, replies: Replies) -> Replies:
        return Replies({**dict(replies.items()), "c01": {}}) if ask.step == REVEAL else replies

    with pytest.raises(ProtocolError, match="client 'c01' sent no nonce of 16 bytes; leave it out"):
        agreed_by(Agreement(18).keys(on_replies=on_replies))


def test_offers_are_good_for_their_round_and_roster_only() -> None:
    run = Agreement(3)
    old = run.keys(0)
    present = run.keys(1)
    replayed = Cohort(present.weights, 1, 0, keys={**present.keys, "c02": old.keys["c02"]})
    with pytest.raises(TamperError, match="not signed, for this session") as caught:
        run.join("c00", agreed_by(replayed))
    assert caught.value.party == "c02"


def own_offer(run: Agreement, agreed: Arrays) -> np.ndarray:
    """The offers, with one of c00 that is good for its roster."""
    party = run.parties["c00"]
    assert party.session is not None
    offer = party.session.key.offer(party.identity, party.roster, "c00", b"round-0")
    return np.stack([np.frombuffer(offer, np.uint8), *agreed["offers"][1:]])


def told(agreed: Mapping[str, np.ndarray], offers: np.ndarray) -> dict[str, np.ndarray]:
    """Terms of which all are holders, with these offers."""
    told = {**agreed, "offers": offers, "holder_offers": offers}
    return changed(told, offers=sha256(offers.tobytes()).hexdigest())


def test_strangers_are_refused() -> None:
    run = Agreement(3)
    agreed = agreed_by(run.keys())
    party = run.parties["c00"]
    party.roster = Roster(party.roster.run, 2, {"c00": party.identity.public})
    with pytest.raises(TamperError, match=r"roster version 2 .* has no such client") as caught:
        run.join("c00", told(agreed, own_offer(run, agreed)))
    assert caught.value.party == "c01"


def test_what_a_run_keeps_is_dropped_with_it_or_with_the_session() -> None:
    run = Agreement(3)
    joined = run.join("c00", agreed_by(run.keys()))
    context = run.contexts["c00"]
    assert not takes_part(context, joined.attempt)
    keep(joined, "something")
    assert kept(context, joined.attempt, str, "x") == "something"
    with pytest.raises(ProtocolError, match="takes no part"):
        kept(context, joined.attempt, int, "x")
    forget(context, joined.attempt)
    forget(context, joined.attempt)
    with pytest.raises(ProtocolError, match=f"step 'x': this client takes no part in attempt {joined.attempt}"):
        kept(context, joined.attempt, str, "x")
    keep(joined, "something")
    run.keys(1)
    assert not takes_part(context, joined.attempt)


def elsewhere(run: Agreement) -> Any:
    """A server that draws a second time."""
    facts = {"round": 0, "draw": 1, "version": PROTOCOL_VERSION}
    payload = {name: np.array(value) for name, value in facts.items()}
    yield Ask(HELLO, dict.fromkeys(run.parties, payload))


def test_a_session_serves_its_own_round_only() -> None:
    run = Agreement(3)
    with pytest.raises(ProtocolError, match="terms of another protocol run"):
        run.join("c00", changed(agreed_by(run.keys()), round=5))


def test_facts_nested_too_deeply_are_refused() -> None:
    run = Agreement(3)
    agreed = {**agreed_by(run.keys()), "about": np.array("[" * 20_000 + "]" * 20_000)}
    with pytest.raises(ProtocolError, match="terms that cannot be read"):
        run.join("c00", agreed)


def test_some_things_happen_once_in_a_round() -> None:
    run = Agreement(3)
    once(run.join("c00", agreed_by(run.keys())), "deed")
    again = run.join("c00", agreed_by(run.keys()))
    once(again, "another deed")
    once(run.join("c01", agreed_by(run.keys())), "deed")
    with pytest.raises(TamperError, match=r"'aggregator.deed'.*second time in one round"):
        once(again, "deed")
    run.driver.run(elsewhere(run))
    with pytest.raises(TamperError, match="second time in one round"):
        once(again, "deed")
    run.keys(1)
    once(run.join("c00", agreed_by(run.keys(1))), "deed")


def test_a_context_without_keys_is_refused() -> None:
    for context in (object(), Context("a", [])):
        with pytest.raises(ProtocolError, match="context with a Party"):
            party_of(context)
    with pytest.raises(ProtocolError, match="has no keys of session 'round-0'"):
        join(Agreement(3).contexts["c00"], "aggregator", agreed_by(Agreement(3).keys()))


def test_identities_are_checked_against_the_roster_before_anything_is_sent() -> None:
    run = Agreement(3)
    key = IdentityKey.generate()
    run.parties["c01"].roster = Roster("other", 1, {"c00": key.public})
    with pytest.raises(ClientError, match="lists no client 'c01'") as caught:
        run.keys()
    assert isinstance(caught.value.__cause__, ConfigError)


def test_secret_randomness_comes_from_the_partys_source() -> None:
    class Counted:
        asked = 0

        def random_bytes(self, count: int) -> bytes:
            self.asked += count
            return bytes(count)

    run, source = Agreement(2), Counted()
    old = run.parties["c00"]
    party = Party("c00", old.identity, old.roster, source)
    run.driver.contexts["c00"] = Context("c00", [], party)
    run.keys()
    assert source.asked == 16
