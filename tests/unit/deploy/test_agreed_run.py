"""What a run is agreed to be."""

from __future__ import annotations

from typing import Any

from secfpp.deploy.agreed import Agreed


def test_noise_is_for_the_averages_of_the_agreed_rounds_and_all_agree_on_that() -> None:
    method = {"name": "promptfl", "privacy": {"mechanism": "prompts", "releases": 30}, "aggregator": {"kind": "secure"}}
    table: dict[str, Any] = {"run": "r", "roster": "x", "seed": 0, "rounds": 20, "fewest": 4, "classes": ["a", "b"]}
    agreed = Agreed.parse({**table, "backbone": {"name": "mini", "digest": "d"}, "method": method})
    assert agreed.table["method"]["privacy"]["releases"] == 20
    assert Agreed.parse(agreed.table).digest == agreed.digest
