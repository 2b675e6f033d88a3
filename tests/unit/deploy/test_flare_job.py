"""What travels in a job, and what an administrator's session is made from."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path

import pytest

from secfpp.deploy.flare.binding import CONTROLLER, EXECUTOR, RELAY, SERVER
from secfpp.deploy.flare.job import session, write_job
from secfpp.errors import ConfigError, DataError

AGREED = 'rounds = 8\nname = "São {João}"\n'.encode()


def test_a_job_is_three_json_files_that_name_four_classes(tmp_path: Path) -> None:
    job = write_job(tmp_path / "job", "trial", AGREED, ["north", "south"], least=1)
    found = {str(path.relative_to(job)): json.loads(path.read_text()) for path in job.rglob("*") if path.is_file()}
    assert sorted(found) == ["app/config/config_fed_client.json", "app/config/config_fed_server.json", "meta.json"]
    server, client = found["app/config/config_fed_server.json"], found["app/config/config_fed_client.json"]
    assert [part["path"] for part in server["workflows"] + server["components"]] == [CONTROLLER, SERVER]
    assert [part["executor"]["path"] for part in client["executors"]] == [EXECUTOR]
    assert client["components"] == [{"id": "secfpp", "path": RELAY, "args": {}}]
    settings = server["components"][0]["args"]
    assert b64decode(settings.pop("agreed")) == AGREED
    assert settings == {"run": "trial", "resume": False}
    assert found["meta.json"]["deploy_map"] == {"app": ["server", "north", "south"]}
    assert found["meta.json"]["min_clients"] == 1


@pytest.mark.parametrize(("sites", "least"), [([], 1), (["a"], 2), (["a"], 0), (["a", "a"], 1)])
def test_more_sites_than_there_are_cannot_be_needed(sites: list[str], least: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="least ="):
        write_job(tmp_path / "job", "trial", AGREED, sites, least=least)


def test_a_job_is_written_into_a_folder_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "code.py").touch()
    with pytest.raises(ConfigError, match="not empty"):
        write_job(tmp_path, "trial", AGREED, ["north"], least=1)


def test_what_is_no_administrators_kit_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("nvflare")
    with pytest.raises(DataError, match="administrator"), session(tmp_path):
        pass
