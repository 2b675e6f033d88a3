"""What travels with a run of Flower, how its end is told, and how long it will take."""

from __future__ import annotations

import json
import sys
import tomllib
from base64 import b64decode
from pathlib import Path

import pytest

from secfpp.algorithms.base import methods
from secfpp.algorithms.secfpp import SecFPP
from secfpp.crypto.roster import IdentityKey, Roster
from secfpp.deploy.flower import job, processes
from secfpp.deploy.flower.expected import planned_exchanges, protocol_exchanges
from secfpp.deploy.flower.job import Expected, FlowerError, SuperLink, connected, run_app, write_app
from secfpp.deploy.flower.names import CLIENT_APP, EXPECTED, JOBS, RUNS, SERVER_APP
from secfpp.deploy.names import RESULTS, STATUS
from secfpp.errors import ConfigError, DataError, MissingExtraError
from secfpp.models.backbone import load_backbone
from secfpp.secure.circuits.plan import Security
from secfpp.secure.clustering.secure_agreement import SecureAgreement
from secfpp.secure.polls.secure_poll import SecurePoll
from support.sites import agreed_on

AGREED = 'rounds = 8\nname = "São {João}"\n'.encode()
LINK = SuperLink("127.0.0.1:9", None)


def test_an_app_is_one_file_that_names_installed_code(tmp_path: Path) -> None:
    app = write_app(tmp_path / "app", "trial", AGREED, resume=True)
    assert [path.name for path in app.rglob("*")] == ["pyproject.toml"]
    flower = tomllib.loads((app / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    assert flower["components"] == {"serverapp": SERVER_APP, "clientapp": CLIENT_APP}
    assert b64decode(flower["config"].pop("agreed")) == AGREED
    assert flower["config"] == {"run": "trial", "resume": True}
    with pytest.raises(ConfigError, match="not empty"):
        write_app(app, "trial", AGREED)


@pytest.fixture
def flwr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for Flower's command line, which says what the folder of its name holds."""
    said = tmp_path / "said"
    said.mkdir()
    script = tmp_path / "flwr"
    script.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\n"
        f"print('Welcome!')\nprint((pathlib.Path({str(said)!r}) / sys.argv[1]).read_text())\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(job, "program", lambda name: script)
    (said / "run").write_text(json.dumps({"success": True, "run-id": "7"}))
    return said


def ran(flwr: Path, engine: str, status: dict[str, object] | None) -> job.Ended:
    server = flwr.parent / "server"
    (server / JOBS / "7").mkdir(parents=True)
    (server / RUNS / "trial" / RESULTS).mkdir(parents=True)
    (server / RUNS / "trial" / RESULTS / "summary.json").write_text("{}")
    if status is not None:
        (server / JOBS / "7" / STATUS).write_text(json.dumps(status))
        (server / JOBS / "7" / EXPECTED).write_text(json.dumps({"exchanges": 60, "seconds": 4.0, "sites": ["a", "b"]}))
    (flwr / "list").write_text(json.dumps({"runs": [{"status": engine, "status-details": "it broke"}]}))
    told: list[str] = []
    ended = run_app(LINK, server, flwr.parent, "trial", flwr.parent / "out", 20.0, told.append)
    assert f"Flower: {engine}" in told
    assert status is None or told[0].startswith("2 sites are there; 60 exchanges of 4.0 s: about 4 minutes")
    return ended


def test_a_run_that_ended_well_brings_its_results(flwr: Path) -> None:
    assert ran(flwr, "finished:completed", {"status": 0, "why": ""}) == job.Ended("7", 0, "", "finished:completed")
    assert (flwr.parent / "out" / "summary.json").exists()


@pytest.mark.parametrize(
    ("engine", "status", "why"),
    [
        ("finished:failed", {"status": 0, "why": ""}, "it broke"),  # the engine says so
        ("finished:completed", {"status": 3, "why": "two sites"}, "two sites"),  # our own app does
        ("finished:stopped", None, "it broke"),  # and nobody says that it went well
        ("finished:completed", None, "it broke"),
    ],
)
def test_a_failed_run_is_a_failed_command(flwr: Path, engine: str, status: dict[str, object] | None, why: str) -> None:
    ended = ran(flwr, engine, status)
    assert ended.status != 0
    assert ended.why == why


def test_what_flower_refuses_is_told(flwr: Path, tmp_path: Path) -> None:
    with connected(LINK) as control:
        (flwr / "run").write_text(json.dumps({"success": False, "error-message": "no such app"}))
        with pytest.raises(FlowerError, match="no such app"):
            control.start(tmp_path)
        (flwr / "list").write_text('{"runs": []}')
        with pytest.raises(FlowerError, match="--resume"):
            control.state("7")
        with pytest.raises(FlowerError, match="flwr stop failed"):
            control.stop("7")  # the stand-in ends with an error


def test_a_run_that_takes_too_long_is_stopped(flwr: Path) -> None:
    (flwr / "list").write_text(json.dumps({"runs": [{"status": "running"}]}))
    (flwr / "stop").write_text("{}")
    with pytest.raises(FlowerError, match="took longer"):
        run_app(LINK, flwr, flwr, "trial", flwr / "out", 0.1)


def test_flower_that_is_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingExtraError, match=r"secfpp\[flower\]"):
        job.program("flwr")


@pytest.mark.parametrize(("rounds", "counted"), [(8, 64), (16, 80)])
def test_a_run_of_eight_sites_takes_about_as_many_exchanges_as_expected(rounds: int, counted: int) -> None:
    """Counted in runs of the embedded benchmark, where groups were found and were of no use."""
    assert abs(protocol_exchanges(SecFPP(), rounds, 8) - counted) <= 0.1 * counted


@pytest.mark.parametrize(
    ("security", "rounds", "effort", "counted"),
    [("passive", 1, 1.0, 51), ("passive", 8, 0.5, 60), ("active", 1, 1.0, 75), ("active", 8, 0.5, 84)],
)
def test_what_is_verified_is_counted(security: Security, rounds: int, effort: float, counted: int) -> None:
    """Counted in runs of eight sites of two domains, where groups were of use."""
    clusterer = SecureAgreement(security=security, restarts=4)
    method = SecFPP(clusterer=clusterer, poll=SecurePoll(security=security), effort=effort)
    assert abs(protocol_exchanges(method, rounds, 8) - counted) <= 2


def test_fewer_sites_than_a_run_needs_count_as_so_many(tmp_path: Path) -> None:
    keys = {f"site-{number}": IdentityKey.generate().public for number in range(8)}
    agreed_on(Roster("trial", 1, keys), load_backbone("mini"), fewest=8, rounds=8).save(tmp_path / "agreed.toml")
    assert planned_exchanges(tmp_path, 0) == planned_exchanges(tmp_path, 8) == protocol_exchanges(SecFPP(), 8, 8) + 2


def test_every_method_that_trains_has_an_expectation() -> None:
    for name, method in methods().items():
        if method.trained:
            assert protocol_exchanges(method(), 8, 8) >= method().planned(8) > 0, name


@pytest.mark.parametrize("sites", [4, 5])
def test_what_so_few_sites_cannot_do_is_not_counted(sites: int) -> None:
    assert 0 < protocol_exchanges(SecFPP(), 8, sites) <= protocol_exchanges(SecFPP(), 8, 8)


def test_a_short_run_takes_a_minute_at_least() -> None:
    assert "about 1 minutes" in str(Expected(3, 4.0, ("a",)))


def test_a_server_in_a_relative_folder_has_its_files_and_is_not_waited_for_once_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-in for a SuperLink says which of its files are there, and ends."""
    pytest.importorskip("psutil")
    link = tmp_path / "flower-superlink"
    link.write_text(
        f"#!{sys.executable}\nimport os, sys\n"
        "print([os.path.isfile(word) for word in sys.argv if word.endswith(('.crt', '.key'))])\n"
    )
    link.chmod(0o755)
    for module in (job, processes):
        monkeypatch.setattr(module, "program", lambda name: link)
    monkeypatch.chdir(tmp_path)
    Roster("trial", 1, {"anna": IdentityKey.generate().public}).save(tmp_path / "roster.toml")
    with (
        processes.Federation(Path("server"), {}, Path("roster.toml")) as federation,
        pytest.raises(DataError, match=r"did not start: see .*console\.log"),
    ):
        federation.start_server(patience=500.0)
    assert (tmp_path / "server" / "superlink" / "console.log").read_text().strip() == "[True, True, True]"
