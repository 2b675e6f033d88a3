from __future__ import annotations

import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from secfpp.experiment.report import plots

finite = st.floats(-1e6, 1e6)


def places(chart: str, kind: str, name: str = "cx") -> list[float]:
    """Where marks of a class are, in percent of the width."""
    return [
        float(mark.attrib[name].rstrip("%"))
        for mark in ElementTree.fromstring(chart).iter()
        if mark.attrib.get("class") == kind
    ]


def test_dots_and_intervals_lie_where_their_values_do() -> None:
    rows = [
        plots.Dot("a", 20.0, "20.0"),
        plots.Dot("b", 40.0, "40.0", "38 to 42", (38.0, 42.0), (39.0, 41.0), 30.0, "best"),
    ]
    chart = plots.intervals("Own, %", rows, plots.Scale((0, 25, 50)))
    assert places(chart, "dot") == [40, 80]
    assert places(chart, "span", "x1") + places(chart, "span", "x2") == [76, 84]
    assert places(chart, "seed") == [78, 82]
    assert places(chart, "ring") == [60]
    root = ElementTree.fromstring(chart)
    assert "a 20.0" in root.attrib["aria-label"] and "b 40.0 (38 to 42)" in root.attrib["aria-label"]
    assert [row.attrib["class"] for row in root] == ["row ", "row best", "row"]
    assert [word.text for word in root.iter("span") if "style" in word.attrib] == ["0", "25", "50"]


@pytest.mark.parametrize(("value", "edge"), [(-30.0, 0), (30.0, 100)])
def test_what_is_off_the_scale_is_an_arrow_at_its_edge(value: float, edge: float) -> None:
    row = plots.Dot("far", value, "far", "", (value - 1, value + 1), (value,))
    chart = plots.intervals("gap", [row], plots.Scale((-10, 0, 10)))
    arrows = [mark for mark in ElementTree.fromstring(chart).iter("svg") if mark.attrib.get("overflow") == "visible"]
    assert [float(arrow.attrib["x"].rstrip("%")) for arrow in arrows] == [edge]
    assert not re.search('class="(span|seed)"', chart)
    assert "<circle" not in chart


def test_an_interval_that_reaches_over_the_edge_is_cut_there() -> None:
    chart = plots.intervals("gap", [plots.Dot("wide", 5.0, "5", "", (-5.0, 40.0))], plots.Scale((-10, 0, 10)))
    assert places(chart, "span", "x1") + places(chart, "span", "x2") == [25, 100]


def test_zero_is_marked_where_it_divides() -> None:
    row = [plots.Dot("a", 1.0, "1")]
    assert places(plots.intervals("gap", row, plots.Scale((-5, 0, 5))), "zero", "x1") == [50]
    assert places(plots.intervals("level", row, plots.Scale((0, 5))), "zero", "x1") == []


def test_a_mark_is_drawn_where_it_lies_on_the_scale() -> None:
    row = [plots.Dot("a", 1.0, "1"), plots.Dot("b", 2.0, "2")]
    assert places(plots.intervals("gain", row, plots.Scale((0, 4)), mark=1.0), "asked", "x1") == [25, 25]
    assert places(plots.intervals("gain", row, plots.Scale((0, 4)), mark=5.0), "asked", "x1") == []
    assert places(plots.intervals("gain", row, plots.Scale((0, 4))), "asked", "x1") == []


def test_the_scale_may_be_the_head() -> None:
    chart = plots.intervals("gain", [plots.Dot("a", 1.0, "1")], plots.Scale((0, 4)), head=True)
    assert [part.attrib["class"] for part in ElementTree.fromstring(chart)] == ["row head", "row "]


def test_a_row_without_a_figure_has_no_mark() -> None:
    chart = plots.intervals("Own", [plots.Dot("none"), plots.Dot("some", 1.0, "1.0")], plots.Scale((0, 2)))
    assert len(places(chart, "dot")) == 1
    assert "none \N{EN DASH}" in chart


def test_names_cannot_break_out_of_the_picture() -> None:
    hostile = '"><script>alert(1)</script>'
    points = np.array([[0.0, 0.0], [1.0, 1.0]])
    scale = plots.Scale((0, 1, 3))
    for chart in (
        plots.intervals(hostile, [plots.Dot(hostile, 1.0, hostile, hostile, kind="best")], scale),
        plots.lines(hostile, {hostile: [(1, 2.0), (2, 3.0)]}, scale, scale),
        plots.lines(hostile, {hostile: [(1, 2.0), (2, 3.0)]}, scale, scale, focus=hostile),
        plots.scatter(points, [hostile, "b"], [0, 1], [hostile, "y"]),
    ):
        assert "<script" not in chart
        ElementTree.fromstring(chart.replace("<wbr>", ""))


@given(st.lists(finite, min_size=1, max_size=5), st.lists(finite, min_size=1, max_size=5))
def test_lines_stay_inside_the_picture(first: list[float], second: list[float]) -> None:
    series = {"a": list(enumerate(first)), "b": list(enumerate(second)), "none": []}
    x, y = plots.Scale.around(range(5)), plots.Scale.around(first + second)
    found = re.findall(r'class="line c\d d\d" d="M([^"]*)"', plots.lines("loss", series, x, y))
    assert len(found) == 2
    for path in found:
        for point in path.split("L"):
            across, down = map(float, point.split())
            assert 0 <= across <= 100
            assert -0.01 <= down <= 100.01


def test_a_series_without_points_keeps_the_colours_of_the_others() -> None:
    scale = plots.Scale((0, 1, 2))
    chart = plots.lines("loss", {"empty": [], "full": [(1, 1.0), (2, 0.5)]}, scale, scale)
    assert "line c1 d1" in chart
    assert "line c0" not in chart
    assert "full ends at 0.5" in chart and "empty" not in chart


def test_the_line_in_focus_lies_on_top_of_the_others() -> None:
    scale = plots.Scale((0, 1, 2))
    chart = plots.lines("loss", {name: [(0, 1.0), (2, 2.0)] for name in "abc"}, scale, scale, focus="a")
    assert re.findall('class="(line [^"]*)"', chart) == ["line back", "line back", "line front"]
    assert "a ends at 2" in chart and "b ends" not in chart


@given(st.lists(finite, min_size=1, max_size=6))
def test_a_scale_holds_the_values_it_is_made_around(values: list[float]) -> None:
    scale = plots.Scale.around(values)
    slack = 1e-4
    assert all(-slack <= scale.at(value) <= 100 + slack for value in values)
    assert scale.at(scale.ticks[0]) == 0 and scale.at(scale.ticks[-1]) == 100
    assert not scale.holds(scale.ticks[-1] + 1) and not scale.holds(scale.ticks[0] - 1)


def test_names_break_after_joints_and_are_escaped() -> None:
    assert plots.breakable("a_b+c-d<") == "a_<wbr>b+<wbr>c-<wbr>d&lt;"


def test_scatter_colours_by_domain_and_shapes_by_cluster() -> None:
    points = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    svg = plots.scatter(points, ["x", "x", "y"], [0, 1, 1], ["p", "q", "r"])
    groups = re.findall(r'<g class="point (c\d)" transform="[^"]*">(<\w+)', svg)
    assert groups == [("c0", "<circle"), ("c0", "<rect"), ("c1", "<rect")]
    assert "q: x, cluster 1" in svg


def test_shapes_and_colours_repeat_rather_than_fail() -> None:
    assert plots.shape(len(plots.SHAPES)) == plots.shape(0)
    assert plots.colour(plots.COLOURS + 3) == "c3"
    assert len({plots.shape(cluster) for cluster in range(8)}) == 8


def test_principal_plane_keeps_distances_of_flat_data() -> None:
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(10, 2)) @ np.linalg.qr(rng.normal(size=(7, 2)))[0].T
    plane = plots.principal_plane(flat)
    before = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    np.testing.assert_allclose(np.linalg.norm(plane[:, None] - plane[None], axis=-1), before, atol=1e-9)
    assert plane[:, 0].var() >= plane[:, 1].var()


@pytest.mark.parametrize("shape", [(1, 5), (4, 1), (3, 3)])
def test_principal_plane_of_any_shape_has_two_columns(shape: tuple[int, int]) -> None:
    plane = plots.principal_plane(np.arange(np.prod(shape), dtype=float).reshape(shape))
    assert plane.shape == (shape[0], 2)
    assert np.isfinite(plane).all()


@given(finite, finite)
def test_ticks_enclose_the_range_evenly(one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    found = plots.ticks(low, high)
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    assert found[0] <= low + slack
    assert found[-1] >= high - slack
    assert 2 <= len(found) <= 8
    np.testing.assert_allclose(np.diff(found), found[1] - found[0], rtol=1e-6, atol=slack)


def test_png_uri_holds_the_same_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 255, (5, 4, 3)).astype(np.uint8)
    kind, data = plots.png_uri(image).split(",")
    assert kind == "data:image/png;base64"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), image)


def test_upright_bars_stand_at_their_points_and_only_for_the_line_in_focus() -> None:
    x, y = plots.Scale((0, 10)), plots.Scale((0, 50, 100))
    series, spans = {"a": [(0, 40), (10, 60)], "b": [(5, 10)]}, {"a": [(0, 30, 50), (10, 55, 65)], "b": [(5, 0, 20)]}
    both = plots.lines("own", series, x, y, spans=spans)
    assert re.findall('<path class="([^"]* upright)" d="([^"]*)"', both) == [
        ("line c0 upright", "M0.00 70.00V50.00M100.00 45.00V35.00"),
        ("line c1 upright", "M50.00 100.00V80.00"),
    ]
    alone = plots.lines("own", series, x, y, "b", spans=spans)
    assert re.findall('class="([^"]* upright)"', alone) == ["line front upright"]
    assert "upright" not in plots.lines("own", series, x, y)
