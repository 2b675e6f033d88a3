"""k-means on shares as clients and server run it: beside k-means in the clear, with dropouts, and among cheats."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from secfpp.crypto.sharing import LagrangeCode
from secfpp.errors import ClientError, ConfigError, DropoutError, FieldRangeError, ProtocolError, TamperError
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import Ask, ClientState, Program, Replies, Request
from secfpp.runtime.in_process import InProcessDriver
from secfpp.secure import secure_kmeans
from secfpp.secure.clustering import PlainKMeans
from secfpp.secure.computing import Plan
from secfpp.secure.secpc import Found
from secfpp.secure.secure_kmeans import Layout, SecureKMeans
from secfpp.secure.session import parties_in_memory
from support.secure_runs import OnAsk, OnReplies, answering, between, changing, everyone, names
from support.toy import Fate, Toy, toy_driver

HELLO, REVEAL, DEAL, PROCEED = "session.hello", "session.reveal", "clusterer.deal", "clusterer.proceed"
TINY: dict[str, Any] = {"dimensions": 2, "bits": 6, "scale": 20.0, "k_max": 2, "restarts": 3, "min_cluster_size": 3}
SECURE = SecureKMeans(**TINY)
EXCHANGES = 1 + 1 + 3 * SECURE.iterations + 4
"""Keys, sharing, the computation."""


def plain(settings: SecureKMeans) -> PlainKMeans:
    return PlainKMeans(**{key: value for key, value in asdict(settings).items() if key in PlainKMeans().__dict__})


def groups(count: int, seed: int = 0, spread: float = 0.3) -> dict[str, ClientState]:
    rng = np.random.default_rng(seed)
    centres = np.array([[1.0, 0.2], [-0.8, -0.5]])
    points = centres[np.arange(count) % 2] + spread * rng.normal(size=(count, 2))
    return {client: ClientState({"z": point}) for client, point in zip(names(count), points, strict=True)}


class Run:
    """Clients with keys in memory, ready to be clustered once."""

    def __init__(
        self,
        clients: int | dict[str, ClientState],
        clusterer: SecureKMeans = SECURE,
        dropouts: Callable[[int, str, str], Fate] | None = None,
        theirs: SecureKMeans | None = None,
    ) -> None:
        self.states = groups(clients) if isinstance(clients, int) else clients
        self.clusterer = clusterer
        parties = parties_in_memory(self.states)
        self.driver: InProcessDriver = toy_driver(
            self.states, Toy(clusterer=theirs or clusterer), dropouts, parties, transcript=None
        )
        self.cohort = Cohort(dict.fromkeys(self.states, 1), 0, 0)

    def find(self, on_ask: OnAsk | None = None, on_replies: OnReplies | None = None) -> tuple[Found, Cohort]:
        result: tuple[Found, Cohort] = self.driver.run(
            between(self.clusterer.find(self.cohort, "z"), on_ask, on_replies)
        )
        return result

    def assign(self, on_ask: OnAsk | None = None, on_replies: OnReplies | None = None) -> Assignment:
        program = self.clusterer.assign(self.cohort, "z", None)
        result: Assignment = self.driver.run(between(program, on_ask, on_replies) if on_ask or on_replies else program)
        return result

    def expected(self, without: Iterable[str] = ()) -> Assignment:
        """What k-means in the clear gives for the others."""
        states = {client: state for client, state in self.states.items() if client not in set(without)}
        method = plain(self.clusterer)
        driver = toy_driver(states, Toy(clusterer=method), transcript=None)
        return driver.run(method.assign(Cohort(dict.fromkeys(states, 1), 0, 0), "z", None))


class Missing:
    """Dropouts by the how-manieth ask of a step, from 0: client numbers; one ask may be repeated for others."""

    def __init__(self, step: str, *gone: set[int], fate: Fate = "before") -> None:
        self.step, self.gone, self.fate = step, gone, fate
        self.asked: Counter[str] = Counter()

    def __call__(self, round_: int, step: str, client: str) -> Fate:
        if step != self.step:
            return None
        number = self.asked[client]
        self.asked[client] += 1
        return self.fate if number < len(self.gone) and int(client[1:]) in self.gone[number] else None


class AtExchange:
    """Holders that do not answer an exchange of the computation, by its number."""

    def __init__(self, gone: dict[int, set[int]]) -> None:
        self.gone = gone
        self.asked: list[tuple[int, tuple[int, ...]]] = []
        self.missing: list[tuple[int, int]] = []
        self.exchange = -1

    def on_ask(self, ask: Ask) -> Ask:
        if ask.step == PROCEED:
            self.exchange = int(next(iter(ask.payloads.values()))["exchange"])
            self.asked.append((self.exchange, tuple(int(client[1:]) for client in ask.payloads)))
        return ask

    def __call__(self, round_: int, step: str, client: str) -> Fate:
        if step == PROCEED and int(client[1:]) in self.gone.get(self.exchange, ()):
            self.missing.append((self.exchange, int(client[1:])))
            return "after" if int(client[1:]) % 2 else "before"
        return None


@pytest.mark.parametrize(
    ("clients", "changes"),
    [
        (6, {}),
        (8, {"reveal": "assignments"}),
        (9, {"threshold": "high", "min_cluster_size": 4}),
        (17, {"restarts": 2, "min_cluster_size": 4}),
        (8, {"k": 2, "min_cluster_size": 4}),
        (7, {"iterations": 1, "pull": 3}),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_partition_is_that_of_k_means_in_the_clear(clients: int, changes: dict[str, Any], seed: int) -> None:
    run = Run(groups(clients, seed, 0.3 if seed else 0.9), replace(SECURE, **changes))
    assert run.assign() == run.expected()


def test_exchanges_are_those_of_the_formula() -> None:
    run, drawn = Run(6), Run(17, replace(SECURE, min_cluster_size=4))
    run.assign()
    drawn.assign()
    assert run.driver.costs.exchanges == EXCHANGES
    assert drawn.driver.costs.exchanges == EXCHANGES + 1
    assert run.driver.costs.components["session"].exchanges == 1


def test_a_round_has_fresh_seeds_and_the_same_round_the_same() -> None:
    first = Run(8).find()[0]
    again = Run(8).find()[0]
    assert {k: sorted(v) for k, v in first.sizes.items()} == {k: sorted(v) for k, v in again.sizes.items()}
    assert first.inertia == again.inertia


def test_only_needed_holders_are_asked() -> None:
    watch = AtExchange({})
    Run(10, dropouts=watch).assign(watch.on_ask)
    assert {len(asked) for _, asked in watch.asked} == {6}
    assert [exchange for exchange, _ in watch.asked] == list(range(3 * SECURE.iterations + 4))


@pytest.mark.parametrize("exchange", range(3 * SECURE.iterations + 4))
def test_holders_that_drop_out_in_an_exchange_change_nothing(exchange: int) -> None:
    watch = AtExchange({exchange: {0, 3}})
    run = Run(8, dropouts=watch)
    assert run.assign(watch.on_ask) == run.expected()
    assert sorted(watch.missing) == [(exchange, 0), (exchange, 3)]


def test_holders_that_come_back_are_told_what_they_missed() -> None:
    watch = AtExchange({0: {0}, 2: {1}, 4: {2}, 5: {3, 4}, 6: {0}, 8: {1, 5}})
    run = Run(8, dropouts=watch)
    assert run.assign(watch.on_ask) == run.expected()
    returned = {number for exchange, asked in watch.asked if exchange == 5 for number in asked}
    assert returned & {0, 1, 2}


@pytest.mark.parametrize("exchange", [0, 1, 5, 3 * SECURE.iterations + 3])
def test_too_few_holders_are_an_error_that_names_the_missing(exchange: int) -> None:
    watch = AtExchange({exchange: {0, 3, 7}})
    with pytest.raises(DropoutError, match="at least 6 are needed") as caught:
        Run(8, dropouts=watch).assign(watch.on_ask)
    assert caught.value.step == PROCEED
    assert set(caught.value.missing) == {"c00", "c03", "c07"}


@pytest.mark.parametrize("fate", ["before", "after"])
@pytest.mark.parametrize(("step", "clients"), [(HELLO, 8), (DEAL, 8), (REVEAL, 18), (DEAL, 18)])
def test_who_is_missing_before_shares_are_complete_is_left_out(step: str, clients: int, fate: Fate) -> None:
    settings = replace(SECURE, min_cluster_size=4, restarts=2)
    run = Run(clients, settings, Missing(step, {1, 2}, fate=fate))
    assert run.assign() == run.expected(["c01", "c02"])


def test_clients_that_are_no_holders_may_go_after_sharing() -> None:
    clusterer = replace(SECURE, committee=6, dropouts=0)
    watch = AtExchange({})
    run = Run(9, clusterer, watch)
    assert run.assign(watch.on_ask) == run.expected()
    assert len({number for _, asked in watch.asked for number in asked}) == 6


def test_too_few_clients_left_are_an_error() -> None:
    with pytest.raises((ConfigError, DropoutError), match="at least 6 are needed"):
        Run(6, dropouts=Missing(DEAL, {5})).assign()
    few = replace(SECURE, min_cluster_size=4)
    with pytest.raises(DropoutError, match="at least 4 are needed") as caught:
        Run(8, few, dropouts=Missing(HELLO, set(range(5)))).assign()
    assert caught.value.missing == tuple(names(5))


def test_whoever_cannot_be_clustered_is_refused_before_anything_is_sent() -> None:
    refused = [
        (Run(8, replace(SECURE, committee=5)), ConfigError, "5 holders of shares"),
        (Run(2), ConfigError, "at most the 2 clients"),
        (Run(16), ConfigError, "at least 4: else 2 holders could"),
        (Run(8, replace(SECURE, bits=16, pull=900)), FieldRangeError, "points of length up to 32767"),
        (Run(8, replace(SECURE, dropouts=4)), ConfigError, "8 holders of shares"),
    ]
    for run, kind, reason in refused:
        with pytest.raises(kind, match=reason):
            run.assign()
        assert run.driver.costs.messages == 0


def test_too_few_clients_for_two_clusters_are_one_without_a_message() -> None:
    few = Run(5)
    assert few.assign() == Assignment(dict.fromkeys(few.states, 0))
    assert few.driver.costs.messages == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"threshold": "high", "compare_bits": 20}, r'compare_bits = 20: only with threshold = "standard"'),
        ({"committee": 3}, "4 to 100"),
        ({"committee": 101}, "4 to 100"),
        ({"dropouts": -1}, "must not be negative"),
        ({"bits": 1}, r"clusterer\.bits"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        replace(SECURE, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"reveal": "assignments"},
        {"min_cluster_size": 4},
        {"threshold": "high", "min_cluster_size": 4},
        {"iterations": 5},
    ],
)
def test_clients_share_nothing_under_other_settings_than_theirs(changes: dict[str, Any]) -> None:
    with pytest.raises(ClientError, match="other settings") as caught:
        Run(8, replace(SECURE, **changes), theirs=SECURE).assign()
    assert isinstance(caught.value.__cause__, ProtocolError)
    assert caught.value.step == DEAL


Forge = Callable[[Layout, np.ndarray], np.ndarray]


def too_large_bit(layout: Layout, bits: np.ndarray) -> np.ndarray:
    return np.concatenate([[np.uint64(2)], bits[1:]])


def too_long(layout: Layout, bits: np.ndarray) -> np.ndarray:
    far = np.ones_like(bits)
    far[layout.dimensions * layout.bits :] = 0
    return far


def wrong_slack(layout: Layout, bits: np.ndarray) -> np.ndarray:
    other = bits.copy()
    other[-1] ^= np.uint64(1)
    return other


def huge(layout: Layout, bits: np.ndarray) -> np.ndarray:
    return np.full_like(bits, (1 << 61) - 2)


@pytest.mark.parametrize("forge", [too_large_bit, too_long, wrong_slack, huge])
@pytest.mark.parametrize("villain", ["c00", "c06"])
def test_who_shares_an_impossible_descriptor_is_named(
    monkeypatch: pytest.MonkeyPatch, forge: Forge, villain: str
) -> None:
    honest = secure_kmeans.deal

    def deal(joined: Any, plan: Any, own: np.ndarray) -> Any:
        layout = Layout(SECURE.dimensions, SECURE.bits)
        return honest(joined, plan, forge(layout, own) if joined.party.name == villain else own)

    monkeypatch.setattr(secure_kmeans, "deal", deal)
    with pytest.raises(TamperError, match="out of range") as caught:
        Run(8).assign()
    assert caught.value.party == villain


class Steeper(Plan):
    """Shares with a polynomial of one degree more."""

    @property
    def code(self) -> LagrangeCode:
        return LagrangeCode(self.holders, self.threshold + 1)


@pytest.mark.parametrize("villain", ["c00", "c06"])
def test_who_shares_with_a_higher_degree_is_named(monkeypatch: pytest.MonkeyPatch, villain: str) -> None:
    honest = secure_kmeans.deal

    def deal(joined: Any, plan: Any, own: np.ndarray) -> Any:
        return honest(joined, Steeper(**vars(plan)) if joined.party.name == villain else plan, own)

    monkeypatch.setattr(secure_kmeans, "deal", deal)
    with pytest.raises(TamperError, match="not of one polynomial of degree T") as caught:
        Run(8).assign()
    assert caught.value.party == villain


def test_a_holder_that_lies_in_the_check_of_degrees_is_named() -> None:
    def lie(message: dict[str, np.ndarray]) -> None:
        if "degree" in message:
            message["degree"] += np.uint64(1)

    with pytest.raises(TamperError, match="a wrong share of a check was shown") as caught:
        Run(8).assign(on_replies=answering(PROCEED, "c02", lie))
    assert caught.value.party == "c02"


def test_a_holder_that_shows_another_coin_is_found() -> None:
    def other(message: dict[str, np.ndarray]) -> None:
        if "coin" in message:
            message["coin"] = message["coin"] ^ 1

    with pytest.raises(ClientError) as caught:
        Run(8).assign(on_replies=answering(PROCEED, "c02", other))
    assert isinstance(caught.value.__cause__, TamperError)
    assert caught.value.__cause__.party in ("c02", None)


@pytest.mark.parametrize("seed", range(4))
def test_honest_parties_are_never_blamed(seed: int) -> None:
    run = Run(groups(7, seed, 1.5))
    assert run.assign() == run.expected()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda reply: {"coin": reply["coin"]}, "0 values, .* were expected"),
        (lambda reply: {**reply, "masked": reply["masked"][1:]}, "were expected"),
        (lambda reply: {**reply, "masked": np.full_like(reply["masked"], (1 << 64) - 1)}, "no field elements"),
        (lambda reply: {**reply, "masked": reply["masked"].astype(np.float64)}, "no field elements"),
    ],
)
def test_answers_of_no_holder_are_refused_by_name(change: Any, reason: str) -> None:
    with pytest.raises(TamperError, match=reason) as caught:
        Run(8).assign(on_replies=answering(PROCEED, "c01", change))
    assert caught.value.party == "c01"


def test_envelopes_that_were_changed_are_refused() -> None:
    def change(message: dict[str, np.ndarray]) -> None:
        if "from.c02" in message:
            message["from.c02"][5] ^= 1

    with pytest.raises(ClientError) as caught:
        Run(8).assign(changing(PROCEED, "c00", change))
    cause = caught.value.__cause__
    assert isinstance(cause, TamperError) and cause.party == "c02"


Twice = Callable[[Ask], Ask]


def repeating(program: Program[Any], step: str, number: int, change: Twice = lambda ask: ask) -> Program[Any]:
    """Ask one ask of `step` a second time, changed; the first replies count. Returns both replies."""
    request: Request = next(program)
    count = -1
    while True:
        assert isinstance(request, Ask)
        replies = yield request
        count += request.step == step
        if count == number and request.step == step:
            second: Replies = yield change(request)
            return replies, second
        request = program.send(replies)


def test_shares_are_dealt_once_for_the_same_terms() -> None:
    run = Run(8)
    with pytest.raises(ClientError, match="joined before is offered again"):
        run.driver.run(repeating(run.clusterer.find(run.cohort, "z"), DEAL, 0))


def test_an_exchange_that_is_repeated_gets_the_same_answers() -> None:
    run = Run(8)
    first, second = run.driver.run(repeating(run.clusterer.find(run.cohort, "z"), PROCEED, 3))
    for client in first:
        assert first[client]["masked"].tolist() == second[client]["masked"].tolist()


def test_fewer_holders_than_a_quorum_answer_nothing() -> None:
    run = Run(8)

    def fewer(ask: Ask) -> Ask:
        chosen = sorted(ask.payloads)[:5]
        numbers = np.array([int(client[1:]) for client in chosen], np.uint8)
        return Ask(ask.step, {client: {**ask.payloads[client], "responders": numbers} for client in chosen})

    with pytest.raises(ClientError, match="5 holders should answer, less than the quorum of 6"):
        run.driver.run(repeating(run.clusterer.find(run.cohort, "z"), PROCEED, 3, fewer))


@pytest.mark.parametrize("responders", [[0, 1, 2, 3, 4, 99], [1, 0, 2, 3, 4, 5], [0, 0, 1, 2, 3, 4], []])
def test_lists_of_responders_that_are_none_are_refused(responders: list[int]) -> None:
    def change(message: dict[str, np.ndarray]) -> None:
        message["responders"] = np.array(responders, np.uint8)

    with pytest.raises(ClientError, match=r"no list of holders|less than the quorum"):
        Run(8).assign(changing(PROCEED, "c00", change))


def test_an_exchange_that_is_over_is_not_answered_again() -> None:
    run = Run(8)

    def earlier(ask: Ask) -> Ask:
        return Ask(ask.step, {c: {**p, "exchange": np.array(1)} for c, p in ask.payloads.items()})

    with pytest.raises(ClientError, match="an exchange that is over is asked for again"):
        run.driver.run(repeating(run.clusterer.find(run.cohort, "z"), PROCEED, 3, earlier))


@pytest.mark.parametrize("exchange", [2, 3, 5])
@pytest.mark.parametrize("victims", [{"c00"}, {"c00", "c01", "c02"}])
def test_holders_who_were_told_different_values_open_nothing(exchange: int, victims: set[str]) -> None:
    """Their pads do not cancel any more: what the server adds up is noise, and no partition comes out."""

    def lie(ask: Ask) -> Ask:
        if ask.step != PROCEED:
            return ask
        copies = {client: dict(payload) for client, payload in ask.payloads.items()}
        for client in victims:
            if f"opened.{exchange}" in copies[client]:
                told = copies[client][f"opened.{exchange}"].copy()
                told[0] = (int(told[0]) + 1) % ((1 << 61) - 1)
                copies[client][f"opened.{exchange}"] = told
        return Ask(ask.step, copies)

    with pytest.raises(ProtocolError, match=r"a holder answered wrongly|of one polynomial|square of a random"):
        Run(8).find(lie)


@pytest.mark.parametrize("exchange", range(2, 3 * SECURE.iterations + 4))
def test_a_holder_that_answers_wrongly_by_a_constant_is_found_out_or_changes_nothing(exchange: int) -> None:
    def lie(ask: Ask, replies: Replies) -> Replies:
        if ask.step != PROCEED or int(ask.payloads["c03"]["exchange"]) != exchange:
            return replies
        wrong = {**replies["c03"], "masked": (replies["c03"]["masked"] + np.uint64(3)) % np.uint64((1 << 61) - 1)}
        return Replies({**replies, "c03": wrong})

    run = Run(8)
    with suppress(TamperError):
        assert run.assign(on_replies=lie) == run.expected()


def test_holders_who_were_told_different_values_before_the_checks_find_out() -> None:
    def lie(message: dict[str, np.ndarray]) -> None:
        if "opened.0" in message:
            message["opened.0"][0] ^= np.uint64(1)

    with pytest.raises(ProtocolError):
        Run(8).find(changing(PROCEED, "c00", lie))


def test_a_committee_that_the_randomness_does_not_give_is_refused() -> None:
    def favour(message: dict[str, np.ndarray]) -> None:
        about = json.loads(message["about"].item())
        spare = sorted(set(about["clients"]) - set(about["holders"]))
        about["holders"] = sorted([*about["holders"][1:], spare[0]])
        message["about"] = np.array(json.dumps(about, sort_keys=True))

    settings = replace(SECURE, min_cluster_size=4)
    with pytest.raises(ClientError, match="the holders are not those that the joint randomness gives"):
        Run(18, settings).assign(everyone(DEAL, favour))


def test_a_lower_threshold_than_agreed_is_refused() -> None:
    def lower(message: dict[str, np.ndarray]) -> None:
        about = json.loads(message["about"].item())
        about["threshold"] -= 1
        message["about"] = np.array(json.dumps(about, sort_keys=True))

    settings = replace(SECURE, min_cluster_size=4)
    with pytest.raises(ClientError, match="threshold 1, which is not what this client agreed to"):
        Run(16, settings).assign(everyone(DEAL, lower))


def test_errors_and_memory_hold_no_secret() -> None:
    run = Run(8)
    run.driver.run(repeating(run.clusterer.find(run.cohort, "z"), PROCEED, 1))
    secrets = {str(v) for state in run.states.values() for v in state["z"].tolist()}
    shown = " ".join(repr(context) for context in run.driver.contexts.values())
    assert not any(secret in shown for secret in secrets)
