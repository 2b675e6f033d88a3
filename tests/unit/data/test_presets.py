"""The settings of data that the shipped configs name, without training anything."""

import tomllib
from pathlib import Path

import pytest

from secfpp.data.catalog import datasets
from secfpp.errors import Problem
from secfpp.experiment.spec.config import load_config
from secfpp.experiment.spec.schema import build

CONFIGS = Path(__file__).parents[3] / "configs"
PRESETS = sorted(
    path.stem for path in CONFIGS.glob("*.toml") if path.stem not in ("icons", "study", "audit", "leaderboard")
)


def table(name):
    return tomllib.loads((CONFIGS / f"{name}.toml").read_text())


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_data_only_and_is_else_the_usual_experiment(name):
    preset = table(name)
    assert preset["extends"] == "icons.toml" and set(preset) <= {"extends", "data", "held_out"}
    values = dict(preset["data"])
    spec, problems = datasets()[values.pop("name")], list[Problem]()
    assert build(spec.settings, values, "data", problems) and not problems
    found, usual = load_config(CONFIGS / f"{name}.toml"), load_config(CONFIGS / "icons.toml")
    assert (found.method, found.rounds) == (usual.method, usual.rounds)
    assert found.variants == usual.variants == {}


@pytest.mark.parametrize("name", PRESETS)
def test_the_command_at_the_top_names_the_file(name):
    text = (CONFIGS / f"{name}.toml").read_text()
    assert f"secfpp compare configs/{name}.toml " in text and f"--out runs/{name}\n" in text


@pytest.mark.parametrize(("control", "shifted"), [("icons-40", "icons-40-shift"), ("icons-75", "icons-75-shift")])
def test_a_negative_control_differs_in_the_names_only(control, shifted):
    assert table(shifted)["data"] == table(control)["data"] | {"label_shift": 1.0}
