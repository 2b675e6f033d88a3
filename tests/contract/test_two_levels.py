"""SecFPP's two levels: clusters that must prove useful, and a private part that comes last."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from secfpp.algorithms.secfpp import SecFPP
from secfpp.algorithms.training import LocalTraining
from secfpp.data.federated import FederatedDataset, Split
from secfpp.data.icons import IconSettings, load_icons
from secfpp.errors import ConfigError, ProtocolError
from secfpp.models.backbone import Backbone
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import Replies
from secfpp.protocol.transcript import Transcript
from secfpp.runtime.contexts import make_contexts
from secfpp.runtime.trainer import RunResult, train
from secfpp.secure.clustering.clusterer import OneCluster, OracleClusters

ALWAYS, NEVER = -100.0, 100.0


def run(dataset: FederatedDataset, backbone: Backbone, rounds: int = 4, **settings: Any) -> RunResult:
    options = {name: settings.pop(name) for name in ("dropouts", "transcript") if name in settings}
    settings = {"training": LocalTraining(steps=2, batch=8), "clusterer": OracleClusters(), **settings}
    return train(dataset, backbone, SecFPP(**settings), method="secfpp", seed=0, rounds=rounds, **options)


def shifted(dataset: FederatedDataset) -> FederatedDataset:
    """The same images, where every label means the next one in the second domain."""

    def turned(split: Split) -> Split:
        return replace(split, labels=(split.labels + 1) % len(dataset.classes))

    second = dataset.domains[1]
    clients = tuple(
        replace(c, train=turned(c.train), validation=turned(c.validation)) if c.domain == second else c
        for c in dataset.clients
    )
    return replace(dataset, clients=clients, test={**dataset.test, second: turned(dataset.test[second])})


@pytest.mark.parametrize(("min_gain", "k"), [(ALWAYS, 2), (NEVER, 1)])
def test_the_proof_decides_between_the_clusters_and_one_group(
    min_gain: float, k: int, dataset: FederatedDataset, backbone: Backbone
) -> None:
    result = run(dataset, backbone, min_gain=min_gain, common_rounds=2, local_lr=0.0)
    assert result.assignment is not None and len(set(result.assignment)) == k
    for i, a in enumerate(result.assignment):
        for j, b in enumerate(result.assignment):
            assert np.array_equal(result.prompts[i], result.prompts[j]) == (a == b)


def test_clusters_that_mean_other_things_by_a_label_prove_useful(backbone: Backbone) -> None:
    settings = IconSettings(rho=1.0, shots=6, validation_shots=4, test_shots=1, clients_per_domain=4,
                            domains=("sketch", "pixel"))  # fmt: skip
    same_meaning = load_icons(settings, 0)
    training = LocalTraining(steps=5, batch=64)
    apart, alike = (
        run(data, backbone, 3, training=training, local_lr=0.0, min_gain=5.0)
        for data in (shifted(same_meaning), same_meaning)
    )
    assert set(apart.assignment or ()) == {0, 1}
    assert set(alike.assignment or ()) == {0}


def test_before_the_proof_everybody_is_one_group(dataset: FederatedDataset, backbone: Backbone) -> None:
    asked: list[tuple[int, str]] = []
    run(dataset, backbone, common_rounds=3, local_lr=0.0, dropouts=lambda r, step, c: asked.append((r, step)))
    proof = {"clusterer.domain", "method.branch", "method.compare", "method.settle"}
    assert {round_ for round_, step in asked if step in proof} == {3}
    without: list[tuple[int, str]] = []
    run(dataset, backbone, common_rounds=0, local_lr=0.0, dropouts=lambda r, step, c: without.append((r, step)))
    assert {step for _, step in without} & proof == {"clusterer.domain"}


@pytest.mark.parametrize("step", ["method.branch", "method.compare", "method.settle", "aggregator.receive"])
@pytest.mark.parametrize("min_gain", [ALWAYS, NEVER])
def test_who_misses_part_of_the_proof_catches_up(
    step: str, min_gain: float, dataset: FederatedDataset, backbone: Backbone
) -> None:
    def lose(round_: int, asked: str, client: str) -> Any:
        return "before" if (round_, asked, client) == (2, step, "pixel-1") else None

    result = run(dataset, backbone, 5, common_rounds=2, min_gain=min_gain, local_lr=0.0, averaged_rounds=1,
                 aggregator=replace(SecFPP().aggregator, min_responders=3, threshold=1), dropouts=lose)  # fmt: skip
    prompts = dict(zip(result.clients, result.prompts, strict=True))
    assert np.array_equal(prompts["pixel-1"], prompts["pixel-0"])
    assert np.array_equal(prompts["pixel-0"], prompts["sketch-0"]) == (min_gain == NEVER)


def test_clients_that_were_told_different_averages_stop_the_round() -> None:
    clients = {f"c{i}": 1 for i in range(8)}
    program = SecFPP().prove(Assignment.from_labels(list(clients), [0] * 4 + [1] * 4), Cohort(clients, 3, 0, 20))
    request, replies = next(program), Replies({c: {} for c in clients})
    while getattr(request, "step", "") != "method.settle":
        if hasattr(request, "asks"):
            request = program.send(Replies({}, joint={label: Replies({}, list(clients)) for label in request.asks}))
        elif request.step.startswith("method"):
            request = program.send(replies)
        else:
            request = program.send(Replies({}, list(clients)))
    with pytest.raises(ProtocolError, match="disagree"):
        program.send(Replies({c: {"useful": np.array(c != "c3")} for c in clients}))


def test_the_private_part_comes_last_and_is_sent_nowhere(dataset: FederatedDataset, backbone: Backbone) -> None:
    transcript = Transcript()
    result = run(dataset, backbone, 5, local_share=0.4, transcript=transcript)
    last = [message for message in transcript if message.round > 3]
    assert {message.step for message in last} == {"method.personalize"}
    empty = max(message.size for message in transcript if message.step == "method.train" and message.direction == "up")
    assert all(message.size == empty for message in last if message.direction == "up")
    assert result.domain_prompts is not None and result.familiar is not None
    before = run(dataset, backbone, 5, local_share=0.4, local_lr=1e-12)
    assert np.array_equal(result.domain_prompts, before.domain_prompts)
    assert np.abs(result.prompts - result.domain_prompts).max(axis=(1, 2)).min() > 1e-3


def test_the_domain_part_is_the_mean_of_its_last_rounds(dataset: FederatedDataset, backbone: Backbone) -> None:
    ends = [
        run(dataset, backbone, n, local_lr=0.0, averaged_rounds=1, clusterer=OneCluster()).prompts for n in (2, 3, 4)
    ]
    averaged = run(dataset, backbone, 4, local_lr=0.0, averaged_rounds=3, clusterer=OneCluster()).prompts
    assert np.allclose(averaged, np.mean(ends, axis=0), atol=1e-6)


def test_rounds_are_shared_out() -> None:
    assert [SecFPP().domain_rounds(rounds) for rounds in (1, 2, 3, 8, 20)] == [1, 1, 1, 4, 10]
    assert SecFPP(local_lr=0.0).domain_rounds(20) == SecFPP(joint=True).domain_rounds(20) == 20
    assert SecFPP(local_share=0.0).domain_rounds(20) == 20 and SecFPP(local_share=0.99).domain_rounds(20) == 1


def test_untrained_private_parts_change_no_prediction(dataset: FederatedDataset, backbone: Backbone) -> None:
    algorithm = SecFPP()
    context = next(iter(make_contexts(dataset, backbone, algorithm, 0).values()))
    personal, domain = algorithm.prompts(algorithm.client_state(context))
    assert np.array_equal(personal, domain) and np.array_equal(domain, context.start)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("trust", 1.5), ("local_share", 1.0), ("averaged_rounds", 0), ("common_rounds", -1), ("familiar_share", -0.1)],
)
def test_settings_that_make_no_sense_are_named(setting: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{setting} = "):
        SecFPP(**{setting: value})  # type: ignore[arg-type]
