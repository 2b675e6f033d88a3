from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import numpy as np
import pytest

from secfpp.experiment.report.client_map import LEVELS

VOID = {"meta", "link", "img", "br", "wbr", "input"}
CSS = (files("secfpp.experiment.report") / "templates" / "report.css").read_text(encoding="utf-8")


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2."""
    digits = colour.lstrip("#")
    digits = "".join(2 * d for d in digits) if len(digits) == 3 else digits
    channels = np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def themes() -> list[Any]:
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w+)", block))
        for block in re.findall(r":root \{(.*?)\n *\}", CSS, re.DOTALL)[:2]
    )
    return [pytest.param(light, id="light"), pytest.param({**light, **dark}, id="dark")]


@pytest.mark.parametrize("theme", themes())
def test_words_stand_out_from_what_is_behind_them(theme: dict[str, str]) -> None:
    for name in ("ink", "soft", "mark", "below", "right"):
        assert contrast(theme[name], theme["card"]) >= 4.5, name
        assert contrast(theme[name], theme["page"]) >= 4.5, name
    assert contrast(theme["ink"], theme["tint"]) >= 4.5
    for level in range(LEVELS):
        assert contrast(theme[f"h{level}"], theme["low-ink" if level < 6 else "high-ink"]) >= 4.5, level
    for index in range(8):
        assert contrast(theme[f"c{index}"], theme["card"]) >= 3, index


@pytest.mark.parametrize("theme", themes())
def test_the_colour_scale_goes_one_way(theme: dict[str, str]) -> None:
    steps = np.diff([luminance(theme[f"h{level}"]) for level in range(LEVELS)])
    assert (steps < 0).all() or (steps > 0).all()
