"""The picture of how the costs of a grouping grow with the number of clients, docs/growth.svg.

    python benchmarks/cost/growth.py

Points are the figures of `growth.csv`, which `scale.py` prints, one run for each row. Lines are formulas of
`secfpp.secure.clustering`: `AgreementCost` where everybody is searched, `SampledCost` above that. Time and memory have
no formula at these numbers; there, dashes only join the points. Both axes are logarithmic.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from secfpp.secure.circuits.cost import Role
from secfpp.secure.clustering.cost import AgreementCost
from secfpp.secure.clustering.sampled_cost import SampledCost
from secfpp.secure.clustering.secure_agreement import SecureAgreement

TABLE, PICTURE = Path(__file__).with_suffix(".csv"), Path(__file__).parents[2] / "docs" / "growth.svg"
NAME = len("client-00000")
FEWEST, MOST = 6, 8
"""Groups that lines are drawn for, K."""
CLIENTS = (
    30,
    40,
    50,
    60,
    70,
    85,
    100,
    115,
    128,
    129,
    150,
    200,
    300,
    500,
    700,
    1000,
    1500,
    2000,
    3000,
    4000,
    5500,
    7500,
    10_000,
)
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 370, 210, 52, 24, 34, 32
"""Of a panel, and of what is around its lines."""
STYLE = """
svg { font: 12px system-ui, sans-serif; fill: #333; background: #fff }
.grid { stroke: #ddd } .line { fill: none; stroke: #2563a8; stroke-width: 2 } .point { fill: #c2410c }
.second { stroke: #3f7d3a } .dashed { stroke-dasharray: 4 4; stroke-width: 1.2; stroke: #c2410c }
.title { font-weight: 600 } .end { text-anchor: end } .middle { text-anchor: middle }
"""

Points = Sequence[tuple[float, float]]


def sent(role: Role, groups: int, unit: float) -> Points:
    """What a client sends, by the formula, if so many groups are found."""
    settings, points = SecureAgreement(), []
    for n in CLIENTS:
        few = settings.searched(n) == n
        cost = AgreementCost(settings, n) if few else SampledCost(settings, n, groups)
        points.append((n, cost.sent(role) / unit))
    return points


def got() -> Points:
    """Bytes of keys, names and randomness that a client gets who holds no shares, in kB."""
    settings = SecureAgreement()
    return [(n, SampledCost(settings, n, MOST).received(NAME) / 1e3) for n in CLIENTS if settings.searched(n) < n]


def place(ticks: Sequence[float], start: float, length: float) -> Callable[[float], float]:
    """Where values lie on an axis from the first to the last tick."""
    first, last = math.log(ticks[0]), math.log(ticks[-1])
    return lambda value: start + length * (math.log(value) - first) / (last - first)


def panel(title: str, ticks: Sequence[float], lines: Sequence[tuple[str, Points]], points: Points) -> str:
    """One drawing: lines with their classes, and points."""
    across = place((30, 10_000), LEFT, WIDTH - LEFT - RIGHT)
    up = place(ticks, HEIGHT - BOTTOM, -(HEIGHT - TOP - BOTTOM))
    parts = [f'<text class="title" x="{LEFT}" y="18">{title}</text>']
    for tick in ticks:
        y = up(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="end" x="{LEFT - 6}" y="{y + 4:.1f}">{tick:,g}</text>')
    for n in (30, 100, 300, 1000, 3000, 10_000):
        parts.append(f'<text class="middle" x="{across(n):.1f}" y="{HEIGHT - BOTTOM + 18}">{n:,}</text>')
    for kind, line in lines:
        path = "L".join(f"{across(n):.1f} {up(value):.1f}" for n, value in line)
        parts.append(f'<path class="line {kind}" d="M{path}"/>')
    parts += [f'<circle class="point" r="3.5" cx="{across(n):.1f}" cy="{up(value):.1f}"/>' for n, value in points]
    return "".join(parts)


def main() -> None:
    with TABLE.open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]

    def measured(column: str) -> Points:
        return [(row["clients"], row[column]) for row in rows]

    fewer, more, client = sent("responder", FEWEST, 1e6), sent("responder", MOST, 1e6), sent("client", MOST, 1e3)
    time, memory = measured("processor_s"), measured("peak_mib")
    panels = [
        panel(
            f"A holder of shares sends, MB (lines: K = {FEWEST}, {MOST})",
            (30, 100, 300, 1000),
            [("", fewer), ("", more)],
            measured("holder_mb"),
        ),
        panel(
            "Another client sends (blue), gets (green), kB",
            (3, 10, 30, 100, 300, 1000),
            [("", client), ("second", got())],
            [*measured("client_kb"), *measured("gets_kb")],
        ),
        panel("Processor, all parties, s", (1, 3, 10, 30, 100, 300), [("dashed", time)], time),
        panel("Memory of one process, MiB", (300, 1000, 3000, 10_000), [("dashed", memory)], memory),
    ]
    drawn = "".join(
        f'<g transform="translate({WIDTH * (number % 2)} {HEIGHT * (number // 2)})">{each}</g>'
        for number, each in enumerate(panels)
    )
    words = "Costs of one grouping by the number of clients: points measured, lines by formula, dashes between points"
    PICTURE.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * WIDTH} {2 * HEIGHT}" role="img">'
        f"<title>{words}</title><style>{STYLE}</style>{drawn}</svg>\n"
    )
    print(f"{PICTURE.name}: {len(rows)} measured runs")


if __name__ == "__main__":
    main()
