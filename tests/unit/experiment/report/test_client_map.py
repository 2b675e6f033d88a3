from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secfpp.experiment.report.client_map import LEVELS, client_map
from support_experiment import fake_result


def test_rows_are_clients_by_domain_and_columns_metrics_then_methods() -> None:
    found = client_map([fake_result("a", own=50), fake_result("b", own=70)], "b")
    assert found is not None
    assert found.metrics == ("Own", "Own domain", "Other domains")
    assert found.methods == ("a", "b")
    assert [group.domain for group in found.groups] == ["clipart", "sketch"]
    name, cells = found.groups[0].clients[0]
    assert name == "clipart-0"
    assert [cell.value for cell in cells] == [68, 63, 53, 48, 68]
    assert [cell.value for cell in found.groups[1].mean] == pytest.approx([70, 65, 55, 50, 70])


def test_figures_are_means_over_the_seeds_that_have_them() -> None:
    first, second, third = fake_result("a", 0, 50), fake_result("a", 1, 60), fake_result("a", 2, 90)
    third.metrics["own"][0] = np.nan
    found = client_map([first, second, third], "a")
    assert found is not None
    assert found.groups[0].clients[0][1][0].value == pytest.approx(53)
    assert found.methods == ()  # it would say the same again


def test_clients_that_only_some_runs_have_are_blank_elsewhere() -> None:
    few, many = fake_result("a", per_domain=1, own=50), fake_result("b", per_domain=2, own=50)
    found = client_map([few, many], "b")
    assert found is not None
    assert [name for name, _ in found.groups[0].clients] == ["clipart-0", "clipart-1"]
    blank = found.groups[0].clients[1][1][3]
    assert blank.value is None and blank.level is None
    assert found.groups[0].mean[3].value == 48  # of the one there is


def test_a_reference_without_a_metric_has_no_column_for_it() -> None:
    result = fake_result("a")
    result = replace(result, metrics={"own": result.metrics["own"], "other_domains": np.full(6, np.nan)})
    found = client_map([result], "a")
    assert found is not None and found.metrics == ("Own",)
    assert client_map([replace(result, metrics={"own": np.full(6, np.nan)})], "a") is None
    assert client_map([], "a") is None


@given(st.lists(st.floats(0, 100), min_size=6, max_size=6))
def test_every_value_lies_in_the_step_of_the_legend_that_colours_it(values: list[float]) -> None:
    result = fake_result("a")
    found = client_map([replace(result, metrics={"own": np.array(values)})], "a")
    assert found is not None
    assert [level for level, _, _ in found.legend] == list(range(LEVELS))
    for group in found.groups:
        for _, cells in group.clients:
            assert cells[0].level is not None and cells[0].value is not None
            _, low, high = found.legend[cells[0].level]
            assert low - 1e-6 <= cells[0].value <= high + 1e-6
