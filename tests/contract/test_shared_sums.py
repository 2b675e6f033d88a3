"""Sums that clients share: a class that too few hold is in none, and shares change no bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from secfpp.algorithms.class_means import EverybodysClassMeans
from secfpp.algorithms.sharing import EVERYBODY
from secfpp.algorithms.visual import ClassMeans
from secfpp.data.federated import FederatedDataset, Split, hold_out
from secfpp.errors import ProtocolError
from secfpp.models.backbone import Backbone
from secfpp.protocol import wire
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientState
from secfpp.protocol.transcript import Transcript
from secfpp.runtime.contexts import make_contexts
from secfpp.runtime.in_process import InProcessDriver
from secfpp.runtime.trainer import train
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.polls.plain_poll import PlainPoll

CLEAR: dict[str, Any] = {"aggregator": PlainMean(), "poll": PlainPoll()}


def without(split: Split, label: int) -> Split:
    kept = split.labels != label
    return Split(split.images[kept], split.labels[kept])


def rare(dataset: FederatedDataset, label: int, holders: int) -> FederatedDataset:
    """The same data, where only the first `holders` clients have images of a class."""
    first = {client.name for client in dataset.clients[:holders]}
    clients = tuple(c if c.name in first else replace(c, train=without(c.train, label)) for c in dataset.clients)
    for name in first:
        assert any(c.name == name and (c.train.labels == label).any() for c in clients), "choose another label"
    return replace(dataset, clients=clients)


def shared(dataset: FederatedDataset, backbone: Backbone, transcript: Transcript | None = None, **settings: Any) -> Any:
    """Everybody's sums as each client knows them after one round."""
    algorithm = EverybodysClassMeans(**settings)
    contexts = make_contexts(dataset, backbone, algorithm, 0)
    states: dict[str, ClientState] = {name: algorithm.client_state(context) for name, context in contexts.items()}
    driver = InProcessDriver(algorithm, contexts, states, transcript=transcript)
    driver.round_ = 1
    driver.run(algorithm.round(algorithm.server_state(), Cohort(dict.fromkeys(contexts, 1), 1, 0, 1)))
    return {name: algorithm.shared_sums(contexts[name], driver.states[name], EVERYBODY) for name in contexts}


def label_of_all(dataset: FederatedDataset, n: int) -> int:
    """A class that the first n clients all have."""
    common = set.intersection(*(set(client.train.labels.tolist()) for client in dataset.clients[:n]))
    return min(common)


@pytest.mark.parametrize("holders", [2, 3])
@pytest.mark.parametrize("settings", [CLEAR, {}], ids=["clear", "shares"])
def test_a_class_is_shared_from_min_holders_on(
    holders: int, settings: dict[str, Any], dataset: FederatedDataset, backbone: Backbone
) -> None:
    label = label_of_all(dataset, 3)
    data = rare(dataset, label, holders)
    found = shared(data, backbone, **settings)
    counts = found[data.clients[-1].name].classes.counts
    exact = sum(c.train.histogram(len(data.classes)) for c in data.clients)
    held = sum((c.train.histogram(len(data.classes)) > 0).astype(int) for c in data.clients)
    assert counts == pytest.approx(np.where(held >= 3, exact, 0), abs=1e-3)
    assert (counts[label] > 0.5) == (holders == 3)


def test_shares_change_no_bit_and_the_server_sees_no_sum(dataset: FederatedDataset, backbone: Backbone) -> None:
    transcript = Transcript(keep_contents=True)
    secure, clear = shared(dataset, backbone, transcript), shared(dataset, backbone, **CLEAR)
    for name in secure:
        assert np.array_equal(secure[name].classes.sums, clear[name].classes.sums)
        assert np.array_equal(secure[name].scatter.products, clear[name].scatter.products)
    sent = {key.partition(".")[0] for message in transcript for key in wire.decode(message.content)}
    assert not sent & {"update", "total", "everybody_sums", "holds", "bits", "gain"}


def test_sums_are_those_of_all_images(dataset: FederatedDataset, backbone: Backbone) -> None:
    found = next(iter(shared(dataset, backbone, class_means=ClassMeans(levels="all", min_holders=3), **CLEAR).values()))
    features = {c.name: backbone.features(c.train.images).double().numpy() for c in dataset.clients}
    label = int(found.classes.counts.argmax())
    total = sum(features[c.name][c.train.labels == label].sum(0) for c in dataset.clients)
    assert found.classes.sums[label] == pytest.approx(total, abs=1e-3)
    assert found.members == len(dataset.clients)


def test_a_list_of_classes_that_is_none_is_refused(dataset: FederatedDataset, backbone: Backbone) -> None:
    algorithm = EverybodysClassMeans(**CLEAR)
    context = next(iter(make_contexts(dataset, backbone, algorithm, 0).values()))
    state = algorithm.client_state(context)
    for payload in (
        {"slot": np.array(EVERYBODY)},
        {"slot": np.array(EVERYBODY), "classes": np.ones(3, bool)},
        {"slot": np.array("prompt"), "classes": np.ones(len(dataset.classes), bool)},
    ):
        with pytest.raises(ProtocolError):
            algorithm.offer(context, state, payload)


def test_newcomers_get_everybodys_sums_and_are_measured_apart(dataset: FederatedDataset, backbone: Backbone) -> None:
    data = hold_out(dataset, 0.3, 0)
    result = train(data, backbone, EverybodysClassMeans(**CLEAR), method="class_means", seed=0, rounds=3)
    assert len(result.newcomers) == 2 and not set(result.newcomers) & set(result.clients)
    assert result.metrics["own"].shape == (6,) and result.newcomer_metrics["own"].shape == (2,)
    nothing = EverybodysClassMeans(class_means=ClassMeans(levels="all", min_holders=99), **CLEAR)
    alone = train(data, backbone, nothing, method="class_means", seed=0, rounds=1)
    assert not np.array_equal(alone.newcomer_metrics["own_domain"], result.newcomer_metrics["own_domain"])
