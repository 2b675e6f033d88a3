from __future__ import annotations

import tomllib
from typing import Any

import pytest
import tomli_w

from secfpp.errors import ConfigError
from secfpp.experiment.sweep.points import Sweep, plan_sweep, where
from support_experiment import toy_world

CONFIG = """
seeds = [3, 4]
rounds = 2
data.name = "toy"
[method]
name = "grouped"
[variants."grouped+one"]
base = "grouped"
grouping.kind = "single"
"""
NAMED = """
[sweep]
methods = ["pooled", "grouped"]
against = "pooled"
skip = [{ set = "few shots", rounds = "2" }]
[sweep.over]
rounds = [2, 3]
data.rho = [0.1, 1.0]
[sweep.over.set]
"few shots" = { data = { shots = 4 } }
many = { data = { shots = 64 }, participation = 0.5 }
"""


@pytest.fixture(autouse=True)
def world(monkeypatch: pytest.MonkeyPatch) -> None:
    toy_world(monkeypatch)


def planned(*over: str, extra: str = "", methods: tuple[str, ...] = ("pooled", "grouped"), **more: Any) -> Sweep:
    return plan_sweep(tomllib.loads(CONFIG + extra), over, methods=methods, **more)


def refused(*over: str, extra: str = "", **more: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        planned(*over, extra=extra, **more)
    return str(caught.value)


def test_every_combination_of_run_settings_is_a_comparison_of_its_own() -> None:
    sweep = planned("data.shots=4,8", "rounds=1,2,3")
    assert [place.folder for place in sweep.places] == [
        f"data.shots={shots},rounds={rounds}" for shots in (4, 8) for rounds in (1, 2, 3)
    ]
    assert [(p.config.data.settings.shots, p.config.rounds) for p in sweep.places] == [
        (shots, rounds) for shots in (4, 8) for rounds in (1, 2, 3)
    ]
    assert all(place.labels == ("pooled", "grouped") and place.config.seeds == (3, 4) for place in sweep.places)
    assert [dict(point.at) for point in sweep.points][1] == {"data.shots": "4", "rounds": "2"}


def test_values_of_a_method_become_variants_of_those_that_have_the_setting() -> None:
    sweep = planned("method.grouping.k_max=2,5", "method.training.lr=0.1,0.2", methods=("pooled", "grouped"))
    (place,) = sweep.places
    assert place.folder == "all"
    assert place.labels == (
        "pooled@training.lr=0.1",
        "grouped@grouping.k_max=2@training.lr=0.1",
        "pooled@training.lr=0.2",
        "grouped@grouping.k_max=2@training.lr=0.2",
        "grouped@grouping.k_max=5@training.lr=0.1",
        "grouped@grouping.k_max=5@training.lr=0.2",
    )
    chosen: Any = place.config.choose(place.labels)
    last = chosen["grouped@grouping.k_max=5@training.lr=0.2"]
    assert (last.grouping.k_max, last.training.lr, last.training.steps) == (5, 0.2, 5)
    assert len(sweep.points) == 4 and sweep.points[2].labels["pooled"] == "pooled@training.lr=0.1"


def test_a_variant_without_the_setting_is_trained_once_as_it_is() -> None:
    (place,) = planned("method.grouping.k_max=2,5", methods=("grouped", "grouped+one")).places
    assert place.labels == ("grouped@grouping.k_max=2", "grouped+one", "grouped@grouping.k_max=5")


def test_a_component_can_be_an_axis() -> None:
    (place,) = planned("method.grouping=single,means", methods=("grouped",)).places
    chosen: Any = place.config.choose(place.labels)
    assert [method.grouping.groups() for method in chosen.values()] == [1, 6]


def test_axes_of_numbers_are_told_apart() -> None:
    held = (
        "[sweep.over.{}]\n2 = {{ method = {{ grouping = {{ k_max = 2 }} }} }}\n{} = {{ method.grouping.k_max = 4 }}\n"
    )
    extra = held.format("K", 4) + held.format("k", "some")
    axes = planned("data.rho=0.5,1", "data.name=toy", "method.class_prior=true,false", extra=extra).axes
    assert {axis.name: axis.numbers for axis in axes} == {
        "K": (2.0, 4.0),
        "k": None,
        "data.rho": (0.5, 1),
        "data.name": None,
        "method.class_prior": None,
    }


def test_a_config_names_alternatives_skips_methods_and_the_reference() -> None:
    sweep = planned(extra=NAMED, methods=())
    assert (sweep.methods, sweep.reference) == (("pooled", "grouped"), "pooled")
    assert [axis.name for axis in sweep.axes] == ["set", "rounds", "data.rho"]
    at = [tuple(point.at.values()) for point in sweep.points]
    assert ("few shots", "2", "0.1") not in at and ("few shots", "3", "0.1") in at and len(at) == 6
    config = next(place.config for place in sweep.places if place.folder == "set=many,rounds=2,data.rho=1.0")
    assert (config.data.settings.shots, config.data.settings.rho, config.participation) == (64, 1.0, 0.5)


def test_the_command_line_narrows_named_alternatives_and_replaces_values() -> None:
    sweep = planned("set=many", "data.rho=0.7", extra=NAMED, methods=(), seeds=(9,))
    assert [tuple(point.at.values()) for point in sweep.points] == [("many", "2", "0.7"), ("many", "3", "0.7")]
    assert sweep.seeds == (9,)
    fewer = planned(extra=NAMED, skip=["set=many", "rounds=2,data.rho=0.1"])
    assert [tuple(p.at.values()) for p in fewer.points] == [("few shots", "3", "0.1"), ("few shots", "3", "1.0")]


def test_what_a_sweep_states_is_the_same_sweep() -> None:
    first = planned("method.grouping.k_max=2,5", extra=NAMED, methods=(), skip=["rounds=2"], seeds=(7, 8))
    again = plan_sweep(tomllib.loads(tomli_w.dumps(dict(first.table))))
    assert again == first


@pytest.mark.parametrize(
    ("over", "told"),
    [
        ("data.rho=0.1,x", "data.rho=x: data.rho = 'x'"),
        ("data.roh=0.1", "did you mean 'rho'"),
        ("method.grouping.k_max=3,0", "k_max = 0: should be at least 1"),
        ("method.groping.k_max=3", "none of the methods has this setting: pooled, grouped"),
        ("method.name=pooled", "give them with --methods"),
        ("seed=1,2", "give them with --seeds"),
        ("runds=1", "unknown setting; did you mean 'rounds'"),
        ("variants.x=1", "unknown setting"),
        ("rounds=1,1", "each value of rounds once"),
        ("rounds", "KEY=V1,V2"),
        ("rounds=", "KEY=V1,V2"),
        ('data.name=["toy",', "values of TOML"),
    ],
)
def test_values_that_cannot_be_are_refused_by_name(over: str, told: str) -> None:
    assert told in refused(over)


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ("[sweep]\novr = {}", "sweep.ovr"),
        ("[sweep.over]\nrounds = 3", "a list of values, or tables"),
        ("[sweep.over.set]\na = 3", "a table of settings"),
        ("[sweep.over.set]\n'a,b' = { rounds = 3 }", "letters and digits"),
        ("[sweep.over.set]\na = { rounds = 3, method = { betas = [0.1] } }", "make two axes of it"),
        ("[sweep]\nmethods = ['pooled', 'pooled']\nover = { rounds = [1] }", "names each method once"),
        ("[sweep]\nskip = ['a']\nover = { rounds = [1] }", "a list of combinations"),
        ("[sweep]\nskip = [{ round = '1' }]\nover = { rounds = [1] }", "did you mean 'rounds'"),
        ("[sweep]\nagainst = 'nobody'\nover = { rounds = [1] }", "one of the methods compared"),
        ("[sweep]\nover = { rounds = [1] }\nskip = [{ rounds = '1' }]", "leaves nothing to train"),
        ("", "name at least one setting"),
    ],
)
def test_a_sweep_table_that_cannot_be_is_refused(extra: str, told: str) -> None:
    assert told in refused(extra=extra, methods=())


def test_skipping_what_is_not_there_is_refused() -> None:
    assert "did you mean 'rounds'" in refused("rounds=1,2", skip=["round=1"])
    assert "unknown rounds" in refused("rounds=1,2", skip=["rounds=3"])
    assert "unknown set" in refused("set=more", extra=NAMED)
    assert "unknown method" in refused("rounds=1,2", methods=("pooledd",))


def test_an_axis_that_undoes_an_earlier_one_is_refused() -> None:
    named = "[sweep.over]\n'data.rho' = [0.1, 0.2]\n[sweep.over.base]\na = { data = { name = 'icons', shots = 3 } }"
    assert [p.config.data.settings.rho for p in planned(extra=named).places] == [0.1, 0.2]
    assert "'data.rho' is undone" in refused("data.rho=0.1,0.2", "data.name=icons,toy")
    assert len(planned("data.name=icons,toy", "data.rho=0.1,0.2").places) == 4


def test_a_place_is_told_by_what_failing_ones_have_in_common() -> None:
    grid = [{"a": a, "b": b} for a in "12" for b in "xy"]
    assert where(grid[:2], grid) == "a=1"
    assert where([grid[0], grid[3]], grid) == "a=1,b=x; a=2,b=y"
    assert where(grid[3:], grid) == "a=2,b=y"
    assert where([{"a": "1"}], [{"a": "1"}]) == "a=1"
