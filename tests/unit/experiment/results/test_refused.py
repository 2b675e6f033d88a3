from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from secfpp.experiment.results.refused import in_words, refusals
from secfpp.protocol.refusals import BY_SERVER, Refusal


def run(*found: Refusal, colluding: int = 2) -> Any:
    return SimpleNamespace(method="secfpp", seed=3, refusals=found, colluding=colluding)


def test_refusals_are_counted_and_said_in_words() -> None:
    accused = [Refusal(by, "bad", "tampering", 1, "aggregator.share") for by in "abc"]
    odd = Refusal(BY_SERVER, "odd", "malformed", 2, "poll.deal")
    (found,) = refusals([run(), run(*accused, odd)])
    assert found == {
        "seed": 3,
        "spoiled_groupings": [],
        "by_server": 1,
        "by_clients": 3,
        "reasons": ["malformed", "tampering"],
        "left_out": ["bad", "odd"],
    }
    (two,) = refusals([run(*accused[:2]), run()])
    assert in_words({"methods": {"secfpp": {"refusals": [two]}, "promptfl": {"refusals": []}, "old": {}}}) == [
        "secfpp, seed 3: 0 messages refused by the server, 2 by clients (tampering); nobody was left out"
    ]
    (words,) = in_words({"methods": {"secfpp": {"refusals": refusals([run(*accused[:2], colluding=1)])}}})
    assert words.endswith("the run went on without bad")


def test_a_grouping_that_was_spoiled_has_a_line_of_its_own() -> None:
    spoiled = [Refusal(BY_SERVER, "", "tampering", number, "clusterer.proceed") for number in (2, 1)]
    (found,) = refusals([run(*spoiled, Refusal(BY_SERVER, "", "tampering", 2, "poll.proceed"))])
    assert found["spoiled_groupings"] == [1, 2] and found["by_server"] == found["by_clients"] == 0
    words = "seed 3, rounds 1, 2: somebody who cannot be named answered falsely, and the grouping was lost"
    assert in_words({"methods": {"secfpp": {"refusals": [found]}}}) == [f"secfpp, {words}"]
    other = Refusal(BY_SERVER, "odd", "malformed", 2, "poll.deal")
    nameless = Refusal(BY_SERVER, "", "tampering", 2, "aggregator.check")
    (both,) = refusals([run(spoiled[0], other, nameless)])
    first, second = in_words({"methods": {"secfpp": {"refusals": [both]}}})
    assert "seed 3, round 2: somebody" in first
    assert "2 messages refused by the server, 0 by clients" in second and second.endswith("without odd")
