from __future__ import annotations

import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from secfpp.cli.progress import LINES_PER_METHOD, PATIENCE, Estimate, LiveProgress, PlainProgress, open_progress
from support_experiment import fake_result


def record(number: int, rounds: int, loss: float = 1.25) -> Any:
    return SimpleNamespace(round=number, rounds=rounds, loss=loss, seconds=0.5, metrics=None)


def play(display: Any, rounds: int, loss: float = 1.25) -> None:
    display.preparing("loading the model")
    display.method_started("secfpp", 7, rounds, 2, 5)
    for number in range(1, rounds + 1):
        display.round_done("secfpp", 7, record(number, rounds, loss))
    display.method_done(fake_result("secfpp", 7, own=61.0))


def test_plain_lines_are_few_and_say_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    play(PlainProgress(), 100)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 2 + LINES_PER_METHOD
    assert lines[1] == "[2/5] secfpp, seed 7: round 25/100, loss 1.250, 0.5 s"
    assert lines[-1].startswith("[2/5] secfpp, seed 7: own accuracy 61.0 %, 19.5 s, about ") and lines[-1].endswith(
        "left; 2 groups used"
    )


def test_the_last_round_is_always_told_and_no_loss_is_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    play(PlainProgress(), 9, float("nan"))
    err = capsys.readouterr().err
    assert "round 9/9, 0.5 s" in err
    assert "nan" not in err


def test_a_terminal_gets_bars_that_follow() -> None:
    screen = io.StringIO()
    columns = TextColumn("{task.description} {task.fields[count]} {task.fields[detail]}")
    bar = Progress(columns, console=Console(file=screen, width=100))
    display = LiveProgress(bar)
    display.preparing("loading the model")
    assert bar.tasks[0].description == "loading the model"
    for cell, method in enumerate(("secfpp", "promptfl"), start=2):
        display.method_started(method, 7, 3, cell, 5)
    display.round_done("promptfl", 7, record(1, 3))
    everything, first, second = bar.tasks
    assert [(task.completed, task.total) for task in (first, second)] == [(0, 3), (1, 3)]
    assert (second.description, second.fields["detail"]) == ("promptfl, seed 7", "loss 1.250")
    assert everything.total == 5 and everything.completed == pytest.approx(1 + 1 / 3)
    display.method_done(fake_result("secfpp", 7, own=61.0))
    display.method_failed("promptfl", 7, "no [more] memory")
    assert len(bar.tasks) == 1 and bar.tasks[0].completed == 3
    assert bar.tasks[0].fields["count"] == "3/5 methods x seeds"
    assert "secfpp, seed 7: own accuracy 61.0 %" in screen.getvalue()
    assert "promptfl, seed 7: FAILED: no [more] memory" in screen.getvalue()


def test_lines_of_cells_in_training_at_once_keep_their_places(capsys: pytest.CaptureFixture[str]) -> None:
    display = PlainProgress()
    display.method_started("a", 1, 4, 1, 2)
    display.method_started("a", 2, 4, 2, 2)
    display.round_done("a", 1, record(4, 4))
    display.method_failed("a", 2, "out of memory")
    display.method_failed("b", 2, "never begun")
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["[1/2] a, seed 1", "[2/2] a, seed 2", "b, seed 2"]
    assert lines[1].endswith("FAILED: out of memory")


def test_the_time_left_is_that_of_the_cells_left() -> None:
    now = 0.0
    estimate = Estimate(lambda: now)
    estimate.start(("a", 1), 5, 10)  # four were finished before this session, and say nothing about its speed
    assert estimate.left() == ""
    now = 120.0
    estimate.advance(("a", 1), 1.0)
    assert estimate.left() == ""
    estimate.end(("a", 1))
    assert estimate.left() == ", about 10 min left"
    estimate.start(("b", 1), 6, 10)
    estimate.advance(("b", 1), 0.5)
    now = 180.0
    assert estimate.done == 5.5 and estimate.left() == ", about 9 min left"
    for number in range(6):
        estimate.start(("c", number), 6 + number, 10)
        estimate.end(("c", number))
    assert estimate.left() == ""


def test_a_method_without_rounds_gives_no_estimate() -> None:
    now = 0.0
    estimate = Estimate(lambda: now)
    estimate.start(("zero_shot", 1), 1, 200)
    now = 1.0
    estimate.end(("zero_shot", 1))
    assert estimate.left() == ""
    estimate.start(("secfpp", 1), 2, 200)
    estimate.advance(("secfpp", 1), 1.0)
    now = 200.0
    estimate.end(("secfpp", 1))
    assert estimate.left() == ", about 5 h 30 min left"


def test_the_display_suits_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_progress() as display:
        assert isinstance(display, PlainProgress)

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    with open_progress() as display:
        assert isinstance(display, LiveProgress)
        play(display, 2)


def test_a_long_round_says_what_it_is_at(capsys: pytest.CaptureFixture[str]) -> None:
    now = 100.0
    display = PlainProgress(lambda: now)
    display.method_started("a", 1, 4, 1, 1)
    told = []
    for second in range(13):
        now = 100.0 + second
        display.working("a", 1, f"round 1/4, exchange {second}: clustering")
        told.append(capsys.readouterr().err)
    assert [i for i, text in enumerate(told) if text] == [PATIENCE, 2 * PATIENCE]
    assert told[5] == "[1/1] a, seed 1: round 1/4, exchange 5: clustering\n"


def test_a_bar_says_what_its_method_is_at() -> None:
    bar = Progress(TextColumn("{task.description}"), console=Console(file=io.StringIO()))
    display = LiveProgress(bar)
    display.method_started("a", 1, 4, 1, 1)
    display.working("a", 1, "round 1/4, exchange 2: clustering and training")
    assert bar.tasks[1].fields["detail"] == "exchange 2: clustering and training"
    display.round_done("a", 1, record(1, 4))
    assert bar.tasks[1].fields["detail"] == "loss 1.250"


def test_what_is_worth_knowing_stays_on_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    PlainProgress().note("takes about [6] GiB")
    assert capsys.readouterr().err == "takes about [6] GiB\n"
    screen = io.StringIO()
    LiveProgress(Progress(TextColumn("{task.description}"), console=Console(file=screen))).note("takes about [6] GiB")
    assert "takes about [6] GiB\n" in screen.getvalue()


def test_one_round_is_one() -> None:
    bar = Progress(TextColumn("{task.fields[count]}"), console=Console(file=io.StringIO()))
    display = LiveProgress(bar)
    display.method_started("a", 1, 1, 1, 1)
    assert bar.tasks[1].fields["count"] == "0/1 round"
    display.round_done("a", 1, record(1, 1))
    assert bar.tasks[1].fields["count"] == "1/1 round"
