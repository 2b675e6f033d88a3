"""What adversaries read is what was sent: updates where they lie open, and noise where they are sealed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secfpp.algorithms.sharing import EVERYBODY, GROUP
from secfpp.attacks import shared_sums
from secfpp.attacks.adversaries import (
    AVERAGES,
    CLASSES,
    LAST,
    PREDICTIONS,
    PROMPT,
    SHARES,
    SUM_SHARES,
    SUMS,
    UPLOADS,
    all_told,
)
from secfpp.attacks.game import Game
from secfpp.attacks.gathering import Shadows, Victim
from secfpp.attacks.inversion import recovered
from secfpp.attacks.likelihood import lira
from secfpp.attacks.membership import auc
from secfpp.attacks.observed import Observed, averaged_rounds, averaged_slot, observe
from secfpp.attacks.stealing import servers_prompt, thefts
from secfpp.attacks.views import as_numbers, offered_classes, told_classes, uploads, weights
from secfpp.crypto.fixed_point import FixedPoint
from secfpp.data.icons import IconSettings, load_icons
from secfpp.experiment.audit.work import claim_of
from secfpp.experiment.spec.config import parse_config
from secfpp.models.backbone import Backbone, load_backbone
from secfpp.protocol import wire
from secfpp.seeding import derive

ROUNDS = 4


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("mini", device="cpu")


@pytest.fixture(scope="module")
def game() -> Game:
    settings = IconSettings(
        shots=12, validation_shots=2, test_shots=1, clients_per_domain=4, domains=("sketch", "pixel"), alpha=1.0
    )
    return Game.deal(load_icons(settings, 1), 1)


@pytest.fixture(scope="module")
def runs(game: Game, backbone: Backbone) -> dict[str, Observed]:
    return {label: observed(game, backbone, label) for label in ("promptfl", "coop_local", "secfpp", "secfpp+clear")}


def observed(game: Game, backbone: Backbone, label: str) -> Observed:
    algorithm = parse_config({}).choose([label])[label]
    quick: Any = replace(algorithm, **({"effort": 1.0} if "secfpp" in label else {}))
    return observe(game.dataset, backbone, quick, seed=1, rounds=ROUNDS)


def victims(run: Observed, game: Game, backbone: Backbone, folder: Path, shadows: int = 4) -> dict[str, Victim]:
    made = Shadows(shadows, backbone, folder)
    return {name: Victim(run, game, name, 1, made) for name in run.contexts}


def test_open_uploads_are_the_updates_whose_mean_is_the_next_base(runs: dict[str, Observed]) -> None:
    run = runs["promptfl"]
    assert averaged_slot(run) == "prompt"
    names = list(run.contexts)
    assert averaged_rounds(run, names[0]) == [1, 2, 3, 4]
    for place, r in enumerate(averaged_rounds(run, names[0])):
        read = [uploads(run, name)[place] for name in names]
        assert not any(upload.sealed for upload in read)
        assert {name: u.weight for name, u in zip(names, read, strict=True)} == weights(run, names[0])[r]
        mean = np.average([u.update for u in read], axis=0, weights=[u.weight for u in read])
        moved = run.states[r][names[0]]["prompt.base"] - run.states[r - 1][names[0]]["prompt.base"]
        np.testing.assert_allclose(mean, moved, atol=1e-5)


def test_a_member_knows_its_own_update(
    runs: dict[str, Observed], game: Game, backbone: Backbone, tmp_path: Path
) -> None:
    run = runs["promptfl"]
    victim = next(iter(victims(run, game, backbone, tmp_path).values()))
    for place, r in enumerate(victim.averages):
        np.testing.assert_allclose(victim.own_update(r), uploads(run, victim.client)[place].update, atol=1e-6)


def test_sealed_uploads_are_read_as_noise(runs: dict[str, Observed]) -> None:
    sealed, clear = runs["secfpp"], runs["secfpp+clear"]
    alike = []
    for name in sealed.contexts:
        for noise, update in zip(uploads(sealed, name), uploads(clear, name), strict=True):
            assert noise.sealed and not update.sealed and noise.weight == update.weight
            lengths = np.linalg.norm(noise.update) * np.linalg.norm(update.update)
            alike.append(float((noise.update * update.update).sum() / lengths))
    assert len(alike) >= 8
    assert abs(np.mean(alike)) < 0.05 and max(map(abs, alike)) < 0.25  # of 512 numbers: 0.044 is one deviation


def test_the_end_of_an_envelope_is_read_as_the_numbers_that_it_holds() -> None:
    numbers = FixedPoint(10.0, 24).encode(np.linspace(-1, 1, 6))
    envelopes = np.stack([np.frombuffer(b"\x07" * 11 + numbers.tobytes(), np.uint8)] * 2)
    np.testing.assert_array_equal(as_numbers(envelopes, 6), np.stack([numbers] * 2))
    assert as_numbers(envelopes[:, :24], 6).shape == (2, 6)


def unsealed(sealed: Observed, clear: Observed) -> Observed:
    """The run on shares as it would be if envelopes held what they should hide: the encoded updates."""
    open_ = {
        (m.client, m.round, m.label): m for m in clear.messages if m.step == "aggregator.share" and m.direction == "up"
    }
    slot = averaged_slot(clear)
    found = []
    for message in sealed.messages:
        if message.step == "aggregator.share" and message.direction == "up" and message.content is not None:
            reply = dict(wire.decode(message.content))
            twin = open_[message.client, message.round, message.label]
            assert twin.content is not None and slot is not None
            update = np.ascontiguousarray(wire.decode(twin.content)["update"]).reshape(-1)
            reply["envelopes"] = np.stack([update.view(np.uint8)] * len(reply["envelopes"]))
            message = replace(message, content=bytes(wire.encode(reply)))
        found.append(message)
    return replace(sealed, messages=tuple(found))


def test_envelopes_that_hide_nothing_are_read_like_open_uploads(runs: dict[str, Observed]) -> None:
    sealed, clear = runs["secfpp"], runs["secfpp+clear"]
    broken = unsealed(sealed, clear)
    for name in clear.contexts:
        for read, update in zip(uploads(broken, name), uploads(clear, name), strict=True):
            np.testing.assert_allclose(read.update, update.update, atol=1e-6)


def test_classes_are_those_of_the_rule_and_those_that_were_told(runs: dict[str, Observed], game: Game) -> None:
    sealed, clear = runs["secfpp"], runs["secfpp+clear"]
    n_classes = len(game.dataset.classes)
    holds = {c.name: c.train.histogram(n_classes) > 0 for c in game.dataset.clients}
    assert len(sealed.groups) == 2
    for group in sealed.groups:
        for name in group:
            np.testing.assert_array_equal(told_classes(clear, name), holds[name])
            assert told_classes(sealed, name) is None
            for slot, members in ((EVERYBODY, tuple(holds)), (GROUP, group)):
                expected = np.sum([holds[member] for member in members], axis=0) >= 3
                np.testing.assert_array_equal(offered_classes(sealed, name, slot), expected)


def test_probabilities_of_classes_are_those_of_draws() -> None:
    rng = np.random.default_rng(0)
    missed = shared_sums._missed(np.array([8, 5, 3]), 8, 4)
    drawn = np.array([rng.permutation(8)[:4] for _ in range(20_000)])
    np.testing.assert_allclose(missed, [(drawn < others).all(1).mean() for others in (8, 5, 3)], atol=0.01)
    chances = [np.array([0.2, 1.0]), np.array([0.5, 0.0]), np.array([0.9, 0.3])]
    happened = rng.random((20_000, 3, 2)) < np.array(chances)
    for number in range(4):
        np.testing.assert_allclose(
            shared_sums._at_least(chances, number), (happened.sum(1) >= number).mean(0), atol=0.015
        )


def test_every_adversary_finds_what_it_can_see_and_no_more(
    runs: dict[str, Observed], game: Game, backbone: Backbone, tmp_path: Path
) -> None:
    expected = {
        "promptfl": {UPLOADS, LAST, AVERAGES},
        "coop_local": {PROMPT, PREDICTIONS},
        "secfpp": {UPLOADS, LAST, SHARES, AVERAGES, PROMPT, PREDICTIONS, CLASSES, SUMS, SUM_SHARES},
        "secfpp+clear": {UPLOADS, LAST, AVERAGES, PROMPT, PREDICTIONS, CLASSES, SUMS},
    }
    for label, run in runs.items():
        every = victims(run, game, backbone, tmp_path)
        victim = next(iter(every.values()))
        told = all_told(victim, every)
        assert {one.seen for one in told} == expected[label], label
        assert all(len(one.scores) == len(victim.inside) for one in told)
        exposed = {one.seen for one in told if one.exposed}
        assert (
            exposed
            == {
                "promptfl": {UPLOADS, LAST},
                "coop_local": {PROMPT, PREDICTIONS},
                "secfpp": set(),
                "secfpp+clear": {UPLOADS, LAST, CLASSES, SUMS},
            }[label]
        ), label
        assert AVERAGES not in {one.seen for one in all_told(victim, {victim.client: victim})}


def test_shadows_are_trained_once_for_what_differs_in_sealing_only(
    runs: dict[str, Observed], game: Game, backbone: Backbone, tmp_path: Path
) -> None:
    for label in ("secfpp", "secfpp+clear", "secfpp"):
        next(iter(victims(runs[label], game, backbone, tmp_path).values())).prepare()
    assert sorted(path.name.partition("-")[0] for path in tmp_path.iterdir()) == ["finished", "updates"]


def test_open_uploads_tell_members_and_sealed_ones_do_not(
    runs: dict[str, Observed], game: Game, backbone: Backbone, tmp_path: Path
) -> None:
    """By the same attack, with the same shadows; and if sealing is taken out, it tells them again."""
    sealed, clear = runs["secfpp"], runs["secfpp+clear"]
    areas = {}
    for label, run in (("sealed", sealed), ("clear", clear), ("broken", unsealed(sealed, clear))):
        told, inside = [], []
        for victim in victims(run, game, backbone, tmp_path, shadows=8).values():
            found = victim.uploaded()
            assert found is not None
            told.append(lira(found[0]))
            inside.append(victim.inside)
        areas[label] = auc(np.concatenate(told), np.concatenate(inside))
    assert areas["clear"] > 0.57
    assert areas["broken"] == pytest.approx(areas["clear"], abs=0.01)
    assert abs(areas["sealed"] - 0.5) < 0.06


def test_a_servers_guess_is_the_last_average_or_noise(runs: dict[str, Observed]) -> None:
    name = next(iter(runs["promptfl"].contexts))
    for label, slot in (("promptfl", "prompt"), ("secfpp+clear", "domain_prompt")):
        guess = servers_prompt(runs[label], name)
        assert guess is not None and not guess[1]
        np.testing.assert_array_equal(guess[0], runs[label].states[-1][name][f"{slot}.base"])
    sealed = servers_prompt(runs["secfpp"], name)
    assert sealed is not None and sealed[1]
    start, moved = runs["secfpp"].contexts[name].start, runs["secfpp"].states[-1][name]["domain_prompt.base"]
    noise, truth = sealed[0] - start, moved - start
    assert abs(float((noise * truth).sum() / np.linalg.norm(noise) / np.linalg.norm(truth))) < 0.25
    assert servers_prompt(runs["coop_local"], name) is None


def test_predictions_give_a_model_away_that_agrees(runs: dict[str, Observed], game: Game) -> None:
    run = runs["coop_local"]
    name = next(iter(run.contexts))
    (found,) = thefts(run, [name], game.dataset.test, derive(0))[name]  # 36 test images: one half can be asked about
    assert found.seen == "18 predictions" and found.exposed
    assert found.agreement > found.untouched
    again = thefts(run, [name], game.dataset.test, derive(0))[name]
    assert again == [found]


def test_means_of_uploads_are_inverted_where_they_lie_open(
    runs: dict[str, Observed], game: Game, backbone: Backbone, tmp_path: Path
) -> None:
    def mean(run: Observed, *, exposed: bool) -> float:
        found = recovered(list(victims(run, game, backbone, tmp_path, shadows=24).values()), (1, 99))
        assert all([one.size for one in own] == [1] for own in found.values())  # 99 are not there
        assert all(one.exposed == exposed for own in found.values() for one in own)
        return float(np.mean([one.cosine for own in found.values() for one in own]))

    # What is sealed is other noise each time; of one run its mean reaches 0.2 now and then.
    sealed = [runs["secfpp"], *(observed(game, backbone, "secfpp") for _ in range(5))]
    assert mean(runs["promptfl"], exposed=True) > 0.18 > abs(np.mean([mean(run, exposed=False) for run in sealed]))


def test_a_method_with_noise_is_a_target_with_its_claim(game: Game, backbone: Backbone, tmp_path: Path) -> None:
    """Its ledger is the audit's own; what it shares is attacked, and what stays at home."""
    algorithm = parse_config({}).choose(["secfpp+dp@8"])["secfpp+dp@8"]
    with pytest.raises(ValueError, match="say where its releases are written down"):
        observe(game.dataset, backbone, algorithm, seed=1, rounds=2)
    run = observe(game.dataset, backbone, algorithm, seed=1, rounds=4, ledger=tmp_path / "ledger.jsonl")
    claim = claim_of(run.privacy)
    assert claim is not None and 0 < claim.epsilon <= 8.0 and claim.delta == 1e-5
    assert (tmp_path / "ledger.jsonl").stat().st_size > 0
    every = victims(run, game, backbone, tmp_path / "shadows")
    told = all_told(next(iter(every.values())), every)
    assert {one.seen for one in told} == {PROMPT, PREDICTIONS, CLASSES, SUMS, SUM_SHARES}
    assert {one.adversary for one in told if one.seen == SUMS} == {"server", "member"}
