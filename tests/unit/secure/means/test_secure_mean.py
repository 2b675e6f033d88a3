from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secfpp.crypto.field import PrimeField
from secfpp.crypto.fixed_point import FixedPoint
from secfpp.errors import ClientError, ConfigError, FieldRangeError
from secfpp.protocol import wire
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import Ask, ClientState, gather
from secfpp.protocol.transcript import SERVER, Transcript
from secfpp.secure import committee
from secfpp.secure.ledger import Ledger
from secfpp.secure.means.aggregator import Aggregator
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.secure.means.updates import with_base
from secfpp.secure.session import greet, greeted, parties_in_memory
from support.secure_runs import SecureRun, names
from support.toy import Fate, Toy, dropping, toy_driver

SHARE, PROVE, CHECK, AGREE, SUM, RECEIVE, KEEP, CATCH_UP = (
    f"aggregator.{name}" for name in ("share", "prove", "check", "agree", "sum", "receive", "keep", "catch_up")
)
HELLO, REVEAL = "session.hello", "session.reveal"
PLAIN = PlainMean(min_responders=4, most_weight=0.5)


@pytest.mark.parametrize(("clients", "size"), [(4, 7), (5, 1), (6, 2), (16, 33), (30, 20)])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_result_is_the_plain_means_bit_for_bit(clients: int, size: int, seed: int) -> None:
    secure, plain = (SecureRun(clients, a, size=size, seed=seed, transcript=None) for a in (SecureMean(), PLAIN))
    for number in range(2):
        assert secure.round(number) == plain.round(number) == tuple(names(clients))
        assert secure.bits() == plain.bits()
    assert secure.settled("c00")


def test_slots_of_any_shape_and_type() -> None:
    for base in (np.zeros((2, 3, 2), np.float32), np.array(1.5), np.zeros(0, np.float32)):
        states = {c: with_base(ClientState(), "p", base).replace(p=base + base.dtype.type(0.25)) for c in "abcd"}
        driver = toy_driver(states, Toy(aggregator=SecureMean()), parties=parties_in_memory("abcd"))
        assert driver.run(SecureMean().mean(Cohort(dict.fromkeys("abcd", 1), 0, 0), "p")).members == tuple("abcd")
        np.testing.assert_array_equal(driver.states["a"]["p"], base + base.dtype.type(0.25))
        assert driver.states["a"]["p"].dtype == base.dtype


def test_long_updates_are_clipped() -> None:
    secure, plain = (SecureRun(4, a, size=5) for a in (SecureMean(clip=0.1), PlainMean(clip=0.1)))
    assert secure.round() == plain.round()
    assert secure.bits() == plain.bits()


def test_exchanges_with_and_without_keys_and_committee() -> None:
    small, large = SecureRun(5), SecureRun(17)
    small.round()
    large.round()
    assert small.driver.costs.exchanges == 7
    assert large.driver.costs.exchanges == 8
    assert large.driver.costs.components["session"].exchanges == 2


def test_keys_of_the_rounds_greeting_serve_several_means() -> None:
    run = SecureRun(10)
    run.train()
    cohort = greeted(run.cohort(), run.driver.run(asking(greet(run.cohort()))))
    groups = {"0": cohort.subset(names(5)), "1": cohort.subset(names(10)[5:])}
    programs = {label: run.aggregator.mean(group, "p") for label, group in groups.items()}
    made = run.driver.run(gather(programs))
    assert {label: mean.members for label, mean in made.items()} == {s: group.clients for s, group in groups.items()}
    assert run.driver.costs.exchanges == 7
    assert run.bits()["c00"] != run.bits()["c09"]
    common = run.driver.states["c00"]["p"]
    states = {c: s.replace(q=s["p"], **{"q.base": common}) for c, s in run.driver.states.items()}
    run.driver.states.update(states)
    assert run.driver.run(run.aggregator.mean(cohort, "q")).members == cohort.clients  # the same session, another slot
    assert run.driver.costs.exchanges == 13


def asking(ask: Any) -> Any:
    return (yield ask)


@pytest.mark.parametrize("fate", ["before", "after"])
@pytest.mark.parametrize("step", [SHARE, RECEIVE])
@pytest.mark.parametrize("clients", [6, 18])
def test_dropouts_leave_the_states_of_the_plain_mean(clients: int, step: str, fate: Fate) -> None:
    drops = dropping((0, step, "c01", fate), (0, step, "c04", fate))
    runs = [SecureRun(clients, a, dropouts=drops, transcript=None) for a in (SecureMean(), PLAIN)]
    for number in range(3):
        if clients == 6 and step == SHARE and number == 0:  # 4 of 6 holders are less than a quorum
            assert runs[0].round(0) == ()
            assert all(runs[0].settled(client) for client in runs[0].clients)
            return
        assert runs[0].round(number) == runs[1].round(number)
        assert runs[0].bits() == runs[1].bits()


@pytest.mark.parametrize("step", [CHECK, AGREE, SUM])
@pytest.mark.parametrize("fate", ["before", "after"])
def test_holders_that_drop_later_cost_nothing_down_to_a_quorum(step: str, fate: Fate) -> None:
    gone = [(0, step, client, fate) for client in names(8)]
    for count, expected in ((6, tuple(names(16))), (7, ())):
        secure = SecureRun(16, dropouts=dropping(*gone[:count]), transcript=None)
        plain = SecureRun(16, PLAIN, transcript=None)
        assert secure.round() == expected
        if expected:
            plain.round()
            assert secure.bits() == plain.bits()
        else:
            assert all(secure.settled(client) and secure.version(client) == 1 for client in secure.clients)


@pytest.mark.parametrize("step", [HELLO, REVEAL])
def test_whoever_misses_key_agreement_is_no_part_of_the_round(step: str) -> None:
    run = SecureRun(20, dropouts=dropping((0, step, "c03", "before")), transcript=None)
    expected = tuple(client for client in names(20) if client != "c03")
    assert run.round() == expected
    assert not run.settled("c03")
    run.round(1)
    assert run.settled("c03")
    assert run.version("c03") == run.version("c00")


def test_too_few_clients_are_never_asked_for_shares() -> None:
    drops = dropping((0, HELLO, "c00", "before"), (0, HELLO, "c01", "after"))
    run = SecureRun(5, dropouts=drops)
    assert run.round() == ()
    assert {m.step for m in run.driver.transcript or ()} == {HELLO, KEEP}
    assert all(run.settled(client) for client in names(5)[2:])


def test_too_few_updates_give_no_mean_and_late_clients_catch_up_still() -> None:
    lost = [(0, RECEIVE, client, "before") for client in names(4)]
    run = SecureRun(7, dropouts=dropping(*lost))  # type: ignore[arg-type]
    assert run.round(0) == tuple(names(7))
    assert run.round(1) == ()
    assert {run.driver.states[client]["p"].tobytes() for client in run.clients} == {
        run.driver.states["c06"]["p.base"].tobytes()
    }
    assert run.round(2) == tuple(names(7))


def test_a_late_holder_still_holds_shares() -> None:
    run = SecureRun(5, dropouts=dropping((0, RECEIVE, "c02", "before"), (1, SUM, "c00", "before")))
    run.round(0)
    assert run.round(1) == ("c00", "c01", "c03", "c04")  # four sums of five holders, the late one's among them
    assert len({run.driver.states[client]["p"].tobytes() for client in run.clients}) == 1


def test_a_late_client_that_returns_between_the_exchanges_goes_back_to_its_base() -> None:
    run = SecureRun(6, dropouts=dropping((0, RECEIVE, "c02", "before"), (1, SHARE, "c02", "before")))
    run.round(0)
    old = run.driver.states["c02"]["p.base"].tobytes()
    assert run.round(1) == ("c00", "c01", "c03", "c04", "c05")
    assert run.settled("c02")
    assert (run.version("c02"), run.driver.states["c02"]["p"].tobytes()) == (1, old)
    run.round(2)
    assert run.bits()["c02"] == run.bits()["c00"]


def test_refresh_brings_late_clients_up_without_showing_the_base() -> None:
    drops = dropping(*((0, RECEIVE, client, "before") for client in ("c01", "c04")))
    run = SecureRun(6, dropouts=drops, transcript=Transcript(keep_contents=True))
    run.round(0)
    run.driver.round_ = 1
    before = len(run.driver.transcript or ())
    run.driver.run(run.aggregator.refresh(run.cohort(1), "p"))
    assert {run.version(client) for client in run.clients} == {2}
    assert run.settled("c01")
    base = run.driver.states["c00"]["p"].tobytes()
    messages = list(run.driver.transcript or ())[before:]
    assert {m.client for m in messages if m.step == HELLO} == {"c00", "c01", "c04"}
    assert not any(base in (m.content or b"") for m in messages)
    exchanges = run.driver.costs.exchanges
    run.driver.run(run.aggregator.refresh(run.cohort(1), "p"))
    assert run.driver.costs.exchanges == exchanges + 1


@pytest.mark.parametrize("gone", ["c00", "c02"])
def test_refresh_with_dropouts_leaves_late_who_is_late(gone: str) -> None:
    drops = dropping((0, RECEIVE, "c02", "before"), (1, HELLO, gone, "before"))
    run = SecureRun(5, dropouts=drops)
    run.round(0)
    run.driver.round_ = 1
    run.driver.run(run.aggregator.refresh(run.cohort(1), "p"))
    assert run.version("c02") == 1
    run.driver.round_ = 2
    run.driver.run(run.aggregator.refresh(run.cohort(2), "p"))
    assert run.version("c02") == 2


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_whatever_drops_equal_versions_mean_equal_bases(data: st.DataObject) -> None:
    fates = {
        (r, step, client): data.draw(st.sampled_from([None, None, None, "before", "after"]))
        for r in range(3)
        for step in (HELLO, SHARE, PROVE, CHECK, AGREE, SUM, RECEIVE, KEEP, CATCH_UP)
        for client in names(6)
    }
    run = SecureRun(6, dropouts=lambda r, step, client: fates.get((r, step, client)), transcript=None)
    for number in range(3):
        run.round(number)
        bases: dict[int, bytes] = {}
        for client in run.clients:
            base = run.driver.states[client]["p.base"].tobytes()
            assert bases.setdefault(run.version(client), base) == base
    for number in (3, 4, 5):  # quiet rounds bring everybody back
        last = run.round(number)
    assert last == tuple(names(6))
    assert len({run.driver.states[client]["p"].tobytes() for client in run.clients}) == 1


def seen_by_server(run: SecureRun) -> bytes:
    return b"".join(message.content or b"" for message in (run.driver.transcript or Transcript()).seen_by(SERVER))


def traces(run: SecureRun, values: dict[str, np.ndarray], base: np.ndarray) -> list[bytes]:
    """Bytes that would show an update, a base or a mean: two neighbouring numbers of it, in any coding used."""
    codec, found = FixedPoint(2.5, 24), [base]
    total = np.zeros(base.shape, np.uint64)
    for client, value in values.items():
        update = value.astype(np.float64) - base.astype(np.float64)
        weighted = codec.encode(update, run.weights[client])
        total = PrimeField.add(total, weighted)
        found += [value, update, update.astype(np.float32), codec.encode(update), weighted]
    found += [total, codec.decode(total, sum(run.weights.values())), run.driver.states["c00"]["p"]]
    return [array[i : i + 2].tobytes() for array in found for i in range(base.size - 1)]


@pytest.mark.parametrize(("aggregator", "shown"), [(SecureMean(), False), (PLAIN, True)])
def test_the_server_sees_no_update_no_base_and_no_mean(aggregator: Aggregator, shown: bool) -> None:
    drops = dropping((0, RECEIVE, "c04", "before"))  # so that a base is sent in round 1
    run = SecureRun(6, aggregator, size=9, dropouts=drops, transcript=Transcript(keep_contents=True))
    run.round(0)
    run.train()
    values = {client: state["p"] for client, state in run.driver.states.items() if client != "c04"}
    base = run.driver.states["c00"]["p.base"]
    run.driver.round_ = 1
    assert len(run.driver.run(run.aggregator.mean(run.cohort(1), "p")).members) == 5
    seen = seen_by_server(run)
    assert any(trace in seen for trace in traces(run, values, base)) is shown


def test_equal_runs_send_different_envelopes_of_equal_size() -> None:
    parties = parties_in_memory(names(5))
    runs = []
    for _ in range(2):
        for party in parties.values():
            party.session = None
            party.ledger = Ledger()
        runs.append(SecureRun(5, parties=parties, transcript=Transcript(keep_contents=True)))
        runs[-1].round()
    assert runs[0].bits() == runs[1].bits()
    first, second = ([m for m in run.driver.transcript or () if m.direction == "up"] for run in runs)
    assert [m.step for m in first] == [m.step for m in second]
    sealed: list[bytes] = []
    for message in [*first, *second]:
        for key, rows in wire.decode(message.content or b"").items():
            if key in ("envelopes", "echoes"):
                sealed += [row.tobytes() for row in rows]
    assert len(sealed) == 2 * 5 * (4 + 4 + 4 + 4)
    assert len(set(sealed)) == len(sealed)
    assert [m.size for m in first] == [m.size for m in second]


def test_memory_is_dropped_when_the_round_is_over() -> None:
    run = SecureRun(6, dropouts=dropping((0, RECEIVE, "c01", "before")))
    run.round()
    left = {c: len(party.session.running) for c, party in run.parties.items() if party.session}
    assert left == {client: int(client == "c01") for client in run.clients}
    run.round(1)
    assert all(party.session and not party.session.running for party in run.parties.values())


@pytest.mark.parametrize(
    ("settings_", "key"),
    [
        ({"clip": 0.0}, "clip"),
        ({"threshold": 0, "min_responders": 9}, "threshold"),
        ({"threshold": 15, "min_responders": 17}, "threshold"),
        ({"clip": 10.0}, r"clip, bits = .10.0, 24.*too long to be checked on shares.*use fewer bits.*bounded = false"),
        ({"threshold": 3}, "min_responders = 4: at least threshold . 2 = 5"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings_: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"aggregator\..*{key}"):
        SecureMean(**settings_)


def test_what_is_said_of_security_is_what_runs() -> None:
    aggregator = SecureMean(threshold=3, min_responders=5)
    assert aggregator.protection(30) == {"holders": committee.LARGEST, "threshold": 3}
    assert aggregator.protection(9) == {"holders": 9, "threshold": 3}
    run = SecureRun(20, aggregator)
    holders: dict[str, int] = {}

    def count(ask: Ask) -> Ask:
        if ask.step == AGREE:
            holders.update(dict.fromkeys(ask.payloads, 1))
        return ask

    run.round(0, count)
    assert len(holders) == 16


def test_weights_that_could_overflow_are_refused_before_anything_is_sent() -> None:
    capacity = FixedPoint(1.0, 40).capacity
    run = SecureRun(
        "abcd", SecureMean(clip=1.0, bits=40, bounded=False), weights={"a": capacity, "b": 1, "c": 1, "d": 1}
    )
    with pytest.raises(FieldRangeError, match=f"total weight {capacity + 3}.*at most {capacity}"):
        run.round()
    assert run.driver.costs.messages == 0


def test_a_client_without_keys_is_told_what_it_lacks() -> None:
    driver = toy_driver({c: ClientState() for c in "abcd"}, Toy(aggregator=SecureMean()))
    with pytest.raises(ClientError, match=r"client 'a'.*no keys: secure steps need a context with a Party"):
        driver.run(SecureMean().mean(Cohort(dict.fromkeys("abcd", 1), 0, 0), "p"))


def test_a_missing_base_is_named_with_the_remedy() -> None:
    run = SecureRun("abcd")
    run.driver.states["b"] = ClientState({"p": np.zeros(7, np.float32)})
    with pytest.raises(ClientError, match=r"client 'b'.*no common base for 'p'.*with_base"):
        run.driver.run(run.aggregator.mean(run.cohort(), "p"))


def test_a_diverged_update_is_refused_by_name_and_without_its_numbers() -> None:
    run = SecureRun("abcd")
    run.driver.states["c"] = run.driver.states["c"].replace(p=np.full(7, np.nan, np.float32))
    with pytest.raises(ClientError, match=r"client 'c', round 0.*lower the learning rate"):
        run.driver.run(run.aggregator.mean(run.cohort(), "p"))


def test_no_repr_shows_keys_randomness_or_shares() -> None:
    run = SecureRun("abcd")
    shown: list[str] = []

    def look(ask: Ask) -> Ask:
        for party in run.parties.values():
            shown.append(repr(party) + repr(party.session))
            if party.session:
                shown.extend(map(repr, party.session.running.values()))
        return ask

    run.round(0, look)
    text = "".join(shown)
    assert "MeanRun" in text
    assert "nonce" not in text
    assert "array" not in text
    assert "private" not in text.lower()
