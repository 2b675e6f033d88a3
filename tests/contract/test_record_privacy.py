"""Whatever is released under differential privacy is in the ledger before it leaves, on every branch."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secfpp.algorithms.base import methods
from secfpp.algorithms.class_means import EverybodysClassMeans
from secfpp.algorithms.record_privacy import Privacy
from secfpp.algorithms.sharing import EVERYBODY, GROUP
from secfpp.data.federated import FederatedDataset, hold_out
from secfpp.errors import ClientError, ConfigError, PrivacyError, ProtocolError
from secfpp.models.backbone import Backbone
from secfpp.privacy.accounting import epsilon
from secfpp.privacy.ledger import PrivacyLedger, RunLedger
from secfpp.protocol import wire
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.transcript import Transcript
from secfpp.runtime.contexts import make_contexts
from secfpp.runtime.in_process import InProcessDriver
from secfpp.runtime.privacy import ledger_of
from secfpp.runtime.trainer import RunResult, train
from secfpp.secure.clustering.clusterer import OneCluster, OracleClusters
from secfpp.secure.clustering.plain_agreement import PlainAgreement
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.secure.polls.plain_poll import PlainPoll
from support.method_runs import ALL, make, shifted

LOOSE = Privacy(mechanism="class_means", epsilon=60.0)
COVERS = {EVERYBODY: "everybody's class sums", GROUP: "a group's class sums"}
ELSEWHERE = ("session.", "poll.", "clusterer.")
"""Whose messages carry what `not_covered` names, or depend on no image."""


@pytest.fixture(autouse=True)
def _own_ledgers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECFPP_LEDGERS", str(tmp_path / "ledgers"))


def private(name: str = "secfpp", privacy: Privacy = LOOSE, **settings: Any) -> Any:
    clear = {"poll": PlainPoll(), **({"clusterer": PlainAgreement()} if name == "secfpp" else {})}
    return make(name, privacy=privacy, **{**clear, **settings})


def run(data: FederatedDataset, backbone: Backbone, algorithm: Any, rounds: int = 2, **options: Any) -> RunResult:
    return train(data, backbone, algorithm, method="private", seed=0, rounds=rounds, **options)


def opened(data: FederatedDataset, algorithm: Any) -> PrivacyLedger:
    return ledger_of(data, algorithm.privacy_terms)


def released(transcript: Transcript) -> Counter[tuple[int, str, str]]:
    """How often each client shared its part of which sum, by round, delivered or not."""
    slots: dict[tuple[int, str], str] = {}
    found: Counter[tuple[int, str, str]] = Counter()
    for message in transcript:
        if message.step != "aggregator.share":
            continue
        content = wire.decode(message.content)
        if message.direction == "down":
            slots[message.exchange, message.client] = json.loads(content["about"].item())["slot"]
        elif "envelopes" in content:
            found[message.round, message.client, slots[message.exchange, message.client]] += 1
    return found


def charged(ledger: PrivacyLedger) -> Counter[tuple[int, str, str]]:
    slot_of = {covers: slot for slot, covers in COVERS.items()}
    return Counter((c.round, client, slot_of[c.event.covers]) for c in ledger.charges for client in c.clients)


BRANCHES: dict[str, dict[str, Any]] = {
    "groups": {"clusterer": OracleClusters(), "proof": False},
    "groups of no use": {"clusterer": OracleClusters(), "min_gain": 99.0},
    "no groups": {"clusterer": OneCluster()},
    "everybody alone": {"name": "class_means"},
}


@pytest.mark.parametrize("branch", list(BRANCHES))
def test_every_release_of_every_branch_is_in_the_ledger(branch, dataset, backbone):
    algorithm, transcript = private(**BRANCHES[branch]), Transcript(keep_contents=True)
    result = run(dataset, backbone, algorithm, transcript=transcript)
    ledger = opened(dataset, algorithm)
    made = released(transcript)
    assert made and made == charged(ledger)
    assert {slot for _, _, slot in made} == ({EVERYBODY, GROUP} if branch.startswith("groups") else {EVERYBODY})
    assert result.privacy["epsilon"] == pytest.approx(epsilon([c.event for c in ledger.charges], 1e-5))
    assert result.privacy["releases"] == len(ledger.charges)
    assert "partition" in result.privacy["not_covered"] or branch == "everybody alone"
    for message in transcript:
        if message.direction == "up" and not message.step.startswith((*ELSEWHERE, "aggregator.")):
            assert set(wire.decode(message.content)) <= {"classes", "held"}, message.step


@pytest.mark.parametrize("fate", ["before", "after"])
def test_no_dropout_leads_to_a_release_that_is_not_in_the_ledger(fate, dataset, backbone):
    algorithm = private(clusterer=OracleClusters(), proof=False)
    seen: list[tuple[int, str]] = []
    run(dataset, backbone, algorithm, rounds=1, dropouts=lambda r, step, client: seen.append((r, step)))
    for number, at in enumerate(sorted(set(seen))):
        method = f"dropout {fate} {number}"

        def lose(round_, step, client, at=at):
            return fate if (round_, step) == at and client == "pixel-2" else None

        transcript = Transcript(keep_contents=True)
        options = {"method": method, "seed": 0, "rounds": 2, "transcript": transcript, "dropouts": lose}
        train(dataset, backbone, algorithm, **options)
        ledger = opened(dataset, algorithm)
        own = replace(ledger, charges=[c for c in ledger.charges if c.run == f"{method}, seed 0"])
        assert not released(transcript) - charged(own), at


def test_what_members_learn_is_noisy_and_never_the_same_twice(dataset, backbone):
    algorithm = private("class_means")
    one, other = (run(dataset, backbone, algorithm, rounds=1) for _ in range(2))
    assert not np.array_equal(one.visual_weights, other.visual_weights)
    exact = run(dataset, backbone, make("class_means", poll=PlainPoll()), rounds=1)
    assert not np.array_equal(one.visual_weights, exact.visual_weights)


def test_the_second_run_on_the_same_pictures_adds_up(dataset, backbone):
    algorithm = private("class_means")
    first, second = (run(dataset, backbone, algorithm, rounds=1) for _ in range(2))
    assert second.privacy["epsilon"] == first.privacy["epsilon"]
    assert second.privacy["data"]["epsilon"] > first.privacy["data"]["epsilon"]
    held = hold_out(dataset, 0.3, 0)  # dealt otherwise, the pictures are the same
    third = run(held, backbone, algorithm, rounds=1)
    assert third.privacy["data"]["releases"] == 3


def test_a_killed_run_goes_on_without_another_release_and_tells_what_it_released(dataset, backbone, tmp_path):
    algorithm = private(clusterer=OracleClusters(), proof=False)

    def kill(record):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(dataset, backbone, algorithm, checkpoint=tmp_path / "c", on_round=kill)
    before = charged(opened(dataset, algorithm))
    result = run(dataset, backbone, algorithm, checkpoint=tmp_path / "c")
    assert charged(opened(dataset, algorithm)) == before
    assert result.privacy["releases"] == 2
    assert result.privacy["epsilon"] == pytest.approx(result.privacy["data"]["epsilon"])


def test_a_budget_ends_a_run_before_anything_is_shared(dataset, backbone):
    algorithm = private("class_means", replace(LOOSE, epsilon_budget=61.0))
    run(dataset, backbone, algorithm, rounds=1)
    transcript = Transcript(keep_contents=True)
    with pytest.raises(ClientError, match="budget is 61"):
        run(dataset, backbone, algorithm, rounds=1, transcript=transcript)
    assert not released(transcript)
    assert len(opened(dataset, algorithm).charges) == 1


def test_a_part_is_made_once_for_each_charge_and_not_without(dataset, backbone):
    algorithm = private("class_means")
    context = next(iter(make_contexts(dataset, backbone, algorithm, 0).values()))
    state = algorithm.client_state(context)
    classes = np.ones(len(dataset.classes), bool)
    offer = {"slot": np.array(EVERYBODY), "classes": classes, "round": np.array(1)}
    with pytest.raises(ProtocolError, match="written down"):
        algorithm.offer(context, state, offer)
    charge = {"slot": np.array(EVERYBODY), "round": np.array(1), "members": np.array(8)}
    with pytest.raises(PrivacyError, match="without a ledger"):
        algorithm.charge(context, state, charge)
    context = replace(context, ledger=RunLedger(opened(dataset, algorithm), "trial"))
    few = algorithm.charge(context, state, {**charge, "members": np.array(3)})[0]
    with pytest.raises(ProtocolError, match="3 members"):
        algorithm.offer(context, few, offer)
    state, _ = algorithm.charge(context, state, charge)
    with pytest.raises(ProtocolError, match="written down"):
        algorithm.offer(context, state, {**offer, "round": np.array(2)})
    state, _ = algorithm.offer(context, state, offer)
    with pytest.raises(ProtocolError, match="written down"):
        algorithm.offer(context, state, offer)


def test_a_method_that_promises_nothing_charges_nothing(dataset, backbone, tmp_path):
    result = run(dataset, backbone, make("class_means", poll=PlainPoll()), rounds=1)
    assert result.privacy == {} and not (tmp_path / "ledgers").exists()


def test_settings_under_which_nothing_can_be_promised_are_refused():
    with pytest.raises(ConfigError, match=r"aggregator\.kind = 'plain'"):
        private(aggregator=PlainMean(min_responders=4))
    with pytest.raises(ConfigError, match=r"privacy\.mechanism"):
        make("secfpp_paper", privacy=LOOSE)


def test_no_other_method_promises_anything():
    """One that comes to do so needs a branch above, or in another of the tests of privacy beside this file."""
    claims = {name for name in ALL if getattr(methods()[name], "mechanisms", ("none",)) != ("none",)}
    assert claims <= {"secfpp", "secfpp_paper", "class_means", "promptfl", "dp_fpl", "fedprox"}
    assert all(make(name).privacy_terms is None and make(name).not_covered is not None for name in ALL)


@pytest.mark.parametrize(("share", "clusterer"), [(1.0, OracleClusters()), (0.75, OneCluster())])
def test_newcomers_and_clients_that_were_away_get_what_was_released_and_release_nothing(
    share, clusterer, dataset, backbone
):
    aggregator, transcript = SecureMean(min_responders=3, threshold=1), Transcript(keep_contents=True)
    algorithm = private(clusterer=clusterer, aggregator=aggregator, proof=False)
    held = hold_out(dataset, 0.2, 0)
    result = run(held, backbone, algorithm, rounds=3, participation=share, transcript=transcript)
    assert released(transcript) == charged(opened(held, algorithm))
    assert {round_ for round_, _, _ in released(transcript)} == {1}
    assert len(result.newcomers) == 2 and not set(result.newcomers) & {name for _, name, _ in released(transcript)}
    assert all(result.privacy["clients"][name] == 0.0 for name in result.newcomers)
    assert np.isfinite(result.newcomer_metrics["own"]).all()


def test_groups_found_under_noise_are_used(dataset, backbone):
    algorithm = private(clusterer=PlainAgreement(k_max=3), proof=False)
    result = run(shifted(dataset), backbone, algorithm, rounds=2)
    assert result.privacy["releases"] in (1, 2)
    assert np.isfinite(result.prompts).all()
    start = algorithm.prompt.initial(backbone, dataset.template, None)
    assert result.domain_prompts is not None
    assert all(np.array_equal(prompt, start) for prompt in result.domain_prompts)


def test_noise_made_for_many_is_not_given_to_a_sum_of_few(dataset, backbone):
    class Hostile(EverybodysClassMeans):
        """Tells clients of eight members, and then makes a sum that four are enough for."""

        def _mean_of_all(self, counted, offered, slot, group=None):
            return (yield from self.aggregator.mean(counted, slot, group=group))

    algorithm = Hostile(privacy=LOOSE, poll=PlainPoll())
    ledger = RunLedger(opened(dataset, algorithm), "trial")
    contexts = make_contexts(dataset, backbone, algorithm, 0, ledger)
    states = {name: algorithm.client_state(context) for name, context in contexts.items()}
    driver = InProcessDriver(algorithm, contexts, states)
    driver.round_ = 1
    with pytest.raises(ClientError, match="made for 8 or more"):
        driver.run(algorithm.round(algorithm.server_state(), Cohort(dict.fromkeys(contexts, 1), 1, 0, 1)))
