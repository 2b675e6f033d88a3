from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from secfpp import plugins
from secfpp.data import catalog
from secfpp.data.catalog import DatasetSpec, datasets
from secfpp.errors import ConfigError
from secfpp.experiment.spec.config import parse_config
from support_experiment import toy_dataset


@dataclass(frozen=True)
class Settings:
    sites: int = 2


SPEC = DatasetSpec("clinics", "images of clinics", Settings, lambda settings, seed: toy_dataset(seed, settings.sites))
NO_SPEC = toy_dataset
NO_SETTINGS = DatasetSpec("bare", "", dict, lambda settings, seed: toy_dataset(seed))
TAKEN = DatasetSpec("icons", "", Settings, lambda settings, seed: toy_dataset(seed))


def offer(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    entries = [EntryPoint("here", f"{__name__}:{name}", catalog.GROUP) for name in names]

    def entry_points(group: str) -> Any:
        return [entry for entry in entries if entry.group == group]

    monkeypatch.setattr(plugins, "entry_points", entry_points)


def test_the_own_data_sets_are_there() -> None:
    assert set(datasets()) >= {"icons", "digits", "cards", "folder", "table"}


def test_another_packages_data_set_can_be_named_in_a_config(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "SPEC")
    config = parse_config({"data": {"name": "clinics", "sites": 3}})
    assert config.data.settings == Settings(3)
    assert len(datasets()["clinics"].load(config.data.settings, 0).domains) == 3
    with pytest.raises(ConfigError, match=r"data\.site = 3: unknown key; did you mean 'sites'"):
        parse_config({"data": {"name": "clinics", "site": 3}})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NO_SPEC", "should be a secfpp.DatasetSpec, whose settings are a dataclass, not <function"),
        ("NO_SETTINGS", "should be a secfpp.DatasetSpec, whose settings are a dataclass, not DatasetSpec"),
        ("TAKEN", "is called 'icons', as another data set is: rename it there"),
        ("NOT_THERE", "cannot be loaded: AttributeError"),
    ],
)
def test_one_that_cannot_be_used_is_named(name: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, name)
    with pytest.raises(ConfigError) as caught:
        datasets()
    assert words in str(caught.value) and "entry point 'here' of group 'secfpp.datasets'" in str(caught.value)


def test_two_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "SPEC", "SPEC")
    with pytest.raises(ConfigError, match="is called 'clinics', as another"):
        datasets()
