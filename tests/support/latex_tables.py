"""Reads the LaTeX that is written for tables back as LaTeX would, and refuses what it would refuse."""

from __future__ import annotations

import re

WORDS = {
    "textbackslash": "\\",
    "textasciitilde": "~",
    "textasciicircum": "^",
    "textless": "<",
    "textgreater": ">",
    "textbar": "|",
    "textendash": "\N{EN DASH}",
}
RULES = (r"\toprule", r"\midrule", r"\bottomrule")
_COLUMN = re.compile(r"@\{(?:[^{}]|\{[^{}]*\})*\}|[lcr]")


def columns_of(spec: str) -> int:
    """How many columns a column specification makes."""
    found = _COLUMN.findall(spec)
    assert "".join(found) == spec, spec
    return sum(part in "lcr" for part in found)


def tabulars(text: str) -> list[list[list[str]]]:
    """The cells of every ``tabular`` in words, row by row; of one that spans columns, empty ones behind it.

    Outside of them there may be comments only.
    """
    found: list[list[list[str]]] = []
    width = 0
    rules: list[str] = []
    for line in text.splitlines():
        if begun := re.fullmatch(r"\\begin\{tabular\}\{(.*)\}", line):
            assert not width
            width, rules = columns_of(begun[1]), []
            found.append([])
        elif line == r"\end{tabular}":
            assert rules[0] == r"\toprule" and rules[-1] == r"\bottomrule" and rules.count(r"\midrule") >= 1
            width = 0
        elif not width:
            assert not line or line.startswith("% "), line
        elif line in RULES:
            rules.append(line)
        else:
            assert line.endswith(r" \\") and not line.lstrip().startswith(("[", "*")), line
            row = [cell for part in _cells(line.removesuffix(r" \\")) for cell in _spanning(part.strip())]
            assert len(row) == width, (line, width)
            found[-1].append(row)
    assert not width
    return found


def _cells(line: str) -> list[str]:
    """Cells between those ``&`` that are outside braces and not escaped."""
    cells, depth, escaped = [""], 0, False
    for sign in line:
        if not escaped:
            depth += {"{": 1, "}": -1}.get(sign, 0)
            assert depth >= 0, line
        if sign == "&" and not escaped and not depth:
            cells.append("")
        else:
            cells[-1] += sign
        escaped = sign == "\\" and not escaped
    assert depth == 0, line
    return cells


def _spanning(cell: str) -> list[str]:
    if found := re.fullmatch(r"\\multicolumn\{(\d)\}\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}\{(.*)\}", cell):
        assert columns_of(found[2]) == 1
        return [words(found[3]), *[""] * (int(found[1]) - 1)]
    return [words(cell)]


def words(cell: str) -> str:
    """A cell as it is read; bold is marked by ``!``.

    Signs that LaTeX takes for something else must be escaped.
    """
    if bold := re.fullmatch(r"\\textbf\{(.*)\}", cell):
        return f"!{words(bold[1])}"
    text = cell.replace("$-$", "\N{MINUS SIGN}").replace(r"$\pm$", "\N{PLUS-MINUS SIGN}").replace(r"$\infty$", "∞")
    read = ""
    while text:
        word = re.match(r"\\([a-z]+)\{\}|\\([{}$&#_%])|\{([\[\]*])\}|-\{\}(?=-)", text)
        if word is None:
            assert text[0] not in "\\{}$&#_%~^<>|" and not text.startswith("--"), cell
            read, text = read + text[0], text[1:]
        else:
            name, sign, braced = word.groups()
            read += WORDS[name] if name else sign or braced or "-"
            text = text[word.end() :]
    return read
