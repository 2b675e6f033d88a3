"""A whole run of the product over FLARE, beside the same run at processes without an engine: the same bits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from secfpp.cli.deploying import serve
from secfpp.cli.sites import site as site_commands
from secfpp.deploy import server_process
from secfpp.deploy.children import ChildrenTransport
from secfpp.models.backbone import load_backbone
from secfpp.storage import read_arrays
from support.sites import agreed_on, make_sites, pictures, roster_of

pytest.importorskip("nvflare")
from secfpp.deploy.flare.processes import Federation
from secfpp.deploy.flare.provision import make_kits


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


@pytest.mark.slow
def test_a_run_over_flare_gives_the_bits_of_a_run_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    made = make_sites(tmp_path / "sites", pictures(tmp_path / "data"))
    roster = roster_of(made)
    agreed = agreed_on(roster, load_backbone("mini", device="cpu"))
    roster.save(tmp_path / "roster.toml")
    agreed.save(tmp_path / "agreed.toml")
    for one in made.values():
        one.agree(agreed, roster)
    folders = {name: one.path for name, one in made.items()}
    shutil.copytree(tmp_path / "sites", tmp_path / "alone" / "sites")
    kits = make_kits(tmp_path / "kits", list(folders))
    for name, folder in folders.items():
        invoked(site_commands, "flare", folder, "--kit", kits.sites[name])
    known = ("--roster", tmp_path / "roster.toml")
    invoked(serve, "flare-kit", tmp_path / "runs", "--kit", kits.server, *known)
    with Federation(kits) as running:
        running.start_all()
        given = ("--config", tmp_path / "agreed.toml", "--kit", kits.administrator, *known, "--out", tmp_path / "out")
        said = invoked(serve, "flare", *given, "--hours", 0.1)
    assert "FINISHED:COMPLETED" in said
    alone = tmp_path / "alone" / "run"
    alone.mkdir()
    agreed.save(alone / "agreed.toml")
    with ChildrenTransport({name: tmp_path / "alone" / "sites" / name for name in folders}) as children:
        assert server_process.serve(children, alone) == 0
    for name, folder in folders.items():
        here = left(folder)
        assert "prompt.safetensors" in here
        assert here == left(tmp_path / "alone" / "sites" / name)
    over, beside = (json.loads((place / "summary.json").read_text()) for place in (tmp_path / "out", alone / "results"))
    for told in (over, beside):
        del told["seconds"], told["costs"]["seconds"]
    assert over == beside
