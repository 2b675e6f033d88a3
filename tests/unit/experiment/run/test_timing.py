from __future__ import annotations

from typing import Any

import pytest

from secfpp.cli.output import print_results
from secfpp.experiment.results.summary import summarize
from secfpp.experiment.run import timing
from secfpp.experiment.run.timing import load, times
from secfpp.runtime.costs import Share
from support.report_pages import rendered, section, words
from support_experiment import fake_result


@pytest.fixture(autouse=True)
def _two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "usable_cores", lambda: 2)


def test_seconds_under_one_load_compare() -> None:
    for same in ([load(1, 2)], [load(2, 1), load(2, 1)], [load(1, 8)], [{"numpy": "2"}, {}], []):
        assert times(same) == {"comparable": True, "why": ""}


def test_workers_that_share_processors_do_not() -> None:
    assert times([load(2, 2), load(2, 2)]) == {
        "comparable": False,
        "why": "workers shared processors: 2 workers of 2 threads on 2 processors",
    }
    assert not times([load(3, 1)])["comparable"]


def test_seconds_of_another_session_under_another_load_do_not() -> None:
    assert times([load(1, 1), load(2, 1)])["why"] == (
        "they were measured under different loads: one worker of one thread on 2 processors; "
        "2 workers of one thread on 2 processors"
    )
    assert "not known" in times([load(1, 1), {}])["why"]


def priced() -> list[Any]:
    found = []
    for name, seconds in (("secfpp", 3.0), ("secfpp+clear", 1.5)):
        result = fake_result(name)
        result.costs.components["clusterer"] = Share(7, 10, 100, 200)
        result.costs.seconds["clusterer"] = seconds
        found.append(result)
    return found


def test_a_report_compares_seconds_only_where_they_compare() -> None:
    shared = times([load(2, 2)])
    ratio = "3.0 s clear 1.5 s, ×2.0"  # noqa: RUF001
    for about, compared in ((times([load(1, 2)]), True), (shared, False)):
        page = rendered(priced(), seconds=about)
        security, costs = words(section(page, "security")), words(section(page, "costs"))
        assert (ratio in security) == compared and "3.0 s" in security
        assert (shared["why"] in security) == (shared["why"] in costs) == (not compared)
        assert "7 clear 7" in security  # exchanges compare all the same
    assert ratio in words(section(rendered(priced()), "security"))


def test_a_terminal_says_so_too(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    summary = summarize("icons", "mini", 4, priced())
    print_results({**summary, "seconds": times([load(2, 2)])}, tmp_path)
    assert "time: not to be compared, workers shared processors" in capsys.readouterr().out
    print_results({**summary, "seconds": times([load(2, 1)])}, tmp_path)
    assert "not to be compared" not in capsys.readouterr().out
