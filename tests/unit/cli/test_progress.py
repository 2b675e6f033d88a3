from __future__ import annotations

import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from secfpp.cli.progress import LINES_PER_METHOD, LiveProgress, PlainProgress, open_progress
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
    assert lines[-1] == "[2/5] secfpp, seed 7: own accuracy 61.0 %, 2 clusters, 19.5 s"


def test_the_last_round_is_always_told_and_no_loss_is_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    play(PlainProgress(), 9, float("nan"))
    err = capsys.readouterr().err
    assert "round 9/9, 0.5 s" in err
    assert "nan" not in err


def test_a_terminal_gets_a_bar_that_follows() -> None:
    screen = io.StringIO()
    bar = Progress(TextColumn("{task.description} {task.fields[detail]}"), console=Console(file=screen, width=100))
    play(LiveProgress(bar), 3)
    (task,) = bar.tasks
    assert (task.completed, task.total) == (3, 3)
    assert task.description == "2/5 secfpp, seed 7"
    assert task.fields["detail"] == "loss 1.250"
    assert "secfpp, seed 7: own accuracy 61.0 %" in screen.getvalue()


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
