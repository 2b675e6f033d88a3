from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from secfpp.cli.app import app
from secfpp.cli.showing import matrix_rows
from secfpp.data.icons import IconSettings

SMALL = ["data.shots=6", "data.validation_shots=4", "data.test_shots=2", "data.clients_per_domain=2"]


def call(tmp_path: Path, *words: str) -> Any:
    config = tmp_path / "small.toml"
    config.write_text('seed = 3\n[data]\nname = "icons"\ndomains = ["sketch", "pixel"]\n')
    sets = [part for value in SMALL for part in ("--set", value)]
    return CliRunner().invoke(app, ["data", "show", str(config), *sets, *words])


@pytest.mark.parametrize(
    ("partition", "clients", "domains"),
    [
        ("by_domain", 4, {"sketch", "pixel"}),
        ("iid", 4, {"all"}),
        ("dirichlet", 4, {"all"}),
        ("shards", 4, {"all"}),
        ("pathological", 4, {"all"}),
        ('{kind="pathological", classes=20}', 4, {"all"}),
        ('{kind="pathological", fixed=2023}', 4, {"all"}),
        ('{within="pathological"}', 4, {"sketch", "pixel"}),
    ],
)
def test_one_setting_chooses_the_partition(tmp_path: Path, partition: str, clients: int, domains: set[str]) -> None:
    done = call(tmp_path, "--set", f"data.partition={partition}", "--json")
    assert done.exit_code == 0, done.output
    table = json.loads(done.output)
    assert table["seed"] == 3 and len(table["clients"]) == table["figures"]["clients"] == clients
    assert {own["domain"] for own in table["clients"].values()} == domains
    assert sum(sum(own["train"]) for own in table["clients"].values()) == 2 * 36 * 6


def test_the_matrix_is_printed_with_its_figures(tmp_path: Path) -> None:
    done = call(tmp_path, "--set", "data.partition.within=pathological", "--seed", "1")
    assert "icons, seed 1: training images of each client and class" in done.output
    assert "classes of a client 18" in done.output and "skew 0.5" in done.output


@pytest.mark.parametrize(
    ("partition", "words"),
    [
        ('{kind="pathological", classes=2}', "leave 28 of 36 classes without a client: set at least 9"),
        ("by_client", "unknown kind"),
        ('{within="by_domain"}', "a domain has no domains"),
        ('{kind="iid", classes=2}', "data.partition.classes"),
    ],
)
def test_a_partition_that_cannot_be_is_told_with_the_remedy(tmp_path: Path, partition: str, words: str) -> None:
    done = call(tmp_path, "--set", f"data.partition={partition}")
    assert done.exit_code == 2 and words in done.output


def test_wide_matrices_are_shaded_and_narrow_ones_have_numbers() -> None:
    held = {"c0": {"domain": "d", "train": [0, 9, 1]}, "c1": {"domain": "d", "train": [5, 0, 0]}}
    table = {"classes": ["a", "b", "c"], "clients": held}
    rows, notes = matrix_rows(table, 80)
    assert rows[1] == ["c0", "d", "10", ".", "9", "1"] and notes == "classes: 0 a, 1 b, 2 c"
    rows, notes = matrix_rows(table, 20)
    assert rows[1:] == [["c0", "d", "10", "| @.|"], ["c1", "d", "5", "|+  |"]] and "@ 9" in notes


def test_all_settings_of_the_usual_partition_come_back() -> None:
    assert IconSettings().partition.kind == "by_domain"
