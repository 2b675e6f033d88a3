"""Runs whose server or sites are killed at random moments: no wrong bit, and no round is lost without being named."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secfpp.deploy.names import RESULTS
from secfpp.deploy.results import SUMMARY
from secfpp.models.backbone import load_backbone
from secfpp.secure.clustering.secure_agreement import SecureAgreement
from secfpp.secure.polls.secure_poll import SecurePoll
from secfpp.storage import read_record
from support.sites import FAST, NAMES, agreed_on, make_sites, pictures, roster_of

pytestmark = pytest.mark.slow
SIX = (*NAMES, "emil", "fred")
VERIFIED = replace(FAST, clusterer=SecureAgreement(security="active"), poll=SecurePoll(security="active"))
CASES = {"passive": (SIX, FAST), "active": ((*SIX, "gina", "hans", "ines", "jan"), VERIFIED)}
"""Sites and methods; from eight sites on they look for groups."""
ROUNDS = 4
KILLS = {"passive": 10, "active": 5}
"""Of each kind."""
Bits = dict[str, tuple[str, tuple[int, ...], bytes]]


class Runs:
    """Runs of one of the `CASES` in copies of one prepared folder."""

    def __init__(self, root: Path, case: str) -> None:
        self.root, self.kills, self._made = root, KILLS[case], 0
        self.names, algorithm = CASES[case]
        data = pictures(root / "data", self.names)
        sites = make_sites(root / "sites", data, self.names)
        roster, backbone = roster_of(sites), load_backbone("mini", device="cpu")
        agreed = agreed_on(roster, backbone, algorithm, rounds=ROUNDS, fewest=len(self.names) - 1)
        for site in sites.values():
            site.agree(agreed, roster)
        agreed.save(root / "agreed.toml")
        command = [sys.executable, "-m", "support.killed_sites", str(data), str(root / "agreed.toml")]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])},
        )

    def new(self) -> Path:
        """A fresh copy."""
        self._made += 1
        return Path(shutil.copytree(self.root / "sites", self.root / f"run-{self._made}"))

    def go(self, folder: Path, kill: Mapping[str, Any] | None = None) -> int:
        """Run, or go on with a run, to its end or the server's; its exit code."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"root": str(folder), "kill": kill}) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture(scope="module", params=CASES)
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    made = Runs(tmp_path_factory.mktemp("runs"), request.param)
    yield made
    made.close()


@pytest.fixture(scope="module")
def whole(runs: Runs) -> tuple[dict[str, Bits], int]:
    """The bits of a run that nothing happens to, and its number of exchanges."""
    folder = runs.new()
    assert runs.go(folder) == 0
    assert summary(folder)["lost"] == []
    kept = {name: bits(arrays) for name, (_, arrays) in states(runs, folder).items()}
    return kept, int((folder / "exchanges").read_text())


@pytest.fixture
def seed() -> int:
    """Of the moments; a failure names it."""
    return int(os.environ.get("SECFPP_KILL_SEED") or random.SystemRandom().randrange(10**6))


def summary(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / RESULTS / SUMMARY).read_bytes()))


def states(runs: Runs, folder: Path) -> dict[str, tuple[int, dict[str, np.ndarray]]]:
    """Each site's newest state, with its round; every file can be read."""
    found = {}
    for name in runs.names:
        kept = [
            read_record(path, "secfpp-site-state-1")
            for path in sorted((folder / name / "state").rglob("round-*.safetensors"))
        ]
        arrays, about = kept[-1]
        found[name] = (int(about["round"]), arrays)
    return found


def bits(arrays: Mapping[str, np.ndarray]) -> Bits:
    return {slot: (array.dtype.str, array.shape, array.tobytes()) for slot, array in arrays.items()}


def test_a_killed_server_goes_on_with_the_same_bits(runs: Runs, whole: tuple[dict[str, Bits], int], seed: int) -> None:
    rng, (expected, exchanges) = random.Random(seed), whole
    for number in range(runs.kills):
        kill = {"exchange": rng.randint(1, exchanges - 2), "delay": rng.uniform(0, 0.08)}
        told, folder = f"SECFPP_KILL_SEED={seed}, kill {number}: {kill}", runs.new()
        assert runs.go(folder, kill) == -signal.SIGKILL, told
        assert not (folder / RESULTS).exists(), told
        assert runs.go(folder) == 0, told
        assert summary(folder)["lost"] == [], told
        found = {name: bits(arrays) for name, (_, arrays) in states(runs, folder).items()}
        assert found == expected, told
        shutil.rmtree(folder)


def test_a_killed_site_is_back_and_nobody_else_is_harmed(
    runs: Runs, whole: tuple[dict[str, Bits], int], seed: int
) -> None:
    rng, (_, exchanges) = random.Random(seed), whole
    for number in range(runs.kills):
        kill = {
            "exchange": rng.randint(1, exchanges - 1),
            "delay": rng.uniform(0, 0.08),
            "site": rng.choice(runs.names),
            "back": rng.uniform(0, 0.5),
        }
        told, folder = f"SECFPP_KILL_SEED={seed}, kill {number}: {kill}", runs.new()
        assert runs.go(folder, kill) == 0, told
        about, found = summary(folder), states(runs, folder)
        versions = {name: int(arrays["domain_prompt.version"]) for name, (_, arrays) in found.items()}
        newest = {name for name, version in versions.items() if version == max(versions.values())}
        assert len({found[name][1]["domain_prompt.base"].tobytes() for name in newest}) == 1, told
        assert newest >= set(runs.names) - {kill["site"]}, told
        assert all(round_ == ROUNDS for name, (round_, _) in found.items() if name != kill["site"]), told
        assert about["lost"] == [] and about["refusals"] == [], told  # all others are enough, and nobody is accused
        shutil.rmtree(folder)
