from __future__ import annotations

import csv
import io
import json
import math
import statistics
from dataclasses import replace
from typing import Any

import pandas
import pytest
from markdown_it import MarkdownIt

from secfpp.experiment.report.comparison import Estimate
from secfpp.experiment.report.table_formats import FORMATS, SCHEMA, csv_by_seed
from secfpp.experiment.report.tables import Column, Figure, ResultTable, Row, stacked
from support.latex_tables import tabulars, words
from support.result_tables import close, table_of
from support_experiment import fake_result

NAMES = (
    "class_means+dp@8",
    "a&b #1 50%",
    "__init__ `x` *y*",
    "[p] \\ {q}",
    "*|~^<$>",
    "l\n ong",
    "a--b---c",
    "\N{EN DASH}ü",
    "&amp; <b>",
)
KINDS = tuple(FORMATS)
DASH = "\N{EN DASH}"


def written(table: ResultTable, kind: str) -> str:
    return FORMATS[kind].write(table)


def read_markdown(text: str) -> list[list[list[str]]]:
    """The cells of every table as they are read, row by row; bold is marked by ``!``."""
    found: list[list[list[str]]] = []
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and token.level > 3:
            parts = token.children or []
            kinds = {part.type for part in parts}
            assert kinds <= {"text", "text_special", "strong_open", "strong_close"}, kinds
            found[-1][-1].append("".join("!" if part.type == "strong_open" else part.content for part in parts))
    return found


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def named(names: tuple[str, ...]) -> ResultTable:
    results = [
        fake_result(name, seed, 60 - at - seed % 2 / 10, False) for at, name in enumerate(names) for seed in (1, 2)
    ]
    return table_of(results, against=names[0])


@pytest.mark.parametrize("kind", ["markdown", "latex"])
def test_paper_tables_have_figures_bold_and_differences(kind: str) -> None:
    table = table_of(close(), methods=("pooled", "grouped"), keys=("own", "groups", "ari", "sent", "seconds"))
    read: Any = {"markdown": read_markdown, "latex": tabulars}[kind]
    main, gaps = read(written(table, kind))
    together = [[cell for cell in row if cell] for row in main]
    spans = {"markdown": ["55.7 ± 1.4", "!61.2 ± 3.1"], "latex": ["55.7 1.4", "!61.2 3.1"]}[kind]
    assert together[0] == ["Method", "Own", "Groups", "ARI", "Sent", "Time"]
    assert " ".join(together[1]) == f"pooled {spans[0]} {DASH} {DASH} 40.0 KiB 14.5 s"
    assert " ".join(together[2]) == f"grouped {spans[1]} 2 1.00 40.0 KiB 14.5 s"
    assert gaps == [["Method", "Own", "95 % interval", "p"], ["pooled", "+5.5", "+2.2, +8.8", "0.019"]]


@pytest.mark.parametrize("kind", ["markdown", "latex"])
def test_notes_stand_with_the_table_each_in_a_line(kind: str) -> None:
    table = named(("l\n% ong", "other"))
    text = written(table, kind)
    for note in table.notes:
        start = "* " if kind == "markdown" else "% "
        assert sum(line.startswith(start + note[:12]) for line in text.splitlines()) >= 1, note
    if kind == "latex":
        assert tabulars(text)
        assert "\\usepackage{booktabs}" in text.splitlines()[0]


@pytest.mark.parametrize("kind", ["markdown", "latex"])
def test_names_are_read_back_as_they_are(kind: str) -> None:
    read: Any = {"markdown": read_markdown, "latex": tabulars}[kind]
    main, _, gaps = read(written(named(NAMES), kind))
    shown = [" ".join(name.split()) for name in NAMES]
    assert [row[0] for row in main[1:]] == shown
    assert [row[0] for row in gaps[1:]] == shown[1:]
    assert len({len(row) for row in main}) == len({len(row) for row in gaps}) == 1


def test_source_of_markdown_is_aligned_and_keeps_plain_names_plain() -> None:
    text = written(named(("class_means_local", "b")), "markdown")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert "| class_means_local |" in rows[2]
    assert len({len(row) for row in rows[:4]}) == 1
    assert [cell.strip()[-1] for cell in rows[1].strip("|").split("|")] == ["-", *":" * (rows[1].count("|") - 2)]


@pytest.mark.parametrize("text", ["a_b", "50%", "a & b", "#1", "$x", "{a}", "a--b", "\\", "~", "|", "<"])
def test_what_reads_latex_refuses_what_is_not_escaped(text: str) -> None:
    with pytest.raises(AssertionError):
        words(text)


def test_a_method_with_one_seed_keeps_the_columns_of_the_others() -> None:
    results = [result for result in close() if result.method != "third" or result.seed == 2]
    text = written(table_of(results, keys=("own",)), "latex")
    main, gaps = tabulars(text)
    assert main[0] == ["Method", "Own", "", "Seeds"]
    assert main[3] == ["third", "62.0", "", "1"] and main[1] == ["grouped", "61.2", "3.1", "3"]
    assert gaps[2] == ["third", "\N{MINUS SIGN}1.0", DASH, DASH]
    single = written(table_of([r for r in results if r.seed == 2], keys=("own",)), "latex")
    assert tabulars(single)[0][0] == ["Method", "Own"] and r"\pm$\," not in single
    assert tabulars(single)[1][0] == ["Method", "Own"]


@pytest.mark.parametrize("kind", ["markdown", "latex"])
def test_blocks_of_rows_stand_apart(kind: str) -> None:
    one = table_of(close(), keys=("own",), against=None)
    text = written(stacked("setting", {"icons_40": one, "cards": one}), kind)
    (rows,) = {"markdown": read_markdown, "latex": tabulars}[kind](text)
    assert [row[:2] for row in rows] == [
        ["Setting", "Method"],
        *(["icons_40", "grouped"], ["", "pooled"], ["", "third"]),
        *(["cards", "grouped"], ["", "pooled"], ["", "third"]),
    ]
    if kind == "latex":
        assert text.count(r"\midrule") == 2


def test_csv_has_a_line_for_each_row_and_metric() -> None:
    table = table_of(close())
    lines = read_csv(written(table, "csv"))
    assert len({(line["method"], line["metric"]) for line in lines}) == len(lines)
    assert sum(line["method"] == "pooled" for line in lines) == len(table.columns) - 2  # neither groups nor ARI
    found = {(line["method"], line["metric"]): line for line in lines}
    line, figure = found["pooled", "own"], table.rows[1].figures["own"]
    assert figure.gap and figure.gap.interval and figure.value.interval
    assert (line["unit"], line["seeds"], line["leads"], line["against"]) == ("%", "3", "False", "grouped")
    assert (float(line["mean"]), float(line["low"]), float(line["high"])) == (figure.value.mean, *figure.value.interval)
    told = [float(line[key]) for key in ("difference", "difference_low", "difference_high", "p")]
    assert told == [figure.gap.mean, *figure.gap.interval, figure.gap.p]
    assert [found["grouped", "own"][key] for key in ("against", "difference", "p")] == ["", "", ""]
    assert (found["pooled", "sent"]["unit"], found["pooled", "sent"]["low"]) == ("bytes", "")


def test_csv_by_seed_gives_the_same_means_and_differences() -> None:
    table = table_of(close())
    lines, means = read_csv(csv_by_seed(table)), read_csv(written(table, "csv"))
    for line in means:
        of = [one for one in lines if (one["method"], one["metric"]) == (line["method"], line["metric"])]
        assert [one["seed"] for one in of] == ["1", "2", "3"]
        assert statistics.mean(float(one["value"]) for one in of) == pytest.approx(float(line["mean"]))
        gaps = [float(one["difference"]) for one in of if one["difference"]]
        assert bool(gaps) == bool(line["difference"])
        if gaps:
            assert statistics.mean(gaps) == pytest.approx(float(line["difference"]))


def test_csv_is_what_data_frames_want() -> None:
    table = stacked("setting", {"a": named(NAMES), "b": named(NAMES)})
    frame = pandas.read_csv(io.StringIO(written(table, "csv")))
    assert set(frame["method"]) == set(NAMES) and set(frame["setting"]) == {"a", "b"}
    assert frame["leads"].dtype == bool and frame["mean"].dtype == float and frame["p"].dtype == float
    wide = frame.pivot(index=["setting", "method"], columns="metric", values="mean")
    assert wide.loc[("b", NAMES[1]), "own"] == table.rows[1].figures["own"].value.mean
    by_seed = pandas.read_csv(io.StringIO(csv_by_seed(table)))
    spread = by_seed.pivot_table(index=["setting", "method"], columns="metric", values="value", aggfunc="std")
    assert spread.loc[("a", NAMES[0]), "own"] == pytest.approx(0.1 / math.sqrt(2))


def test_json_has_all_of_it_under_a_named_schema() -> None:
    table = table_of(close())
    told = json.loads(written(table, "json"))
    assert told.keys() == {"schema", "about", "labels", "reference", "columns", "rows", "notes"}
    assert (told["schema"], told["labels"], told["reference"]) == (SCHEMA, ["method"], "grouped")
    assert told["about"]["seeds"] == [1, 2, 3] and told["notes"] == list(table.notes)
    assert [column["key"] for column in told["columns"]] == [column.key for column in table.columns]
    assert all(column.keys() == {"key", "title", "about", "unit"} for column in told["columns"])
    grouped, pooled, _ = told["rows"]
    assert grouped["labels"] == {"method": "grouped"} and grouped["seeds"] == [1, 2, 3]
    assert "groups" in grouped["figures"] and "groups" not in pooled["figures"]
    figure, known = pooled["figures"]["own"], table.rows[1].figures["own"]
    assert figure.keys() == {"mean", "ci95", "per_seed", "leads", "difference"}
    assert figure["per_seed"] == {"1": 56.0, "2": 55.0, "3": 56.0} and figure["leads"] is False
    assert known.gap and known.gap.interval
    assert figure["difference"]["p"] == known.gap.p and figure["difference"]["ci95"] == list(known.gap.interval)
    assert grouped["figures"]["own"]["difference"] is None


def test_an_unbounded_epsilon_is_infinite_where_that_can_be_said() -> None:
    column = Column("epsilon", "Epsilon", "what is promised", "epsilon")
    rows = tuple(
        Row((name,), (1,), {"epsilon": Figure(Estimate(value, None, {1: value}))})
        for name, value in (("noisy", 7.8125), ("plain", math.inf))
    )
    table = ResultTable(("method",), (column,), rows, None, {}, ())
    assert [row[1] for row in read_markdown(written(table, "markdown"))[0][1:]] == ["7.81", "∞"]
    assert [row[1] for row in tabulars(written(table, "latex"))[0][1:]] == ["7.81", "∞"]
    assert [float(line["mean"]) for line in read_csv(written(table, "csv"))] == [7.8125, math.inf]
    assert [row["figures"]["epsilon"]["mean"] for row in json.loads(written(table, "json"))["rows"]] == [7.8125, None]


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_without_differences_or_intervals_can_be_written(kind: str) -> None:
    table = table_of([fake_result("alone", 1)], against=None)
    assert "alone" in written(table, kind) and "minus" not in written(table, kind)
    assert written(replace(table, rows=()), kind)
