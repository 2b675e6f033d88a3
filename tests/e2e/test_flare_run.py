"""A whole run of the product over FLARE, beside the same run at processes without an engine: the same bits."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from secfpp.algorithms.secfpp import SecFPP
from secfpp.cli.deploying import serve
from secfpp.cli.sites import site as site_commands
from secfpp.deploy import server_process
from secfpp.deploy.children import ChildrenTransport
from secfpp.deploy.server_process import CHECKPOINT
from secfpp.models.backbone import load_backbone
from secfpp.secure.clustering.secure_agreement import SecureAgreement
from secfpp.secure.polls.secure_poll import SecurePoll
from secfpp.storage import read_arrays
from support.sites import NAMES, agreed_on, make_sites, pictures, roster_of

pytest.importorskip("nvflare")
from secfpp.deploy.flare.processes import SERVER, Federation
from secfpp.deploy.flare.provision import make_kits
from support.toy_flare import flare


def invoked(group: Any, *words: object) -> str:
    done = CliRunner().invoke(group, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def left(site: Path) -> dict[str, dict[str, Any]]:
    """All arrays and metadata that a run left in a site's folder; a file lists its metadata in any order."""
    found = {}
    for path in site.rglob("*.safetensors"):
        arrays, about = read_arrays(path)
        exact = {name: (value.dtype.str, value.shape, value.tobytes()) for name, value in arrays.items()}
        found[str(path.relative_to(site))] = exact | about
    return found


class Stage:
    """Sites that agreed, their kits, and the same sites again without an engine."""

    def __init__(
        self, folder: Path, rounds: int, names: Sequence[str] = NAMES, algorithm: SecFPP | None = None
    ) -> None:
        self.folder = folder
        made = make_sites(folder / "sites", pictures(folder / "data", names), names)
        roster, backbone = roster_of(made), load_backbone("mini", device="cpu")
        self.agreed = agreed_on(roster, backbone, algorithm, rounds=rounds, fewest=len(names))
        roster.save(folder / "roster.toml")
        self.agreed.save(folder / "agreed.toml")
        for one in made.values():
            one.agree(self.agreed, roster)
        self.folders = {name: one.path for name, one in made.items()}
        shutil.copytree(folder / "sites", folder / "alone" / "sites")
        self.kits = make_kits(folder / "kits", list(self.folders))
        for name, path in self.folders.items():
            invoked(site_commands, "flare", path, "--kit", self.kits.sites[name])
        self.known = ("--roster", folder / "roster.toml")
        invoked(serve, "flare-kit", folder / "runs", "--kit", self.kits.server, *self.known)

    def serve(self, *more: object, ends: int = 0) -> str:
        """What is printed by the command that runs it."""
        given = ("--config", self.folder / "agreed.toml", "--kit", self.kits.administrator, *self.known)
        words = ["flare", *given, "--out", self.folder / "out", "--hours", 0.1, *more]
        done = CliRunner().invoke(serve, [str(word) for word in words])
        assert (done.exit_code != 0) == bool(ends), done.output
        return done.output

    def require_the_bits_of_a_run_without_an_engine(self) -> None:
        alone = self.folder / "alone" / "run"
        alone.mkdir()
        self.agreed.save(alone / "agreed.toml")
        beside = {name: self.folder / "alone" / "sites" / name for name in self.folders}
        with ChildrenTransport(beside) as children:
            assert server_process.serve(children, alone) == 0
        for name, folder in self.folders.items():
            here = left(folder)
            assert "prompt.safetensors" in here
            assert here == left(beside[name])
        over, other = (
            json.loads((place / "summary.json").read_text()) for place in (self.folder / "out", alone / "results")
        )
        for told in (over, other):
            del told["seconds"], told["exchange_seconds"], told["costs"]["seconds"]
        assert over == other


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.slow
def test_a_run_over_flare_gives_the_bits_of_a_run_without_it(tmp_path: Path) -> None:
    stage = Stage(tmp_path, rounds=2)
    with Federation(stage.kits) as running:
        running.start_all()
        assert "FINISHED:COMPLETED" in stage.serve()
    stage.require_the_bits_of_a_run_without_an_engine()


@pytest.mark.slow
def test_groups_and_polls_that_are_verified_have_the_same_bits_over_flare(tmp_path: Path) -> None:
    verified = SecFPP(clusterer=SecureAgreement(security="active"), poll=SecurePoll(security="active"))
    stage = Stage(tmp_path, rounds=2, names=(*NAMES, "emil", "fred", "gina", "hans"), algorithm=verified)
    with Federation(stage.kits) as running:
        running.start_all()
        assert "FINISHED:COMPLETED" in stage.serve()
    stage.require_the_bits_of_a_run_without_an_engine()
    costs = json.loads((tmp_path / "out" / "summary.json").read_text())["costs"]["components"]
    assert {"clusterer", "poll"} <= costs.keys()


def once_a_round_is_committed(stage: Stage, kill: Callable[[], object]) -> threading.Thread:
    """Kills something of a run after its first rounds, in a thread."""
    checkpoint = stage.folder / "runs" / stage.agreed.run / CHECKPOINT

    def wait() -> None:
        until = time.monotonic() + 200
        while not checkpoint.exists() and time.monotonic() < until:
            time.sleep(0.01)
        kill()

    killer = threading.Thread(target=wait)
    killer.start()
    return killer


@pytest.mark.slow
def test_a_server_that_was_killed_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    stage = Stage(tmp_path, rounds=40)
    with Federation(stage.kits) as running:
        running.start_all()
        killer = once_a_round_is_committed(stage, lambda: running.kill(SERVER))
        stage.serve(ends=1)
        killer.join()
        running.start_server()
        assert "FINISHED:COMPLETED" in stage.serve("--resume")
    stage.require_the_bits_of_a_run_without_an_engine()


@pytest.mark.slow
def test_a_worker_of_flare_that_was_killed_ends_the_job_and_the_run_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    stage = Stage(tmp_path, rounds=40)
    with Federation(stage.kits) as running:
        running.start_all()

        def kill() -> None:
            (worker,) = (one for one in running.processes("ben") if "worker_process" in " ".join(one.cmdline()))
            worker.kill()

        killer = once_a_round_is_committed(stage, kill)
        told = stage.serve(ends=1)
        killer.join()
        assert "FLARE ended the job as FINISHED" in told and "--resume" in told
        assert "FINISHED:COMPLETED" in stage.serve("--resume")
    stage.require_the_bits_of_a_run_without_an_engine()


@pytest.mark.slow
def test_the_suite_of_all_carriers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from contract import test_drivers as suite

    with flare(tmp_path) as remote:
        suite.test_the_same_program_has_the_same_end_everywhere(remote, tmp_path)
        remote.round_ += 1
        suite.test_what_is_no_step_is_never_asked(remote)
        suite.test_a_stranger_is_never_asked(remote)
        suite.test_large_messages_arrive_whole(remote, 12)
        suite.test_a_reply_to_another_request_counts_for_nothing(remote)


@pytest.mark.slow
def test_what_a_site_on_flare_answers_and_tells(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from contract import test_drivers as suite

    with flare(tmp_path) as remote:
        suite.test_only_the_kind_of_an_error_leaves_a_site(remote, caplog)
        suite.test_a_refusal_is_told_and_others_go_on(remote)
