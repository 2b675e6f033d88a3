from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secfpp.errors import ConfigError, DataError
from secfpp.experiment.spec.config import ExperimentConfig, parse_config
from secfpp.experiment.spec.plan import Cell, Plan, differences
from support_experiment import catalog

VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
TABLES = st.recursive(
    st.dictionaries(st.text("abc.", min_size=1, max_size=3), VALUES, max_size=3),
    lambda inner: st.dictionaries(st.text("abc", min_size=1, max_size=2), inner | VALUES, max_size=3),
    max_leaves=8,
)


def config(**changes: Any) -> ExperimentConfig:
    table = {"seeds": [2, 1], "rounds": 3, "data": {"name": "toy"}, "method": {"name": "grouped"}}
    variants = {"slow": {"base": "grouped", "training": {"lr": 0.001}}}
    return parse_config(table | {"variants": variants} | changes, catalog())


def plan(*labels: str, digest: str = "abc", **changes: Any) -> Plan:
    settings = config(**changes)
    return Plan.of(settings, settings.choose(labels or ("grouped",), catalog()), digest)


def message(old: Plan, new: Plan) -> str:
    with pytest.raises(ConfigError) as caught:
        old.joined(new)
    return str(caught.value)


def test_cells_are_listed_by_method_then_by_seed() -> None:
    assert plan("slow", "pooled").cells == (("slow", 1), ("slow", 2), ("pooled", 1), ("pooled", 2))
    assert str(Cell("slow", 1)) == "slow, seed 1"


def test_it_survives_json() -> None:
    made = plan("slow", "grouped")
    assert Plan.from_json(json.loads(json.dumps(made.to_json()))) == made


@pytest.mark.parametrize(
    "content",
    [None, [], {}, {"seeds": {"a": [1]}}, {"seeds": {"a": [1]}, "methods": {}, "settings": {}},
     {"seeds": {}, "methods": {}, "settings": {"rounds": 3}}],
)  # fmt: skip
def test_what_is_no_plan_is_refused(content: Any) -> None:
    with pytest.raises(DataError, match="no plan"):
        Plan.from_json(content)


def test_joining_adds_methods_and_seeds_and_keeps_the_order() -> None:
    old = plan("slow", seeds=[5, 3])
    joined = old.joined(plan("pooled", "slow", seeds=[4]))
    assert joined.seeds == {"slow": (3, 4, 5), "pooled": (4,)}
    assert joined.methods.keys() == {"slow", "pooled"}
    assert old.joined(old) == old


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"rounds": 4}, "rounds = 4: the run in that directory has 3"),
        ({"participation": 0.5}, "participation = 0.5"),
        ({"data": {"name": "toy", "rho": 1.0}}, "data.rho = 1.0"),
        ({"digest": "other"}, "backbone.digest = 'other'"),
        ({"backbone": {"dtype": "bfloat16"}}, "backbone.dtype = 'bfloat16'"),
        ({"backbone": {"compile": True}}, "backbone.compile = True"),
        ({"method": {"name": "grouped", "training": {"lr": 0.5}}}, "method.training.lr = 0.5"),
    ],
)
def test_other_settings_do_not_join(changes: dict[str, Any], key: str) -> None:
    text = message(plan(), plan(**changes))
    assert key in text and "--force" in text


def test_how_a_model_computes_may_change() -> None:
    assert plan().joined(plan(backbone={"threads": 3, "device": "cpu"})).cells == plan().cells


def test_what_is_not_compiled_is_stored_as_it_was_before_anything_could_be() -> None:
    assert plan(backbone={"compile": False}).settings["backbone"].keys() == {"name", "dtype", "digest"}


def test_a_label_keeps_its_settings_and_only_labels_in_use_are_looked_at() -> None:
    changed = {"variants": {"slow": {"base": "grouped", "training": {"lr": 0.9}}}}
    assert "slow: training.lr = 0.9: the run in that directory has 0.001" in message(
        plan("slow"), plan("slow", **changed)
    )
    assert plan("pooled").joined(plan("slow", **changed)).methods["slow"]["training"]["lr"] == 0.9


def test_a_cells_identity_is_all_that_it_depends_on() -> None:
    made = plan("slow", "grouped")
    identity = made.identity(Cell("slow", 2))
    assert identity["seed"] == 2 and identity["rounds"] == 3 and identity["data"]["name"] == "toy"
    assert identity["method"]["training"]["lr"] == 0.001 and identity["method"]["name"] == "grouped"
    other = replace(made, settings={**made.settings, "method": {"name": "pooled"}})
    assert other.identity(Cell("slow", 2)) == identity  # [method] matters to the cells that are trained by it


def test_many_differences_are_cut_short() -> None:
    old, new = plan(), plan()
    many = {f"x{i}": i for i in range(20)}
    assert len(message(old, replace(new, settings={**new.settings, **many})).splitlines()) == 6


@given(TABLES, TABLES)
def test_differences_are_those_keys_that_differ(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert differences(old, old) == {}
    forth, back = differences(old, new), differences(new, old)
    assert {key: (b, a) for key, (a, b) in back.items()} == forth


def test_differences_name_nested_and_absent_keys() -> None:
    old, new = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}, "e": 5}
    assert differences(old, new) == {"a.c": (2, 4), "d": (3, "(absent)"), "e": ("(absent)", 5)}
