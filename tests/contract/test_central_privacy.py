"""Sums under a trusted server's noise: each is in the ledger before it is made, on every branch, at what it costs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from secfpp.algorithms import central_steps
from secfpp.algorithms.dp_fpl import factored
from secfpp.algorithms.privacy import Privacy
from secfpp.algorithms.training import LocalTraining
from secfpp.data.federated import FederatedDataset, hold_out
from secfpp.errors import BudgetExceeded, ClientError, ConfigError, PrivacyError, ProtocolError
from secfpp.experiment.spec.variants import variants
from secfpp.models.backbone import Backbone
from secfpp.privacy import gaussian
from secfpp.privacy.accounting import epsilon
from secfpp.privacy.ledger import PrivacyLedger, RunLedger
from secfpp.protocol import wire
from secfpp.protocol.transcript import Transcript
from secfpp.runtime.contexts import make_contexts
from secfpp.runtime.privacy import ledger_of
from secfpp.runtime.trainer import RunResult, train
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.seeding import Seed
from support.method_runs import make

LOOSE = Privacy(mechanism="central", epsilon=60.0, releases=3, clip=3.0)
PUBLISHED = Privacy(mechanism="published", epsilon=0.4, releases=3)
STEP = LocalTraining(steps=1, optimizer="sgd", momentum=0.0, lr=1.0, batch=8)
BRANCHES = [("promptfl", LOOSE), ("dp_fpl", LOOSE), ("dp_fpl", PUBLISHED)]


@pytest.fixture(autouse=True)
def _own_ledgers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECFPP_LEDGERS", str(tmp_path / "ledgers"))


def private(name: str = "promptfl", settings: Privacy = LOOSE, **others: Any) -> Any:
    given = {"training": STEP, "aggregator": PlainMean(clip=20.0, bits=32), **others}
    return make(name, privacy=settings, **given)


def run(data: FederatedDataset, backbone: Backbone, algorithm: Any, rounds: int = 2, **options: Any) -> RunResult:
    return train(data, backbone, algorithm, method="private", seed=0, rounds=rounds, **options)


def opened(data: FederatedDataset, algorithm: Any) -> PrivacyLedger:
    return ledger_of(data, algorithm.privacy_terms)


def charged(ledger: PrivacyLedger) -> Counter[tuple[int, str]]:
    return Counter((charge.round, client) for charge in ledger.charges for client in charge.clients)


def asked(transcript: Transcript, step: str) -> Counter[tuple[int, str]]:
    """How often each client did a step, by round, whether its answer came or not."""
    return Counter((m.round, m.client) for m in transcript if m.step == step and m.direction == "up")


@pytest.mark.parametrize(("name", "settings"), BRANCHES)
def test_every_sum_is_in_the_ledger(name, settings, dataset, backbone):
    algorithm, transcript = private(name, settings), Transcript(keep_contents=True)
    result = run(dataset, backbone, algorithm, transcript=transcript)
    ledger = opened(dataset, algorithm)
    assert charged(ledger) == asked(transcript, "method.train") == asked(transcript, "aggregator.share")
    assert len(charged(ledger)) == 2 * len(dataset.clients)
    assert result.privacy["epsilon"] == pytest.approx(epsilon([c.event for c in ledger.charges], 1e-5))
    assert {len(charge.event.events) for charge in ledger.charges} == {3 if name == "dp_fpl" else 1}
    assert result.privacy["unit"] == "record" and result.privacy["mechanism"] == ["gaussian"]
    assert result.privacy["not_covered"] == ["gradients, in the clear to the server", "numbers of images"]
    if settings is PUBLISHED:
        assert result.privacy["epsilon"] > 20 * settings.epsilon
    for message in transcript:
        if message.direction == "up" and not message.step.startswith("aggregator."):
            assert wire.decode(message.content) == {}, message.step


@pytest.mark.parametrize(("name", "settings"), BRANCHES)
@pytest.mark.parametrize("fate", ["before", "after"])
def test_no_dropout_leads_to_a_sum_that_is_not_in_the_ledger(name, settings, fate, dataset, backbone):
    algorithm, transcript = private(name, settings), Transcript(keep_contents=True)
    lost = dataset.clients[0].name
    drop = {"dropouts": lambda round_, step, client: fate if (round_, client) == (1, lost) else None}
    result = run(dataset, backbone, algorithm, rounds=3, transcript=transcript, **drop)
    assert not asked(transcript, "aggregator.share") - charged(opened(dataset, algorithm))
    assert np.isfinite(result.prompts).all()
    if name == "promptfl":
        assert all(np.array_equal(result.prompts[0], prompt) for prompt in result.prompts)


def test_clients_that_are_away_or_come_later_release_nothing_then(dataset, backbone):
    held, algorithm, transcript = hold_out(dataset, 0.2, 0), private("dp_fpl"), Transcript(keep_contents=True)
    result = run(held, backbone, algorithm, rounds=3, participation=0.5, transcript=transcript)
    released = charged(opened(held, algorithm))
    assert released == asked(transcript, "aggregator.share") and len(released) < 3 * len(held.clients)
    assert not {client for _, client in released} & set(result.newcomers)
    assert np.isfinite(result.newcomer_metrics["own"]).all()


@pytest.mark.parametrize("name", ["promptfl", "dp_fpl"])
def test_a_run_makes_no_more_rounds_than_its_noise_is_for(name, dataset, backbone):
    algorithm = private(name)
    result = run(dataset, backbone, algorithm, rounds=5)
    assert result.rounds == 3 and 59 < result.privacy["epsilon"] <= 60
    ledger = RunLedger(opened(dataset, algorithm), "trial")
    context = next(iter(make_contexts(dataset, backbone, algorithm, 0, ledger).values()))
    state = algorithm.client_state(context)
    for number in (1, 1, 2):
        state, _ = algorithm.train(context, state, {"round": np.array(number)})
    with pytest.raises(ProtocolError, match=r"all 3 rounds of this run \(privacy\.releases\)"):
        algorithm.train(context, state, {"round": np.array(3)})


@pytest.mark.parametrize(("name", "settings"), BRANCHES)
def test_nothing_is_computed_without_a_ledger_or_beyond_a_budget(name, settings, dataset, backbone, monkeypatch):
    first = private(name, settings)
    cost = run(dataset, backbone, first, rounds=3).privacy["epsilon"]
    algorithm = private(name, replace(settings, epsilon_budget=cost + 1))
    context = next(iter(make_contexts(dataset, backbone, algorithm, 0).values()))
    with pytest.raises(PrivacyError, match="without a ledger"):
        algorithm.train(context, algorithm.client_state(context), {"round": np.array(1)})
    monkeypatch.setattr(central_steps, "encoders", None)  # images are not looked at any more
    with pytest.raises(ClientError, match="budget is") as caught:
        run(dataset, backbone, algorithm, rounds=3)
    assert isinstance(caught.value.__cause__, BudgetExceeded)


def test_without_noise_it_is_a_step_on_the_loss_of_all_images(dataset, backbone, monkeypatch):
    monkeypatch.setattr(gaussian, "noise", lambda sd, shape, entropy: np.zeros(shape))
    algorithm = private(settings=replace(LOOSE, clip=19.0))
    result = run(dataset, backbone, algorithm, rounds=1)
    contexts = list(make_contexts(dataset, backbone, algorithm, 0).values())
    prompt = torch.from_numpy(contexts[0].start.copy()).requires_grad_()
    texts = backbone.class_features(prompt[None], contexts[0].tokens)[0]
    features, labels = (torch.cat([getattr(c, name) for c in contexts]) for name in ("features", "labels"))
    loss = F.cross_entropy(backbone.logit_scale * features @ texts.T, labels)
    (gradient,) = torch.autograd.grad(loss, prompt)
    assert result.prompts[0] == pytest.approx((prompt - gradient).detach().numpy(), abs=1e-5)


def test_the_noise_that_others_see_is_that_of_the_event(dataset, backbone, monkeypatch):
    algorithm, images = private(settings=replace(LOOSE, epsilon=4.0)), sum(len(c.train) for c in dataset.clients)
    noisy = [run(dataset, backbone, algorithm, rounds=1).prompts[0] for _ in range(4)]
    monkeypatch.setattr(gaussian, "noise", lambda sd, shape, entropy: np.zeros(shape))
    plain = run(dataset, backbone, algorithm, rounds=1).prompts[0]
    sd = STEP.lr * algorithm.release_of_round.events[0].sd / images
    assert np.std([prompt - plain for prompt in noisy]) == pytest.approx(sd, rel=0.1)


def test_noise_that_is_longer_than_a_mean_may_be_is_shortened_by_the_server(dataset, backbone):
    algorithm = private(settings=replace(LOOSE, epsilon=0.001), aggregator=PlainMean(clip=3.5, bits=32))
    result = run(dataset, backbone, algorithm, rounds=1)
    start = algorithm.prompt.initial(backbone, dataset.template, None)
    assert np.linalg.norm(result.prompts[0] - start) == pytest.approx(3.5, rel=1e-4)


@pytest.mark.parametrize("settings", [replace(LOOSE, epsilon=4.0), PUBLISHED])
def test_factors_are_stepped_with_the_noise_of_the_event(settings, dataset, backbone, monkeypatch):
    drawn = []
    real = gaussian.noise
    monkeypatch.setattr(
        gaussian, "noise", lambda sd, shape, entropy: drawn.append((sd, shape)) or real(sd, shape, entropy)
    )
    algorithm = private("dp_fpl", settings, rank=3, local_lr=1e-9)
    run(dataset, backbone, algorithm, rounds=1)
    width, event = backbone.spec.text_dim, algorithm.release_of_round
    counts = Counter(drawn)
    assert counts[event.events[1].sd, (4, 3)] == counts[event.events[2].sd, (3, width)] == len(dataset.clients)
    assert counts[STEP.lr * event.events[0].sd, (4, width)] == 1 and sum(counts.values()) == 1 + 2 * len(
        dataset.clients
    )


def test_a_local_part_is_its_factors_and_stays_at_home(dataset, backbone):
    local = np.random.default_rng(0).standard_normal((4, 32)).astype(np.float32)
    left, right, rest = factored(local, 2, Seed(1))
    assert left.shape == (4, 2) and right.shape == (2, 32)
    assert left.T @ left == pytest.approx(np.eye(2), abs=1e-5) and left @ right + rest == pytest.approx(local, abs=1e-5)
    best = np.linalg.svd(local, compute_uv=False)
    assert np.linalg.norm(rest) < np.linalg.norm(local) and np.linalg.norm(rest) >= np.hypot(*best[2:]) * (1 - 1e-5)
    result = run(dataset, backbone, private("dp_fpl"), rounds=1)
    assert len({prompt.tobytes() for prompt in result.prompts}) == len(dataset.clients)


def test_each_client_steps_by_its_own_gradients(dataset, backbone, monkeypatch):
    """Not by those of whoever was trained last, as the published code does."""
    monkeypatch.setattr(gaussian, "noise", lambda sd, shape, entropy: np.zeros(shape))
    algorithm = private("dp_fpl")
    ledger = RunLedger(opened(dataset, algorithm), "trial")
    contexts = list(make_contexts(dataset, backbone, algorithm, 0, ledger).values())
    states, payload = [algorithm.client_state(c) for c in contexts], {"round": np.array(1)}
    together = algorithm.train_many(contexts, states, [payload] * len(contexts))
    for context, state, (both, _) in zip(contexts, states, together, strict=True):
        alone, _ = algorithm.train(context, state, payload)
        for slot in ("local", "prompt"):
            assert alone[slot] == pytest.approx(both[slot], abs=1e-5)


def test_settings_under_which_nothing_can_be_promised_are_refused():
    for name in ("promptfl", "dp_fpl"):
        with pytest.raises(ConfigError, match="logit_adjustment"):
            private(name, logit_adjustment=1.0)
        with pytest.raises(ConfigError, match=r"aggregator\.kind = 'secure'"):
            private(name, aggregator=SecureMean())
        with pytest.raises(ConfigError, match=r"training\.steps = 2"):
            private(name, training=replace(STEP, steps=2))
    with pytest.raises(ConfigError, match=r"privacy\.unit"):
        private(settings=replace(LOOSE, unit="client"))
    for name in ("secfpp", "class_means", "secfpp_paper"):
        with pytest.raises(ConfigError, match=r"privacy\.mechanism"):
            make(name, privacy=LOOSE)
    with pytest.raises(ConfigError, match=r"privacy\.mechanism"):
        private("promptfl", PUBLISHED)
    with pytest.raises(ConfigError, match=r"privacy\.mechanism"):
        make("dp_fpl", privacy=Privacy(mechanism="dpsgd"))
    with pytest.raises(ConfigError, match=r"rank = 5: 1 to 4"):
        make("dp_fpl", rank=5)
    with pytest.raises(ConfigError, match="std = 0"):
        make("dp_fpl", std=0.0)
    with pytest.raises(ConfigError, match="local_lr"):
        make("dp_fpl", local_lr=-1.0)


def test_variants_are_of_their_epsilon_and_the_published_ones_of_more():
    found: dict[str, Any] = dict(variants())
    for name in ("promptfl+central_dp", "dp_fpl"):
        for target in (8, 4, 2):
            settings = found[f"{name}@{target}"]
            event, rounds = settings.release_of_round, settings.privacy.releases
            assert epsilon([event] * rounds, 1e-5) == pytest.approx(target, rel=1e-3)
    for printed, least in ((0.1, 9), (0.4, 60)):
        settings = found[f"dp_fpl+published@{printed}"]
        assert settings.privacy.epsilon == printed and settings.planned(20) == 20
        assert epsilon([settings.release_of_round] * 20, 1e-5) > least
