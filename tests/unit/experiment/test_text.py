from __future__ import annotations

import pytest

from secfpp.experiment.text import amount, duration, points


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (200 * 1024, "200 KiB"), (3 * 2**30, "3.0 GiB")],
)
def test_amounts(count: float, text: str) -> None:
    assert amount(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.424, "0.42 s"), (12.34, "12.3 s"), (184.6, "3 min 05 s")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_points() -> None:
    assert points(-1.25, signed=True) == "\N{MINUS SIGN}1.2"
    assert points(2.0, signed=True) == "+2.0"
