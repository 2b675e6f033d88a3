"""Rows say what attacks are worth: by what they do where all lies open, and against what a target claims."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from secfpp.experiment.audit.page import render_audit
from secfpp.experiment.audit.rows import REFUTED, Claim, Key, Part, rows
from secfpp.experiment.report.plots import LogScale
from secfpp.experiment.spec.plan import Cell

UPLOADS = Key("lira", "server", "all uploads")
CLIENTS, IMAGES = 20, 200
EPSILON_OF_3 = 1.6
"""Of the Gaussian mechanism with sigma 3 at sensitivity 1 and delta 1e-5, from above."""


def part(gap: float, *, key: Key = UPLOADS, exposed: bool = True, claim: Claim | None = None, seed: int = 0) -> Part:
    """Scores under noise of deviation 1, those of members higher by `gap`."""
    rng = np.random.default_rng(seed)
    inside = [rng.permutation(IMAGES) < IMAGES // 2 for _ in range(CLIENTS)]
    scores = [gap * own + rng.normal(size=IMAGES) for own in inside]
    names = tuple(f"c{i}" for i in range(CLIENTS))
    return Part(names, inside, {key: scores}, {key: range(CLIENTS)}, {key: exposed}, CLIENTS, [CLIENTS], claim)


def found(**parts: Part | list[Part]) -> dict[str, dict[str, Any]]:
    """The row of each target."""
    cells = {
        Cell(target, seed): one
        for target, of in parts.items()
        for seed, one in enumerate(of if isinstance(of, list) else [of])
    }
    chosen: Any = dict.fromkeys(parts)
    return {row["target"]: row for row in rows(cells, chosen)}


def test_an_attack_that_fails_in_the_open_is_not_informative() -> None:
    told = found(open=part(0.0), sealed=part(0.0, exposed=False, seed=1))
    assert told["sealed"]["verdict"] == told["open"]["verdict"] == "not informative"


def test_an_attack_that_works_in_the_open_says_something_of_others() -> None:
    told = found(open=part(1.0), sealed=part(0.0, exposed=False, seed=1), leaky=part(0.3, exposed=False, seed=2))
    assert {name: row["verdict"] for name, row in told.items()} == {
        "open": "tells members",
        "sealed": "nothing found",
        "leaky": "tells members",
    }
    assert told["sealed"]["reference"]["target"] == "open"


def test_averages_are_judged_by_single_uploads_and_nothing_else_is() -> None:
    averages = Key("lira", "member", "all averages")
    told = found(open=part(1.0), group=part(0.0, key=averages, exposed=False))
    assert told["group"]["reference"]["seen"] == "all uploads" and told["group"]["verdict"] == "nothing found"
    prompt = Key("lira", "thief", "prompt")
    assert found(open=part(1.0), stolen=part(1.0, key=prompt, exposed=False))["stolen"]["reference"] is None


def test_a_claim_that_holds_is_not_refuted_and_a_broken_mechanism_is() -> None:
    """Noise of sigma 3 as claimed, and a tenth of it; the second has no other row to be informative by."""
    claim = Claim(EPSILON_OF_3, 1e-5)
    told = found(honest=part(1 / 3, claim=claim), broken=part(1 / 0.3, claim=claim))
    assert 0 < told["honest"]["epsilon_lower"] <= told["honest"]["epsilon_upper"] == EPSILON_OF_3
    assert told["honest"]["verdict"] != REFUTED
    assert told["broken"]["epsilon_lower"] > EPSILON_OF_3 and told["broken"]["verdict"] == REFUTED


def test_several_seeds_are_one_row_with_the_weakest_claim() -> None:
    row = found(open=[part(1.0, claim=Claim(1.0, 1e-6)), part(1.0, claim=Claim(9.0, 1e-5), seed=1)])["open"]
    assert row["seeds"] == [0, 1] and row["clients"] == 2 * CLIENTS and row["members"] == CLIENTS * IMAGES
    assert (row["epsilon_upper"], row["delta"]) == (9.0, 1e-5)
    assert found(open=[part(1.0, claim=Claim(1.0, 1e-6)), part(1.0)])["open"]["epsilon_upper"] is None


def test_a_part_is_kept_whole() -> None:
    before = part(1.0, claim=Claim(2.0, 1e-5))
    after = Part.of(before.arrays(), before.about())
    assert after.claim == before.claim and after.names == before.names and after.exposed == before.exposed
    for one, other in zip(before.scores[UPLOADS], after.scores[UPLOADS], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_logarithmic_scale_is_even_in_powers() -> None:
    scale = LogScale((0.001, 0.01, 0.1, 1.0))
    assert [scale.at(v) for v in (0.001, 0.01, 0.1, 1.0)] == pytest.approx([0, 100 / 3, 200 / 3, 100])
    assert scale.at(0.0) == 0


def test_the_page_shows_claims_and_names_safely() -> None:
    told = list(
        found(**{"<b>open": part(1.0), "private": part(1 / 3, exposed=False, claim=Claim(EPSILON_OF_3, 1e-5))}).values()
    )
    about = {
        "of": "audit",
        "dataset": "icons",
        "backbone": "mini",
        "rounds": 20,
        "seeds": [0],
        "clients": 20,
        "victims": 0,
    }
    how = {"shadows": 64, "shadow_dtype": "bfloat16", "missing": ["private, seed 1"], "full_seconds": 100.0}
    nothing: dict[str, Any] = {key: [] for key in ("thefts", "inversions", "properties")}
    summary = {"rows": told, "targets": ["<b>open", "private"], **about, **how, **nothing}
    page = render_audit(summary)
    assert "<b>open" not in page and "1.60" in page and "∞" in page
    assert "Not finished: private, seed 1" in page
