"""What clients of the secure mean refuse: weaker terms, other keys, malformed messages."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
import pytest

from secfpp.algorithms.secfpp import SecFPP
from secfpp.crypto.roster import IdentityKey
from secfpp.crypto.sharing import LagrangeCode
from secfpp.errors import ClientError, ConfigError, ProtocolError, TamperError
from secfpp.protocol.program import Ask, Replies
from secfpp.secure.clustering.secure_agreement import SecureAgreement
from secfpp.secure.means.client import code_for
from secfpp.secure.means.relay import Inclusion
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.secure.means.updates import Base
from secfpp.secure.session import PROTOCOL_VERSION
from support.secure_runs import SecureRun, answering, between, changing, everyone, names, refused
from support.toy import dropping

SHARE, PROVE, CHECK, AGREE, SUM, RECEIVE, CATCH_UP = (
    f"aggregator.{name}" for name in ("share", "prove", "check", "agree", "sum", "receive", "catch_up")
)
HELLO = "session.hello"
Message = dict[str, np.ndarray]
BASE = Base(1, "")


def test_a_mean_of_too_few_is_refused_by_holders_and_by_members() -> None:
    def shrink(message: Message) -> None:
        message["inclusion"] = Inclusion.write(names(3), BASE, names(6))

    for step in (AGREE, RECEIVE):
        with pytest.raises(ClientError, match="a mean of 3 updates, this client insists on 4"):
            SecureRun(6).round(0, everyone(step, shrink))


def test_members_refuse_the_sum_of_other_updates_than_holders_agreed_on() -> None:
    def other(message: Message, clients: int = 20) -> None:
        base = Inclusion.read(message["inclusion"], clients, 1, RECEIVE).base
        message["inclusion"] = Inclusion.write(names(clients)[1:], base, names(clients))

    refused(SecureRun(6), "of other updates than was agreed", everyone(RECEIVE, lambda message: other(message, 6)))
    run = SecureRun(20)  # those who are no holders find that nothing opens

    def mislead(ask: Ask) -> Ask:
        if ask.step == AGREE:
            run_holders.update(ask.payloads)
        if ask.step != RECEIVE:
            return ask
        victim = min(set(ask.payloads) - run_holders)
        return changing(RECEIVE, victim, lambda message: other(message))(ask)

    run_holders: set[str] = set()
    refused(run, "0 good sums, 10 are needed", mislead)


@pytest.mark.parametrize(
    ("server", "clients", "match"),
    [
        (SecureMean(), SecureMean(min_responders=6), "5 clients, this client insists on 6 or more"),
        (SecureMean(), SecureMean(min_responders=5), "min_responders = 4, this client insists on 5"),
        (SecureMean(threshold=1, min_responders=3), SecureMean(min_responders=4), "threshold = 1.*insists on 2"),
        (SecureMean(clip=5.0, bits=20), SecureMean(), "clip = 5.0, this client has 2.5"),
        (SecureMean(bits=20), SecureMean(), "bits = 20, this client has 24"),
    ],
)
def test_terms_that_protect_less_are_refused(server: SecureMean, clients: SecureMean, match: str) -> None:
    run = SecureRun(5, clients)
    run.train()
    with pytest.raises(ClientError, match=f"step 'aggregator.share'.*does not accept.*{match}"):
        run.driver.run(server.mean(run.cohort(), "p"))


def test_terms_that_protect_more_are_accepted() -> None:
    run = SecureRun(6, SecureMean())
    run.train()
    assert len(run.driver.run(SecureMean(threshold=3, min_responders=6).mean(run.cohort(), "p")).members) == 6


def about(**facts: Any) -> Callable[[Message], None]:
    def change(message: Message) -> None:
        told = {**json.loads(message["about"].item()), **facts}
        message["about"] = np.array(json.dumps({k: v for k, v in told.items() if v is not None}, sort_keys=True))

    return change


@pytest.mark.parametrize(
    ("facts", "match"),
    [
        ({"size": 100}, "size = 100, this client has 16"),
        ({"size": 4}, "nonces of 5 clients are missing"),
        ({"size": 0}, "terms of another protocol run"),
        ({"holders": ["c00", "c01", "c02"]}, "not those that the joint randomness gives"),
        ({"weights": [1]}, "weights that are not those of the clients"),
        ({"weights": {"c00": 1}}, "weights that are not those of the clients"),
        ({"weights": 5 * [0]}, "weights that are not integers from 1"),
        ({"weights": 5 * [True]}, "weights that are not integers from 1"),
        ({"weights": 5 * [10**12]}, "total weight 5000000000000"),
        ({"weights": None}, "weights that are not those of the clients"),
        ({"threshold": "2"}, "threshold = '2'"),
        ({"task": "base"}, "terms of the task 'base' where 'mean' is asked for"),
        ({"version": PROTOCOL_VERSION + 1}, "install the same release"),
        ({"clients": ["c01", "c00"]}, "not sorted"),
        ({"clients": names(5)[1:]}, "one without 'c00'"),
        ({"component": "clusterer"}, "terms of another protocol run"),
        ({"session": "round-9"}, "no keys of session 'round-9'"),
        ({"attempt": None}, "terms that cannot be read"),
        ({"attempt": "1"}, "terms that cannot be read"),
    ],
)
def test_terms_of_no_honest_server_are_refused(facts: Mapping[str, Any], match: str) -> None:
    with pytest.raises(ClientError, match=match):
        SecureRun(5).round(0, everyone(SHARE, about(**facts)))


def test_clients_with_different_terms_do_not_understand_each_other() -> None:
    run = SecureRun(6)
    heavier = about(weights=list({**run.weights, "c03": 5}.values()))
    refused(run, "not authentic", changing(SHARE, "c03", heavier))


def test_a_session_key_of_the_servers_own_is_refused() -> None:
    def replace_key(message: Message) -> None:
        offers = message["offers"].copy()
        offers[3] = offers[2]
        message |= {"offers": offers, "holder_offers": offers}
        about(offers=sha256(offers.tobytes()).hexdigest())(message)

    found = refused(SecureRun(6), "the session key is not signed", everyone(SHARE, replace_key))
    assert found.party == "c03"


def test_a_client_with_another_roster_version_is_named() -> None:
    run = SecureRun(6)
    party = run.parties["c03"]
    party.roster = replace(party.roster, version=party.roster.version + 1)
    with pytest.raises(ClientError, match=r"compare: secfpp keys roster show") as caught:
        run.round()
    assert isinstance(caught.value.__cause__, TamperError)


def test_a_client_with_a_new_key_is_told_to_get_the_roster_changed() -> None:
    run = SecureRun(6)
    run.parties["c03"].identity = IdentityKey.generate()
    with pytest.raises(ClientError, match=r"client 'c03'.*lists another key for 'c03'.*secfpp keys roster"):
        run.round()


def test_another_protocol_version_is_refused_in_words() -> None:
    def old(message: Message) -> None:
        message["version"] = np.array(PROTOCOL_VERSION - 1)

    match = f"server speaks version {PROTOCOL_VERSION - 1}.*this client {PROTOCOL_VERSION}.*the same release"
    with pytest.raises(ClientError, match=match):
        SecureRun(6).round(0, everyone(HELLO, old))


@pytest.mark.parametrize("step", [PROVE, CHECK, AGREE, SUM, RECEIVE])
def test_a_client_that_lost_its_memory_says_so(step: str) -> None:
    run = SecureRun(6)

    def restart(ask: Ask) -> Ask:
        if ask.step == step:
            run.parties["c01"].session = None
        return ask

    with pytest.raises(ClientError, match=r"client 'c01'.*takes no part in attempt \d+; run the round again"):
        run.round(0, restart)


def test_a_late_client_in_the_mean_is_noticed() -> None:
    run = SecureRun(6, dropouts=dropping((0, RECEIVE, "c03", "before")))
    run.round(0)

    def equal_versions(ask: Ask, replies: Replies) -> Replies:
        if ask.step != SHARE:
            return replies
        same = {key: replies["c00"][key] for key in ("version", "digest")}
        return Replies({c: {**r, **same} for c, r in replies.items()})

    run.train()
    run.driver.round_ = 1
    with pytest.raises(ClientError, match="'c03' is said to be in the mean, but has another base"):
        run.driver.run(between(run.aggregator.mean(run.cohort(1), "p"), None, equal_versions))


def test_a_base_for_late_clients_is_sealed_by_its_sponsor() -> None:
    def other_sponsor(message: Message) -> None:
        message["sponsor"] = np.array("c01")

    def change(message: Message) -> None:
        message["envelope"] = message["envelope"] ^ np.uint8(1)

    def another(message: Message) -> None:
        message["body"] = message["body"] ^ np.uint8(1)

    def nobody(message: Message) -> None:
        del message["envelope"]

    forged = (other_sponsor, "not authentic"), (change, "not authentic"), (another, "a body that is not authentic")

    def several(message: Message) -> None:
        message["sponsor"] = np.zeros(2, np.int64)

    for forge, match in (*forged, (nobody, "without a base"), (several, "without the text 'sponsor'")):
        run = SecureRun(6, dropouts=dropping((0, RECEIVE, "c03", "before")))
        run.round(0)
        with pytest.raises(ClientError, match=match):
            run.round(1, everyone(CATCH_UP, forge))
        assert run.version("c03") == 1


def dropped(*keys: str) -> Callable[[Message], Message]:
    return lambda message: {key: array for key, array in message.items() if key not in keys}


def cut(key: str, rows: slice, columns: slice = slice(None)) -> Callable[[Message], Message]:
    return lambda message: {**message, key: message[key][rows, columns].copy()}


@pytest.mark.parametrize(
    ("step", "change", "match"),
    [
        (SHARE, dropped("version"), "without a version"),
        (SHARE, dropped("envelopes"), "sent nothing as its envelopes, not 5"),
        (SHARE, cut("envelopes", slice(1, None)), r"uint8 \(4, \d+\) as its envelopes"),
        (SHARE, cut("envelopes", slice(None), slice(1, None)), "of another form than most"),
        (SHARE, lambda m: {**m, "envelopes": m["envelopes"].astype(np.int64)}, r"int64 \(5, \d+\)"),
        (AGREE, dropped("echoes"), "sent nothing as its echoes"),
        (SUM, cut("envelopes", slice(1)), r"uint8 \(1, \d+\) as its envelopes"),
    ],
)
def test_replies_of_no_honest_client_are_refused_by_name(
    step: str, change: Callable[[Message], Message], match: str
) -> None:
    with pytest.raises(ProtocolError, match=f"client 'c02'.*{match}"):
        SecureRun(6).round(0, None, answering(step, "c02", change))


@pytest.mark.parametrize(
    ("step", "change", "match"),
    [
        (AGREE, dropped("attempt"), "without the number of its attempt"),
        (AGREE, dropped("inclusion"), "cannot be read"),
        (AGREE, lambda m: {**m, "inclusion": Inclusion.write(names(9), BASE, names(9))}, "not clients of this run"),
        (AGREE, lambda m: {**m, "inclusion": Inclusion.write(names(8), BASE, names(8))}, "not clients of this run"),
        (AGREE, lambda m: {**m, "inclusion": np.array('{"included": "xx", "version": 1}')}, "cannot be read"),
        (CHECK, dropped("envelopes"), "5 envelopes are announced"),
        (CHECK, dropped("proofs"), "5 envelopes are announced"),
        (CHECK, dropped("clients"), "a list of clients that cannot be read"),
        (CHECK, dropped("check"), "draws something else for 'check' than it committed to"),
        (PROVE, dropped("project"), "draws something else for 'project' than it committed to"),
        (SUM, dropped("holders"), "a list of holders that cannot be read"),
        (SUM, lambda m: {**m, "holders": np.array('["zz"]')}, "not clients of this run"),
        (SUM, lambda m: {**m, "echoes": m["echoes"][:1]}, "5 envelopes are announced"),
        (SUM, lambda m: {**m, "echoes": m["echoes"][::-1].copy()}, "2 holders confirm"),
        (
            RECEIVE,
            lambda m: {**m, "holders": np.array("[]"), "bodies": m["bodies"][:0], "envelopes": m["envelopes"][:0]},
            "1 good sums, 5 are",
        ),
        (RECEIVE, lambda m: {**m, "bodies": m["bodies"][:5]}, "6 envelopes are announced"),
    ],
)
def test_messages_of_no_honest_server_are_refused(step: str, change: Callable[[Message], Message], match: str) -> None:
    with pytest.raises(ClientError, match=match):
        SecureRun(6).round(0, changing(step, "c02", change))


def test_the_code_is_the_one_that_a_quorum_decodes() -> None:
    assert code_for(16, 2) == LagrangeCode(16, 2, 8)
    assert [code_for(c, 2).required() for c in (4, 5, 6, 7, 16)] == [4, 4, 5, 5, 10]


def test_more_updates_are_asked_for_than_there_are_clients() -> None:
    SecureMean(min_responders=8).require(8)
    with pytest.raises(ConfigError, match=r"aggregator.min_responders = 9: at most the 8 clients of a round"):
        SecureMean(min_responders=9).require(8)


def test_groups_are_never_too_small_for_an_average() -> None:
    with pytest.raises(ConfigError, match=r"min_responders = 5: at most clusterer.min_cluster_size = 4"):
        SecFPP(aggregator=SecureMean(min_responders=5))
    SecFPP(aggregator=SecureMean(min_responders=5), clusterer=SecureAgreement(min_cluster_size=5))
