"""Clients that take part in some rounds only: every method trains, and goes on to the same bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secfpp.algorithms.training import LocalTraining
from secfpp.data.federated import FederatedDataset
from secfpp.errors import ConfigError, DataError
from secfpp.models.backbone import Backbone
from secfpp.protocol import wire
from secfpp.protocol.transcript import Transcript
from secfpp.runtime.contexts import dataset_digest
from secfpp.runtime.trainer import RoundRecord, RunResult, participants, train
from secfpp.secure.clustering.clusterer import OracleClusters
from secfpp.secure.means.plain_mean import PlainMean
from support.method_runs import LEARNING, TRAINED, make
from support.stopping import stopped

ROUNDS = 4


def run(dataset: FederatedDataset, backbone: Backbone, name: str, rounds: int = ROUNDS, **options: Any) -> RunResult:
    options = {"participation": 0.5, **options}
    return train(dataset, backbone, make(name), method=name, seed=0, rounds=rounds, **options)


def assert_same(a: RunResult, b: RunResult) -> None:
    assert np.array_equal(a.prompts, b.prompts) and a.rows == b.rows and a.assignment == b.assignment
    assert all(np.array_equal(a.metrics[name], b.metrics[name], equal_nan=True) for name in a.metrics)
    assert a.costs.up == b.costs.up and a.costs.down == b.costs.down and a.costs.components == b.costs.components


@given(st.integers(1, 60), st.floats(0.001, 1.0), st.integers(0, 1000), st.integers(1, 50))
def test_a_share_of_the_clients_is_drawn(n: int, share: float, seed: int, round_: int) -> None:
    clients = [f"c{i:02d}" for i in range(n)]
    drawn = participants(clients, share, seed, round_)
    assert len(drawn) == max(1, round(share * n))
    assert drawn == sorted(set(drawn)) and set(drawn) <= set(clients)
    assert drawn == participants(reversed(clients), share, seed, round_)
    assert participants(clients, 1.0, seed, round_) == clients


def test_rounds_and_seeds_draw_others_and_everybody_in_the_end() -> None:
    clients = [f"c{i:02d}" for i in range(12)]
    draws = [tuple(participants(clients, 0.25, seed, round_)) for seed in range(3) for round_ in range(40)]
    assert len(set(draws)) > 50
    counts = [sum(client in draw for draw in draws) for client in clients]
    assert sum(counts) == 3 * 120 and min(counts) > 10 and max(counts) < 55


@pytest.mark.parametrize("name", LEARNING)
def test_only_those_drawn_are_asked_and_everybody_is_measured(
    name: str, dataset: FederatedDataset, backbone: Backbone
) -> None:
    transcript, records = Transcript(), list[RoundRecord]()
    result = run(dataset, backbone, name, transcript=transcript, on_round=records.append)
    for number in range(1, ROUNDS + 1):
        drawn = set(participants(result.clients, 0.5, 0, number))
        assert len(drawn) == 4
        assert {message.client for message in transcript if message.round == number} == drawn
        rows = [row for row in result.rows if row["round"] == number]
        assert {row["client"] for row in rows if row["loss"] is not None} == drawn
        assert all(row["validation"] is not None for row in rows) and len(rows) == len(result.clients)
        losses = [row["loss"] for row in rows if row["loss"] is not None]
        assert records[number - 1].loss == pytest.approx(np.mean(losses))
    assert np.isfinite(result.metrics["own"]).all() and len(result.prompts) == len(result.clients)


def test_class_means_are_shared_by_those_drawn_and_all_are_measured(
    dataset: FederatedDataset, backbone: Backbone
) -> None:
    transcript = Transcript()
    result = run(dataset, backbone, "class_means", transcript=transcript)
    drawn = set(participants(result.clients, 0.5, 0, 1))
    assert {(message.round, message.client) for message in transcript} == {(1, client) for client in drawn}
    assert {row["loss"] for row in result.rows} == {None} and np.isfinite(result.metrics["own"]).all()
    alone = run(dataset, backbone, "class_means_local")
    assert alone.visual_weights is not None and result.visual_weights is not None
    same = {c for i, c in enumerate(result.clients)
            if np.array_equal(alone.visual_weights[i], result.visual_weights[i])}  # fmt: skip
    assert not same & drawn


@pytest.mark.parametrize("name", TRAINED)
def test_going_on_changes_no_bit(name: str, dataset: FederatedDataset, backbone: Backbone, tmp_path: Any) -> None:
    path = tmp_path / "run.checkpoint"
    stopped(
        min(2, make(name).planned(ROUNDS)),
        lambda on_round: run(dataset, backbone, name, checkpoint=path, on_round=on_round),
    )
    assert_same(run(dataset, backbone, name, checkpoint=path), run(dataset, backbone, name))


def test_who_was_away_catches_up_before_training_and_counts(dataset: FederatedDataset, backbone: Backbone) -> None:
    transcript = Transcript(keep_contents=True)
    result = run(dataset, backbone, "promptfl", transcript=transcript)
    weight = {client.name: len(client.train) for client in dataset.clients}
    caught_up = {m.round for m in transcript if m.step == "aggregator.catch_up"}
    assert caught_up and 1 not in caught_up
    for number in range(1, ROUNDS + 1):
        sums = [wire.decode(m.content) for m in transcript if (m.round, m.step) == (number, "aggregator.receive")]
        drawn = participants(result.clients, 0.5, 0, number)
        downs = [int(message["weight"]) for message in sums if "weight" in message]
        assert set(downs) == {sum(weight[client] for client in drawn)}


def test_groups_keep_their_absent_members(dataset: FederatedDataset, backbone: Backbone) -> None:
    settings = {"clusterer": OracleClusters(), "aggregator": PlainMean(), "proof": False, "local_lr": 0.0}
    algorithm = make("secfpp", training=LocalTraining(steps=1, batch=8), **settings)
    result = train(dataset, backbone, algorithm, method="secfpp", seed=0, rounds=8, participation=0.5)
    drawn = {client for number in range(1, 9) for client in participants(result.clients, 0.5, 0, number)}
    assert drawn == set(result.clients)
    assert len(set(zip(result.assignment or (), result.domains, strict=True))) == 2


def test_a_client_that_is_never_drawn_keeps_its_start(dataset: FederatedDataset, backbone: Backbone) -> None:
    result = run(dataset, backbone, "coop_local", rounds=2, participation=0.125)
    drawn = {client for number in (1, 2) for client in participants(result.clients, 0.125, 0, number)}
    moved = {
        client
        for client, prompt in zip(result.clients, result.prompts, strict=True)
        if not any(
            np.array_equal(prompt, other) for i, other in enumerate(result.prompts) if result.clients[i] != client
        )
    }
    assert moved == drawn and 1 <= len(drawn) <= 2
    assert set(result.costs.up) == drawn


def test_a_checkpoint_of_another_share_is_refused(dataset: FederatedDataset, backbone: Backbone, tmp_path: Any) -> None:
    path = tmp_path / "run.checkpoint"
    run(dataset, backbone, "coop_local", rounds=1, checkpoint=path)
    with pytest.raises(DataError, match="other settings"):
        run(dataset, backbone, "coop_local", rounds=1, checkpoint=path, participation=1.0)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.01, float("nan")])
def test_a_share_that_makes_no_sense_is_refused(share: float, dataset: FederatedDataset, backbone: Backbone) -> None:
    with pytest.raises(ConfigError, match="participation"):
        run(dataset, backbone, "coop_local", participation=share)


def test_the_digest_of_the_data_sees_every_part(dataset: FederatedDataset) -> None:
    client, *others = dataset.clients
    images = client.train.images.copy()
    images[0, 0, 0, 0] ^= 1
    (domain, split), *_ = dataset.test.items()
    labels = split.labels.copy()
    labels[0] += 1
    changed = [
        replace(dataset, clients=(replace(client, train=replace(client.train, images=images)), *others)),
        replace(dataset, clients=(replace(client, name="else"), *others)),
        replace(dataset, test={**dataset.test, domain: replace(split, labels=labels)}),
        replace(dataset, classes=("else", *dataset.classes[1:])),
        replace(dataset, template="an image of {}"),
        replace(dataset, clients=tuple(others)),
    ]
    digests = {dataset_digest(each) for each in changed}
    assert len(digests | {dataset_digest(dataset)}) == 7
    assert dataset_digest(replace(dataset, facts={"said": "nothing"})) == dataset_digest(dataset)
