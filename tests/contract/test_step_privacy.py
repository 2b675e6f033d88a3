"""Gradient steps under noise: each is in the ledger before anything of it leaves, and nothing leaves but of these."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from secfpp.algorithms import noisy_steps
from secfpp.algorithms.privacy import Privacy
from secfpp.algorithms.training import ClientContext, LocalTraining
from secfpp.data.federated import ClientData, FederatedDataset, Split, hold_out
from secfpp.errors import BudgetExceeded, ClientError, ConfigError, PrivacyError, ProtocolError
from secfpp.experiment.results.privacy_figures import in_words, privacy
from secfpp.experiment.spec.variants import variants
from secfpp.models.backbone import Backbone
from secfpp.privacy.accounting import epsilon
from secfpp.privacy.ledger import PrivacyLedger, RunLedger
from secfpp.protocol import wire
from secfpp.protocol.transcript import Transcript
from secfpp.runtime.contexts import make_contexts
from secfpp.runtime.privacy import ledger_of
from secfpp.runtime.trainer import RunResult, train
from secfpp.secure.means.secure_mean import SecureMean
from support.method_runs import make

LOOSE = Privacy(mechanism="dpsgd", epsilon=60.0, releases=3)


@pytest.fixture(autouse=True)
def _own_ledgers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECFPP_LEDGERS", str(tmp_path / "ledgers"))


def private(settings: Privacy = LOOSE, **others: Any) -> Any:
    return make("promptfl", privacy=settings, **others)


def run(data: FederatedDataset, backbone: Backbone, algorithm: Any, rounds: int = 2, **options: Any) -> RunResult:
    return train(data, backbone, algorithm, method="private", seed=0, rounds=rounds, **options)


def opened(data: FederatedDataset, algorithm: Any) -> PrivacyLedger:
    return ledger_of(data, algorithm.privacy_terms)


def charged(ledger: PrivacyLedger) -> Counter[tuple[int, str]]:
    return Counter((charge.round, client) for charge in ledger.charges for client in charge.clients)


def trained(transcript: Transcript) -> Counter[tuple[int, str]]:
    """How often each client trained, by round, whether its answer came or not."""
    return Counter((m.round, m.client) for m in transcript if m.step == "method.train" and m.direction == "up")


def first(data: FederatedDataset, backbone: Backbone, algorithm: Any) -> ClientContext:
    """The context of a client, with a ledger."""
    ledger = RunLedger(opened(data, algorithm), "trial")
    return next(iter(make_contexts(data, backbone, algorithm, 0, ledger).values()))


def moved(algorithm: Any, context: ClientContext) -> np.ndarray:
    """The prompt after a round of steps from the start."""
    state, _ = algorithm.train(context, algorithm.client_state(context), {"round": np.array(1)})
    return state["prompt"]


@pytest.mark.parametrize("aggregator", [None, SecureMean()])
def test_every_round_of_steps_is_in_the_ledger(aggregator, dataset, backbone):
    algorithm = private(**({"aggregator": aggregator} if aggregator else {}))
    transcript = Transcript(keep_contents=True)
    result = run(dataset, backbone, algorithm, transcript=transcript)
    ledger = opened(dataset, algorithm)
    assert charged(ledger) == trained(transcript)
    assert len(charged(ledger)) == 2 * len(dataset.clients)
    assert {charge.event.times for charge in ledger.charges} == {algorithm.training.steps}
    assert result.privacy["epsilon"] == pytest.approx(epsilon([c.event for c in ledger.charges], 1e-5))
    assert 59 < result.privacy["epsilon"] <= 60  # the noise is for two rounds, though three are allowed
    assert result.privacy["not_covered"] == ["numbers of images"]
    assert result.privacy["unit"] == "record" and result.privacy["covers"] == ["gradients of prompts"]
    assert result.privacy["mechanism"] == ["skellam"]
    for message in transcript:
        if message.direction == "up" and not message.step.startswith(("aggregator.", "session.")):
            assert wire.decode(message.content) == {}, message.step
    assert "not covered: numbers of images" in in_words({"methods": {"x": {"privacy": privacy([result])}}})[0]


def test_a_run_makes_no_more_rounds_than_its_noise_is_for(dataset, backbone):
    algorithm = private()
    result = run(dataset, backbone, algorithm, rounds=5)
    assert result.rounds == 3 and result.privacy["releases"] == 3
    assert 59 < result.privacy["epsilon"] <= 60
    context = first(dataset, backbone, algorithm)
    state = algorithm.client_state(context)
    for number in (1, 1, 2):  # a round may be asked for again; it is charged again
        state, _ = algorithm.train(context, state, {"round": np.array(number)})
    before = len(opened(dataset, algorithm).charges)
    with pytest.raises(ProtocolError, match=r"all 3 rounds of this run \(privacy\.releases\)"):
        algorithm.train(context, state, {"round": np.array(3)})
    assert len(opened(dataset, algorithm).charges) == before


def test_nothing_is_trained_without_a_ledger_or_beyond_a_budget(dataset, backbone, monkeypatch):
    algorithm = private(replace(LOOSE, epsilon_budget=61.0))
    context = next(iter(make_contexts(dataset, backbone, algorithm, 0).values()))
    with pytest.raises(PrivacyError, match="without a ledger"):
        algorithm.train(context, algorithm.client_state(context), {"round": np.array(1)})
    run(dataset, backbone, algorithm, rounds=3)
    monkeypatch.setattr(noisy_steps, "clipped_sum", None)  # images are not looked at any more
    with pytest.raises(ClientError, match="budget is 61") as caught:
        run(dataset, backbone, algorithm, rounds=3)
    assert isinstance(caught.value.__cause__, BudgetExceeded)


@pytest.mark.parametrize("fate", ["before", "after"])
def test_no_dropout_leads_to_steps_that_are_not_in_the_ledger(fate, dataset, backbone):
    algorithm, transcript = private(), Transcript(keep_contents=True)
    lost = dataset.clients[0].name
    drop = {"dropouts": lambda round_, step, client: fate if (round_, client) == (1, lost) else None}
    run(dataset, backbone, algorithm, transcript=transcript, **drop)
    assert not trained(transcript) - charged(opened(dataset, algorithm))


def test_noise_is_never_the_same_twice(dataset, backbone):
    algorithm = private()
    one, other = (run(dataset, backbone, algorithm, rounds=1) for _ in range(2))
    assert not np.array_equal(one.prompts, other.prompts)


def test_a_step_is_of_all_images_and_has_the_noise_that_is_claimed(dataset, backbone):
    """All but without noise and clip it is the plain step; with noise it is apart by that, through the text encoder."""
    training, size = LocalTraining(steps=1, optimizer="sgd", momentum=0.0, lr=1.0), len(dataset.classes)
    faint = private(replace(LOOSE, clip=2.0, epsilon=1e6), training=training)
    loud = private(replace(LOOSE, clip=2.0, epsilon=1.0), training=training)
    context = first(dataset, backbone, faint)
    prompt = torch.from_numpy(context.start.copy()).requires_grad_()
    texts = backbone.class_features(prompt[None], context.tokens)[0]
    logits = backbone.logit_scale * context.features @ texts.T
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, context.labels), prompt, retain_graph=True)
    assert context.start - moved(faint, context) == pytest.approx(
        gradient.numpy(), abs=0.1 * float(gradient.abs().max())
    )
    event = noisy_steps.planned(loud.privacy, size, texts.shape[1], 1)
    sd = 2.0 * math.sqrt(event.events[0].variance) / 2**16 * backbone.logit_scale / context.weight
    squares = []
    for seed in range(200):
        noise = sd * torch.randn(texts.shape, generator=torch.Generator().manual_seed(seed))
        (through,) = torch.autograd.grad(texts, prompt, noise - noise.mean(0), retain_graph=True)
        squares.append(float(through.square().sum()))
    found = [np.square(moved(loud, context) - context.start + gradient.numpy()).sum() for _ in range(60)]
    assert np.sqrt(np.mean(found)) == pytest.approx(np.sqrt(np.mean(squares)), rel=0.2)


def test_unshortened_images_give_the_gradient_of_the_plain_loss(dataset, backbone):
    context = first(dataset, backbone, private())
    prompt = torch.from_numpy(context.start.copy()).requires_grad_()
    texts = backbone.class_features(prompt[None], context.tokens)[0]
    logits = backbone.logit_scale * context.features @ texts.T
    loss = F.cross_entropy(logits, context.labels, reduction="sum")
    (expected,) = torch.autograd.grad(loss, prompt, retain_graph=True)
    total, _ = noisy_steps.clipped_sum(context.features, context.labels, texts.detach(), backbone.logit_scale, 2.0)
    (found,) = torch.autograd.grad(texts, prompt, (backbone.logit_scale * total).float())
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_a_killed_run_goes_on_and_tells_what_it_released(dataset, backbone, tmp_path):
    def kill(record):
        raise KeyboardInterrupt

    algorithm = private()
    with pytest.raises(KeyboardInterrupt):
        run(dataset, backbone, algorithm, checkpoint=tmp_path / "c", on_round=kill)
    result = run(dataset, backbone, algorithm, checkpoint=tmp_path / "c")
    assert set(charged(opened(dataset, algorithm)).values()) == {1}
    assert result.privacy["releases"] == 2
    assert result.privacy["epsilon"] == pytest.approx(result.privacy["data"]["epsilon"])


def test_newcomers_release_nothing(dataset, backbone):
    held, algorithm = hold_out(dataset, 0.2, 0), private()
    result = run(held, backbone, algorithm)
    released = {client for _, client in charged(opened(held, algorithm))}
    assert len(result.newcomers) == 2 and not released & set(result.newcomers)
    assert np.isfinite(result.newcomer_metrics["own"]).all()


def test_a_client_without_an_image_sends_noise_like_the_others(dataset, backbone):
    algorithm = private()
    context = first(dataset, backbone, algorithm)
    own = context.data
    empty = Split(own.train.images[:0], own.train.labels[:0])
    context = replace(context, data=ClientData(own.name, own.domain, empty, own.validation))
    state, _ = algorithm.train(context, algorithm.client_state(context), {"round": np.array(1)})
    assert np.isfinite(state["prompt"]).all() and not np.array_equal(state["prompt"], context.start)


def test_settings_under_which_nothing_can_be_promised_are_refused():
    with pytest.raises(ConfigError, match="logit_adjustment"):
        private(logit_adjustment=1.0)
    with pytest.raises(ConfigError, match=r"privacy\.unit"):
        private(replace(LOOSE, unit="client"))
    for other in ("secfpp", "class_means"):
        with pytest.raises(ConfigError, match=r"privacy\.mechanism"):
            make(other, privacy=LOOSE)


def test_variants_are_of_their_epsilon():
    found = variants()
    for target in (8, 4, 2, 1):
        settings = found[f"promptfl+dpsgd@{target}"]
        event = noisy_steps.planned(settings.privacy, 36, 128, settings.training.steps)  # type: ignore[attr-defined]
        assert epsilon([event] * 20, 1e-5) == pytest.approx(target, rel=1e-3)
