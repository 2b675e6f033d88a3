"""The process that does a site's work, and the end that others hold."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from secfpp.deploy import child
from secfpp.deploy.child import Child, NoAnswerError

OPENER = "support.flare_parts:open_echo"


def until(true: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return true()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Child]:
    made = Child(OPENER, tmp_path)
    yield made
    made.close()


def test_requests_come_back_whatever_their_size(site: Child) -> None:
    for message in (b"", b"x", bytes(range(256)) * 8000, os.urandom(12_000_000)):
        assert site.ask(message, 1.0) == message


def test_an_idle_site_is_closed_kindly(tmp_path: Path) -> None:
    made = Child(OPENER, tmp_path)
    assert made.ask(b"hello", 1.0) == b"hello"
    made.close()
    assert (tmp_path / "closed").exists()
    assert not alive(made.pid)


def test_a_site_that_died_answers_nothing_any_more(site: Child) -> None:
    for message in (b"die", b"hello"):
        with pytest.raises(NoAnswerError, match="has ended"):
            site.ask(message, 1.0)


def test_a_killed_site_is_noticed_while_it_is_asked(site: Child) -> None:
    assert site.ask(b"hello", 1.0) == b"hello"
    threading.Timer(0.3, os.kill, (site.pid, signal.SIGKILL)).start()
    with pytest.raises(NoAnswerError):
        site.ask(b"sleep:30", 1.0)


def test_who_is_busy_is_waited_for_as_long_as_was_said(site: Child) -> None:
    site.ask(b"hello", 1.0)
    busy = threading.Thread(target=site.ask, args=(b"sleep:1.5", 1.0))
    busy.start()
    time.sleep(0.2)
    with pytest.raises(NoAnswerError, match="busy"):
        site.ask(b"now", 0.1)
    assert site.ask(b"later", 10.0) == b"later"
    busy.join()


def test_closing_wakes_who_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "GRACE", 0.2)
    made, found = Child(OPENER, tmp_path), []

    def ask() -> None:
        try:
            made.ask(b"sleep:60", 1.0)
        except NoAnswerError as error:
            found.append(error)

    waiting = threading.Thread(target=ask)
    waiting.start()
    assert until((tmp_path / "pid").exists)
    made.close()
    waiting.join(5.0)
    assert found
    assert not alive(made.pid)


def test_the_work_does_not_outlive_who_started_it(tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from secfpp.deploy.child import Child
Child({OPENER!r}, Path({str(tmp_path)!r})).ask(b"hello", 1.0)
print("ready", flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"ready\n"
    pid = int((tmp_path / "pid").read_text())
    assert alive(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert until(lambda: not alive(pid))
    assert (tmp_path / "closed").exists()


def test_a_site_that_cannot_be_opened_says_why_at_its_own_place_only(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for opener, said in (
        ("support.flare_parts:refuse", "Error: no data here"),
        ("support.flare_parts:fail", "KeyError"),
    ):
        made = Child(opener, tmp_path)
        with pytest.raises(NoAnswerError, match="has ended"):
            made.ask(b"hello", 1.0)
        made.close()
        shown = capfd.readouterr().err
        assert said in shown
        assert "secret" not in shown
        assert "Traceback" not in shown
