"""Opened distances give whole descriptors away in a run of the method; what the default opens holds none to read."""

from __future__ import annotations

import numpy as np
import pytest

from secfpp.attacks.game import Game
from secfpp.attacks.observed import observe
from secfpp.attacks.trilateration import by_distances, exact, trilaterate
from secfpp.data.icons import IconSettings, load_icons
from secfpp.errors import LeakyProtocolWarning
from secfpp.experiment.spec.config import parse_config
from secfpp.models.backbone import load_backbone


def test_every_other_clients_descriptor_is_found_exactly() -> None:
    settings = IconSettings(
        shots=6, validation_shots=1, test_shots=1, clients_per_domain=6, domains=("sketch", "pixel"), alpha=1.0
    )
    game = Game.deal(load_icons(settings, 0), 0)
    variants = {
        reveal: {
            "base": "secfpp",
            "descriptor": "features",
            "effort": 1.0,
            "clusterer": {"kind": "secure_kmeans", "reveal": reveal, "dimensions": 4, "k_max": 3, "restarts": 8},
        }
        for reveal in ("distances", "partition")
    }
    chosen = parse_config({"variants": variants}).choose(["distances", "partition"])
    backbone = load_backbone("mini", device="cpu")
    with pytest.warns(LeakyProtocolWarning):
        leaky = observe(game.dataset, backbone, chosen["distances"], seed=0, rounds=1)
    found = by_distances(leaky, 0)
    assert found is not None and found.found == 1.0 and found.base == 0.0
    assert "5 clients" in found.name
    assert by_distances(observe(game.dataset, backbone, chosen["partition"], seed=0, rounds=1), 0) is None


def test_one_colluder_too_few_finds_nobody() -> None:
    rng = np.random.default_rng(0)
    points = rng.integers(-100, 100, (12, 4))
    distances = ((points[:, None] - points[None]) ** 2).sum(-1)
    assert exact(trilaterate(distances[:5], points[:5]), points, range(5)) == 1.0
    assert exact(trilaterate(distances[:4], points[:4]), points, range(4)) == 0.0
