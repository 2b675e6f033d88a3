from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from secfpp.experiment.results.security_costs import (
    ALL,
    IN_THE_CLEAR,
    Cost,
    all_phase_costs,
    is_twin,
    phase_costs,
    promises,
    security,
    twin,
)
from secfpp.experiment.results.summary import summarize
from secfpp.experiment.run.result_files import known_algorithm
from secfpp.experiment.spec.schema import dump
from secfpp.runtime.costs import Costs, Share
from secfpp.runtime.trainer import RunResult
from support_experiment import Grouped, Single, fake_result, toy_world

SENDS = {"clusterer", "aggregator", "method"}


def part(**table: Any) -> Any:
    """A clusterer or aggregator that says this of itself, with the number of clients it was told."""
    return SimpleNamespace(protection=lambda n_clients: {**table, **({"of": n_clients} if "of" in table else {})})


def method(clusterer: Any = None, aggregator: Any = None) -> Any:
    return SimpleNamespace(clusterer=clusterer or object(), aggregator=aggregator or object())


def costing(seed: int = 0, factor: int = 1, **components: Share) -> RunResult:
    """A run of six clients that cost this much."""
    scaled = {
        name: Share(share.exchanges * factor, share.messages * factor, share.up * factor, share.down * factor)
        for name, share in components.items()
    }
    seconds = {name: 0.5 * factor * rank for rank, name in enumerate(scaled, 1)}
    exchanges = max((share.exchanges for share in scaled.values()), default=0)
    return replace(fake_result(seed=seed), costs=Costs(exchanges=exchanges, seconds=seconds, components=scaled))


KEYS, GROUPS = Share(1, 12, 600, 1200), Share(3, 36, 6_000, 12_000)
MEANS, STEPS = Share(8, 96, 60_000, 120_000), Share(4, 48, 66, 660)
PARTS = {"method": STEPS, "aggregator": MEANS, "clusterer": GROUPS, "session": KEYS}


def test_figures_are_those_of_the_costs_by_phase() -> None:
    found = security([costing(**PARTS)], None)
    assert found["exchanges"] == 8
    assert list(found["bytes"]) == list(found["seconds"]) == ["keys", "clustering", "aggregation", "training"]
    assert found["exchanges_by_phase"] == {"keys": 1, "clustering": 3, "aggregation": 8, "training": 4}
    assert found["bytes"]["aggregation"] == {"client_up": 10_000, "client_down": 20_000, "server": 180_000}
    assert found["bytes"]["keys"] == {"client_up": 100, "client_down": 200, "server": 1_800}
    assert found["seconds"] == {"training": 0.5, "aggregation": 1.0, "clustering": 1.5, "keys": 2.0}


def test_figures_are_means_over_seeds_also_of_phases_that_one_lacks() -> None:
    found = security([costing(1, method=STEPS), costing(2, 3, method=STEPS, clusterer=GROUPS)], None)
    assert found["exchanges"] == (4 + 12) / 2
    assert found["exchanges_by_phase"] == {"clustering": 4.5, "training": 8}
    assert found["bytes"]["clustering"] == {"client_up": 1500, "client_down": 3000, "server": 27_000}
    assert found["seconds"] == {"clustering": 1.5, "training": 1.0}


def test_a_component_without_a_phase_has_its_own_name() -> None:
    found = security([costing(session=KEYS, oracle=GROUPS, method=STEPS)], None)
    assert list(found["seconds"]) == ["keys", "training", "oracle"]


def test_plain_parts_reveal_everything_to_the_server() -> None:
    clear = {"reveal": "everything to the server", "holders": None, "threshold": None}
    assert promises(method(), 10, SENDS) == clear == IN_THE_CLEAR
    assert promises(SimpleNamespace(aggregator=object()), 10, {"aggregator", "method"}) == clear


def test_who_sends_nothing_reveals_nothing() -> None:
    nothing = {"holders": None, "threshold": None}
    for algorithm in (method(), method(part(reveal="partition")), None):
        assert promises(algorithm, 10, set()) == promises(algorithm, 10, {"method"}) == nothing
    quiet = security([costing(method=STEPS, aggregator=Share(exchanges=0))], method())
    assert "reveal" not in quiet
    assert "reveal" in security([costing(method=STEPS, aggregator=MEANS)], method())


def test_a_method_that_is_not_known_here_promises_nothing() -> None:
    assert promises(None, 10, SENDS) == {"reveal": None, "holders": None, "threshold": None}


def test_what_secure_parts_say_is_told() -> None:
    shares = {"holders": 16, "threshold": 2}
    both = method(part(reveal="partition", **shares), part(**shares))
    assert promises(both, 30, SENDS) == {"reveal": "partition", **shares}
    alone = method(aggregator=part(**shares))
    assert promises(alone, 30, {"aggregator"}) == {"reveal": None, **shares}


def test_parts_that_say_other_things_are_both_told() -> None:
    groups = {"reveal": "partition", "holders": 16, "threshold": 2, "dropouts": 5}
    found = promises(method(part(**groups), part(holders=12, threshold=3)), 30, SENDS)
    assert found == {
        "reveal": "partition", "holders": 16, "threshold": 2,
        "clustering": groups, "aggregation": {"holders": 12, "threshold": 3},
    }  # fmt: skip


@pytest.mark.parametrize("plain", ["clusterer", "aggregator"])
def test_one_part_in_the_clear_is_enough_to_be_in_the_clear(plain: str) -> None:
    guarded = {"reveal": "partition", "holders": 16, "threshold": 2}
    algorithm = method(part(**guarded), part(**guarded))
    setattr(algorithm, plain, object())
    found = promises(algorithm, 30, SENDS)
    assert {key: found[key] for key in IN_THE_CLEAR} == IN_THE_CLEAR
    phases = {"clusterer": "clustering", "aggregator": "aggregation"}
    assert found.pop(phases.pop(plain)) == IN_THE_CLEAR
    assert found.pop(*phases.values()) == guarded
    assert promises(SimpleNamespace(clusterer=object(), aggregator=part(**guarded)), 30, {"aggregator"}) == guarded


def test_polls_are_a_part_too() -> None:
    guarded, answers = {"reveal": "partition", "holders": 16, "threshold": 2}, {"reveal": "answers", "threshold": 1}
    polling = method(part(**guarded), part(**guarded))
    polling.poll = part(**answers)
    found = promises(polling, 30, {*SENDS, "poll"})
    assert {key: found[key] for key in guarded} == guarded and found["polls"] == answers
    polling.poll = object()
    assert promises(polling, 30, SENDS) == guarded
    assert promises(polling, 30, {*SENDS, "poll"})["reveal"] == IN_THE_CLEAR["reveal"]
    run = costing(method=STEPS, poll=KEYS)
    assert list(security([run], polling)["seconds"]) == ["polls", "training"]


def test_parts_are_told_how_many_clients_a_round_has() -> None:
    runs = [costing(aggregator=MEANS)]
    guarded = method(aggregator=part(holders=3, of=0))
    assert security(runs, guarded)["aggregation"]["of"] == 6
    assert security(runs, guarded, participation=0.5)["aggregation"]["of"] == 3
    smaller = replace(runs[0], clients=runs[0].clients[:4])
    assert security([*runs, smaller], guarded)["aggregation"]["of"] == 4


def test_the_summary_tells_it_of_every_method() -> None:
    runs = [costing(method=STEPS, aggregator=MEANS), replace(costing(), method="floor")]
    guarded = method(aggregator=part(reveal="sums", holders=3, threshold=1))
    summary = summarize("icons", "mini", 4, runs, {"grouped": guarded, "floor": None})
    told = summary["methods"]["grouped"]["security"]
    assert (told["reveal"], told["holders"], told["threshold"]) == ("sums", 3, 1)
    nothing = {"exchanges": 0, "exchanges_by_phase": {}, "bytes": {}, "seconds": {}}
    assert summary["methods"]["floor"]["security"] == {"holders": None, "threshold": None, **nothing}
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summarize("icons", "mini", 4, runs)["methods"]["grouped"]["security"]["reveal"] is None


def test_a_plan_gives_its_methods_back(monkeypatch: pytest.MonkeyPatch) -> None:
    toy_world(monkeypatch)
    algorithm = Grouped(grouping=Single(), betas=(0.5,))
    table = json.loads(json.dumps({"name": "grouped", **dump(algorithm)}))
    assert known_algorithm(table) == algorithm
    assert known_algorithm({**table, "name": "gone"}) is None
    assert known_algorithm({**table, "setting_of_an_older_release": 1}) is None


def summary_of(**methods: dict[str, Share]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, parts in methods.items():
        found[name.replace("_clear", "+clear")] = {"security": security([costing(**parts)], method())}
    return found


def test_a_method_is_shown_beside_its_twin_phase_by_phase() -> None:
    plain = {"method": STEPS, "aggregator": replace(MEANS, up=30_000)}
    methods = summary_of(m=PARTS, m_clear=plain, other=plain)
    lines = {line.phase: line for line in phase_costs(methods, "m")}
    assert list(lines) == ["keys", "clustering", "aggregation", "training", ALL]
    assert lines["aggregation"].up == Cost(10_000, 5_000)
    assert lines["aggregation"].up.times == "\N{MULTIPLICATION SIGN}2.0"
    assert lines["keys"].server == Cost(1800, 0) and lines["keys"].server.times == ""
    assert lines["training"].exchanges == Cost(4, 4)
    total = lines[ALL]
    assert total.exchanges == Cost(8, 8)  # phases share exchanges: no sum
    assert total.up.value == pytest.approx((600 + 6_000 + 60_000 + 66) / 6)
    assert total.seconds == Cost(5.0, 1.5)
    assert [line.up.clear for line in phase_costs(methods, "other")] == [None] * 3


def test_methods_that_have_something_to_compare_come_apart() -> None:
    methods = summary_of(m=PARTS, m_clear=PARTS, other=PARTS, floor={})
    methods["guarded"] = {"security": {**methods["other"]["security"], "reveal": "sums"}}
    priced, others = all_phase_costs(methods)
    assert list(dict.fromkeys(line.method for line in priced)) == ["m", "guarded"]
    assert list(dict.fromkeys(line.method for line in others)) == ["m+clear", "other"]


def test_twins_are_known_by_their_label() -> None:
    labels = ["a", "a+clear", "b+clear", "c"]
    assert [twin(label, labels) for label in labels] == ["a+clear", None, None, None]
    assert [is_twin(label, labels) for label in labels] == [False, True, False, False]


@pytest.mark.parametrize(
    ("value", "clear", "words"),
    [(3, None, ""), (3, 0, ""), (0, 3, "0.0"), (9.94, 1, "9.9"), (9.96, 1, "10"), (1234.4, 1, "1234"), (1, 3, "0.3")],
)
def test_ratios_are_short(value: float, clear: float | None, words: str) -> None:
    assert Cost(value, clear).times.lstrip("\N{MULTIPLICATION SIGN}") == words
