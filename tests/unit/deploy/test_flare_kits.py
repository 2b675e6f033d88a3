"""Kits by FLARE's own provisioning, and what binding makes of them."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest

from secfpp.crypto.roster import IdentityKey, Roster
from secfpp.deploy.flare.binding import EXECUTOR, RELAY, ServerBinding, SiteBinding, bind_server, bind_site
from secfpp.errors import ConfigError, DataError
from support.flare_parts import Bound, bound_kits

pytest.importorskip("nvflare")


@pytest.fixture(scope="module")
def bound(tmp_path_factory: pytest.TempPathFactory) -> Bound:
    return bound_kits(tmp_path_factory.mktemp("federation"), ["north", "south"], relay=RELAY)


def local(kit: Path, name: str) -> Any:
    return json.loads((kit / "local" / name).read_text())


def test_a_site_runs_two_classes_streams_no_log_and_takes_no_code(bound: Bound) -> None:
    kit = bound.kits.sites["north"]
    resources = local(kit, "resources.json")
    assert resources["class_allow_list"] == [EXECUTOR, RELAY]
    assert resources["class_list_enforcement_mode"] == "enforce"
    assert resources["allow_log_streaming"] is False
    assert local(kit, "comm_config.json")["streaming_retry_timeout"] == 5
    rights = local(kit, "authorization.json")["permissions"]
    for role in ("project_admin", "lead", "org_admin", "member"):
        allowed = {right for right, who in rights[role].items() if who != "none"}
        assert allowed <= {"submit_job", "manage_job"}


def test_a_binding_says_where_the_site_is(bound: Bound) -> None:
    found = SiteBinding.load(bound.kits.sites["north"])
    assert (found.name, found.folder) == ("north", bound.sites["north"])
    assert found.certificate().startswith(b"-----BEGIN CERTIFICATE")
    assert stat.S_IMODE((found.kit / "local" / "secfpp.json").stat().st_mode) == 0o600


def test_what_was_provisioned_and_signed_stays_as_it_was(bound: Bound, tmp_path: Path) -> None:
    kit = tmp_path / "kit"
    shutil.copytree(bound.kits.server, kit)
    before = {path: path.read_bytes() for path in (kit / "startup").iterdir()}
    defaults = {path: path.read_bytes() for path in (kit / "local").glob("*.default")}
    bind_server(tmp_path, kit, bound.roster)
    assert {path: path.read_bytes() for path in (kit / "startup").iterdir()} == before
    assert {path: path.read_bytes() for path in (kit / "local").glob("*.default")} == defaults


def test_a_server_keeps_its_jobs_in_its_kit_one_at_a_time(bound: Bound) -> None:
    kit = bound.kits.server
    resources = local(kit, "resources.json")
    parts = {part["id"]: part for part in resources["components"]}
    assert parts["job_manager"]["args"]["uri_root"] == str(kit / "jobs")
    assert parts["job_scheduler"]["args"]["max_jobs"] == 1
    assert "log_receiver" not in parts
    assert "/tmp/nvflare" not in json.dumps(resources)
    assert ServerBinding.load(kit).folder == bound.server


def test_the_server_listens_on_this_machine_only(bound: Bound) -> None:
    startup = json.loads((bound.kits.server / "startup" / "fed_server.json").read_text())["servers"][0]
    assert startup["service"] == {"target": f"localhost:{bound.kits.port}", "scheme": "tcp"}


def test_a_kit_of_another_name_is_refused(bound: Bound, tmp_path: Path) -> None:
    key = IdentityKey.generate()
    roster = Roster("trial", 1, {"east": key.public})
    with pytest.raises(ConfigError, match="that of 'north', the site is 'east'"):
        bind_site(tmp_path, bound.kits.sites["north"], "east", key, roster)


def test_a_kit_of_another_kind_is_refused(bound: Bound, tmp_path: Path) -> None:
    key = IdentityKey.generate()
    with pytest.raises(DataError, match=r"fed_client\.json"):
        bind_site(tmp_path, bound.kits.server, "north", key, Roster("trial", 1, {"north": key.public}))
    with pytest.raises(DataError, match=r"fed_server\.json"):
        bind_server(tmp_path, bound.kits.sites["north"], bound.roster)


def test_a_kit_of_another_scheme_is_refused(bound: Bound, tmp_path: Path) -> None:
    kit = tmp_path / "kit"
    shutil.copytree(bound.kits.server, kit)
    startup = kit / "startup" / "fed_server.json"
    startup.write_text(startup.read_text().replace('"scheme": "tcp"', '"scheme": "grpc"'))
    with pytest.raises(ConfigError, match=r"'grpc'.*'scheme: tcp'"):
        bind_server(tmp_path, kit, bound.roster)


def test_a_certificate_put_in_later_is_refused(bound: Bound, tmp_path: Path) -> None:
    kit = tmp_path / "kit"
    shutil.copytree(bound.kits.sites["north"], kit)
    shutil.copy(bound.kits.sites["south"] / "startup" / "client.crt", kit / "startup" / "client.crt")
    with pytest.raises(DataError, match="another certificate"):
        SiteBinding.load(kit).certificate()


def test_an_unbound_or_damaged_kit_says_what_to_do(bound: Bound, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not bound.*secfpp site flare"):
        SiteBinding.load(tmp_path)
    kit = tmp_path / "kit"
    shutil.copytree(bound.kits.sites["north"], kit)
    (kit / "local" / "secfpp.json").write_text('{"folder": "/x"}')
    with pytest.raises(DataError, match="damaged"):
        SiteBinding.load(kit)


@pytest.mark.parametrize("name", ["São João", "a.b", "two words"])
def test_names_that_flare_cannot_take_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rename it in the roster"):
        bound_kits(tmp_path, [name])
