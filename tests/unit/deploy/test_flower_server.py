"""What the app at the server does around a program; the grid is a stand-in."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock

from secfpp.deploy.flower.names import EXPECTED, JOBS, RUNS, SERVER_FOLDER
from secfpp.deploy.names import STATUS
from secfpp.errors import ConfigError
from support.flower_parts import bound_sites

pytest.importorskip("flwr")
from secfpp.deploy.flower import server

PLANNED = "support.flower_parts:planned"


class NoSites:
    """A transport that has met nobody."""

    def __init__(self, grid: object, roster: object) -> None:
        self.sites: tuple[str, ...] = ()

    def ping(self) -> float:
        return 1.5


def ends_with_7(transport: object, folder: Path) -> int:
    return 7


def breaks(transport: object, folder: Path) -> int:
    raise KeyError("secret")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    bound = bound_sites(tmp_path, ["anna"])
    monkeypatch.setenv(SERVER_FOLDER, str(tmp_path))
    monkeypatch.setattr(server, "FlowerTransport", NoSites)
    assert bound.roster.parent == tmp_path
    return tmp_path


def served(program: str, number: int = 1, run: str = "trial", resume: bool = False) -> None:
    config = {"run": run, "agreed": b64encode(b"rounds = 1").decode(), "resume": resume}
    context: Any = SimpleNamespace(run_id=number, run_config=config)
    server.serve(None, context, f"{__name__}:{program}", PLANNED)


def told(folder: Path, number: int, name: str) -> Any:
    return json.loads((folder / JOBS / str(number) / name).read_bytes())


def test_a_status_that_is_not_0_fails_the_run(folder: Path) -> None:
    with pytest.raises(RuntimeError, match="status 7"):
        served("ends_with_7")
    assert told(folder, 1, STATUS) == {"status": 7, "why": ""}
    assert told(folder, 1, EXPECTED) == {"exchanges": 0, "seconds": 1.5, "sites": []}


def test_only_the_kind_of_an_unknown_error_is_told(folder: Path) -> None:
    with pytest.raises(KeyError):
        served("breaks")
    assert told(folder, 1, STATUS) == {"status": 1, "why": "KeyError"}


def test_a_run_is_begun_once_and_goes_on_with_resume_only(folder: Path) -> None:
    with pytest.raises(RuntimeError):
        served("ends_with_7")
    with pytest.raises(ConfigError, match="already"):
        served("ends_with_7", 2)
    assert "already" in told(folder, 2, STATUS)["why"]
    with pytest.raises(RuntimeError, match="status 7"):
        served("ends_with_7", 3, resume=True)
    with pytest.raises(ConfigError, match="names a folder"):
        served("ends_with_7", 4, run="../trial")
    assert [path.name for path in (folder / RUNS).iterdir()] == ["trial"]


def test_two_runs_do_not_share_the_sites(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_PREVIOUS_ENDS", 0.1)
    with FileLock(folder / ".lock"), pytest.raises(ConfigError, match="another run is under way"):
        served("ends_with_7")


def test_a_superlink_without_a_folder_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SERVER_FOLDER)
    with pytest.raises(ConfigError, match=SERVER_FOLDER):
        served("ends_with_7")
