"""Jobs on a real FLARE system: a server and three sites as processes on loopback, with mutual TLS.

A job takes some 20 seconds, most of it FLARE's polling at its start and end; so few jobs test much.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from secfpp.deploy.flare.binding import SERVER as PRODUCT_SERVER
from secfpp.deploy.flare.job import Ended, JobError, run_job, write_job
from secfpp.deploy.flare.processes import SERVER as SERVER_PART
from secfpp.deploy.flare.processes import Federation
from support.flare_parts import RELAY, SERVER, Bound, bound_kits

pytest.importorskip("nvflare")
NAMES = ["east", "north", "south"]
PATIENCE = 150.0


@pytest.fixture(scope="module")
def bound(tmp_path_factory: pytest.TempPathFactory) -> Bound:
    return bound_kits(tmp_path_factory.mktemp("federation"), NAMES)


@pytest.fixture
def federation(bound: Bound) -> Iterator[Federation]:
    with bound.federation() as running:
        running.start_all()
        yield running
    assert running.processes() == []


def job(folder: Path, run: str, steps: list[dict[str, Any]], **more: Any) -> Path:
    settings = {"least": len(NAMES), "server": SERVER, "relay": RELAY, **more}
    return write_job(folder / "job", run, tomli_w.dumps({"steps": steps}).encode(), NAMES, **settings)


def ran(bound: Bound, folder: Path, made: Path) -> tuple[Ended, list[dict[str, Any]]]:
    ended = run_job(bound.kits.administrator, made, folder / "out", PATIENCE)
    told = folder / "out" / "told.json"
    return ended, json.loads(told.read_text()) if told.exists() else []


def until(path: Path, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not come"
        time.sleep(0.05)


def test_payloads_a_slow_site_and_a_site_that_dies(bound: Bound, federation: Federation, tmp_path: Path) -> None:
    steps = [
        {"size": 1_000, "times": 3},
        {"size": 2_000_000},
        {"size": 12_000_000},
        {"special": {"north": "sleep:4"}, "deadline": 1.5},
        {"deadline": 20.0},
        {"special": {"south": "die"}, "deadline": 20.0},
        {"deadline": 20.0, "to": ["south"]},
        {"deadline": 20.0},
    ]
    ended, told = ran(bound, tmp_path, job(tmp_path, "payloads", steps))
    assert (ended.status, ended.why, ended.engine) == (0, "", "FINISHED:COMPLETED")
    assert [step["same"] for step in told] == [True] * 10
    assert [step["replies"] for step in told] == [
        *[NAMES] * 5,
        ["east", "south"],  # late is absent, at the deadline
        NAMES,  # and there again the next time
        ["east", "north"],  # dead is absent at once
        ["south"],  # and is started again for the next request
        NAMES,
    ]
    assert 1.4 < told[5]["seconds"] < 3.0
    assert told[7]["seconds"] < 10.0
    assert (bound.sites["north"] / "closed").exists()


@pytest.mark.slow
def test_what_the_lists_do_not_name_is_refused(bound: Bound, federation: Federation, tmp_path: Path) -> None:
    """The product's own classes are strangers to these kits; FLARE's command line could name any."""
    for place, more in (("server", {"server": PRODUCT_SERVER}), ("site", {"relay": "os.system"})):
        for site in bound.sites.values():
            (site / "pid").unlink(missing_ok=True)
        folder = tmp_path / place
        ended, told = ran(bound, folder, job(folder, f"refused-{place}", [{}], **more))
        assert ended.status != 0
        assert ended.engine != "FINISHED:COMPLETED"
        assert told == []
        assert place == "server" or not any((site / "pid").exists() for site in bound.sites.values())


@pytest.mark.slow
@pytest.mark.parametrize("guard", ["server", "sites"])
def test_code_in_a_job_is_refused(bound: Bound, guard: str, tmp_path: Path) -> None:
    """By the server, and by every site if the server's kit lets all through."""
    made, trace = job(tmp_path, f"code-{guard}", [{}], relay="own.Own"), tmp_path / "ran"
    (made / "app" / "custom").mkdir()
    (made / "app" / "custom" / "own.py").write_text(f"open({str(trace)!r}, 'w')\n")
    policy = bound.kits.server / "local" / "authorization.json"
    kept = policy.read_text()
    if guard == "sites":
        policy.write_text(json.dumps({"format_version": "1.0", "permissions": {"project_admin": "any"}}))
    try:
        with bound.federation() as running:
            running.start_all()
            connected(bound, set(NAMES))
            ended, told = ran(bound, tmp_path, made)
    finally:
        policy.write_text(kept)
    assert (ended.status, told) == (1, [])
    assert ended.engine != "FINISHED:COMPLETED"
    assert not trace.exists()
    assert "BYOC not permitted" in ended.why
    assert all((f"{name}: " in ended.why) == (guard == "sites") for name in NAMES)


@pytest.mark.slow
def test_a_failed_program_is_a_failed_job(bound: Bound, federation: Federation, tmp_path: Path) -> None:
    ended, told = ran(bound, tmp_path, job(tmp_path, "failing", [{"status": 7}]))
    assert ended.status == 7
    assert ended.engine == "FINISHED:EXECUTION_EXCEPTION"
    assert len(told) == 1
    again, _ = ran(bound, tmp_path / "again", job(tmp_path / "again", "failing", [{}]))
    assert again.status == 1
    assert "there is a run 'failing' already" in again.why


@pytest.mark.slow
def test_sixty_megabytes_to_every_site(bound: Bound, federation: Federation, tmp_path: Path) -> None:
    ended, told = ran(bound, tmp_path, job(tmp_path, "large", [{"size": 60_000_000, "deadline": 100.0}]))
    assert ended.status == 0
    assert [(step["replies"], step["same"]) for step in told] == [(NAMES, True)]


@pytest.mark.slow
def test_a_job_that_takes_too_long_is_ended_everywhere(bound: Bound, federation: Federation, tmp_path: Path) -> None:
    made = job(tmp_path, "endless", [{"special": {"north": "sleep:0.5"}, "times": 1000}])
    with pytest.raises(JobError, match="longer than 25 s"):
        run_job(bound.kits.administrator, made, tmp_path / "out", 25.0)
    pids = [int((site / "pid").read_text()) for site in bound.sites.values()]
    end = time.monotonic() + 30.0
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < end:
        time.sleep(0.2)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    ended, told = ran(bound, tmp_path / "next", job(tmp_path / "next", "after", [{}]))
    assert (ended.status, len(told)) == (0, 1)


@pytest.mark.slow
def test_a_killed_site_is_missed_and_comes_back_for_the_next_job(
    bound: Bound, federation: Federation, tmp_path: Path
) -> None:
    steps = [{}, {"wait": "go", "deadline": 3.0}, {"deadline": 3.0}]
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(ran(bound, tmp_path, job(tmp_path, "killed", steps))))
    thread.start()
    until(bound.server / "killed" / "results" / "told.json")
    federation.kill("east")
    assert federation.processes("east") == []
    (bound.server / "killed" / "go").touch()
    thread.join(PATIENCE)
    ended, told = found[0]
    assert ended.status == 0
    assert [step["replies"] for step in told] == [NAMES, ["north", "south"], ["north", "south"]]
    federation.start_site("east")
    ended, told = ran(bound, tmp_path / "next", job(tmp_path / "next", "next", [{}]))
    assert [step["replies"] for step in told] == [NAMES]


@pytest.mark.slow
def test_a_killed_server_loses_the_job_and_the_run_goes_on(
    bound: Bound, federation: Federation, tmp_path: Path
) -> None:
    steps = [{}, {"wait": "go"}]
    found: list[Exception] = []

    def first() -> None:
        try:
            ran(bound, tmp_path, job(tmp_path, "lost", steps))
        except JobError as error:
            found.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    until(bound.server / "lost" / "results" / "told.json")
    workers = {name: int((site / "pid").read_text()) for name, site in bound.sites.items()}
    federation.kill(SERVER_PART)
    thread.join(PATIENCE)
    assert "--resume" in str(found[0])
    (bound.server / "lost" / "go").touch()
    federation.start_server()
    ended, told = ran(bound, tmp_path / "next", job(tmp_path / "next", "lost", steps, resume=True))
    assert ended.status == 0
    assert [step["replies"] for step in told] == [NAMES, NAMES]
    assert all(not Path(f"/proc/{pid}").exists() for pid in workers.values())


@pytest.mark.slow
def test_a_certificate_of_another_authority_is_refused(bound: Bound, tmp_path: Path) -> None:
    other = bound_kits(tmp_path, NAMES)
    for file in ("client.crt", "client.key"):
        shutil.copy(other.kits.sites["east"] / "startup" / file, tmp_path / file)
    stranger = tmp_path / "stranger"
    shutil.copytree(bound.kits.sites["east"], stranger)
    for file in ("client.crt", "client.key"):
        shutil.copy(tmp_path / file, stranger / "startup" / file)
    with Federation(bound.kits, {"OMP_NUM_THREADS": "1"}) as running:
        running.start_server()
        running.start_site("north")
        assert connected(bound, {"north"})
        running.start_site("east", stranger)
        time.sleep(8.0)
        assert connected(bound, {"north"}) == {"north"}


def connected(bound: Bound, wanted: set[str]) -> set[str]:
    """Names of the clients that the server knows, once `wanted` are among them."""
    from secfpp.deploy.flare.job import session

    end = time.monotonic() + 60.0
    with session(bound.kits.administrator) as opened:
        while True:
            names = {client.name for client in opened.get_system_info().client_info}
            if wanted <= names or time.monotonic() > end:
                return names
            time.sleep(0.5)


def test_nothing_listens_beyond_this_machine(bound: Bound, federation: Federation) -> None:
    import psutil

    assert connected(bound, set(NAMES)) == set(NAMES)
    listening = [
        address.laddr.ip
        for process in federation.processes()
        for address in process.net_connections(kind="tcp")
        if address.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert set(listening) == {"127.0.0.1"}
