"""Charts as inline SVG and images as data URIs: no plotting library, no external file.

Colours are CSS classes (``c0`` to ``c7``, a colour-blind-safe set that the page defines for light and
dark), and nothing is told by colour alone: bars have their values, lines dashes, points shapes.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

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


@dataclass(frozen=True)
class Bar:
    """One bar: a `label`, its `value`, a 95 % `interval` if known, and whether it is the best of its chart."""

    label: str
    value: float
    interval: tuple[float, float] | None = None
    best: bool = False


def bars(title: str, rows: Sequence[Bar], maximum: float, unit: str = "%") -> Markup:
    """Horizontal bars from zero to `maximum`, each with its name above and its value beside it."""
    width, step, top = 330, 38, 6
    scale = (width - 52) / maximum
    parts = []
    for index, row in enumerate(rows):
        y = top + index * step
        length = max(row.value * scale, 1)
        end = (row.interval[1] if row.interval else row.value) * scale
        kind = "bar best" if row.best else "bar"
        parts.append(Markup('<text class="name" x="0" y="{}">{}</text>').format(y + 10, row.label))
        parts.append(
            Markup('<rect class="{}" x="0" y="{}" width="{:.1f}" height="13" rx="2"/>').format(kind, y + 15, length)
        )
        if row.interval:
            low, high = (bound * scale for bound in row.interval)
            path = f"M{low:.1f} {y + 21.5}H{high:.1f}M{low:.1f} {y + 17.5}v8M{high:.1f} {y + 17.5}v8"
            parts.append(Markup('<path class="whisker" d="{}"/>').format(path))
        weight = "value best" if row.best else "value"
        parts.append(
            Markup('<text class="{}" x="{:.1f}" y="{}">{:.1f}</text>').format(
                weight, max(end, length) + 6, y + 26, row.value
            )
        )
    spoken = f"{title}: " + "; ".join(f"{row.label} {row.value:.1f} {unit}" for row in rows)
    return _svg(width, top + len(rows) * step, spoken, parts)


def lines(title: str, series: Mapping[str, Sequence[tuple[float, float]]]) -> Markup:
    """One line per entry of `series`, points ``(x, y)``, coloured and dashed in their order."""
    width, height, left, right, top, bottom = 460, 260, 44, 10, 12, 30
    points = [point for line in series.values() for point in line]
    ticks_y = ticks(min(y for _, y in points), max(y for _, y in points))
    low_x, high_x = min(x for x, _ in points), max(x for x, _ in points)

    def px(x: float) -> float:
        return left + (x - low_x) / ((high_x - low_x) or 1) * (width - left - right)

    def py(y: float) -> float:
        return height - bottom - (y - ticks_y[0]) / (ticks_y[-1] - ticks_y[0]) * (height - top - bottom)

    parts = []
    for tick in ticks_y:
        parts.append(Markup('<path class="grid" d="M{} {:.1f}H{}"/>').format(left, py(tick), width - right))
        parts.append(
            Markup('<text class="tick end" x="{}" y="{:.1f}">{:g}</text>').format(left - 7, py(tick) + 4, tick)
        )
    for tick in (tick for tick in ticks(low_x, high_x) if low_x <= tick <= high_x and tick == int(tick)):
        parts.append(Markup('<text class="tick mid" x="{:.1f}" y="{}">{:g}</text>').format(px(tick), height - 9, tick))
    for index, line in enumerate(series.values()):
        if not line:
            continue  # keeps the colours of the others
        path = "M" + "L".join(f"{px(x):.1f} {py(y):.1f}" for x, y in line)
        parts.append(Markup('<path class="line {} d{}" d="{}"/>').format(colour(index), index % COLOURS, path))
    return _svg(width, height, f"{title} by round for {', '.join(series)}", parts)


def scatter(points: np.ndarray, domains: Sequence[str], clusters: Sequence[int], names: Sequence[str]) -> Markup:
    """Points [n, 2]: colour says the true domain, shape the found cluster; names appear on hover."""
    width, height, edge = 460, 360, 22
    low, high = points.min(0), points.max(0)
    spread = np.where(high > low, high - low, 1.0)
    order = {domain: index for index, domain in enumerate(dict.fromkeys(domains))}
    parts = [Markup('<rect class="frame" x="1" y="1" width="{}" height="{}" rx="6"/>').format(width - 2, height - 2)]
    for (x, y), domain, cluster, name in zip((points - low) / spread, domains, clusters, names, strict=True):
        where = f"cluster {cluster}" if cluster >= 0 else "in no cluster"
        at = f"translate({edge + x * (width - 2 * edge):.1f} {height - edge - y * (height - 2 * edge):.1f})"
        parts.append(
            Markup('<g class="point {}" transform="{}">{}<title>{}</title></g>').format(
                colour(order[domain]), at, shape(cluster) if cluster >= 0 else _NOWHERE, f"{name}: {domain}, {where}"
            )
        )
    return _svg(width, height, f"{len(names)} clients in {len(set(clusters) - {-1})} found clusters", parts)


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
    return Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(width, height, spoken, body)
