"""Overrides on top of a file, and what is said where they clash."""

from __future__ import annotations

from itertools import permutations

import pytest

from secfpp.errors import ConfigError
from secfpp.experiment.spec.config import ExperimentConfig, parse_config
from secfpp.experiment.spec.layers import merge, overridden
from support_experiment import Grouped, Means, Pooled, Single, Training, catalog

BASE = {"data": {"name": "toy"}, "method": {"name": "grouped", "grouping": {"kind": "means", "k_max": 4}}}
CLIENTS = {"name": "icons", "partition": {"kind": "pathological", "fixed": 2023}}
FREE = "data.partition.fixed=none"


def given(*overrides: str) -> ExperimentConfig:
    return parse_config(overridden(BASE, overrides), catalog())


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(overridden({"data": CLIENTS}, overrides))
    return str(caught.value)


@pytest.mark.parametrize("first", ["method.name=pooled", "data.name=toy", "seed=3"])
def test_a_name_and_its_settings_come_in_any_order(first: str) -> None:
    for order in permutations([first, "method.name=pooled", "method.training.lr=0.3"]):
        assert given(*order).method.algorithm == Pooled(training=Training(lr=0.3))


@pytest.mark.parametrize("kind", ["method.grouping.kind=means", "method.grouping=means"])
def test_a_kind_and_its_settings_come_in_any_order(kind: str) -> None:
    table = {"data": {"name": "toy"}, "method": {"name": "grouped", "grouping": {"kind": "single"}}}
    for order in permutations([kind, "method.grouping.k_max=9"]):
        config = parse_config(overridden(table, order), catalog())
        assert config.method.algorithm == Grouped(grouping=Means(k_max=9))


def test_another_kind_takes_the_settings_of_the_file_and_of_earlier_overrides_away() -> None:
    assert given("method.grouping=single").method.algorithm == Grouped(grouping=Single())
    overrides = ("method.grouping.kind=means", "method.grouping.k_max=9", "method.grouping.kind=single")
    assert given(*overrides).method.algorithm == Grouped(grouping=Single())


def test_none_takes_a_component_away_whatever_stood_before() -> None:
    algorithm = given("method.spare.kind=means", "method.spare.k=2", "method.spare=none").method.algorithm
    assert algorithm == Grouped(grouping=Means(k_max=4), spare=None)


def test_the_last_of_seed_and_seeds_counts() -> None:
    assert given("seeds=[1, 2]", "seed=5").seeds == (5,)
    assert given("seed=5", "seeds=[1, 2]").seeds == (1, 2)


def test_a_whole_table_without_a_kind_is_of_another_than_any_given() -> None:
    assert merge({"k_max": 3}, {"kind": "single"}) == {"kind": "single"}
    assert merge({"k_max": 3}, {"kind": "means"}, partial=True) == {"k_max": 3, "kind": "means"}


def test_a_setting_of_another_kind_is_named_with_the_kinds_that_have_it() -> None:
    told = refusal("data.partition.kind=iid", "data.partition.classes=3")
    assert told.startswith("data.partition.classes = 3: the kind iid has no such setting: ")
    assert told.endswith('leave it out, or set data.partition.kind = "pathological" beside it')
    assert 'data.partition.kind = "by_domain"' in refusal("data.partition.within=iid")
    assert "unknown key" in refusal("data.partition.kind=iid", "data.partition.klasses=3")


def test_the_remedies_of_a_setting_of_another_kind_work() -> None:
    overrides = ["data.partition.classes=3", "data.partition.kind=pathological", FREE]
    free = parse_config(overridden({"data": CLIENTS}, overrides)).data.settings.partition
    assert (free.classes, free.fixed) == (3, None)
    without = parse_config(overridden({"data": CLIENTS}, ["data.partition.kind=iid"])).data.settings.partition
    assert without.kind == "iid"


def test_classes_beside_a_fixed_division_are_refused_with_both_values_and_remedies_that_work() -> None:
    told = refusal("data.partition.classes=3")
    assert told.startswith("data.partition.fixed = 2023: ") and "data.partition.classes = 3" in told
    assert told.endswith('set data.partition.fixed = "none", or data.partition.classes = 0')
    for remedy in (FREE, 'data.partition.fixed="none"', "data.partition.classes=0"):
        parse_config(overridden({"data": CLIENTS}, ["data.partition.classes=3", remedy]))
