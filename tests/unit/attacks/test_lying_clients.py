"""One client that lies, where everybody else and the server follow the protocol."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from secfpp.data.federated import FederatedDataset
from secfpp.data.icons import IconSettings, load_icons
from secfpp.errors import ClientError, ProtocolError
from secfpp.models.backbone import Backbone, load_backbone
from secfpp.protocol.program import Arrays, ClientState, step
from secfpp.protocol.refusals import BY_SERVER, Refusal, left_out
from secfpp.runtime.trainer import RunResult, train
from secfpp.secure.committee import quorum
from secfpp.secure.means import secure_mean, updates
from secfpp.secure.means.aggregator import Aggregator
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.secure_mean import SecureMean
from support.long_updates import do_not_clip, unclipped
from support.method_runs import make
from support.secure_runs import SecureRun, names

SHARE, PROVE, CHECK, AGREE, SUM, RECEIVE, KEEP = (
    f"aggregator.{step}" for step in ("share", "prove", "check", "agree", "sum", "receive", "keep")
)
AGGREGATORS = (SecureMean(), PlainMean(min_responders=4, most_weight=0.5))
Message = dict[str, np.ndarray]


def base(run: SecureRun, client: str) -> bytes:
    return run.driver.states[client]["p.base"].tobytes()


def impostor(run: SecureRun, version: int) -> None:
    """The client c02 has a prompt of its own, and says that it is of this version."""
    own = run.driver.states["c02"]["p"] + np.float32(5)
    run.driver.states["c02"] = run.driver.states["c02"].replace(
        **{"p": own, "p.base": own, "p.version": np.array(version)}
    )


@pytest.mark.parametrize("aggregator", AGGREGATORS)
@pytest.mark.parametrize("version", [7, 2**63 - 1])
def test_who_says_the_highest_version_sponsors_nobody(aggregator: Aggregator, version: int) -> None:
    run = SecureRun(24, aggregator, transcript=None)
    run.round(0)
    impostor(run, version)
    others = [client for client in run.clients if client != "c02"]
    assert run.round(1) == tuple(others)
    assert {base(run, client) for client in run.clients} == {base(run, "c00")}
    impostor(run, version)
    run.driver.round_ = 2
    run.driver.run(run.aggregator.refresh(run.cohort(2), "p", run.known))
    assert {base(run, client) for client in run.clients} == {base(run, "c00")}
    assert run.round(3) == tuple(run.clients)


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_the_attack_succeeds_where_the_highest_version_decides(
    aggregator: Aggregator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def highest(told: dict[str, updates.Base], colluding: int, known: object = None) -> updates.Base:
        return max(told.values(), key=lambda one: one.version)

    for module in (secure_mean, __import__("secfpp.secure.means.plain_mean", fromlist=["plain_mean"])):
        monkeypatch.setattr(module, "agreed_base", highest)
    run = SecureRun(24, aggregator, transcript=None)
    run.round(0)
    impostor(run, 7)
    run.round(1)
    assert {base(run, client) for client in run.clients} == {base(run, "c02")}


def test_one_who_has_the_last_base_alone_keeps_it_and_gives_it_to_all() -> None:
    """What the server knows from the last mean counts more than how many tell it."""
    run = SecureRun(8, transcript=None)
    run.round(0)
    known, old = run.known, run.driver.states["c01"]
    run.round(1)
    for client in names(8)[1:]:
        run.driver.states[client] = old
    assert run.known != known
    run.driver.round_ = 2
    run.driver.run(run.aggregator.refresh(run.cohort(2), "p", run.known))
    assert {base(run, client) for client in run.clients} == {base(run, "c00")} != {old["p.base"].tobytes()}


UNBOUNDED = SecureMean(bounded=False)


def distance(run: SecureRun, before: bytes) -> float:
    """How far c00's base moved."""
    return float(np.linalg.norm(run.driver.states["c00"]["p.base"] - np.frombuffer(before, np.float32)))


@pytest.mark.parametrize("factor", [0.94, 0.95, 50.0, 1e4])
def test_one_who_does_not_clip_is_named_and_left_out(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of weight 3 of 231. Its update has a norm of 2.487, 2.513, 132 or 26,458; 2.5 is allowed."""
    do_not_clip(monkeypatch, {3}, factor)
    run, plain = SecureRun(21, transcript=None, tolerant=True), SecureRun(21, PlainMean(most_weight=0.5))
    honest = tuple(client for client in run.clients if client != "c02")
    assert run.round(0) == (honest if factor > 0.94 else tuple(run.clients))
    if factor == 0.94:
        assert not run.driver.refusals
        return
    assert run.driver.refusals == [Refusal(BY_SERVER, "c02", "tampering", 0, PROVE)]
    plain.driver.dropouts = lambda round_, step, client: "before" if (step, client) == (SHARE, "c02") else None
    assert plain.round(0) == honest
    assert base(run, "c00") == base(plain, "c00") != base(run, "c02") or base(run, "c02") == base(plain, "c02")


def test_it_moves_a_mean_by_all_of_clip_where_updates_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    honest, lying = SecureRun(21, UNBOUNDED, transcript=None), SecureRun(21, UNBOUNDED, transcript=None)
    before = base(honest, "c00")
    honest.round(0)
    do_not_clip(monkeypatch, {3}, 70.0)
    assert lying.round(0) == tuple(lying.clients)
    assert distance(honest, before) < 0.1
    assert distance(lying, before) > 2.0


@pytest.mark.parametrize(("clients", "threshold"), [(4, 1), (5, 1), (6, 2), (7, 2), (16, 2), (18, 5)])
def test_it_is_left_out_of_groups_of_any_size(clients: int, threshold: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And named, unless those who may collude could have made up that its proof fails."""
    do_not_clip(monkeypatch, {2}, 3.0)
    aggregator = SecureMean(threshold=threshold, min_responders=threshold + 2)
    run = SecureRun(clients, aggregator, transcript=None, tolerant=True)
    assert run.round(0) == tuple(client for client in run.clients if client != "c01")
    holders = min(clients, 16)
    named = holders - quorum(holders, threshold) >= threshold
    assert named is (clients != 6)
    assert [one.party for one in run.driver.refusals] == ["c01" if named else ""]


def test_a_mean_that_is_too_long_moves_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where updates are not checked one by one."""
    do_not_clip(monkeypatch, {3}, 1e4)
    run = SecureRun(21, UNBOUNDED, transcript=None, tolerant=True)
    before = base(run, "c00")
    run.round(0)
    assert {base(run, client) for client in run.clients} == {before}
    assert {(one.by, one.party, one.reason) for one in run.driver.refusals} == {
        (c, "", "tampering") for c in run.clients
    }
    assert run.known is None
    monkeypatch.setattr(secure_mean, "encoded_update", updates.encoded_update)
    assert run.round(1) == tuple(run.clients)


def test_it_moves_everybody_where_means_of_any_length_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    do_not_clip(monkeypatch, {3}, 1e4)
    monkeypatch.setattr(updates, "within_clip", lambda total, codec, weight: codec.decode(total, weight))
    run = SecureRun(21, UNBOUNDED, transcript=None)
    before = base(run, "c00")
    run.round(0)
    assert distance(run, before) > 100


def test_the_server_of_a_plain_mean_refuses_whoever_did_not_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secfpp.secure.means.plain_mean.encoded_update", unclipped({3}, 1e4))
    run = SecureRun(8, PlainMean(), transcript=None, tolerant=True)
    assert run.round(0) == tuple(client for client in run.clients if client != "c02")
    assert run.driver.refusals == [Refusal(BY_SERVER, "c02", "tampering", 0, SHARE)]


ODD: list[tuple[str, dict[str, Any]]] = [
    (SHARE, {"version": np.array(np.inf)}),
    (SHARE, {"version": np.array("9" * 30)}),
    (SHARE, {"version": np.array(-1)}),
    (SHARE, {"digest": np.zeros(3, np.uint8)}),
    (SHARE, {"envelopes": np.zeros((1, 2), np.uint8)}),
    (SHARE, {"envelopes": None}),
    (SHARE, {"refused": np.array("{")}),
    (SHARE, {"objects": np.array('[["nobody", "malformed"]]')}),
    (SHARE, {"objects": np.array('[["c01", "because"]]')}),
    (PROVE, {"envelopes": None}),
    (PROVE, {"envelopes": np.zeros((7, 9), np.uint8)}),
    (CHECK, {"answers": np.zeros((8, 3), np.uint64)}),
    (CHECK, {"answers": np.full((8, 96), 2**62, np.uint64)}),
    (AGREE, {"echoes": None}),
    (SUM, {"envelopes": np.zeros((3, 3, 3), np.uint8)}),
    (RECEIVE, {"version": np.array([1.5])}),
    (RECEIVE, {"objects": np.array([1, 2])}),
]


@dataclass(frozen=True)
class Liar:
    """What one client replies instead, in one step."""

    step: str
    change: dict[str, Any]

    def __call__(self, message: Message) -> Message:
        changed = {**message, **self.change}
        return {key: array for key, array in changed.items() if array is not None}


@pytest.mark.parametrize(("step_name", "change"), ODD)
def test_one_odd_reply_is_refused_and_the_mean_goes_on(step_name: str, change: dict[str, Any]) -> None:
    run = SecureRun(8, transcript=None, tolerant=True)
    lying(run, Liar(step_name, change))
    included = run.round(0)
    expected = names(8) if step_name not in (SHARE, PROVE) else [c for c in names(8) if c != "c02"]
    assert included == tuple(expected)
    assert left_out(run.driver.refusals, 2) == {"c02"}
    others = {base(run, client) for client in expected if client != "c02"}
    assert len(others) == 1
    strict = SecureRun(8, transcript=None)
    lying(strict, Liar(step_name, change))
    with pytest.raises((ClientError, ProtocolError), match="c02"):
        strict.round(0)


def lying(run: SecureRun, liar: Liar) -> None:
    """Let c02 reply something else."""
    honest = run.driver._call

    def call(name: str, found: Any, clients: Any, received: Any) -> Any:
        results = honest(name, found, clients, received)
        if name != liar.step:
            return results
        return [
            (result[0], liar(dict(result[1]))) if client == "c02" else result
            for client, result in zip(clients, results, strict=True)
        ]

    run.driver._call = call  # type: ignore[method-assign]


def test_a_refusal_of_one_does_not_leave_anybody_out() -> None:
    run = SecureRun(8, transcript=None, tolerant=True)
    lying(run, Liar(RECEIVE, {"objects": np.array('[["c00", "tampering"], ["c01", "tampering"]]')}))
    run.round(0)
    assert run.objections() == {("c02", "c00"), ("c02", "c01")}
    assert left_out(run.driver.refusals, 2) == frozenset()


def test_more_accusers_than_may_lie_together_leave_a_client_out() -> None:
    accused = [Refusal(by, "x", "tampering", 1, SHARE) for by in ("a", "b", "c", "x")]
    assert left_out(accused[:2], 2) == frozenset()
    assert left_out([*accused[:2], accused[0], accused[3]], 2) == frozenset()
    assert left_out(accused[:3], 2) == {"x"}
    assert left_out([replace(accused[0], by=BY_SERVER)], 2) == {"x"}


@pytest.fixture(scope="module")
def dataset() -> FederatedDataset:
    return load_icons(IconSettings(shots=6, validation_shots=3, test_shots=2, domains=("sketch", "pixel")), 0)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("mini", device="cpu")


@dataclass(frozen=True)
class Spoiling(SecureMean):
    """The mean, with one client that seals nonsense to everybody, and one that sends a version of its own making."""

    spoils: str = field(default="", kw_only=True)
    boasts: str = field(default="", kw_only=True)

    @step
    def share(self, context: Any, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        state, reply = super().share(context, state, payload)
        if context.client == self.spoils:
            reply = {**reply, "envelopes": reply["envelopes"][::-1].copy()}
        if context.client == self.boasts:
            reply = {**reply, "version": np.array(np.nan)}
        return state, reply


def trained(dataset: FederatedDataset, backbone: Backbone, **liars: str) -> RunResult:
    method = make("promptfl", aggregator=Spoiling(**liars))
    return train(dataset, backbone, method, method="promptfl", seed=0, rounds=3)


def test_a_run_goes_on_without_those_who_spoil_it(dataset: FederatedDataset, backbone: Backbone) -> None:
    bad, worse = dataset.clients[1].name, dataset.clients[5].name
    result = trained(dataset, backbone, spoils=bad, boasts=worse)
    assert left_out(result.refusals, 2) == {bad, worse}
    accusers = {one.by for one in result.refusals if one.party == bad}
    assert len(accusers) > 2
    moved = {client: prompt.tobytes() for client, prompt in zip(result.clients, result.prompts, strict=True)}
    honest = {moved[client] for client in moved if client not in (bad, worse)}
    assert len(honest) == 1
    assert honest != {trained(dataset, backbone).prompts[0].tobytes()}
    assert {row["round"] for row in result.rows} == {1, 2, 3}


def test_nobody_is_refused_in_an_honest_run(dataset: FederatedDataset, backbone: Backbone) -> None:
    assert trained(dataset, backbone).refusals == ()
