"""Presets of published experiments: each parses and builds its data set; the figures beside them have one form."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secfpp.algorithms.base import methods
from secfpp.data.collection import ROOT_VARIABLE
from secfpp.data.collections.domainnet import TEN
from secfpp.data.collections.office_caltech import TEN as OFFICE_TEN
from secfpp.experiment.results.published_figures import published_figures
from secfpp.experiment.run.training import load_dataset
from secfpp.experiment.spec.config import load_config, parse_config, to_table
from secfpp.experiment.spec.layers import merge
from secfpp.experiment.spec.plan import Plan
from secfpp.experiment.spec.schema import flat
from support.collections_on_disk import (
    DOMAINNET,
    OFFICE,
    caltech101,
    cifar,
    domain_lists,
    food101,
    oxford_flowers,
    oxford_pets,
)

FOLDER = Path(__file__).parents[3] / "configs" / "published"
PRESETS = sorted(path.stem for path in FOLDER.glob("*.toml"))
FIGURES = sorted(path.stem for path in (FOLDER / "figures").glob("*.toml"))
PARTS = (4, 2, 1)
MAKE: dict[str, Callable[[Path], Any]] = {
    "dp-fpl-caltech101": lambda root: caltech101(root, PARTS, more=9),
    "dp-fpl-pets": lambda root: oxford_pets(root, PARTS, more=9),
    "dp-fpl-flowers": lambda root: oxford_flowers(root, PARTS, more=9),
    "dp-fpl-food101": lambda root: food101(root, PARTS, more=9),
    "cifar10-100-clients": lambda root: cifar(root, 10, per_class=80, test=2),
    "cifar100-100-clients": lambda root: cifar(root, 100, per_class=12, test=1),
    "domainnet-6x5": lambda root: domain_lists(root / "DomainNet", DOMAINNET, TEN, 5, 1, "txt"),
    "office-caltech-4x5": lambda root: domain_lists(root / "office_caltech_10", OFFICE, OFFICE_TEN, 5, 1, "pkl"),
}
CLIENTS = {"dp-fpl": 10, "cifar": 100, "domainnet": 30, "office": 20}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_builds_its_data_set(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    MAKE[name](tmp_path)
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    small = [] if name.startswith("cifar") else ["data.size=16"]
    data = load_dataset(load_config(FOLDER / f"{name}.toml", small), 0)
    (expected,) = [n for family, n in CLIENTS.items() if name.startswith(family)]
    assert len(data.clients) == expected and all(len(client.train) for client in data.clients)
    if name.startswith("dp-fpl"):
        held = [set(client.train.labels.tolist()) for client in data.clients]
        assert sum(map(len, held)) == len(set.union(*held)) == len(data.classes) == 12  # nobody shares a class


@pytest.mark.parametrize("name", PRESETS)
def test_the_head_of_a_preset_names_the_file_and_its_figures(name: str) -> None:
    text = (FOLDER / f"{name}.toml").read_text()
    assert f"secfpp compare configs/published/{name}.toml --data-root DIR --seeds 100-104 --out runs/{name}\n" in text
    assert (f"figures/{name}.toml" in text) == (name in FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_figures_say_where_they_stand_and_what_they_were_made_with(name: str) -> None:
    table = tomllib.loads((FOLDER / "figures" / f"{name}.toml").read_text())
    assert name in PRESETS
    published = load_config(FOLDER / f"{name}.toml").published
    assert published is not None and published.settings == table["settings"]
    assert published.url.startswith("https://") and len(published.figures) == len(table["figures"]) > 0
    assert all(figure.method in methods() and figure.own > 0 for figure in published.figures)


@pytest.mark.parametrize("name", FIGURES)
def test_a_preset_has_the_settings_of_the_figures(name: str) -> None:
    table = tomllib.loads((FOLDER / "figures" / f"{name}.toml").read_text())
    own = to_table(load_config(FOLDER / f"{name}.toml"))
    assert to_table(parse_config(merge(own, table["settings"]))) == own


@pytest.mark.parametrize("name", FIGURES)
def test_a_run_of_a_preset_has_every_setting_of_the_figures(name: str) -> None:
    config = load_config(FOLDER / f"{name}.toml")
    labels = [config.method.name, *config.variants]
    reached = {"own": {"mean": 50.0, "ci95": None}, "seeds": [0], "privacy": {"unit": None, "epsilon": None}}
    plan = Plan.of(config, config.choose(labels), "digest")
    assert config.published is not None
    told = published_figures(config.published, dict.fromkeys(labels, reached), plan)
    assert {ours["label"] for figure in told["figures"] for ours in figure["ours"]} == set(labels)
    assert told["settings"] == len(flat(config.published.settings)) >= 7
    assert told["differing"] == told["not_comparable"] == []
