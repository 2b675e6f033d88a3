"""What servers and clients that break the rules achieve against the secure mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from secfpp.crypto.field import PrimeField
from secfpp.crypto.randomness import Stream
from secfpp.crypto.sharing import alpha, beta, interpolation
from secfpp.errors import ClientError, ProtocolError, TamperError
from secfpp.protocol.program import Ask, Program, Replies
from secfpp.protocol.refusals import left_out
from secfpp.secure.envelopes import others
from secfpp.secure.means import batches
from secfpp.secure.means.client import code_for
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.relay import Inclusion
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.secure.means.updates import base_in, told_base
from secfpp.seeding import SystemEntropy
from support.long_updates import tell_another_version
from support.secure_runs import OnAsk, SecureRun, between, changing, flip, names, refused

SHARE, CHECK, AGREE, SUM, RECEIVE, CATCH_UP = (
    f"aggregator.{name}" for name in ("share", "check", "agree", "sum", "receive", "catch_up")
)
HELLO = "session.hello"
Message = dict[str, np.ndarray]


def without(ask: Ask, holder: str, members: list[str], gone: str) -> Message:
    """The message to a holder that leaves one client out of the mean."""
    message = dict(ask.payloads[holder])
    base = Inclusion.read(message["inclusion"], len(members), 1, AGREE).base
    message["inclusion"] = Inclusion.write([m for m in members if m != gone], base, members)
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


def test_a_mean_is_of_no_fewer_than_its_terms_said_also_where_clients_are_content_with_less() -> None:
    run = SecureRun(6, SecureMean(min_responders=4), transcript=None)
    run.train()
    program = SecureMean(min_responders=6).mean(run.cohort(), "p")
    with pytest.raises(ClientError, match=r"step 'aggregator.agree'.*5 updates, this client insists on 6"):
        run.driver.run(between(program, splitting(run.clients, run.clients, run.clients[-1])))


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
    with pytest.raises(ClientError, match=r"client 'c00'.*share of p.*second time in one round"):
        run.round(0)


def row_of(holder: str, sender: str, group: list[str]) -> int:
    assert holder != sender
    return others(holder, group).index(sender)


@pytest.mark.parametrize("bit", [0, 77, 8 * 30 + 3, -1])
def test_a_changed_share_names_its_sender(bit: int) -> None:
    run = SecureRun(6)

    def change(message: Message) -> None:
        message["envelopes"][row_of("c02", "c04", run.clients)] = flip(bit)(
            message["envelopes"][row_of("c02", "c04", run.clients)]
        )

    found = refused(run, r"client 'c02'.*'aggregator.share', from 'c04'.*not authentic", changing(CHECK, "c02", change))
    assert found.party == "c04"


def test_swapped_reordered_and_shortened_shares_are_refused() -> None:
    def swap(message: Message) -> None:
        message["envelopes"][[0, 1]] = message["envelopes"][[1, 0]]

    def shorten(message: Message) -> None:
        message["envelopes"] = message["envelopes"][:, :-1].copy()

    def reverse(message: Message) -> None:
        message["envelopes"] = message["envelopes"][::-1].copy()

    for change in (swap, shorten, reverse):
        found = refused(SecureRun(6), "not authentic", changing(CHECK, "c02", change))
        assert found.party == "c00"

    def drop(message: Message) -> None:
        message["envelopes"] = message["envelopes"][:-1].copy()

    with pytest.raises(ClientError, match="5 envelopes are announced, the message has others"):
        SecureRun(6).round(0, changing(CHECK, "c02", drop))


def test_an_envelope_for_one_holder_is_no_use_to_another() -> None:
    run = SecureRun(6)

    def cross(ask: Ask) -> Ask:
        if ask.step != CHECK:
            return ask
        one, two = ask.payloads["c00"], ask.payloads["c01"]
        return Ask(CHECK, {**ask.payloads, "c00": {**one, "envelopes": two["envelopes"]}})

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

    run.round(1, changing(RECEIVE, "c02", change))
    assert run.objections() == {("c02", "c05"), ("c02", "c07")}
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

    run.round(0, lie)
    honest = set(run.clients) - set(liars)
    assert run.objections() >= {(client, liar) for client in honest for liar in liars}
    assert left_out(run.driver.refusals, 2) == set(liars)
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


@pytest.mark.parametrize(("clients", "match"), [(5, "not of one polynomial"), (4, "somebody did not clip")])
def test_nonsense_that_a_client_shared_is_noticed(clients: int, match: str) -> None:
    """Shares that are on no polynomial move every holder's sum; with redundancy that shows, else in the range."""
    run = SecureRun(clients)
    refused(run, match, shift_sums(run, run.clients, anything))


def forged(run: SecureRun, sender: str, numbers: list[int]) -> OnAsk:
    """Put another envelope of `sender` into what c02 is sent, with these numbers in it."""

    def on_ask(ask: Ask) -> Ask:
        if ask.step != CHECK:
            return ask
        place = run.memory(sender).place
        place.channel._session._spent.clear()
        plaintext = np.array(numbers, "<u8").tobytes()
        message = {key: array.copy() for key, array in ask.payloads["c02"].items()}
        envelope = np.frombuffer(place.channel.seal("c02", place.label("share"), plaintext), np.uint8)
        message["envelopes"][row_of("c02", sender, run.clients)] = envelope
        return Ask(CHECK, {**ask.payloads, "c02": message})

    return on_ask


@pytest.mark.parametrize(
    ("numbers", "match"),
    [
        ([1, 7, 5, 6, PrimeField.p], "no share of a slot of 7 numbers"),
        ([1, 7, 5, (1 << 64) - 1, 7], "no share of a slot of 7 numbers"),
    ],
)
def test_what_is_sealed_must_be_a_share(numbers: list[int], match: str) -> None:
    run = SecureRun(6)
    refused(run, match, forged(run, "c04", numbers))


def test_a_share_of_no_polynomial_is_noticed() -> None:
    run = SecureRun(6)
    with pytest.raises(TamperError, match="shares or answers of some do not fit those of others in the check"):
        run.round(0, forged(run, "c04", [1, 7, 5, 6, 7]))


def test_shares_of_another_base_than_was_told_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    tell_another_version(monkeypatch, "c04", 7)
    refused(SecureRun(6), "'c04' is said to be in the mean, but has another base", lambda ask: ask)


def test_updates_from_different_bases_are_in_no_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server with one client could give all but one a base that they have nothing to add to."""
    run = SecureRun(6)
    for client in run.clients:
        own = np.full(7, 5 if client == "c03" else 1, np.float32)
        run.driver.states[client] = run.driver.states[client].replace(
            p=own, **{"p.base": own, "p.version": np.array(7)}
        )
    common = base_in("c00", told_base(run.driver.states["c00"], "p"))
    monkeypatch.setattr(batches, "base_in", lambda client, reply: common)
    refused(run, "'c03' is said to be in the mean, but has another base", lambda ask: ask)


@pytest.mark.parametrize(
    ("size", "match"),
    [
        (9, "is said to be in the mean, but has another base"),
        (20, "'c01' sent something of another form.*of 88 bytes"),
    ],
)
def test_a_slot_of_another_size_is_noticed(size: int, match: str) -> None:
    """By the server from the envelopes' size; by a holder where blocks are of equal size (of 3 for 7 and 9 numbers)."""
    run = SecureRun(6)
    other = np.zeros(size, np.float32)
    run.driver.states["c01"] = run.driver.states["c01"].replace(p=other, **{"p.base": other})
    with pytest.raises((ProtocolError, ClientError), match=match):
        run.driver.run(run.aggregator.mean(run.cohort(), "p"))
