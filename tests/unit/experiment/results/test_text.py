from __future__ import annotations

import pytest

from secfpp.experiment.results.text import amount, counted, duration, points


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (200 * 1024, "200 KiB"), (3 * 2**30, "3.0 GiB")],
)
def test_amounts(count: float, text: str) -> None:
    assert amount(count) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.424, "0.42 s"), (12.34, "12.3 s"), (184.6, "3 min 05 s")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "plain", "signed"),
    [
        (2.0, "2.0", "+2.0"),
        (-1.25, "\N{MINUS SIGN}1.2", "\N{MINUS SIGN}1.2"),
        (0.0, "0.0", "0.0"),
        (-0.0, "0.0", "0.0"),
        (-0.04, "0.0", "0.0"),
        (0.04, "0.0", "0.0"),
        (0.06, "0.1", "+0.1"),
        (100.0, "100.0", "+100.0"),
    ],
)
def test_points(value: float, plain: str, signed: str) -> None:
    assert points(value) == plain
    assert points(value, signed=True) == signed


def test_points_with_other_digits() -> None:
    assert points(-0.014, digits=2) == "\N{MINUS SIGN}0.01"
    assert points(1.0, digits=2) == "1.00"


def test_things_are_counted_in_the_right_number() -> None:
    assert [counted(number, "group") for number in (0, 1, 2, 3.5)] == [
        "0 groups",
        "one group",
        "2 groups",
        "3.5 groups",
    ]
