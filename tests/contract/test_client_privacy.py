"""Averages of prompts under noise that hides all of a client: what leaves, what it costs, and what it cannot tell."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from secfpp.algorithms.noisy_prompts import GATES, planned
from secfpp.algorithms.privacy import Privacy
from secfpp.algorithms.promptfl import PromptFL
from secfpp.algorithms.training import ClientContext
from secfpp.algorithms.visual import ClassMeans
from secfpp.crypto.field import PrimeField
from secfpp.data.federated import FederatedDataset, Split, hold_out
from secfpp.errors import ClientError, ConfigError, PrivacyError, ProtocolError
from secfpp.experiment.audit.work import claim_of
from secfpp.experiment.results.privacy_figures import in_words, privacy
from secfpp.models.backbone import Backbone
from secfpp.privacy import skellam
from secfpp.privacy.accounting import epsilon
from secfpp.privacy.ledger import PrivacyLedger, RunLedger
from secfpp.protocol import wire
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientState
from secfpp.protocol.transcript import Transcript
from secfpp.runtime.contexts import make_contexts
from secfpp.runtime.in_process import InProcessDriver
from secfpp.runtime.privacy import ledger_of
from secfpp.runtime.trainer import RunResult, train
from secfpp.secure.clustering.clusterer import OneCluster, OracleClusters, RandomClusters
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.secure.means.updates import encoded_update, version_of
from support.method_runs import make

LOOSE = Privacy(mechanism="prompts", epsilon=60.0, releases=3)
ROOM = SecureMean(clip=256.0, bits=16)
NOISE = {
    "promptfl": {},
    "secfpp": {"clusterer": OneCluster(), "class_means": ClassMeans(levels="own"), "descriptor": "features"},
}
SLOT = {"promptfl": "prompt", "secfpp": "domain_prompt"}


@pytest.fixture(autouse=True)
def _own_ledgers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECFPP_LEDGERS", str(tmp_path / "ledgers"))


@dataclass(frozen=True)
class InTheClear(PlainMean, SecureMean):
    """The settings of a secure mean, and the computation of a plain one."""

    needs_keys: ClassVar[bool] = False


def private(name: str = "promptfl", privacy: Privacy = LOOSE, **settings: Any) -> Any:
    return make(name, privacy=privacy, **{"aggregator": ROOM, **NOISE[name], **settings})


def run(data: FederatedDataset, backbone: Backbone, algorithm: Any, rounds: int = 2, **options: Any) -> RunResult:
    return train(data, backbone, algorithm, method="private", seed=0, rounds=rounds, **options)


def opened(data: FederatedDataset, algorithm: Any) -> PrivacyLedger:
    return ledger_of(data, algorithm.privacy_terms)


def prepared(data: FederatedDataset, backbone: Backbone, algorithm: Any) -> tuple[ClientContext, ClientState]:
    """A client that has trained for its first release."""
    contexts = make_contexts(data, backbone, algorithm, 0, RunLedger(opened(data, algorithm), "trial"))
    context = contexts[data.clients[0].name]
    return context, algorithm.train(context, algorithm.client_state(context), {"round": np.array(1)})[0]


def shared(transcript: Transcript) -> Counter[tuple[int, str]]:
    """How often each client shared its part of an average, by round, delivered or not."""
    up = [message for message in transcript if message.step == "aggregator.share" and message.direction == "up"]
    return Counter((message.round, message.client) for message in up if "envelopes" in wire.decode(message.content))


def charged(ledger: PrivacyLedger, run: str = "private, seed 0") -> Counter[tuple[int, str]]:
    return Counter((c.round, client) for c in ledger.charges for client in c.clients if c.run == run)


BRANCHES: dict[str, tuple[str, dict[str, Any], int]] = {
    "promptfl": ("promptfl", {}, 3),
    "one group": ("secfpp", {}, 2),
    "groups by chance": ("secfpp", {"clusterer": RandomClusters(k=2)}, 2),
    "true groups": ("secfpp", {"clusterer": OracleClusters()}, 2),
}


@pytest.mark.parametrize("branch", list(BRANCHES))
def test_every_release_of_every_branch_is_in_the_ledger(branch, dataset, backbone):
    name, settings, rounds = BRANCHES[branch]
    algorithm, transcript = private(name, **settings), Transcript(keep_contents=True)
    result = run(dataset, backbone, algorithm, rounds=4, transcript=transcript)
    ledger = opened(dataset, algorithm)
    assert shared(transcript) and shared(transcript) == charged(ledger)
    assert {round_ for round_, _ in shared(transcript)} == set(range(1, rounds + 1))
    told = result.privacy
    assert (told["unit"], told["mechanism"], told["covers"]) == ("client", ["skellam"], ["average of prompts"])
    assert told["releases"] == rounds and 0 < told["epsilon"] <= LOOSE.epsilon
    assert set(told["not_covered"]) == {"numbers of images", *["partition"] * (branch == "true groups")}
    for message in transcript:
        if message.direction == "up" and not message.step.startswith(("session.", "aggregator.")):
            assert set(wire.decode(message.content)) <= {"domain"}, message.step
            assert branch == "true groups" or not wire.decode(message.content)
        if message.step == "aggregator.share" and message.direction == "down":
            about = json.loads(wire.decode(message.content)["about"].item())
            assert set(about["weights"]) == {1}
            assert about["min_responders"] == max(4, math.ceil(0.8 * len(about["weights"])))


def test_summary_and_report_say_what_is_hidden(dataset, backbone):
    entry = privacy([run(dataset, backbone, private(), rounds=3)])
    assert entry["unit"] == "client" and entry["epsilon"] == pytest.approx(60, rel=0.01)
    assert entry["not_covered"] == ["numbers of images"]
    (sentence,) = in_words({"methods": {"promptfl": {"privacy": entry}}})
    assert "by client, add_remove" in sentence and "not covered: numbers of images" in sentence


@pytest.mark.parametrize("fate", ["before", "after"])
def test_no_dropout_leads_to_a_release_that_is_not_in_the_ledger(fate, dataset, backbone):
    algorithm, seen = private(), set[str]()
    run(dataset, backbone, algorithm, rounds=1, dropouts=lambda r, step, client: seen.add(step))
    for at in sorted(seen):

        def lose(round_, step, client, at=at):
            return fate if (round_, step) == (1, at) and client == "pixel-2" else None

        transcript, method = Transcript(keep_contents=True), f"dropout {fate} {at}"
        options = {"method": method, "seed": 0, "rounds": 2, "transcript": transcript, "dropouts": lose}
        result = train(dataset, backbone, algorithm, **options)
        assert not shared(transcript) - charged(opened(dataset, algorithm), f"{method}, seed 0"), at
        assert np.isfinite(result.prompts).all()


def released_integers(monkeypatch: pytest.MonkeyPatch, data: FederatedDataset, backbone: Backbone) -> np.ndarray:
    """What a client gives to an average but for the noise, in steps."""
    monkeypatch.setattr(skellam, "noise", lambda variance, shape, entropy: np.zeros(shape, np.int64))
    algorithm = private()
    context, state = prepared(data, backbone, algorithm)
    state, _ = algorithm.release(context, state, {"round": np.array(1), "least": np.array(4)})
    return PrimeField.lower(encoded_update(state, "prompt", ROOM.codec, 1))


def test_neighbours_are_as_far_apart_as_the_accountant_takes_them_to_be_and_no_farther(dataset, backbone, monkeypatch):
    first, *others = dataset.clients
    second = next(client for client in others if client.domain != first.domain)
    neighbour = replace(dataset, clients=(replace(second, name=first.name), *others))
    one, other = (released_integers(monkeypatch, data, backbone).reshape(-1) for data in (dataset, neighbour))
    event = planned(LOOSE, 16, one.size)
    for mine in (one, other):
        assert np.linalg.norm(mine) <= event.l2 and np.abs(mine).sum() <= event.l1
        assert np.linalg.norm(mine) > 0.99 * 0.5 * 2**16  # two steps of training are longer than the clip
    assert 0 < np.linalg.norm(one - other) <= 2 * event.l2


def test_noise_is_what_the_ledger_says_for_the_least_members_less_those_who_may_collude(dataset, backbone):
    algorithm = private(privacy=replace(LOOSE, epsilon=2.0))
    context, state = prepared(dataset, backbone, algorithm)
    draws = []
    for _ in range(8):
        noisy, _ = algorithm.release(context, state, {"round": np.array(1), "least": np.array(7)})
        draws.append(PrimeField.lower(encoded_update(noisy, "prompt", ROOM.codec, 1)))
    event = opened(dataset, algorithm).charges[0].event
    assert epsilon([event] * 3, 1e-5) == pytest.approx(2.0, rel=1e-3)
    found = np.var(np.array(draws), axis=0, ddof=1).mean()
    assert found == pytest.approx(event.variance / (7 - 2), rel=5 * math.sqrt(2 / (7 * draws[0].size)))


def test_the_same_noise_gives_the_same_bits_in_the_clear_and_on_shares(dataset, backbone, monkeypatch):
    def run_with(mean: SecureMean, name: str) -> RunResult:
        numbers = count()

        def noise(variance: float, shape: tuple[int, ...], entropy: object) -> np.ndarray:
            drawn = np.random.default_rng(next(numbers)).normal(0, math.sqrt(variance), shape)
            return np.rint(drawn).astype(np.int64)

        monkeypatch.setattr(skellam, "noise", noise)
        return run(dataset, backbone, private(name, aggregator=mean), rounds=4)

    for name in NOISE:
        sealed, clear = run_with(ROOM, name), run_with(InTheClear(clip=256.0, bits=16, min_responders=4), name)
        assert np.array_equal(sealed.prompts, clear.prompts)
        assert not np.array_equal(sealed.prompts, run(dataset, backbone, make(name), rounds=4).prompts)


def test_nothing_without_noise_can_be_shared(dataset, backbone):
    algorithm = private()
    context, state = prepared(dataset, backbone, algorithm)
    assert not PrimeField.lower(encoded_update(state, "prompt", ROOM.codec, 1)).any()
    assert not np.array_equal(state["prompt.trained"], state["prompt.base"])
    noisy, reply = algorithm.release(context, state, {"round": np.array(1), "least": np.array(4)})
    assert not reply and "prompt.trained" not in noisy
    for wrong, why in (({"least": 3}, "insists on 4"), ({}, "not trained since")):
        asked = {"round": np.array(1), "least": np.array(wrong.get("least", 4))}
        with pytest.raises(ProtocolError, match=why):
            algorithm.release(context, state if wrong else noisy, asked)
    with pytest.raises(PrivacyError, match="without a ledger"):
        algorithm.release(replace(context, ledger=None), state, {"round": np.array(1), "least": np.array(4)})
    sums = private("secfpp")
    asked = {"slot": np.array("group_sums"), "classes": np.ones(len(dataset.classes), bool), "round": np.array(1)}
    with pytest.raises(ProtocolError, match="not shared here"):
        sums.offer(context, sums.client_state(context), asked)


def test_a_client_makes_no_more_releases_than_planned(dataset, backbone):
    algorithm = private(privacy=replace(LOOSE, releases=1))
    context, state = prepared(dataset, backbone, algorithm)
    state, _ = algorithm.release(context, state, {"round": np.array(1), "least": np.array(4)})
    state, _ = algorithm.train(context, state, {"round": np.array(2)})
    with pytest.raises(ProtocolError, match="all 1 of this run"):
        algorithm.release(context, state, {"round": np.array(2), "least": np.array(4)})
    assert run(dataset, backbone, algorithm, rounds=5).rounds == 1


@pytest.mark.parametrize(("name", "made"), [("promptfl", 4), ("secfpp", 2)])
def test_noise_is_for_as_many_averages_as_a_run_makes(name, made, dataset, backbone):
    algorithm = private(name, privacy=replace(LOOSE, releases=10))
    told = run(dataset, backbone, algorithm, rounds=4).privacy
    assert told["releases"] == made and told["epsilon"] == pytest.approx(LOOSE.epsilon, rel=1e-3)
    assert algorithm.for_rounds(4).noise_in_clips(8, 512) < 0.8 * algorithm.noise_in_clips(8, 512)


def test_a_budget_ends_a_run_before_a_release_that_would_cost_too_much(dataset, backbone):
    algorithm = private(privacy=replace(LOOSE, epsilon_budget=61.0))
    run(dataset, backbone, algorithm, rounds=3)
    transcript = Transcript(keep_contents=True)
    with pytest.raises(ClientError, match="budget is 61"):
        run(dataset, backbone, algorithm, rounds=3, transcript=transcript)
    assert not shared(transcript)
    assert sum(charged(opened(dataset, algorithm)).values()) == 3 * len(dataset.clients)


def test_a_killed_run_goes_on_and_counts_what_it_released(dataset, backbone, tmp_path):
    algorithm = private()

    def kill(record):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(dataset, backbone, algorithm, rounds=3, checkpoint=tmp_path / "c", on_round=kill)
    assert set(charged(opened(dataset, algorithm))) == {(1, client.name) for client in dataset.clients}
    result = run(dataset, backbone, algorithm, rounds=3, checkpoint=tmp_path / "c")
    assert result.privacy["releases"] == 3
    assert result.privacy["epsilon"] == pytest.approx(result.privacy["data"]["epsilon"])


def test_noise_made_for_many_is_not_given_to_an_average_of_few(dataset, backbone):
    class Hostile(PromptFL):
        """Tells clients of seven members, and then makes an average that four are enough for."""

        def prompt_mean(self, cohort, known=None, group=None):
            about = {"round": np.array(cohort.round), "least": np.array(7)}
            yield from self._ask_release(cohort, about)
            return (yield from self.aggregator.mean(cohort, "prompt", known, group))

        def _ask_release(self, cohort, about):
            from secfpp.protocol.program import Ask

            yield Ask("method.release", dict.fromkeys(cohort.clients, about))

    algorithm = Hostile(privacy=LOOSE, aggregator=ROOM)
    contexts = make_contexts(dataset, backbone, algorithm, 0, RunLedger(opened(dataset, algorithm), "trial"))
    driver = InProcessDriver(algorithm, contexts, {name: algorithm.client_state(c) for name, c in contexts.items()})
    driver.round_ = 1
    with pytest.raises(ClientError, match="made for 7 or more"):
        driver.run(algorithm.round(algorithm.server_state(), Cohort(dict.fromkeys(contexts, 1), 1, 0, 3)))


def test_too_few_members_get_no_average_and_their_gates_stay_as_they_are(dataset, backbone):
    absent = [client.name for client in dataset.clients][:2]  # six of eight are left, seven are needed

    def lose(round_, step, client):
        return "before" if step == "aggregator.share" and client in absent else None

    algorithm = private()
    result = run(dataset, backbone, algorithm, rounds=2, dropouts=lose)
    start = algorithm.prompt.initial(backbone, dataset.template, None)
    assert all(np.array_equal(prompt, start) for prompt in result.prompts)
    assert result.privacy["releases"] == 2  # charged all the same


def gate_of(algorithm: Any, context: ClientContext, state: ClientState, target: np.ndarray) -> tuple[float, np.ndarray]:
    """The gate that a client chooses where the averaged prompt is `target`, and the prompt that it has then."""
    slot = algorithm.averaged
    state = state.replace(**{f"{slot}.base": target, f"{slot}.version": np.array(version_of(state, slot) + 1)})
    assert np.array_equal(algorithm.gated(state), state["start"])  # a gate for another base is closed
    state, reply = algorithm.gate(context, state, {})
    assert not reply
    return float(state["gate"]), algorithm.gated(state)


@pytest.mark.parametrize("name", list(NOISE))
def test_a_gate_opens_for_what_helps_and_closes_before_noise(name, dataset, backbone):
    algorithm = private(name, training=replace(make(name).training, steps=40, batch=32))
    context, state = prepared(dataset, backbone, algorithm)
    start, trained = state["start"], state[f"{SLOT[name]}.trained"]
    noise = np.random.default_rng(0).normal(0, 2, start.shape).astype(np.float32)
    untaught = replace(context, data=replace(context.data, validation=replace_empty(context.data.validation)))
    for client in (context, untaught):
        opened_, prompt = gate_of(algorithm, client, state, trained)
        assert opened_ in GATES[1:] and not np.array_equal(prompt, start)
        closed, prompt = gate_of(algorithm, client, state, start + noise)
        assert closed == 0.0 and np.array_equal(prompt, start)


def replace_empty(split: Split) -> Split:
    return replace(split, images=split.images[:0], labels=split.labels[:0])


def test_a_gate_is_chosen_by_validation_images_where_there_are_such(dataset, backbone):
    algorithm = private(training=replace(make("promptfl").training, steps=40, batch=32))
    context, state = prepared(dataset, backbone, algorithm)
    turned = replace(context.data.validation, labels=(context.data.validation.labels + 7) % len(dataset.classes))
    confused = replace(context, data=replace(context.data, validation=turned))
    taught, _ = gate_of(algorithm, context, state, state["prompt.trained"])
    other, _ = gate_of(algorithm, confused, state, state["prompt.trained"])
    assert taught > other


def test_newcomers_get_the_averaged_prompt_through_their_own_gate(dataset, backbone):
    held = hold_out(dataset, 0.3, 0)
    for name in NOISE:
        result = run(held, backbone, private(name), rounds=2)
        assert result.newcomers and np.isfinite(result.newcomer_metrics["own"]).all()
        assert all(client not in result.newcomers or not spent for client, spent in result.privacy["clients"].items())


def test_a_claim_about_a_client_is_doubled_for_one_of_its_images(dataset, backbone):
    told = run(dataset, backbone, private(privacy=replace(LOOSE, epsilon=2.0)), rounds=3).privacy
    ledger = opened(dataset, private(privacy=replace(LOOSE, epsilon=2.0)))
    event = ledger.charges[0].event.restated("record", "add_remove")
    claim = claim_of(told)
    assert claim is not None and claim.epsilon == 2 * told["epsilon"]
    assert epsilon([event] * 3, claim.delta) <= claim.epsilon


def test_noise_that_fits_into_no_average_is_refused_with_settings_that_fit(dataset, backbone):
    algorithm = private(aggregator=SecureMean(), privacy=replace(LOOSE, epsilon=1.0))
    with pytest.raises(ConfigError, match=r"aggregator\.clip, bits = \(2\.5, 24\): clip \d+ or more") as raised:
        run(dataset, backbone, algorithm)
    clip, bits = map(int, re.findall(r"clip (\d+) or more and (\d+) bits", str(raised.value))[0])
    fitting = replace(algorithm, aggregator=SecureMean(clip=float(clip), bits=bits))
    assert run(dataset, backbone, fitting, rounds=1).privacy["releases"] == 1
    with pytest.raises(ConfigError, match=f"clip {clip} or more"):
        run(dataset, backbone, replace(algorithm, aggregator=SecureMean(clip=clip - 1.0, bits=bits)))
