"""`secfpp serve flower`, `secfpp serve flower-link` and `secfpp site flower`, without a SuperLink."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import typer
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key
from typer.testing import CliRunner, Result

from secfpp.cli import flower
from secfpp.crypto.roster import Roster
from secfpp.deploy.flower import job, site
from secfpp.deploy.flower.identity import make_node_key, node_key
from secfpp.deploy.flower.job import Ended
from secfpp.errors import ConfigError, DataError
from secfpp.models.backbone import load_backbone
from support.flower_parts import bound_sites
from support.sites import agreed_on

app = typer.Typer()
for name, command in (
    ("site-serve", flower.site_serve),
    ("site-flower", flower.site_flower),
    ("site-flower-key", flower.site_flower_key),
    ("flower-node", flower.serve_flower_node),
    ("flower-link", flower.serve_flower_link),
    ("flower", flower.serve_flower),
):
    app.command(name)(command)


def said(*words: object) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Words of a command that works, with everything it names."""
    monkeypatch.setattr(job, "program", lambda name: tmp_path / "bin" / name)
    roster = bound_sites(tmp_path, ["anna", "ben", "cleo", "dora"]).roster
    agreed_on(Roster.load(roster), load_backbone("mini")).save(tmp_path / "agreed.toml")
    (tmp_path / "ca.crt").touch()
    job.make_server(tmp_path / "server", roster)
    words = ["flower", "--config", tmp_path / "agreed.toml", "--server", tmp_path / "server"]
    return [*words, "--superlink", "here:1", "--certificates", tmp_path / "ca.crt", "--out", tmp_path / "out"]


def ending(monkeypatch: pytest.MonkeyPatch, status: int, why: str = "") -> None:
    def run_app(link: object, server: object, app: Path, *rest: object) -> Ended:
        assert (app / "pyproject.toml").exists()
        return Ended("7", status, why, "finished:completed")

    monkeypatch.setattr(job, "run_app", run_app)


def test_the_exit_status_is_that_of_the_run(prepared: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    ending(monkeypatch, 0)
    assert said(*prepared).exit_code == 0
    ending(monkeypatch, 3, "too few sites")
    failed = said(*prepared)
    assert failed.exit_code == 3
    assert "Error: too few sites" in failed.output
    assert "--resume" in failed.output


def test_results_are_never_mixed(prepared: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ending(monkeypatch, 0)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "earlier.txt").touch()
    assert isinstance(said(*prepared).exception, ConfigError)
    assert said(*prepared, "--resume").exit_code == 0


def test_a_run_of_another_roster_is_refused(prepared: list[object], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    job.make_server(tmp_path / "server", bound_sites(tmp_path / "other", ["anna", "ben"]).roster)
    refused = said(*prepared)
    assert isinstance(refused.exception, ConfigError)
    assert "roster" in str(refused.exception)


def test_how_to_start_a_superlink_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "program", lambda name: Path("/env/bin") / name)
    roster = bound_sites(tmp_path, ["anna", "ben"]).roster
    printed = said("flower-link", tmp_path / "server", "--roster", roster).output
    assert f"SECFPP_FLOWER_SERVER={tmp_path / 'server'}" in printed
    assert "/env/bin/flower-superlink --ssl-ca-certfile" in printed
    assert "FLWR_TELEMETRY_ENABLED=0" in printed
    assert "--enable-supernode-auth" in printed
    assert (tmp_path / "server" / "roster.toml").exists()


def test_a_site_is_connected_with_tls_and_runs_no_code_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "program", lambda name: Path("/env/bin") / name)
    folder = bound_sites(tmp_path, ["anna"]).sites["anna"]
    (tmp_path / "ca.crt").touch()
    with pytest.raises(DataError, match="secfpp site flower-key"):
        site.node_commands(folder, job.SuperLink("here:1", tmp_path / "ca.crt"), 5)
    assert str(folder / "flower.pub") in said("site-flower-key", folder).output
    (node, relay), variables = site.node_commands(folder, job.SuperLink("here:1", tmp_path / "ca.crt"), 5)
    assert f"--auth-supernode-private-key {folder / 'flower.key'}" in " ".join(node)
    assert node[:5] == [
        "/env/bin/flower-supernode",
        "--superlink",
        "here:1",
        "--root-certificates",
        str(tmp_path / "ca.crt"),
    ]
    assert "--isolation process" in " ".join(node)
    assert relay[-2:] == ["127.0.0.1:5", str(folder / "flower.secret")]
    assert (folder / "flower.secret").stat().st_mode & 0o777 == 0o600
    assert variables == job.OFFLINE
    connected: list[object] = []
    monkeypatch.setattr(site, "connect_site", lambda *about: connected.append(about[:3]) or 1)
    words = ["--superlink", "here:1", "--certificates", tmp_path / "ca.crt"]
    assert said("site-flower", folder, *words, "--port", 9).exit_code == 1
    assert connected == [(folder, job.SuperLink("here:1", tmp_path / "ca.crt"), 9)]


def test_the_key_of_a_node_is_made_once_and_is_its_own(tmp_path: Path) -> None:
    public = load_ssh_public_key(make_node_key(tmp_path).read_bytes())
    key = load_ssh_private_key((tmp_path / "flower.key").read_bytes(), None)
    assert isinstance(key, EllipticCurvePrivateKey) and isinstance(public, EllipticCurvePublicKey)
    assert (public, public.curve.name) == (key.public_key(), "secp384r1")
    assert node_key(tmp_path).stat().st_mode & 0o777 == 0o600
    before = (tmp_path / "flower.key").read_bytes()
    assert make_node_key(tmp_path) == tmp_path / "flower.pub"
    assert (tmp_path / "flower.key").read_bytes() == before
    (tmp_path / "flower.key").chmod(0o640)
    with pytest.raises(DataError, match="chmod 600"):
        node_key(tmp_path)


def test_keys_are_listed_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []
    answers = [
        {"success": True, "node-id": 5},
        {"success": False, "error-message": "[code: 23] Public key already in use."},
    ]

    def call(control: object, *words: str) -> dict[str, object]:
        calls.append(words)
        return answers[len(calls) - 1]

    monkeypatch.setattr(job.Control, "_call", call)
    keys = [tmp_path / "a.pub", tmp_path / "b.pub"]
    for path in (*keys, tmp_path / "ca.crt"):
        path.touch()
    words = ["--superlink", "here:1", "--certificates", tmp_path / "ca.crt"]
    assert said("flower-node", *keys, *words).output.count("is listed") == 2
    assert [words[:3] for words in calls] == [("supernode", "register", str(key)) for key in keys]
    answers.append({"success": False, "error-message": "[code: 22] no key"})
    refused = said("flower-node", keys[0], *words)
    assert isinstance(refused.exception, job.FlowerError) and "no key" in str(refused.exception)


@pytest.mark.parametrize(
    ("other", "status"), [("pass", 1), ("import os, signal; os.kill(os.getppid(), signal.SIGTERM)", 0)]
)
def test_what_connects_a_site_ends_together(
    other: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Because one of the two has ended, or because it is told to; what was started is gone in both cases."""
    pid = tmp_path / "pid"
    lasting = f"""
import os, pathlib, time
draft = pathlib.Path({str(tmp_path / "draft")!r})
draft.write_text(str(os.getpid()))
draft.rename({str(pid)!r})
time.sleep(60)
"""
    late = f"""
import os, time
while not os.path.exists({str(pid)!r}):
    time.sleep(0.05)
{other}
time.sleep(0.5)
"""
    commands = [[sys.executable, "-c", code] for code in (lasting, late)]
    monkeypatch.setattr(site, "node_commands", lambda folder, link, port: (commands, {}))
    assert site.connect_site(tmp_path, job.SuperLink("here:1", None)) == status
    assert not Path(f"/proc/{pid.read_text()}").exists()


@pytest.mark.parametrize(("refused", "held", "starts"), [(2, 60.0, 3), (9, 0.0, 1)])
def test_a_node_that_is_refused_is_started_again_for_a_while(
    refused: int, held: float, starts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one is whose predecessor was killed; the relay ends when it is let in."""
    tries = tmp_path / "tries"
    node = f"""
import pathlib, sys, time
tries = pathlib.Path({str(tries)!r})
before = len(tries.read_text()) if tries.exists() else 0
tries.write_text("x" * (before + 1))
if before < {refused}:
    sys.exit(1)
pathlib.Path({str(tmp_path / "in")!r}).touch()
time.sleep(60)
"""
    relay = f"""
import os, time
while not os.path.exists({str(tmp_path / "in")!r}):
    time.sleep(0.05)
"""
    commands = [[sys.executable, "-c", code] for code in (node, relay)]
    monkeypatch.setattr(site, "node_commands", lambda folder, link, port: (commands, {}))
    monkeypatch.setattr(site, "_HELD", held)
    monkeypatch.setattr(site, "_AGAIN", 0.01)
    told: list[str] = []
    assert site.connect_site(tmp_path, job.SuperLink("here:1", None), told=told.append) == 1
    assert (len(tries.read_text()), len(told)) == (starts, starts - 1)
