"""Result tables for papers: Markdown, and LaTeX with the rules of booktabs."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from secfpp.experiment.report.comparison import Estimate
from secfpp.experiment.report.tables import Column, ResultTable, Row
from secfpp.experiment.results.text import amount, duration, p_value, points

NONE = "\N{EN DASH}"
"""What is not known."""
_IN_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        **{sign: f"\\{sign}" for sign in "{}$&#_%"},
        **{sign: f"{{{sign}}}" for sign in "[]*"},  # at the beginning of a row they would be read as options
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "\N{MINUS SIGN}": "$-$",
        "\N{PLUS-MINUS SIGN}": r"$\pm$",
        "\N{INFINITY}": r"$\infty$",
        NONE: r"\textendash{}",
    }
)
_IN_MARKDOWN = re.compile(r"[\\`*<>\[\]|~$&]|(?<![^\W_])_|_(?![^\W_])")
_NO_HALF = r"\multicolumn{1}{r@{\,\phantom{$\pm$}\,}}"
"""A mean without an interval, in the place of those that have one."""


@dataclass(frozen=True)
class _Cell:
    """A number in words, half of its interval if that is shown, and whether it is bold."""

    text: str
    half: str = ""
    bold: bool = False


@dataclass(frozen=True)
class _PaperColumn:
    head: str
    cells: tuple[_Cell, ...]

    @property
    def spread(self) -> bool:
        """Whether there are intervals."""
        return any(cell.half for cell in self.cells)


@dataclass(frozen=True)
class _Part:
    """What fits the width of a page: some columns, and the rows that have something there."""

    title: str
    rows: tuple[Row, ...]
    columns: tuple[_PaperColumn, ...]


def markdown(table: ResultTable) -> str:
    """A table with pipes for each part, and the notes as a list."""
    text = []
    for part in _parts(table):
        labels = zip([_capital(name) for name in table.names], *_labels(part.rows), strict=True)
        columns = [_column([_in_markdown(word) for word in words], str.ljust, "-") for words in labels]
        columns += [
            _column([_in_markdown(column.head), *map(_markdown_cell, column.cells)], str.rjust, ":")
            for column in part.columns
        ]
        lines = [f"| {' | '.join(cells)} |" for cells in zip(*columns, strict=True)]
        text += [*([f"{_in_markdown(part.title)}:", ""] if part.title else []), *lines, ""]
    return "\n".join([*text, *(f"* {_in_markdown(note)}" for note in table.notes)]) + "\n"


def latex(table: ResultTable) -> str:
    r"""A ``tabular`` for each part; the notes are comments above.

    Means and halves of intervals are columns of their own, so that decimal points stand below each other.
    """
    notes = [r"Needs \usepackage{booktabs}. What a caption should say:", *table.notes]
    text = [f"% {_one_line(note)}" for note in notes]
    for part in _parts(table):
        align = "".join(r"r@{\,$\pm$\,}r" if column.spread else "r" for column in part.columns)
        heads = [
            rf"\multicolumn{{2}}{{c}}{{{_in_latex(column.head)}}}" if column.spread else _in_latex(column.head)
            for column in part.columns
        ]
        text += ["", *([f"% {_one_line(part.title)}:"] if part.title else [])]
        text += [rf"\begin{{tabular}}{{{'l' * len(table.names)}{align}}}", r"\toprule"]
        text += [_latex_row([*(_in_latex(_capital(name)) for name in table.names), *heads]), r"\midrule"]
        for at, labels in enumerate(_labels(part.rows)):
            if at and labels[0] and len(labels) > 1:  # a new block
                text.append(r"\midrule")
            cells = [_latex_cell(column.cells[at], column.spread) for column in part.columns]
            text.append(_latex_row([*map(_in_latex, labels), *cells]))
        text += [r"\bottomrule", r"\end{tabular}"]
    return "\n".join(text) + "\n"


def _parts(table: ResultTable) -> list[_Part]:
    """The figures, by the part of their column, and then the differences; how many seeds, if rows differ in them."""
    found = []
    seeds = _PaperColumn("Seeds", tuple(_Cell(str(len(row.seeds))) for row in table.rows))
    uneven = [seeds] if len({row.seeds for row in table.rows}) > 1 else []
    for title in dict.fromkeys(column.part for column in table.columns):
        columns = [_values(column, table.rows) for column in table.columns if column.part == title]
        found.append(_Part(title, table.rows, (*columns, *uneven)))
    compared = [column for column in table.columns if column.compared]
    rows = tuple(row for row in table.rows if any(_gap(row, column) for column in compared))
    if rows:
        columns = [one for column in compared for one in _differences(column, rows)]
        found.append(_Part(f"{table.reference} minus the others", rows, tuple(columns)))
    return found


def _values(column: Column, rows: Sequence[Row]) -> _PaperColumn:
    def cell(row: Row) -> _Cell:
        figure = row.figures.get(column.key)
        if figure is None:
            return _Cell(NONE)
        interval = figure.value.interval
        half = points((interval[1] - interval[0]) / 2) if interval else ""
        return _Cell(_in_words(figure.value.mean, column.unit), half, figure.leads)

    return _PaperColumn(column.title, tuple(map(cell, rows)))


def _differences(column: Column, rows: Sequence[Row]) -> list[_PaperColumn]:
    """The means; and intervals and p-values where any row has them."""
    gaps = [_gap(row, column) for row in rows]
    found = [_PaperColumn(column.title, tuple(_Cell(points(gap.mean, True) if gap else NONE) for gap in gaps))]
    if any(gap and gap.interval for gap in gaps):
        spans = [", ".join(points(end, True) for end in gap.interval) if gap and gap.interval else NONE for gap in gaps]
        found.append(_PaperColumn("95 % interval", tuple(map(_Cell, spans))))
        found.append(_PaperColumn("p", tuple(_Cell(p_value(gap.p if gap else None)) for gap in gaps)))
    return found


def _gap(row: Row, column: Column) -> Estimate | None:
    return row.figures[column.key].gap if column.key in row.figures else None


def _in_words(value: float, unit: str) -> str:
    if math.isinf(value):
        return "\N{INFINITY}"
    if unit in ("%", "index"):
        return points(value, digits=1 if unit == "%" else 2)
    return amount(value) if unit == "bytes" else duration(value) if unit == "seconds" else f"{value:.3g}"


def _labels(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Labels of rows, without those in front that the row above has too."""
    found: list[tuple[str, ...]] = []
    before: tuple[str, ...] = ()
    for row in rows:
        same = 0
        while before and same < len(row.labels) - 1 and row.labels[same] == before[same]:
            same += 1
        found.append(("",) * same + row.labels[same:])
        before = row.labels
    return found


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _column(cells: Sequence[str], pad: Callable[[str, int], str], side: str) -> list[str]:
    """A head and cells of one width in Markdown, with the rule between, whose end says the side they stand on."""
    width = max(3, *map(len, cells))
    head, *rest = (pad(cell, width) for cell in cells)
    return [head, "-" * (width - 1) + side, *rest]


def _markdown_cell(cell: _Cell) -> str:
    text = f"**{_in_markdown(cell.text)}**" if cell.bold else _in_markdown(cell.text)
    return f"{text} \N{PLUS-MINUS SIGN} {cell.half}" if cell.half else text


def _in_markdown(text: str) -> str:
    """`text` in one line; what has a meaning there is escaped, but ``_`` inside a word has none."""
    return _IN_MARKDOWN.sub(r"\\\g<0>", _one_line(text))


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex_cell(cell: _Cell, spread: bool) -> str:
    text = rf"\textbf{{{_in_latex(cell.text)}}}" if cell.bold else _in_latex(cell.text)
    if not spread:
        return text
    return f"{text} & {_in_latex(cell.half)}" if cell.half else f"{_NO_HALF}{{{text}}} &"


def _in_latex(text: str) -> str:
    """`text` in one line; what LaTeX reads as something else is escaped, and hyphens do not join to dashes."""
    return re.sub("-(?=-)", "-{}", _one_line(text).translate(_IN_LATEX))
