"""Runs on a real Flower system: a SuperLink and three sites as processes on loopback, with TLS.

A run takes half a minute and an exchange some seconds, most of it Flower's polling; so few runs test much.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from secfpp.deploy.flower.identity import make_node_key
from secfpp.deploy.flower.job import Ended, FlowerError, connected, run_app, write_app
from secfpp.deploy.flower.processes import Federation
from secfpp.runtime.remote import RemoteDriver
from support.flower_parts import ASKING, TESTS, Bound, bound_sites

pytest.importorskip("flwr")
pytestmark = pytest.mark.slow
NAMES = ["east", "north", "south"]
PATIENCE = 400.0


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    """For Flower's command line, which looks whether an app names modules that exist."""
    monkeypatch.setenv("PYTHONPATH", str(TESTS))


@pytest.fixture(scope="module")
def bound(tmp_path_factory: pytest.TempPathFactory) -> Bound:
    return bound_sites(tmp_path_factory.mktemp("flower"), NAMES)


@pytest.fixture
def federation(bound: Bound) -> Iterator[Federation]:
    with bound.federation() as running:
        running.start_all()
        yield running
    assert running.running() == []


def ran(
    federation: Federation, bound: Bound, folder: Path, run: str, steps: list[dict[str, Any]], **more: Any
) -> tuple[Ended, list[dict[str, Any]], list[str]]:
    """How a run ended, what its program told, and what was said on the way."""
    app = write_app(folder / "app", run, tomli_w.dumps({"steps": steps}).encode(), server=ASKING, **more)
    said: list[str] = []
    ended = run_app(federation.link, bound.server, app, run, folder / "out", PATIENCE, said.append)
    told = folder / "out" / "told.json"
    return ended, json.loads(told.read_text()) if told.exists() else [], said


def until(true: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextmanager
def connected_again(federation: Federation, bound: Bound, site: str) -> Iterator[None]:
    """A killed site as its user starts it again, once it is back: for a minute it is refused, and tried anew."""
    federation.start_work(site)
    command = [sys.executable, "-c", "from secfpp.cli import main; main()", "site", "flower", str(bound.sites[site])]
    command += ["--superlink", federation.link.address, "--certificates", str(federation.link.certificates)]
    said = bound.folder / f"{site}.log"
    with said.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        until(lambda: "SuperNode ID" in said.read_text(), 200.0)
        yield
    finally:
        process.terminate()
        assert process.wait(60.0) == 0


def test_a_node_whose_key_is_not_listed_cannot_connect(tmp_path: Path) -> None:
    bound = bound_sites(tmp_path, NAMES[:1])
    (folder,) = bound.sites.values()
    with bound.federation() as federation:
        federation.start_server()
        for listed in (False, True):
            public = make_node_key(folder)
            if listed:
                with connected(federation.link) as control:
                    control.register(public)
                    control.register(public)
            federation.start_site(NAMES[0])
            said = folder / "node" / "console.log"
            until(lambda said=said, sign="SuperNode ID" if listed else "Failed to activate": sign in said.read_text())  # type: ignore[misc]
            if not listed:
                until(lambda: not federation.running(f"{NAMES[0]}:node"))
            federation.kill(NAMES[0])
        with connected(federation.link) as control, pytest.raises(FlowerError, match="does not take the key"):
            control.register(folder / "roster.toml")


def test_payloads_a_slow_site_and_a_site_that_dies(bound: Bound, federation: Federation, tmp_path: Path) -> None:
    steps = [
        {"size": 1_000, "times": 2},
        {"size": 12_000_000, "deadline": 120.0},
        {"special": {"north": "sleep:25"}, "deadline": 15.0},
        {"deadline": 60.0},
        {"special": {"south": "die"}, "deadline": 60.0},
        {"deadline": 60.0},
    ]
    ended, told, said = ran(federation, bound, tmp_path, "payloads", steps)
    assert (ended.status, ended.why, ended.engine) == (0, "", "finished:completed")
    assert said[0].startswith("3 sites are there; 30 exchanges of ") or said[1].startswith("3 sites are there")
    assert [step["same"] for step in told] == [True] * 7
    assert [step["replies"] for step in told] == [
        *[NAMES] * 3,
        ["east", "south"],  # late is absent, at the deadline
        NAMES,  # and there again the next time
        ["east", "north"],  # dead is absent at once
        ["east", "north"],
    ]
    assert 14.0 < told[3]["seconds"] < 20.0
    assert told[6]["seconds"] < 30.0


def test_a_failed_program_is_a_failed_run(bound: Bound, federation: Federation, tmp_path: Path) -> None:
    ended, told, _ = ran(federation, bound, tmp_path, "failing", [{"status": 7}])
    assert (ended.status, ended.engine) == (7, "finished:failed")
    assert len(told) == 1
    again, told, _ = ran(federation, bound, tmp_path / "again", "failing", [{}])
    assert again.status == 1
    assert "there is a run 'failing' already" in again.why
    assert told == []


def test_a_site_that_was_killed_is_missed_and_comes_back(bound: Bound, federation: Federation, tmp_path: Path) -> None:
    steps = [{}, {"wait": "killed", "deadline": 10.0}, {"wait": "back"}, {"deadline": 60.0}]
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(ran(federation, bound, tmp_path, "killed", steps)))
    thread.start()
    run = bound.server / "runs" / "killed"
    until((run / "results" / "told.json").exists)
    federation.kill("east")
    (run / "killed").touch()
    until(lambda: len(json.loads((run / "results" / "told.json").read_text())) == 2)
    with connected_again(federation, bound, "east"):
        (run / "back").touch()
        thread.join(PATIENCE)
    ended, told, _ = found[0]
    assert ended.status == 0
    assert [step["replies"] for step in told][:2] == [NAMES, ["north", "south"]]
    assert told[3]["replies"] == NAMES


def test_a_killed_server_loses_the_run_and_it_goes_on(bound: Bound, federation: Federation, tmp_path: Path) -> None:
    found: list[Exception] = []

    def first() -> None:
        try:
            ran(federation, bound, tmp_path, "lost", [{}, {"wait": "go"}])
        except FlowerError as error:
            found.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    run = bound.server / "runs" / "lost"
    until((run / "results" / "told.json").exists)
    federation.kill_server()
    thread.join(PATIENCE)
    assert "--resume" in str(found[0])
    (run / "go").touch()
    federation.start_server()
    ended, told, _ = ran(federation, bound, tmp_path / "next", "lost", [{}, {"wait": "go"}], resume=True)
    assert ended.status == 0
    assert [step["replies"] for step in told] == [NAMES, NAMES]


def test_nothing_listens_beyond_this_machine(federation: Federation) -> None:
    import psutil

    def listening() -> list[str]:
        return [
            address.laddr.ip
            for process in federation.running()
            for address in process.net_connections(kind="tcp")
            if address.status == psutil.CONN_LISTEN
        ]

    until(lambda: len(listening()) >= 1 + len(NAMES))
    assert set(listening()) == {"127.0.0.1"}


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[RemoteDriver]:
    from support.toy_flower import flower

    made: AbstractContextManager[RemoteDriver] = flower(tmp_path)
    with made as driver:
        yield driver


def test_programs_have_the_same_end_as_in_one_process(remote: RemoteDriver, tmp_path: Path) -> None:
    from contract import test_drivers as suite

    suite.test_the_same_program_has_the_same_end_everywhere(remote, tmp_path)


def test_a_site_answers_only_what_is_next_and_tells_no_secret(
    remote: RemoteDriver, caplog: pytest.LogCaptureFixture
) -> None:
    from contract import test_drivers as suite

    suite.test_a_site_answers_only_what_is_next(remote)
    suite.test_a_reply_to_another_request_counts_for_nothing(remote)


def test_only_the_kind_of_an_error_leaves_a_site(remote: RemoteDriver, caplog: pytest.LogCaptureFixture) -> None:
    from contract import test_drivers as suite

    suite.test_only_the_kind_of_an_error_leaves_a_site(remote, caplog)
