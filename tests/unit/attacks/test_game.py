"""Halves are random, fair, and what is trained on is one of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from secfpp.attacks.game import Game, halves, part
from secfpp.data.icons import IconSettings, load_icons
from secfpp.errors import DataError
from secfpp.seeding import derive

SETTINGS = IconSettings(shots=4, validation_shots=1, test_shots=1, clients_per_domain=3, domains=("sketch",))


def test_what_is_trained_on_is_the_members_and_nothing_else() -> None:
    dataset = load_icons(SETTINGS, 0)
    game = Game.deal(dataset, 0)
    for before, after in zip(dataset.clients, game.dataset.clients, strict=True):
        members, pool = game.members[before.name], game.pools[before.name]
        assert members.sum() == len(before.train) // 2
        np.testing.assert_array_equal(after.train.images, part(pool, members).images)
        np.testing.assert_array_equal(after.train.labels, pool.labels[members])
        np.testing.assert_array_equal(pool.images, before.train.images)
        np.testing.assert_array_equal(after.validation.images, before.validation.images)


def test_another_seed_deals_other_halves() -> None:
    dataset = load_icons(SETTINGS, 0)
    name = dataset.clients[0].name
    first, again, other = (Game.deal(dataset, seed).members[name] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_every_image_is_in_every_second_shadow() -> None:
    for count in (10, 11):
        drawn = halves(count, 8, derive(0))
        assert (drawn.sum(0) == 4).all()
        assert len(np.unique(drawn, axis=0)) == 8


def test_an_odd_number_of_shadows_is_refused() -> None:
    with pytest.raises(ValueError, match="7 shadow prompts"):
        halves(10, 7, derive(0))


def test_a_client_with_too_few_images_is_named() -> None:
    dataset = load_icons(SETTINGS, 0)
    first = dataset.clients[0]
    poor = replace(first, train=part(first.train, np.arange(len(first.train)) < 3))
    with pytest.raises(DataError, match=f"{first.name}.*has 3 training images"):
        Game.deal(replace(dataset, clients=(poor, *dataset.clients[1:])), 0)
