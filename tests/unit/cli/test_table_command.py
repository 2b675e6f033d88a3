from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from secfpp.cli.tables import TableFormat
from secfpp.experiment.report.table_formats import FORMATS
from support.commands import fails, secfpp, toy_folder, works
from support.latex_tables import tabulars
from support_experiment import World

CONFIG = """
seeds = [3, 4]
rounds = 2
[data]
name = "toy"
[method]
name = "pooled"
[variants."gr_ouped--x=5@8+a"]
base = "grouped"
class_prior = false
"""
ENDINGS = {"markdown": "md", "latex": "tex", "csv": "csv", "json": "json"}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    return toy_folder(monkeypatch, tmp_path, CONFIG)


def trained(*words: str) -> None:
    works("compare", "c.toml", "--out", "o", "--workers", "1", *words)


def test_a_run_leaves_the_tables_that_the_command_prints(world: World) -> None:
    trained()
    assert {name: form.ending for name, form in FORMATS.items()} == ENDINGS
    assert [str(one) for one in TableFormat] == list(FORMATS)
    for kind, ending in ENDINGS.items():
        stored = Path(f"o/table.{ending}")
        shown = works("table", "o", "--format", kind)
        assert shown.stdout == stored.read_text() and shown.stderr == ""
        assert stored.stat().st_mode & 0o077 == 0
        stored.unlink()
    works("report", "o")
    assert all(Path(f"o/table.{ending}").exists() for ending in ENDINGS.values())
    assert works("table", "o").stdout == Path("o/table.md").read_text()
    assert "table.*" in Path("o/README.txt").read_text()
    assert "table.md" in Path("o/report.html").read_text()


def test_a_report_that_is_written_elsewhere_touches_no_table(world: World) -> None:
    trained("--methods", "pooled")
    Path("o/table.csv").write_text("mine")
    works("report", "o", "--out", "p/page.html")
    assert [path.name for path in Path("p").iterdir()] == ["page.html"]
    assert Path("o/table.csv").read_text() == "mine"


def test_a_new_run_leaves_no_table_of_an_earlier_one(world: World) -> None:
    trained("--methods", "pooled,grouped")

    def stop(method: str) -> None:
        raise KeyboardInterrupt

    world.before_training = stop
    assert secfpp("compare", "c.toml", "--out", "o", "--workers", "1", "--force").exit_code == 130
    assert not list(Path("o").glob("table.*"))


def test_rows_columns_and_the_reference_are_chosen(world: World) -> None:
    trained()
    told = json.loads(works("table", "o", "--format", "json", "--methods", "grouped,pooled").stdout)
    assert told["reference"] == "pooled"  # the config's
    assert [row["labels"]["method"] for row in told["rows"]] == ["grouped", "pooled"]
    words = ("--metric", "own,seconds", "--against", "grouped", "--methods", "pooled,grouped,gr_ouped--x=5@8+a")
    latex = works("table", "o", "--format", "latex", *words).stdout
    main, gaps = tabulars(latex)
    assert main[0] == ["Method", "Own", "", "Time"]
    assert [row[0] for row in main[1:]] == ["pooled", "grouped", "gr_ouped--x=5@8+a"]
    assert [row[0] for row in gaps[1:]] == ["pooled", "gr_ouped--x=5@8+a"]
    assert "% grouped minus the others" in latex
    assert len(tabulars(works("table", "o", "--format", "latex", "--no-differences", "--metric", "own").stdout)) == 1
    told = json.loads(works("table", "o", "--format", "json", "--methods", "gr_ouped--x=5@8+a,grouped").stdout)
    assert told["reference"] == "grouped"  # the config's own is not shown: the best is


def test_a_file_is_written_in_the_format_of_its_ending(world: World) -> None:
    trained("--methods", "pooled,grouped")
    assert works("table", "o", "--out", "new/t.tex").stdout == ""
    assert tabulars(Path("new/t.tex").read_text())
    works("table", "o", "--out", "t.txt")
    assert Path("t.txt").read_text() == Path("o/table.md").read_text()
    works("table", "o", "--out", "t.txt", "--format", "json")
    assert json.loads(Path("t.txt").read_text())["labels"] == ["method"]
    works("table", "o", "--out", "t.csv", "--by-seed", "--metric", "own")
    with Path("t.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["method"], line["seed"], round(float(line["value"]), 9)) for line in lines] == [
        *(("pooled", "3", 55.3), ("pooled", "4", 55.4)),
        *(("grouped", "3", 60.3), ("grouped", "4", 60.4)),
    ]


def test_what_is_there_of_an_unfinished_run_is_shown_and_the_rest_named(world: World) -> None:
    def stop(method: str) -> None:
        if len(world.trained) == 3:
            raise KeyboardInterrupt

    world.before_training = stop
    assert secfpp("compare", "c.toml", "--out", "o", "--workers", "1").exit_code == 130
    assert not Path("o/table.md").exists()
    shown = works("table", "o", "--format", "json", "--metric", "own")
    told = json.loads(shown.stdout)
    assert {row["labels"]["method"]: row["seeds"] for row in told["rows"]} == {
        "grouped": [3],
        "pooled": [3],
        "gr_ouped--x=5@8+a": [3],
    }
    assert shown.stderr.splitlines() == [
        "Missing: grouped, seed 4",
        "Missing: pooled, seed 4",
        "Missing: gr_ouped--x=5@8+a, seed 4",
    ]
    assert works("table", "o", "--methods", "pooled").stderr == "Missing: pooled, seed 4\n"
    assert any("Not finished" in note for note in told["notes"])


def test_wrong_words_are_told_before_anything_is_read(world: World) -> None:
    assert "holds no run" in fails(2, "table", "nowhere")
    message = fails(2, "table", "nowhere", "--by-seed", "--no-differences", "--against", "x")
    assert "--by-seed" in message and "--format csv" in message and "--no-differences" in message
    assert "--metric = 'own,own': should name each metric once" in fails(2, "table", "nowhere", "--metric", "own,own")
    assert "should name each method once" in fails(2, "table", "nowhere", "--methods", "a,,b")
    assert "'csv'" in fails(2, "table", "nowhere", "--format", "excel")


def test_what_a_run_does_not_have_is_told_with_what_it_has(world: World) -> None:
    trained("--methods", "pooled,grouped")
    assert "did you mean 'own_domain'" in fails(2, "table", "o", "--metric", "own_domains")
    assert "did you mean 'grouped'" in fails(2, "table", "o", "--methods", "groupd")
    assert "--against = 'grouped'" in fails(2, "table", "o", "--methods", "pooled", "--against", "grouped")
    assert "--out = 'c.toml/t.md': cannot be written" in fails(2, "table", "o", "--out", "c.toml/t.md")
    for path in Path("o/cells").rglob("*.safetensors"):
        path.unlink()
    assert "no method is finished" in fails(2, "table", "o")


def test_the_command_is_listed_with_the_others() -> None:
    assert "table" in works("--help").stdout
    shown = works("table", "--help").stdout
    assert all(option in shown for option in ("--format", "--metric", "--against", "--methods", "--out"))
