"""What servers and clients that break the rules achieve against the secure mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from secfpp.crypto.field import PrimeField
from secfpp.crypto.randomness import Stream
from secfpp.crypto.roster import IdentityKey
from secfpp.crypto.sharing import LagrangeCode, alpha, beta, interpolation
from secfpp.errors import ClientError, ProtocolError, TamperError
from secfpp.protocol.program import Ask, Program, Replies
from secfpp.secure.aggregation import PlainMean
from secfpp.secure.mean_relay import Inclusion, others
from secfpp.secure.mean_run import code_for
from secfpp.secure.secure_mean import SecureMean
from secfpp.secure.session import PROTOCOL_VERSION
from secfpp.seeding import SystemEntropy
from support.secure_runs import OnAsk, SecureRun, answering, between, changing, everyone, names
from support.toy import dropping

SHARE, AGREE, SUM, RECEIVE, CATCH_UP = (
    f"aggregator.{name}" for name in ("share", "agree", "sum", "receive", "catch_up")
)
HELLO = "session.hello"
Message = dict[str, np.ndarray]


def refused(run: SecureRun, match: str, on_ask: OnAsk, number: int = 0) -> TamperError:
    """The tampering that a client noticed."""
    with pytest.raises(ClientError, match=match) as caught:
        run.round(number, on_ask)
    assert isinstance(caught.value.__cause__, TamperError)
    return caught.value.__cause__


def without(ask: Ask, holder: str, members: list[str], gone: str) -> Message:
    """The message to a holder that leaves one client out of the mean."""
    message = dict(ask.payloads[holder])
    version = json.loads(message["inclusion"].item())["version"]
    message["inclusion"] = Inclusion.write([m for m in members if m != gone], version)
    message["envelopes"] = np.delete(message["envelopes"], others(holder, members).index(gone), axis=0)
    return message


def splitting(clients: list[str], told_otherwise: list[str], gone: str) -> OnAsk:
    """A server that tells some holders of a mean without `gone`."""

    def on_ask(ask: Ask) -> Ask:
        if ask.step != AGREE:
            return ask
        return Ask(
            AGREE, {**ask.payloads, **{h: without(ask, h, clients, gone) for h in told_otherwise if h in ask.payloads}}
        )

    return on_ask


@pytest.mark.parametrize(("clients", "told_otherwise"), [(6, 3), (16, 8), (16, 7), (18, 8)])
def test_no_holder_gives_out_a_sum_if_halves_are_told_of_different_updates(clients: int, told_otherwise: int) -> None:
    run = SecureRun(clients, transcript=None)
    given: list[str] = []

    def on_ask(ask: Ask) -> Ask:
        return splitting(run.clients, sorted(ask.payloads)[:told_otherwise], run.clients[-1])(ask)

    def on_replies(ask: Ask, replies: Replies) -> Replies:
        given.extend(replies if ask.step == SUM else ())
        return replies

    with pytest.raises(ClientError, match=r"step 'aggregator.sum'.*holders confirm.*told others something else"):
        run.round(0, on_ask, on_replies)
    assert given == []


def test_the_few_who_are_told_otherwise_notice_at_the_latest_when_they_get_the_mean() -> None:
    run = SecureRun(16, transcript=None)
    few = names(3)

    def forget_the_few(ask: Ask, replies: Replies) -> Replies:
        return Replies({c: r for c, r in replies.items() if c not in few}) if ask.step == AGREE else replies

    with pytest.raises(ClientError, match=r"client 'c00'.*'aggregator.receive'.*other updates than was agreed"):
        run.round(0, splitting(run.clients, few, "c15"), forget_the_few)


def test_the_few_who_are_told_otherwise_notice() -> None:
    run = SecureRun(16, transcript=None)
    found = refused(run, "1 holders confirm|3 holders confirm", splitting(run.clients, names(3), "c15"))
    assert (found.party, found.step) == (None, SUM)


def dual_vectors(points: list[int], rank: int) -> list[list[int]]:
    """Vectors orthogonal to the values at `points` of all polynomials of degree below `rank`."""
    found = []
    for extra in range(rank, len(points)):
        row = interpolation(tuple(points[:rank]), (points[extra],))[0]
        found.append([int(w) for w in row] + [PrimeField.p - 1 if i == extra else 0 for i in range(rank, len(points))])
    return found


def test_why_holders_confirm_to_each_other_whose_updates_count() -> None:
    """Quorums alone: half sums over two sets, too few of either to decode, tell numbers of one client's update."""
    code, p = code_for(16, 2), PrimeField.p
    stream = Stream.fresh(SystemEntropy())
    victim, rest = (stream.elements((code.blocks, 3)) for _ in range(2))
    f_victim, f_rest = code.encode(victim, stream), code.encode(rest, stream)
    corrupt, first, second = [0, 1], list(range(2, 9)), list(range(9, 16))
    assert len(first) + 2 < code.required() > len(second) + 2
    told = {h: PrimeField.add(f_victim[h], f_rest[h]) for h in first} | {h: f_rest[h] for h in second + corrupt}
    order = corrupt + second + first
    # `rest` cancels in each of these sums; a value of the victim's polynomial at more than two points is left
    leaks = []
    for vector in dual_vectors([alpha(h) for h in order], code.required()):
        seen = [sum(v * int(told[h][k]) for v, h in zip(vector, order, strict=True)) % p for k in range(3)]
        weights = {h: v for v, h in zip(vector, order, strict=True) if h in first and v}
        assert seen == [sum(v * int(f_victim[h][k]) for h, v in weights.items()) % p for k in range(3)]
        leaks.append((weights, seen))
    assert len(leaks) == 6
    # with the victim's shares that the colluders hold, its masks can be eliminated: a number of its update is left
    basis = interpolation((*map(beta, range(code.blocks)), alpha(0), alpha(1)), tuple(map(alpha, range(16))))
    weights, seen = leaks[0]
    row = [sum(v * int(basis[h][i]) for h, v in weights.items()) % p for i in range(code.blocks + 2)]
    own = [(seen[k] - row[-2] * int(f_victim[0][k]) - row[-1] * int(f_victim[1][k])) % p for k in range(3)]
    assert own == [sum(row[i] * int(victim[i][k]) for i in range(code.blocks)) % p for k in range(3)]
    assert any(row[: code.blocks])


def asked_twice(program: Program[Any], step: str, client: str, other: Callable[[Ask], Message]) -> Program[Any]:
    """A server that asks one client a step a second time."""
    request: Any = next(program)
    while True:
        replies = yield request
        if request.step == step:
            yield Ask(step, {client: other(request)})
        try:
            request = program.send(replies)
        except StopIteration as stop:
            return stop.value


@pytest.mark.parametrize(
    ("step", "match"),
    [(AGREE, "one list of included clients per run"), (SUM, "given out once"), (SHARE, "joined before")],
)
def test_a_step_is_answered_once(step: str, match: str) -> None:
    run = SecureRun(6)
    program = run.aggregator.mean(run.cohort(), "p")
    second = (lambda ask: without(ask, "c02", run.clients, "c00")) if step == AGREE else lambda ask: ask.payloads["c02"]
    with pytest.raises(ClientError, match=match):
        run.driver.run(asked_twice(program, step, "c02", second))


def test_an_update_is_shared_once_in_a_session_whatever_the_attempt() -> None:
    run = SecureRun(5)
    run.round(0)
    with pytest.raises(ClientError, match=r"client 'c00'.*share of p.*second time in one session"):
        run.round(0)


def row_of(holder: str, sender: str, group: list[str]) -> int:
    assert holder != sender
    return others(holder, group).index(sender)


def flip(bit: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(row: np.ndarray) -> np.ndarray:
        row[bit // 8 % len(row)] ^= np.uint8(1 << bit % 8)
        return row

    return change


@pytest.mark.parametrize("bit", [0, 77, 8 * 30 + 3, -1])
def test_a_changed_share_names_its_sender(bit: int) -> None:
    run = SecureRun(6)

    def change(message: Message) -> None:
        message["envelopes"][row_of("c02", "c04", run.clients)] = flip(bit)(
            message["envelopes"][row_of("c02", "c04", run.clients)]
        )

    found = refused(run, r"client 'c02'.*'aggregator.share', from 'c04'.*not authentic", changing(AGREE, "c02", change))
    assert found.party == "c04"


def test_swapped_reordered_and_shortened_shares_are_refused() -> None:
    def swap(message: Message) -> None:
        message["envelopes"][[0, 1]] = message["envelopes"][[1, 0]]

    def shorten(message: Message) -> None:
        message["envelopes"] = message["envelopes"][:, :-1].copy()

    def reverse(message: Message) -> None:
        message["envelopes"] = message["envelopes"][::-1].copy()

    for change in (swap, shorten, reverse):
        found = refused(SecureRun(6), "not authentic", changing(AGREE, "c02", change))
        assert found.party == "c00"

    def drop(message: Message) -> None:
        message["envelopes"] = message["envelopes"][:-1].copy()

    with pytest.raises(ClientError, match="5 envelopes are announced, the message has others"):
        SecureRun(6).round(0, changing(AGREE, "c02", drop))


def test_an_envelope_for_one_holder_is_no_use_to_another() -> None:
    run = SecureRun(6)

    def cross(ask: Ask) -> Ask:
        if ask.step != AGREE:
            return ask
        one, two = ask.payloads["c00"], ask.payloads["c01"]
        return Ask(AGREE, {**ask.payloads, "c00": {**one, "envelopes": two["envelopes"]}})

    assert refused(run, "not authentic", cross).party in run.clients


def test_a_changed_or_old_sum_is_left_out_and_named_when_everybody_has_the_mean() -> None:
    run, plain = SecureRun(16), SecureRun(16, PlainMean())
    kept: dict[str, np.ndarray] = {}

    def remember(ask: Ask) -> Ask:
        if ask.step == RECEIVE:
            kept["row"] = ask.payloads["c02"]["envelopes"][row_of("c02", "c07", run.clients)]
        return ask

    run.round(0, remember)
    plain.round(0)

    def change(message: Message) -> None:
        message["envelopes"][row_of("c02", "c05", run.clients)] = flip(100)(message["envelopes"][4])
        message["envelopes"][row_of("c02", "c07", run.clients)] = kept["row"]

    with pytest.raises(TamperError, match=r"'c05': an envelope that is not authentic.*found by c02.*'c07'") as caught:
        run.round(1, changing(RECEIVE, "c02", change))
    assert caught.value.party is None
    plain.round(1)
    assert run.bits() == plain.bits()


@pytest.mark.parametrize("liars", [["c05"], ["c00", "c09", "c15"]])
def test_holders_that_lie_about_their_sum_are_named_and_the_mean_is_right(liars: list[str]) -> None:
    run, plain = SecureRun(16), SecureRun(16, PlainMean())

    def lie(ask: Ask) -> Ask:
        for liar in liars if ask.step == SUM else ():
            memory = run.memory(liar)
            assert memory.sum is not None
            memory.sum = PrimeField.add(memory.sum, np.array([1, *[0] * (len(memory.sum) - 1)], np.uint64))
        return ask

    with pytest.raises(TamperError, match=r"does not fit those of the other holders.*found by c") as caught:
        run.round(0, lie)
    assert caught.value.party == (liars[0] if len(liars) == 1 else None)
    assert all(repr(liar) in str(caught.value) for liar in liars)
    plain.round()
    assert run.bits() == plain.bits()


def shift_sums(run: SecureRun, holders: list[str], by: Callable[[tuple[int, ...]], np.ndarray]) -> OnAsk:
    def on_ask(ask: Ask) -> Ask:
        for holder in holders if ask.step == SUM else ():
            memory = run.memory(holder)
            assert memory.sum is not None
            memory.sum = PrimeField.add(memory.sum, by(memory.sum.shape))
        return ask

    return on_ask


def anything(shape: tuple[int, ...]) -> np.ndarray:
    return Stream.fresh(SystemEntropy()).elements(shape)


def test_too_many_liars_are_noticed_but_not_named() -> None:
    run = SecureRun(16)
    found = refused(run, "not of one polynomial, and there are too few", shift_sums(run, names(4), anything))
    assert found.party is None


@pytest.mark.parametrize(("clients", "match"), [(5, "not of one polynomial"), (4, "larger than updates can make it")])
def test_nonsense_that_a_client_shared_is_noticed(clients: int, match: str) -> None:
    """Shares that are on no polynomial move every holder's sum; with redundancy that shows, else in the range."""
    run = SecureRun(clients)
    refused(run, match, shift_sums(run, run.clients, anything))


def forged(run: SecureRun, sender: str, numbers: list[int]) -> OnAsk:
    """Put another envelope of `sender` into what c02 is sent, with these numbers in it."""

    def on_ask(ask: Ask) -> Ask:
        if ask.step != AGREE:
            return ask
        place = run.memory(sender).place
        place.channel._session._spent.clear()
        plaintext = np.array(numbers, "<u8").tobytes()
        message = {key: array.copy() for key, array in ask.payloads["c02"].items()}
        envelope = np.frombuffer(place.channel.seal("c02", place.label("share"), plaintext), np.uint8)
        message["envelopes"][row_of("c02", sender, run.clients)] = envelope
        return Ask(AGREE, {**ask.payloads, "c02": message})

    return on_ask


@pytest.mark.parametrize(
    ("numbers", "match"),
    [
        ([1, 7, 5, 6, PrimeField.p], "no share of a slot of 7 numbers"),
        ([1, 7, 5, (1 << 64) - 1, 7], "no share of a slot of 7 numbers"),
        ([1, 9, 5, 6, 7], "no share of a slot of 7 numbers"),
        ([7, 7, 5, 6, 7], "'c04' is said to be in the mean, but has another base"),
    ],
)
def test_what_is_sealed_must_be_a_share(numbers: list[int], match: str) -> None:
    run = SecureRun(6)
    refused(run, match, forged(run, "c04", numbers))


@pytest.mark.parametrize(
    ("size", "match"), [(9, "no share of a slot of 7 numbers"), (20, r"'c01' sent envelopes of .* bytes, 'c00' of")]
)
def test_a_slot_of_another_size_is_noticed(size: int, match: str) -> None:
    """By the server from the envelopes' size; by a holder where blocks are of equal size (of 3 for 7 and 9 numbers)."""
    run = SecureRun(6)
    other = np.zeros(size, np.float32)
    run.driver.states["c01"] = run.driver.states["c01"].replace(p=other, **{"p.base": other})
    with pytest.raises((ProtocolError, ClientError), match=match):
        run.driver.run(run.aggregator.mean(run.cohort(), "p"))


def test_a_mean_of_too_few_is_refused_by_holders_and_by_members() -> None:
    def shrink(message: Message) -> None:
        facts = json.loads(message["inclusion"].item())
        message["inclusion"] = Inclusion.write(facts["included"][:3], facts["version"])

    for step in (AGREE, RECEIVE):
        with pytest.raises(ClientError, match="a mean of 3 updates, this client insists on 4"):
            SecureRun(6).round(0, everyone(step, shrink))


def test_members_refuse_the_sum_of_other_updates_than_holders_agreed_on() -> None:
    def other(message: Message) -> None:
        facts = json.loads(message["inclusion"].item())
        message["inclusion"] = Inclusion.write(facts["included"][1:], facts["version"])

    refused(SecureRun(6), "of other updates than was agreed", everyone(RECEIVE, other))
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
        (SecureMean(clip=5.0), SecureMean(), "clip = 5.0, this client has 10.0"),
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
    assert len(run.driver.run(SecureMean(threshold=3, min_responders=6).mean(run.cohort(), "p"))) == 6


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
        ({"holders": ["c00", "c01", "c02"]}, "not those that the joint randomness gives"),
        ({"weights": {"c00": 1}}, "weights that are not those of the clients"),
        ({"weights": dict.fromkeys(names(5), 0)}, "weights that are not integers from 1"),
        ({"weights": dict.fromkeys(names(5), True)}, "weights that are not integers from 1"),
        ({"weights": dict.fromkeys(names(5), 10**12)}, "total weight 5000000000000"),
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
    heavier = about(weights={**run.weights, "c03": 50})
    refused(run, "not authentic", changing(SHARE, "c03", heavier))


def test_a_session_key_of_the_servers_own_is_refused() -> None:
    def replace_key(message: Message) -> None:
        message["offers"] = message["offers"].copy()
        message["offers"][3] = message["offers"][2]

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

    with pytest.raises(ClientError, match=r"server speaks version 0.*this client 1.*the same release"):
        SecureRun(6).round(0, everyone(HELLO, old))


@pytest.mark.parametrize("step", [AGREE, SUM, RECEIVE])
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
        return Replies({c: {**r, "version": np.array(2)} for c, r in replies.items()})

    run.train()
    run.driver.round_ = 1
    with pytest.raises(ClientError, match="'c03' is said to be in the mean, but has another base"):
        run.driver.run(between(run.aggregator.mean(run.cohort(1), "p"), None, equal_versions))


def test_a_base_for_late_clients_is_sealed_by_its_sponsor() -> None:
    def other_sponsor(message: Message) -> None:
        message["sponsor"] = np.array("c01")

    def change(message: Message) -> None:
        flip(99)(message["base"])

    def nobody(message: Message) -> None:
        del message["base"]

    for forge, match in ((other_sponsor, "not authentic"), (change, "not authentic"), (nobody, "without a base")):
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
        (SHARE, cut("envelopes", slice(None), slice(1, None)), "another slot than the rest"),
        (SHARE, lambda m: {**m, "envelopes": m["envelopes"].astype(np.int64)}, r"int64 \(5, \d+\)"),
        (AGREE, dropped("echoes"), "sent nothing as its echoes"),
        (SUM, cut("envelopes", slice(1)), r"uint8 \(1, \d+\) as its envelopes"),
        (RECEIVE, lambda m: {"wrong": np.array("[1]")}, "cannot be read"),
        (RECEIVE, lambda m: {"wrong": np.array('{"x": "y"}')}, "no holders"),
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
        (AGREE, lambda m: {**m, "inclusion": Inclusion.write(["c01", "c00", "c02", "c03"], 1)}, "each once, sorted"),
        (
            AGREE,
            lambda m: {**m, "inclusion": Inclusion.write(["c00", "c02", "c03", "zz"], 1)},
            "not clients of this run",
        ),
        (AGREE, dropped("envelopes"), "5 envelopes are announced"),
        (SUM, dropped("holders"), "a list of holders that cannot be read"),
        (SUM, lambda m: {**m, "holders": np.array('["zz"]')}, "not clients of this run"),
        (SUM, lambda m: {**m, "echoes": m["echoes"][:1]}, "5 envelopes are announced"),
        (SUM, lambda m: {**m, "echoes": m["echoes"][::-1].copy()}, "2 holders confirm"),
        (RECEIVE, lambda m: {**m, "holders": np.array("[]"), "envelopes": m["envelopes"][:0]}, "1 good sums, 5 are"),
    ],
)
def test_messages_of_no_honest_server_are_refused(step: str, change: Callable[[Message], Message], match: str) -> None:
    with pytest.raises(ClientError, match=match):
        SecureRun(6).round(0, changing(step, "c02", change))


def test_the_code_is_the_one_that_a_quorum_decodes() -> None:
    assert code_for(16, 2) == LagrangeCode(16, 2, 8)
    assert [code_for(c, 2).required() for c in (4, 5, 6, 7, 16)] == [4, 4, 5, 5, 10]
