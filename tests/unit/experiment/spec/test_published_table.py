"""Published figures beside a config: read strictly, kept by what extends it, written and read again."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from secfpp.errors import ConfigError
from secfpp.experiment.spec.config import ExperimentConfig, load_config, parse_config, to_table, to_toml
from secfpp.experiment.spec.plan import Plan
from secfpp.experiment.spec.published import PublishedFigure
from support_experiment import catalog

CONFIG = """
rounds = 3
[data]
name = "toy"
[method]
name = "grouped"
"""
FIGURES = """
source = "Somebody, 2020"
table = "Table 1"
url = "https://example.org/paper"
[settings]
rounds = 50
data.rho = 0.4
method.training.lr = 0.002
[[figures]]
method = "pooled"
called = "FedAll"
own = 80
[[figures]]
method = "grouped"
called = "FedGroup"
own = 91.5
neighbour = 70.25
epsilon = 2
note = "under noise"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "a.toml").write_text(FIGURES)
    (tmp_path / "a.toml").write_text(CONFIG)
    return tmp_path


def load(path: Path, *overrides: str) -> ExperimentConfig:
    return load_config(path, overrides, catalog())


def refused(folder: Path, figures: str) -> dict[str, str]:
    (folder / "figures" / "a.toml").write_text(figures)
    with pytest.raises(ConfigError) as caught:
        load(folder / "a.toml")
    assert all(problem.allowed.endswith(f"(in {folder}/figures/a.toml)") for problem in caught.value.problems)
    return {problem.key: problem.allowed for problem in caught.value.problems}


def test_figures_beside_a_config_become_part_of_it(folder: Path) -> None:
    published = load(folder / "a.toml").published
    assert published is not None
    assert (published.source, published.table, published.url) == (
        "Somebody, 2020", "Table 1", "https://example.org/paper",
    )  # fmt: skip
    assert published.settings == {"rounds": 50, "data": {"rho": 0.4}, "method": {"training": {"lr": 0.002}}}
    assert published.figures == (
        PublishedFigure("pooled", "FedAll", 80),
        PublishedFigure("grouped", "FedGroup", 91.5, 70.25, 2, "under noise"),
    )


def test_a_config_without_figures_has_none_and_says_nothing_of_them(folder: Path) -> None:
    (folder / "b.toml").write_text(CONFIG)
    config = load(folder / "b.toml")
    assert config.published is None and "published" not in to_table(config)


def test_written_and_read_again_they_are_equal_and_need_no_other_file(folder: Path, tmp_path: Path) -> None:
    config = load(folder / "a.toml")
    assert parse_config(tomllib.loads(to_toml(config)), catalog()) == config
    alone = tmp_path / "run" / "config.toml"
    alone.parent.mkdir()
    alone.write_text(to_toml(config))
    assert load(alone) == config


def test_what_extends_a_config_keeps_its_figures_unless_it_has_its_own(folder: Path) -> None:
    (folder / "b.toml").write_text('extends = "a.toml"\nrounds = 9\n')
    (folder / "c.toml").write_text('extends = "b.toml"\n')
    assert load(folder / "b.toml").published == load(folder / "c.toml").published == load(folder / "a.toml").published
    own = FIGURES.replace("Somebody", "Other").replace("rounds = 50\n", "")
    (folder / "figures" / "c.toml").write_text(own)
    published = load(folder / "c.toml").published
    assert published is not None and published.source == "Other, 2020"
    assert "rounds" not in published.settings  # nothing of the figures below is left
    table = "\n[published]\n" + own.replace("[settings]", "[published.settings]").replace("[[f", "[[published.f")
    (folder / "b.toml").write_text('extends = "a.toml"\n' + table)
    assert load(folder / "b.toml").published == published


def test_figures_can_be_left_out(folder: Path) -> None:
    assert load(folder / "a.toml", "published=none").published is None


def test_they_do_not_change_what_is_trained(folder: Path) -> None:
    plans = [
        Plan.of(config, config.choose(["pooled", "grouped"], catalog()), "digest")
        for config in (load(folder / "a.toml"), load(folder / "a.toml", "published=none"))
    ]
    assert plans[0] == plans[1]


@pytest.mark.parametrize(
    ("old", "new", "key", "allowed"),
    [
        ("own = 80", "own = 180", "figures[0].own", "less than or equal to 100"),
        ("own = 80", 'own = "80"', "figures[0].own", "valid number"),
        ("own = 80", "own = nan", "figures[0].own", ""),
        ("own = 80\n", "", "figures[0].own", "required"),
        ("own = 80", "own = 80\nowned = 1", "figures[0].owned", "did you mean 'own'"),
        ("neighbour = 70.25", "neighbour = -1", "figures[1].neighbour", "greater than or equal to 0"),
        ("epsilon = 2", "epsilon = 0", "figures[1].epsilon", "greater than 0"),
        ("epsilon = 2", "epsilon = inf", "figures[1].epsilon", "less than inf"),
        ('called = "FedAll"', 'called = ""', "figures[0].called", "at least 1"),
        ('"pooled"', '"poled"', "figures[0].method", "did you mean 'pooled'"),
        (
            '"grouped"',
            '"pooled"\ncalled = "x"\nown = 1\n[[figures]]\nmethod = "pooled"',
            "figures[1].method",
            "same epsi",
        ),
        ('url = "https', 'uri = "https', "url", "required"),
        ('source = "Somebody, 2020"', "source = 2020", "source", "valid string"),
        ("rounds = 50", "rounds = nan", "settings", "not finite"),
        ("[settings]", "[setting]", "setting", "did you mean 'settings'"),
    ],
)
def test_a_bad_key_or_value_is_named_with_its_file(folder: Path, old: str, new: str, key: str, allowed: str) -> None:
    assert old in FIGURES
    found = refused(folder, FIGURES.replace(old, new, 1))
    assert allowed in found[f"published.{key}"]


def test_all_bad_values_come_at_once(folder: Path) -> None:
    found = refused(folder, FIGURES.replace("own = 80", "own = 101").replace("epsilon = 2", "epsilon = -2"))
    assert set(found) == {"published.figures[0].own", "published.figures[1].epsilon"}
    assert set(refused(folder, FIGURES.partition("[[")[0])) == {"published.figures"}
    assert set(refused(folder, FIGURES.partition("[[")[0].replace("[set", "figures = []\n[set"))) == {
        "published.figures"
    }
    assert set(refused(folder, FIGURES.partition("[[")[0].replace("[set", "figures = 3\n[set"))) == {
        "published.figures"
    }


def test_figures_that_are_no_toml_are_refused(folder: Path) -> None:
    (folder / "figures" / "a.toml").write_text("a = = 3")
    with pytest.raises(ConfigError, match=r"figures/a\.toml: not valid TOML"):
        load(folder / "a.toml")


def test_a_table_in_the_config_itself_is_read_as_strictly() -> None:
    table: dict[str, Any] = {"data": {"name": "toy"}, "method": {"name": "pooled"}}
    figures = tomllib.loads(FIGURES)
    assert parse_config(table | {"published": figures}, catalog()).published is not None
    figures["figures"][0]["method"] = "nothing"
    for bad in (figures, 3, []):
        with pytest.raises(ConfigError, match="published"):
            parse_config(table | {"published": bad}, catalog())
