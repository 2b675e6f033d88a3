"""`secfpp attack`: what it finds in a run that is there, beside the start prompt, and what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from secfpp.cli.app import app
from secfpp.data.federated import FederatedDataset, Split
from secfpp.experiment.audit import attack
from secfpp.experiment.run import training

CONFIG = """
seeds = [0, 1]
rounds = 8
[data]
name = "icons"
shots = 6
validation_shots = 2
test_shots = 6
clients_per_domain = 3
domains = ["sketch", "pixel"]
alpha = 1.0
[backbone]
device = "cpu"
threads = 1
[method]
name = "coop_local"
"""
METHODS = "coop_local,promptfl,zero_shot"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "c.toml").write_text(CONFIG)
    words = ["compare", str(folder / "c.toml"), "--methods", METHODS, "--workers", "1", "--out", str(folder / "r")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    return folder / "r"


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "r"))


def secfpp(*words: str | Path) -> Any:
    return CliRunner().invoke(app, ["attack", *map(str, words)])


def works(*words: str | Path) -> str:
    result = secfpp(*words)
    assert result.exit_code == 0, result.output
    return str(result.output)


def fails(*words: str | Path) -> str:
    result = secfpp(*words)
    assert result.exit_code == 2, result.output
    return str(result.output)


def rows(run: Path) -> dict[tuple[str, str, str], dict[str, Any]]:
    found = json.loads((run / "audit.json").read_text())["rows"]
    return {(row["target"], row["seen"], row["attack"]): row for row in found}


def forbidden(*arguments: object, **settings: object) -> None:
    raise AssertionError("this was there already")


def test_prompts_that_a_run_left_tell_members_beyond_the_start_prompt(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (run / "run.json").read_text()
    printed = works(run)
    assert "another split" in printed and "coop_local, seed 1: attacking" in printed
    found = rows(run)
    assert {(target, seen) for target, seen, _ in found} == {
        ("coop_local", "prompt"),
        ("coop_local", "predictions"),
        ("promptfl", "shared prompt"),
        ("promptfl", "predictions"),
    }
    for row in found.values():
        assert row["members"] == row["others"] and row["seeds"] == [0, 1] and row["clients"] == 12
        assert row["gain"] == pytest.approx(row["auc"] - row["control"]["auc"])
    alone = found["coop_local", "prompt", "loss"]
    assert alone["verdict"] == "tells members" and alone["gain"] > 0.05
    low, high = alone["control"]["auc_ci95"]
    assert low < 0.5 < high
    assert ("promptfl", "shared prompt", "lira_offline") not in found  # all clients have one prompt: no others
    page = (run / "audit.html").read_text()
    assert "different splits" in page and "On the start prompt" in page and "<script" not in page
    assert (run / "run.json").read_text() == before

    monkeypatch.setattr(attack, "attacked", forbidden)
    works(run)
    assert rows(run) == found
    (run / "parts/promptfl/1.safetensors").write_bytes(b"half")
    with pytest.raises(AssertionError, match="there already"):
        raise secfpp(run).exception


def test_what_patches_and_memories_say_is_attacked_too(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(CONFIG.replace("rounds = 8", "rounds = 2").replace("[0, 1]", "[0]"))
    words = ["compare", str(tmp_path / "c.toml"), "--methods", "fedotp,pfedprompt", "--out", str(tmp_path / "r")]
    result = CliRunner().invoke(app, [*words, "--workers", "1"])
    assert result.exit_code == 0, result.output
    works(tmp_path / "r")
    found = rows(tmp_path / "r")
    assert ("fedotp", "prompt", "loss") in found and ("pfedprompt", "shared prompt", "loss") in found
    assert found["fedotp", "predictions", "loss"]["auc"] != found["fedotp", "prompt", "loss"]["auc"]
    remembered = found["pfedprompt", "predictions", "loss"]
    assert remembered["verdict"] == "tells members" and remembered["auc"] > 0.9


def test_a_split_that_is_easier_tells_nothing_of_the_run(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Test images are noise: every attack tells them from training images, on the start prompt as well."""
    load = training.load_dataset

    def shifted(config: Any, seed: int) -> FederatedDataset:
        dataset = load(config, seed)
        rng = np.random.default_rng(0)
        noise = {
            d: Split(rng.integers(0, 256, s.images.shape).astype(np.uint8), s.labels) for d, s in dataset.test.items()
        }
        return replace(dataset, test=noise)

    monkeypatch.setattr(attack, "load_dataset", shifted)
    monkeypatch.setattr("secfpp.runtime.contexts.dataset_digest", lambda dataset: _digest(run, dataset))
    works(run, "--methods", "promptfl", "--seeds", "0")
    row = rows(run)["promptfl", "shared prompt", "loss"]
    assert row["auc"] > 0.6 and row["control"]["auc_ci95"][0] > 0.5
    assert row["gain"] < row["auc"] - 0.5


def _digest(run: Path, dataset: FederatedDataset) -> str:
    return str(json.loads((run / "partitions/0.json").read_text())["digest"])


def test_what_cannot_be_attacked_is_refused_with_the_remedy(run: Path, tmp_path: Path) -> None:
    assert "--methods = 'zero_shot': trains nothing" in fails(run, "--methods", "zero_shot")
    assert "did you mean 'promptfl'" in fails(run, "--methods", "promptfi")
    assert "--seeds = 7: one of this run's: 0, 1" in fails(run, "--seeds", "7")
    assert "holds no run" in fails(tmp_path / "nothing")
    prompt = next((run / "prompts").rglob("*.safetensors"))
    assert "is a file: give the directory of the run" in fails(prompt)
    assert "holds no run" in fails(prompt.parent)
    (run / "cells/promptfl/1.safetensors").unlink()
    assert "not finished: promptfl, seed 1. Go on with the run first" in fails(run)
    assert not (run / "audit.json").exists()
    works(run, "--methods", "coop_local", "--seeds", "0")
    config = (run / "config.toml").read_text()
    (run / "config.toml").write_text(config.replace("shots = 6", "shots = 7", 1))
    assert "the data are not those of the run" in fails(run, "--methods", "promptfl", "--seeds", "0")
    (run / "cells/promptfl/0.safetensors").write_bytes(b"half")
    assert "cannot be read" in fails(run, "--methods", "promptfl", "--seeds", "0")
