"""One client that spoils the search for groups, or a poll: the run goes on without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from secfpp.algorithms.secfpp import SecFPP
from secfpp.algorithms.training import LocalTraining
from secfpp.crypto.field import PrimeField
from secfpp.data.federated import FederatedDataset, hold_out
from secfpp.data.icons import IconSettings, load_icons
from secfpp.experiment.results.refused import refusals
from secfpp.models.backbone import Backbone, load_backbone
from secfpp.protocol.program import Arrays, ClientState, step
from secfpp.protocol.refusals import BY_SERVER, left_out
from secfpp.runtime.trainer import RunResult, train
from secfpp.secure.clustering.secure_agreement import SecureAgreement
from secfpp.secure.polls.secure_poll import SecurePoll
from support.method_runs import shifted

Message = dict[str, np.ndarray]
Change = Callable[[Message], Message]


LIAR: dict[str, Any] = {"client": "", "changes": {}}
"""Who spoils, and what it does to its own replies, by step; no setting, which all parties would have to share."""


def spoiled(name: str, context: Any, reply: Arrays) -> Arrays:
    change = LIAR["changes"].get(name) if context.client == LIAR["client"] else None
    return change(dict(reply)) if change else reply


@dataclass(frozen=True)
class SpoiledSearch(SecureAgreement):
    @step
    def announce(self, context: Any, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        state, reply = super().announce(context, state, payload)
        return state, spoiled("announce", context, reply)

    @step
    def deal(self, context: Any, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        state, reply = super().deal(context, state, payload)
        return state, spoiled("deal", context, reply)

    @step
    def proceed(self, context: Any, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        state, reply = super().proceed(context, state, payload)
        return state, spoiled("proceed", context, reply)


def without(prefix: str) -> Change:
    return lambda reply: {key: array for key, array in reply.items() if not key.startswith(prefix)}


def short(reply: Message) -> Message:
    return {key: array[:, :-9].copy() if key == "envelopes" else array for key, array in reply.items()}


def few(reply: Message) -> Message:
    return {**reply, "envelopes": reply["envelopes"][1:]}


def other(**arrays: np.ndarray) -> Change:
    return lambda reply: {**reply, **arrays}


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("mini", device="cpu")


@pytest.fixture(scope="module")
def dataset() -> FederatedDataset:
    settings = IconSettings(
        shots=8, validation_shots=4, test_shots=2, clients_per_domain=5, domains=("sketch", "pixel")
    )
    return shifted(load_icons(settings, 0))


def trained(dataset: FederatedDataset, backbone: Any, client: str, **changes: Change) -> RunResult:
    LIAR.update(client=client, changes=changes)
    method = SecFPP(
        training=LocalTraining(steps=2, batch=8),
        effort=1.0,
        clusterer=SpoiledSearch(restarts=8, iterations=1, k_max=2),
        poll=SecurePoll(),
    )
    return train(dataset, backbone, method, method="secfpp", seed=0, rounds=4)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("announce", other(spread=np.array(np.nan))),
        ("announce", other(spread=np.array(3.0))),
        ("announce", without("dimensions")),
        ("deal", few),
        ("deal", without("envelopes")),
        ("deal", without("coin")),
        ("deal", short),
        ("proceed", other(masked=np.zeros(3))),
        ("proceed", without("coin")),
    ],
)
def test_groups_are_found_without_a_client_that_spoils_the_search(
    name: str, change: Change, dataset: FederatedDataset, backbone: Any
) -> None:
    bad = "pixel-1"  # among the first in order, who answer
    result = trained(dataset, backbone, bad, **{name: change})
    assert left_out(result.refusals, 1) == {bad}
    found = dict(zip(result.clients, result.assignment or (), strict=True))
    assert found.pop(bad) == -1
    assert len(set(found.values())) == 2
    groups = {domain: {found[name] for name in found if name.startswith(domain)} for domain in dataset.domains}
    assert all(len(numbers) == 1 for numbers in groups.values()), groups


def noisy(name: str, places: slice) -> Change:
    """Adds to some of the values that a holder answers, which stay field elements."""

    def change(reply: Message) -> Message:
        if name not in reply:
            return reply
        values = reply[name].copy()
        values[places] = PrimeField.add(values[places], np.ones_like(values[places]))
        return {**reply, name: values}

    return change


@pytest.mark.parametrize(
    "change", [noisy("masked", slice(None)), noisy("checks", slice(0, 1)), noisy("checks", slice(3))]
)
def test_a_holder_that_answers_falsely_and_cannot_be_named_ends_nobodys_run(
    change: Change, dataset: FederatedDataset, backbone: Any
) -> None:
    result = trained(dataset, backbone, "pixel-1", proceed=change)
    assert np.isfinite(result.prompts).all()
    lost = [one for one in result.refusals if not one.party]
    assert lost and {(one.by, one.reason, one.step) for one in lost} == {(BY_SERVER, "tampering", "clusterer.proceed")}
    (found,) = refusals([result])
    assert found["spoiled_groupings"] == sorted({one.round for one in lost}) and found["left_out"] == []
    start, prompts = result.prompts[0], result.domain_prompts
    assert prompts is not None and not np.array_equal(start, prompts[0])
    averaged = {prompt.tobytes() for client, prompt in zip(result.clients, prompts, strict=True) if client != "pixel-1"}
    assert len(averaged) <= 2  # prompts are averaged all the same, in groups or in one


def test_who_joins_after_training_waits_if_a_holder_answers_falsely(
    dataset: FederatedDataset, backbone: Backbone
) -> None:
    data, ended = hold_out(dataset, 0.2, 0), list[int]()
    lies = noisy("masked", slice(None))
    LIAR.update(client="pixel-1", changes={"proceed": lambda reply: lies(reply) if ended else dict(reply)})
    settings = {"clusterer": SpoiledSearch(restarts=8, iterations=1, k_max=2), "min_gain": -99.0, "effort": 1.0}
    method = SecFPP(training=LocalTraining(steps=2, batch=8), **settings)
    result = train(
        data, backbone, method, method="secfpp", seed=0, rounds=2,
        on_round=lambda record: ended.extend([1] * (record.round == record.rounds)),
    )  # fmt: skip
    assert len(set(result.assignment or ())) == 2 and result.newcomer_assignment == (-1, -1)
    assert {(one.by, one.party, one.round, one.step) for one in result.refusals} == {
        (BY_SERVER, "", 3, "clusterer.proceed")
    }
