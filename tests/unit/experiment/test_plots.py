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

from secfpp.experiment import plots

finite = st.floats(-1e6, 1e6)


def rects(svg: str) -> list[float]:
    return [float(rect.attrib["width"]) for rect in ElementTree.fromstring(svg).iter("rect")]


def test_bars_are_as_long_as_their_values() -> None:
    svg = plots.bars("Own", [plots.Bar("a", 20.0), plots.Bar("b", 40.0, (38.0, 42.0), best=True)], maximum=50)
    short, long = rects(svg)
    assert long == pytest.approx(2 * short, rel=1e-2)
    assert svg.count('class="whisker"') == 1
    assert svg.count('class="bar best"') == 1
    assert "a 20.0 %" in ElementTree.fromstring(svg).attrib["aria-label"]


def test_names_cannot_break_out_of_the_picture() -> None:
    hostile = '"><script>alert(1)</script>'
    points = np.array([[0.0, 0.0], [1.0, 1.0]])
    for svg in (
        plots.bars(hostile, [plots.Bar(hostile, 1.0)], 1.0),
        plots.lines(hostile, {hostile: [(1, 2.0), (2, 3.0)]}),
        plots.scatter(points, [hostile, "b"], [0, 1], [hostile, "y"]),
    ):
        assert "<script" not in svg
        ElementTree.fromstring(svg)


@given(st.lists(finite, min_size=1, max_size=5), st.lists(finite, min_size=1, max_size=5))
def test_lines_stay_inside_the_picture(first: list[float], second: list[float]) -> None:
    series = {"a": list(enumerate(first)), "b": list(enumerate(second)), "none": []}
    svg = plots.lines("loss", series)
    for path in re.findall(r'class="line c\d d\d" d="M([^"]*)"', svg):
        for point in path.split("L"):
            x, y = map(float, point.split())
            assert 0 <= x <= 460
            assert 0 <= y <= 260


def test_a_series_without_points_keeps_the_colours_of_the_others() -> None:
    svg = plots.lines("loss", {"empty": [], "full": [(1, 1.0), (2, 0.5)]})
    assert "line c1 d1" in svg
    assert "line c0" not in svg


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
