"""Attacks that find nothing find what there is as soon as the mechanism against them is taken out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secfpp.algorithms.record_privacy import Release
from secfpp.attacks.differencing import absences, away, by_absence, difference
from secfpp.attacks.game import Game
from secfpp.attacks.gathering import Shadows, Victim
from secfpp.attacks.likelihood import lira
from secfpp.attacks.observed import Observed, observe
from secfpp.attacks.shared_sums import members_sums
from secfpp.attacks.statistics import Scores, epsilon_lower_bound
from secfpp.attacks.views import held_uploads, uploads
from secfpp.crypto.sharing import LagrangeCode
from secfpp.data.icons import IconSettings, load_icons
from secfpp.experiment.audit.work import claim_of
from secfpp.experiment.spec.config import parse_config
from secfpp.models.backbone import Backbone, load_backbone
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.seeding import derive


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("mini", device="cpu")


def game(clients: int, *domains: str, shots: int = 12) -> Game:
    settings = IconSettings(
        shots=shots, validation_shots=2, test_shots=1, clients_per_domain=clients, domains=domains, alpha=1.0
    )
    return Game.deal(load_icons(settings, 1), 1)


def told(
    run: Observed, dealt: Game, backbone: Backbone, folder: Path, attack: Callable[[Victim], np.ndarray | None]
) -> Scores:
    """What an attack says of all clients' images."""
    scores, inside, clients = [], [], []
    for number, name in enumerate(run.contexts):
        victim = Victim(run, dealt, name, 1, Shadows(8, backbone, folder))
        if (found := attack(victim)) is not None:
            scores.append(found)
            inside.append(victim.inside)
            clients.append(np.full(len(found), number))
    return Scores(np.concatenate(scores), np.concatenate(inside), np.concatenate(clients))


def by_uploads(victim: Victim) -> np.ndarray | None:
    found = victim.uploaded()
    return None if found is None else lira(found[0])


def by_shares(victim: Victim) -> np.ndarray | None:
    found = victim.held()
    return None if found is None else lira(found)


class Nothing:
    """A stream of zeros."""

    def elements(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape, np.uint64)


def test_t_holders_read_nothing_of_shares_and_everything_where_they_have_no_masks(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dealt, open_ = game(4, "sketch"), parse_config({}).choose(["promptfl"])["promptfl"]
    method: Any = replace(open_, aggregator=SecureMean())  # type: ignore[call-arg]
    clear = observe(dealt.dataset, backbone, open_, seed=1, rounds=4)
    sealed = observe(dealt.dataset, backbone, method, seed=1, rounds=4)
    encode = LagrangeCode.encode_each

    def unmasked(self: LagrangeCode, parts: Any) -> Any:
        return encode(self, [(data, Nothing()) for data, _ in parts])

    monkeypatch.setattr(LagrangeCode, "encode_each", unmasked)
    broken = observe(dealt.dataset, backbone, method, seed=1, rounds=4)
    alike = []
    for name in clear.contexts:
        assert len(held_uploads(sealed, name)) == 4 and held_uploads(clear, name) == []
        shares = (held_uploads(run, name) for run in (sealed, broken))
        for noise, bare, update in zip(*shares, uploads(clear, name), strict=True):
            np.testing.assert_allclose(bare.update, update.update, atol=1e-5)
            lengths = np.linalg.norm(noise.update) * np.linalg.norm(update.update)
            alike.append(float((noise.update * update.update).sum() / lengths))
    assert abs(np.mean(alike)) < 0.05 and max(map(abs, alike)) < 0.25
    areas = {}
    for label, run in (("clear", clear), ("sealed", sealed), ("broken", broken)):
        attack = by_uploads if label == "clear" else by_shares
        areas[label] = told(run, dealt, backbone, tmp_path, attack).auc
    assert areas["broken"] == pytest.approx(areas["clear"], abs=0.02) and areas["clear"] > 0.57
    assert abs(areas["sealed"] - 0.5) < 0.09


def test_what_two_sums_differ_in_is_the_one_who_is_away(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly, if both are of the same updates; else with what the others' updates differ in."""
    dealt, method = game(4, "sketch"), parse_config({}).choose(["promptfl"])["promptfl"]
    run = observe(dealt.dataset, backbone, method, seed=1, rounds=6)
    absent = absences(run)
    assert list(absent.values()) == [2, 5] and len(set(absent)) == 2
    given = {name: uploads(run, name)[0] for name in run.contexts}
    victim, attacker, *others = given
    total = sum(u.weight for u in given.values())
    parts = {name: u.weight * u.update for name, u in given.items()}
    both = [np.sum([parts[name] for name in names], axis=0) for names in (given, (attacker, *others))]
    totals = total, total - given[victim].weight
    sums = both[0] / totals[0], both[1] / totals[1]
    same = difference(sums, totals, (parts[attacker], parts[attacker]), given[victim].weight)
    np.testing.assert_allclose(same, given[victim].update, atol=1e-9)

    second = observe(dealt.dataset, backbone, method, seed=1, rounds=6, dropouts=away(absent))
    read = {name: {u.round: u for u in uploads(second, name)} for name in second.contexts}
    assert 2 not in read[victim] and absent[victim] == 2
    caught = list[np.ndarray]()
    of_one = Victim.of_one

    def catching(self: Victim, round_: int, update: np.ndarray) -> Any:
        caught.append(update)
        return of_one(self, round_, update)

    monkeypatch.setattr(Victim, "of_one", catching)
    evidence = by_absence(Victim(second, dealt, victim, 1, Shadows(4, backbone, tmp_path)), 2)
    assert evidence is not None and evidence.observed.shape[0] == 1
    weight = read[victim][1].weight
    drift: Any = sum(read[n][1].weight * (read[n][1].update - read[n][2].update) for n in others)
    np.testing.assert_allclose(caught[0], read[victim][1].update + drift / weight, atol=1e-4)


def of_noise(label: str, epsilon: float) -> Any:
    algorithm: Any = parse_config({}).choose([label])[label]
    quick = {"effort": 1.0} if "secfpp" in label else {}
    return replace(algorithm, privacy=replace(algorithm.privacy, epsilon=epsilon), **quick)


def by_sums(victim: Victim) -> np.ndarray | None:
    found = members_sums(victim)
    return None if found is None else found.known


def run_of_noise(label: str, epsilon: float, rounds: int, backbone: Backbone, folder: Path, attack: Any) -> Any:
    """What a run claims, and what an attack says of its images; shadows write nothing into its ledger."""
    dealt, ledger = game(4, "sketch", "pixel", shots=4), folder / "ledger.jsonl"
    run = observe(dealt.dataset, backbone, of_noise(label, epsilon), seed=1, rounds=rounds, ledger=ledger)
    claim, written = claim_of(run.privacy), ledger.read_text()
    assert claim is not None and claim.epsilon <= epsilon
    scores = told(run, dealt, backbone, folder / "shadows", attack)
    assert ledger.read_text() == written
    return claim, scores


NOISY = [("promptfl+dpsgd@8", 1.0, by_uploads), ("secfpp+dp@8", 2.0, by_sums)]


@pytest.mark.parametrize(("label", "epsilon", "attack"), NOISY)
def test_methods_with_noise_are_not_refuted(
    backbone: Backbone, tmp_path: Path, label: str, epsilon: float, attack: Any
) -> None:
    claim, scores = run_of_noise(label, epsilon, 6, backbone, tmp_path, attack)
    assert epsilon_lower_bound(scores, claim.delta, derive(0)) <= claim.epsilon


def test_steps_without_their_noise_are(backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secfpp.privacy.skellam.noise", lambda variance, shape, entropy: np.zeros(shape, np.int64))
    claim, scores = run_of_noise("promptfl+dpsgd@8", 0.02, 12, backbone, tmp_path, by_uploads)
    assert epsilon_lower_bound(scores, claim.delta, derive(0)) > claim.epsilon


def test_sums_with_less_noise_than_is_written_down_are(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Release, "part", lambda self, unknown: 1e-4 * self.event.variance / unknown)
    claim, scores = run_of_noise("secfpp+dp@8", 2.0, 6, backbone, tmp_path, by_sums)
    assert scores.auc > 0.9 and epsilon_lower_bound(scores, claim.delta, derive(0)) > claim.epsilon


def test_shadows_of_averages_under_noise_are_under_noise(backbone: Backbone, tmp_path: Path) -> None:
    dealt = game(5, "sketch")
    method = of_noise("promptfl+client_dp", 100.0)
    run = observe(dealt.dataset, backbone, method, seed=1, rounds=2, ledger=tmp_path / "ledger.jsonl")
    name = next(iter(run.contexts))
    victim = Victim(run, dealt, name, 1, Shadows(4, backbone, tmp_path / "shadows"))
    lengths = np.linalg.norm(victim.updates["updates"].reshape(4, 2, -1), axis=-1)
    own = np.array([np.linalg.norm(victim.own_update(r)) for r in victim.averages])
    assert (own > method.privacy.bound).all()  # what is given is longer than it was trained: noise
    np.testing.assert_allclose(lengths.mean(0), own, rtol=0.2)
