"""The commands that bind kits and hand in runs, as far as they go without a running FLARE system."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from secfpp.algorithms.base import methods
from secfpp.cli.deploying import serve, site
from secfpp.crypto.roster import IdentityKey, Roster
from secfpp.deploy.agreed import Agreed
from secfpp.errors import ConfigError, DataError

pytest.importorskip("nvflare")
from secfpp.deploy.flare.provision import Kits, make_kits

RUN = CliRunner()


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> Kits:
    return make_kits(tmp_path_factory.mktemp("kits"), ["north", "south"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A site's folder with its key and a roster of two."""
    own = IdentityKey.generate()
    own.save(tmp_path / "north" / "identity.key")
    Roster("trial", 1, {"north": own.public, "south": IdentityKey.generate().public}).save(
        tmp_path / "north" / "roster.toml"
    )
    return tmp_path / "north"


def test_a_site_is_bound_to_its_kit(kits: Kits, folder: Path) -> None:
    done = RUN.invoke(site, ["flare", str(folder), "--kit", str(kits.sites["north"])], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    about = json.loads((kits.sites["north"] / "local" / "secfpp.json").read_text())
    assert (about["name"], about["folder"]) == ("north", str(folder))
    assert about["certificate"] in done.output
    assert "start.sh" in done.output


def test_anothers_kit_and_a_roster_without_this_key_are_refused(kits: Kits, folder: Path) -> None:
    wrong = RUN.invoke(site, ["flare", str(folder), "--kit", str(kits.sites["south"])])
    assert isinstance(wrong.exception, ConfigError)
    assert "that of 'south', the site is 'north'" in str(wrong.exception)
    Roster("trial", 2, {"south": IdentityKey.generate().public}).save(folder / "roster.toml")
    old = RUN.invoke(site, ["flare", str(folder), "--kit", str(kits.sites["north"])])
    assert "newest roster" in str(old.exception)


def test_a_server_is_bound_to_its_kit(kits: Kits, folder: Path, tmp_path: Path) -> None:
    words = ["flare-kit", str(tmp_path / "runs"), "--kit", str(kits.server), "--roster", str(folder / "roster.toml")]
    done = RUN.invoke(serve, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "NVFLARE_CLIENT_OUTCOME_WAIT_TIMEOUT=20" in done.output
    assert json.loads((kits.server / "local" / "secfpp.json").read_text())["folder"] == str(tmp_path / "runs")


def test_a_run_is_checked_before_it_is_handed_in(kits: Kits, folder: Path, tmp_path: Path) -> None:
    roster, config = folder / "roster.toml", tmp_path / "agreed.toml"
    known = Roster.load(roster)
    agreed = Agreed(
        "trial", known.fingerprint, 0, 2, 2, 60.0, "a {}", ("a", "b"), "mini", "0" * 64, methods()["promptfl"]()
    )
    agreed.save(config)
    out = tmp_path / "out"
    words = ["flare", "--config", str(config), "--roster", str(roster), "--out", str(out)]
    no_kit = RUN.invoke(serve, [*words, "--kit", str(kits.sites["north"])])
    assert isinstance(no_kit.exception, DataError)
    assert "administrator's kit" in str(no_kit.exception)
    out.mkdir()
    (out / "other.txt").touch()
    full = RUN.invoke(serve, [*words, "--kit", str(kits.administrator)])
    assert "not empty" in str(full.exception)
    Roster("trial", 2, known.keys).save(roster)
    newer = RUN.invoke(serve, [*words, "--kit", str(kits.administrator), "--resume"])
    assert isinstance(newer.exception, ConfigError)
    assert "roster" in str(newer.exception)
