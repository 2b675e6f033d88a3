"""`secfpp audit`: what it writes, how it goes on, and what it refuses before it works."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from secfpp.attacks import observed
from secfpp.cli.app import app
from secfpp.experiment.audit import make as audit
from secfpp.experiment.results import run_directory

CONFIG = """
seeds = [0, 1]
rounds = 2
[data]
name = "icons"
shots = 6
validation_shots = 2
test_shots = 1
clients_per_domain = 3
domains = ["sketch", "pixel"]
alpha = 1.0
[backbone]
device = "cpu"
threads = 1
[method]
name = "promptfl"
"""
SHORT = ("c.toml", "--shadows", "4", "--out", "a")


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.toml").write_text(CONFIG)


def secfpp(*words: str) -> Any:
    return CliRunner().invoke(app, ["audit", *words])


def works(*words: str) -> str:
    result = secfpp(*words)
    assert result.exit_code == 0, result.output
    return str(result.output)


def fails(*words: str) -> str:
    result = secfpp(*words)
    assert result.exit_code == 2, result.output
    return str(result.output)


def rows() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(Path("a/audit.json").read_text())["rows"]
    return found


def forbidden(*arguments: object, **settings: object) -> None:
    raise AssertionError("this was there already")


def test_an_audit_is_a_table_a_page_and_figures_and_is_not_made_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = works(*SHORT)
    assert "promptfl" in printed and "all uploads" in printed and "a seed" in printed
    summary = json.loads(Path("a/audit.json").read_text())
    assert summary["targets"] == ["promptfl", "coop_local"] and summary["missing"] == []
    assert {row["attack"] for row in summary["rows"]} == {"loss", "lira", "lira_offline", "rmia"}
    for row in summary["rows"]:
        assert row["seeds"] == [0, 1] and row["clients"] == 12 and row["epsilon_upper"] is None
        low, high = row["auc_ci95"]
        assert 0 <= low <= row["auc"] <= high <= 1
        assert row["reference"] is not None and row["verdict"] in ("tells members", "nothing found", "not informative")
        curve = np.array(row["roc"])
        assert (np.diff(curve, axis=0) >= 0).all() and curve[-1].tolist() == [1, 1]
    stolen = {(row["target"], row["adversary"]): row for row in summary["thefts"]}
    assert set(stolen) == {("promptfl", "querier"), ("promptfl", "server"), ("coop_local", "querier")}
    assert stolen["promptfl", "server"]["distance"] == 0  # it makes the last average itself
    assert stolen["coop_local", "querier"]["gain"] > 0
    assert [row["size"] for row in summary["inversions"]] == [1, 2, 3, 5]
    assert {row["target"] for row in summary["properties"]} == {"promptfl", "coop_local"}
    page = Path("a/audit.html").read_text()
    assert page.count("<svg") > 4 and "<script" not in page and "coop_local" in page
    assert list(Path("a/shadows").iterdir()) == []

    monkeypatch.setattr(observed, "observe", forbidden)
    works(*SHORT)
    assert rows() == summary["rows"]
    Path("a/parts/promptfl/1.safetensors").write_bytes(b"half")
    assert "delete it to attack this target again" in fails(*SHORT)


def test_an_audit_that_is_stopped_goes_on_and_ends_with_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("c.toml", "--shadows", "4", "--targets", "promptfl", "--seeds", "0")
    works(*words, "--out", "whole")
    prepare, trained = audit_victim().prepare, list[str]()

    def stopping(self: Any) -> None:
        if len(trained) == 3:
            raise KeyboardInterrupt
        prepare(self)
        trained.append(self.client)

    with monkeypatch.context() as patch:
        patch.setattr(audit_victim(), "prepare", stopping)
        stopped = secfpp(*words, "--out", "a")
    assert stopped.exit_code == 130 and "go on with" in stopped.output and "secfpp audit c.toml" in stopped.output
    assert len(list(Path("a/shadows").iterdir())) == 3
    kept = {path: path.stat().st_mtime_ns for path in Path("a/shadows").iterdir()}
    with monkeypatch.context() as patch:
        made: list[dict[Path, int]] = []
        patch.setattr(audit, "write_record", lambda *args: made.append({p: p.stat().st_mtime_ns for p in kept}))
        works(*words, "--out", "a")
    assert made == [kept]  # the shadows of finished clients were not trained again
    works(*words, "--out", "a")
    one, other = (json.loads(Path(name, "audit.json").read_text())["rows"] for name in ("whole", "a"))
    assert one == other


def audit_victim() -> Any:
    from secfpp.attacks.gathering import Victim

    return Victim


def test_quick_is_one_seed_few_shadows_and_whole_groups() -> None:
    works("c.toml", "--quick", "--targets", "promptfl", "--out", "a")
    summary = json.loads(Path("a/audit.json").read_text())
    assert summary["seeds"] == [0] and summary["shadows"] == audit.QUICK_SHADOWS
    assert {row["clients"] for row in summary["rows"]} == {6}  # at least five clients: two whole groups of three
    assert summary["full_seconds"] > 0


def test_what_cannot_work_is_refused_before_anything_is_made() -> None:
    for words, told in (
        (("--shadows", "7"), "--shadows = 7: an even number"),
        (("--shadow-dtype", "int8"), "float32 or bfloat16"),
        (("--victims", "-1"), "--victims = -1"),
        (("--targets", "prompfl"), "did you mean 'promptfl'"),
        (("--targets", "zero_shot"), "trains nothing"),
        (("--targets", "dp_fpl@8"), "than central: no shadows are trained under its noise"),
        (("--targets", "fedotp"), "a method that sees an image as one feature"),
        (("--targets", "promptfl,promptfl"), "--targets"),
        (("--set", "participation=0.5"), "participation = 0.5"),
        (
            ("--set", "data.shots=1", "--set", "data.clients_per_domain=30"),
            "training images: an audit trains on one half",
        ),
    ):
        assert told in fails("c.toml", *words, "--out", "a"), words
        assert not Path("a").exists(), words


def test_other_settings_and_other_directories_are_refused() -> None:
    works("c.toml", "--shadows", "4", "--targets", "promptfl", "--seeds", "0", "--out", "a")
    assert "other settings" in fails("c.toml", "--shadows", "6", "--targets", "promptfl", "--seeds", "0", "--out", "a")
    Path("mine").mkdir()
    Path("mine/letter.txt").write_text("dear")
    assert "something else than an audit" in fails(*SHORT[:-1], "mine")
    assert Path("mine/letter.txt").read_text() == "dear"
    with pytest.raises(Exception, match="holds an audit"), run_directory.open_results(Path("a")):
        pass
    with (
        pytest.raises(Exception, match="holds an audit"),
        run_directory.open_run_directory(Path("a"), "compare", resume=True),
    ):
        pass


def test_a_refuted_claim_ends_with_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {
        "target": "private",
        "adversary": "server",
        "seen": "all uploads",
        "attack": "lira",
        "verdict": "claim refuted",
    }
    figures = {"auc": 0.9, "auc_ci95": [0.8, 1.0], "tpr_1": None, "tpr_01": None, "worst": None}
    bounds = {"epsilon_lower": 3.0, "epsilon_upper": 2.0}
    about = {
        "of": "audit",
        "dataset": "icons",
        "backbone": "mini",
        "rounds": 2,
        "seeds": [0],
        "shadows": 4,
        "full_seconds": None,
    }
    nothing: dict[str, Any] = {key: [] for key in ("thefts", "inversions", "properties")}
    summary = {**about, **nothing, "rows": [{**row, **figures, **bounds}]}
    monkeypatch.setattr(audit, "run_audit", lambda *arguments: summary)
    result = secfpp(*SHORT)
    assert result.exit_code == 1
    assert "private: lira by server proves epsilon >= 3.00, 2.00 is claimed" in result.output


def test_a_device_that_is_not_there_is_refused() -> None:
    assert "backbone.device = 'cuda:99': auto, cpu" in fails("c.toml", "--device", "cuda:99")
    assert not Path("a").exists()
