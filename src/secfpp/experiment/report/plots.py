"""Charts as inline SVG and images as data URIs: no plotting library, no external file.

Colours are CSS classes (``c0`` to ``c7``, a colour-blind-safe set that the page defines for light and
dark), and nothing is told by colour alone: intervals have their numbers, lines dashes, points shapes. Charts
are as wide as their place; their words are HTML beside the drawing, so that they keep their size on a small screen.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from secfpp.experiment.report.some_clients import drawn
from secfpp.experiment.results.text import counted

COLOURS = 8
_SHAPES = {
    "circle": '<circle r="6"/>',
    "square": '<rect x="-5.5" y="-5.5" width="11" height="11"/>',
    "triangle": '<path d="M0-7.2 6.8 5.2H-6.8Z"/>',
    "diamond": '<path d="M0-7.6 7.6 0 0 7.6-7.6 0Z"/>',
    "triangle down": '<path d="M0 7.2 6.8-5.2H-6.8Z"/>',
    "plus": '<path d="M-2.4-7h4.8v4.6H7v4.8H2.4V7h-4.8V2.4H-7v-4.8h4.6Z"/>',
    "pentagon": '<path d="M0-7 6.7-2.2 4.1 5.7H-4.1L-6.7-2.2Z"/>',
    "hourglass": '<path d="M-6-6.5H6L1.6 0 6 6.5H-6L-1.6 0Z"/>',
}
SHAPES = tuple(_SHAPES)
_NOWHERE = Markup('<circle r="2.5"/>')


Line = Sequence[tuple[float, float]]
"""Points ``(x, y)`` from left to right."""


@dataclass(frozen=True)
class Scale:
    """Where values lie between the first and the last of `ticks`, evenly."""

    ticks: tuple[float, ...]

    @classmethod
    def around(cls, values: Iterable[float], about: int = 5) -> Scale:
        """The round numbers that enclose `values` (at least one)."""
        known = list(values)
        return cls(tuple(ticks(min(known), max(known), about)))

    def at(self, value: float) -> float:
        """Percent of the way: 0 at the first tick, 100 at the last."""
        return 100 * (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])

    def holds(self, value: float) -> bool:
        """Whether `value` lies between the ends."""
        return self.ticks[0] <= value <= self.ticks[-1]


class LogScale(Scale):
    """Where positive values lie between the first and the last of `ticks`, evenly by their logarithm."""

    def at(self, value: float) -> float:
        """Percent of the way: 0 at the first tick and below."""
        first, last = self.ticks[0], self.ticks[-1]
        return 100 * math.log(max(value, first) / first) / math.log(last / first)


@dataclass(frozen=True)
class Dot:
    """One row of an interval chart.

    Attributes:
        label: its name.
        value: where the dot is; outside the scale an arrow at the edge says so. None: no figure.
        text: the value in words.
        note: the interval in words.
        interval: drawn as a bar behind the dot.
        seeds: single values, drawn small.
        ring: another value to compare with, drawn hollow.
        kind: ``best``, ``above``, ``below``, ``mean`` or ``one``, for the style.
    """

    label: str
    value: float | None = None
    text: str = "\N{EN DASH}"
    note: str = ""
    interval: tuple[float, float] | None = None
    seeds: tuple[float, ...] = ()
    ring: float | None = None
    kind: str = ""


def intervals(
    title: str, rows: Sequence[Dot], scale: Scale, *, mark: float | None = None, head: bool = False
) -> Markup:
    """A name, a dot on its interval and a number in each row, above one scale; a zero inside it is marked.

    Args:
        title: what the chart shows, for those who do not see it.
        rows: from top to bottom.
        scale: of all rows.
        mark: a value with a dashed line of its own.
        head: put the scale above the rows, where it stays while they scroll.
    """
    body = Markup("").join(
        Markup('<div class="row {}"><span class="who">{}</span>{}<b>{}</b>{}</div>').format(
            row.kind,
            breakable(row.label),
            _strip(row, scale, mark),
            row.text,
            Markup("<small>{}</small>").format(row.note) if row.note else "",
        )
        for row in rows
    )
    spoken = f"{title}: " + "; ".join(f"{row.label} {row.text} {f'({row.note})' if row.note else ''}" for row in rows)
    axis = Markup('<div class="{}"><span></span><div class="axis">{}</div></div>').format(
        "row head" if head else "row", _tick_words(scale, "left")
    )
    parts = (axis, body) if head else (body, axis)
    return Markup('<div class="dots" role="img" aria-label="{}">{}{}</div>').format(spoken, *parts)


def _strip(row: Dot, scale: Scale, mark: float | None) -> Markup:
    y = "42%" if row.seeds else "50%"  # seeds are below the interval
    first, last = scale.ticks[0], scale.ticks[-1]
    parts = [
        Markup('<line class="{0}" x1="{1:.2f}%" x2="{1:.2f}%" y1="0" y2="100%"/>').format(
            "zero" if tick == 0 and first < 0 else "grid", scale.at(tick)
        )
        for tick in scale.ticks
    ]
    if mark is not None and scale.holds(mark):
        parts.append(
            Markup('<line class="asked" x1="{0:.2f}%" x2="{0:.2f}%" y1="0" y2="100%"/>').format(scale.at(mark))
        )
    if row.interval and row.interval[0] <= last and row.interval[1] >= first:
        low, high = (scale.at(min(max(end, first), last)) for end in row.interval)
        span = '<line class="span" x1="{:.2f}%" x2="{:.2f}%" y1="{y}" y2="{y}"/>'
        parts.append(Markup(span).format(low, high, y=y))
    circle = Markup('<circle class="{}" cx="{:.2f}%" cy="{}" r="{}"/>')
    parts += [circle.format("seed", scale.at(value), "84%", 1.8) for value in row.seeds if scale.holds(value)]
    if row.ring is not None and scale.holds(row.ring):
        parts.append(circle.format("ring", scale.at(row.ring), y, 4))
    if row.value is not None and scale.holds(row.value):
        parts.append(circle.format("dot", scale.at(row.value), y, 4.5))
    elif row.value is not None:
        right = row.value > last
        arrow = Markup('<svg x="{}%" y="{}" overflow="visible"><path class="dot" d="{}"/></svg>')
        parts.append(arrow.format(100 if right else 0, y, "M0-5 8 0 0 5Z" if right else "M0-5-8 0 0 5Z"))
    told = Markup("<title>{} {} {}</title>").format(row.label, row.text, row.note)
    return Markup('<span class="strip"><svg>{}{}</svg></span>').format(told, Markup("").join(parts))


def lines(
    title: str,
    series: Mapping[str, Line],
    x: Scale,
    y: Scale,
    focus: str | None = None,
    by: str = "round",
    spans: Mapping[str, Sequence[tuple[float, float, float]]] | None = None,
) -> Markup:
    """One line per entry of `series`, coloured and dashed in their order; with `focus` the others step back.

    `title` and `by` say what y and x are, for those who do not see it. `spans` are intervals of a series, drawn as
    upright bars: ``(x, low, high)``.
    """
    parts = [Markup('<path class="grid" d="M0 {0:.2f}H100"/>').format(100 - y.at(tick)) for tick in y.ticks]
    order = {name: index for index, name in enumerate(series)}
    for name in sorted(order, key=lambda name: name == focus):  # the one in focus is drawn last, on top
        if not series[name]:
            continue
        path = "M" + "L".join(f"{x.at(a):.2f} {100 - y.at(b):.2f}" for a, b in series[name])
        look = "line back" if focus not in (None, name) else f"line {colour(order[name])} d{order[name] % COLOURS}"
        if name == focus:
            look = "line front"
        parts.append(Markup('<path class="{}" d="{}"/>').format(look, path))
        bars = spans.get(name, ()) if spans and focus in (None, name) else ()
        path = "".join(f"M{x.at(a):.2f} {100 - y.at(low):.2f}V{100 - y.at(high):.2f}" for a, low, high in bars)
        if path:
            parts.append(Markup('<path class="{} upright" d="{}"/>').format(look.partition(" d")[0], path))
    shown = [focus] if focus is not None else list(series)
    ends = (f"{name} ends at {series[name][-1][1]:.3g}" for name in shown if series[name])
    drawing = Markup(
        '<svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
    ).format(f"{title} by {by}: {', '.join(ends)}", Markup("").join(parts))
    return Markup(
        '<div class="plot"><div class="scale" aria-hidden="true">{}</div><div class="field">{}</div>'
        '<div class="axis" aria-hidden="true">{}</div></div>'
    ).format(_tick_words(y, "bottom"), drawing, _tick_words(x, "left"))


def _tick_words(scale: Scale, side: str) -> Markup:
    word = Markup('<span style="{}:{:.2f}%">{}</span>')
    return Markup("").join(
        word.format(side, scale.at(tick), f"{tick:g}".replace("-", "\N{MINUS SIGN}")) for tick in scale.ticks
    )


def scatter(points: np.ndarray, domains: Sequence[str], clusters: Sequence[int], names: Sequence[str]) -> Markup:
    """Points [n, 2]: colour says the true domain, shape the found cluster; names appear on hover.

    Of very many clients some are shown, see `secfpp.experiment.report.some_clients`.
    """
    width, height, edge = 460, 360, 22
    low, high = points.min(0), points.max(0)
    spread = np.where(high > low, high - low, 1.0)
    order, shown = {domain: index for index, domain in enumerate(dict.fromkeys(domains))}, drawn(names, domains)
    parts = [Markup('<rect class="frame" x="1" y="1" width="{}" height="{}" rx="6"/>').format(width - 2, height - 2)]
    for (x, y), domain, cluster, name in zip((points - low) / spread, domains, clusters, names, strict=True):
        if name not in shown:
            continue
        where = f"cluster {cluster}" if cluster >= 0 else "in no cluster"
        at = f"translate({edge + x * (width - 2 * edge):.1f} {height - edge - y * (height - 2 * edge):.1f})"
        parts.append(
            Markup('<g class="point {}" transform="{}">{}<title>{}</title></g>').format(
                colour(order[domain]), at, shape(cluster) if cluster >= 0 else _NOWHERE, f"{name}: {domain}, {where}"
            )
        )
    spoken = f"{counted(len(names), 'client')} in {counted(len(set(clusters) - {-1}), 'found cluster')}"
    return _svg(width, height, spoken, parts)


def marker(colour_index: int | None, cluster: int = 0) -> Markup:
    """A small picture for legends: a point of that colour (None: neutral) and that cluster's shape."""
    kind = colour(colour_index) if colour_index is not None else "neutral"
    drawn = Markup('<svg class="marker" viewBox="-9 -9 18 18" aria-hidden="true"><g class="point {}">{}</g></svg>')
    return drawn.format(kind, shape(cluster))


def stroke(index: int) -> Markup:
    """A small picture for legends: the line of the `index`-th series."""
    drawn = Markup(
        '<svg class="stroke" viewBox="0 0 30 10" aria-hidden="true"><path class="line {} d{}" d="M0 5H30"/></svg>'
    )
    return drawn.format(colour(index), index % COLOURS)


def shape(cluster: int) -> Markup:
    """The outline that stands for a cluster; they repeat after `SHAPES`."""
    return Markup(_SHAPES[SHAPES[cluster % len(SHAPES)]])


def colour(index: int) -> str:
    """The CSS class of the `index`-th colour."""
    return f"c{index % COLOURS}"


def principal_plane(descriptors: np.ndarray) -> np.ndarray:
    """Coordinates [n, 2] of `descriptors` [n, d] on their two main axes (zeros where there is none)."""
    centred = np.asarray(descriptors, dtype=np.float64) - descriptors.mean(0)
    left, scales, _ = np.linalg.svd(centred, full_matrices=False)
    plane = np.zeros((len(centred), 2))
    plane[:, : min(2, len(scales))] = (left * scales)[:, :2]
    return plane


def breakable(name: str) -> Markup:
    """A name that may be broken after ``_``, ``+`` and ``-`` in a narrow column."""
    text = str(escape(name))
    for sign in "_+-":
        text = text.replace(sign, f"{sign}<wbr>")
    return Markup(text)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers, evenly spaced, the first at or below `low` and the last at or above `high`."""
    if high - low <= 1e-9 * max(1.0, abs(low), abs(high)):
        low, high = low - 0.5, high + 0.5
    power = 10.0 ** math.floor(math.log10((high - low) / about))
    size = next(f * power for f in (1, 2, 2.5, 5, 10) if (high - low) / (f * power) <= about)
    first, last = math.floor(low / size + 1e-9), math.ceil(high / size - 1e-9)
    return [round(index * size, 12) for index in range(first, last + 1)]


def png_uri(image: np.ndarray) -> str:
    """A uint8 image [height, width, 3] as a PNG data URI."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _svg(width: float, height: float, spoken: str, parts: Sequence[Markup]) -> Markup:
    body = Markup("").join(parts)
    return Markup('<svg class="plane" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, height, spoken, body
    )
