from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import support_experiment
from secfpp.cli import explaining
from secfpp.cli.app import app
from secfpp.experiment.results.explained import Why
from secfpp.experiment.results.run_directory import open_run_directory
from secfpp.runtime.trainer import RunResult
from secfpp.storage import read_arrays, write_record
from support.explained_runs import bare, explained_result, none_found, useful, useless
from support_experiment import World, fake_result, toy_world

CONFIG = """
seeds = [3, 4]
rounds = 2
[data]
name = "toy"
[method]
name = "grouped"
[variants.by-features]
base = "grouped"
class_prior = false
"""
OF_SEED: dict[int, dict[str, Any]] = {3: useful((8, 7)), 4: useless((8, 7))}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    """Methods of which ``grouped`` says why."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.toml").write_text(CONFIG)

    def result(method: str, seed: int, own: float, clustered: bool, rounds: int) -> RunResult:
        if method == "grouped":
            return explained_result(OF_SEED[seed], method, seed)
        return fake_result(method, seed, own, method != "pooled", rounds)

    monkeypatch.setattr(support_experiment, "fake_result", result)
    return toy_world(monkeypatch)


def works(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output or result.exception
    return result.stdout


def fails(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.stderr.split())


def trained(methods: str = "grouped,pooled,by-features") -> None:
    works("compare", "c.toml", "--methods", methods, "--out", "o", "--workers", "1")


def test_one_seed_is_told_in_full_with_the_verdict_first(world: World) -> None:
    works("run", "c.toml", "--out", "o", "--set", "seeds=[3]")
    first, verdict, *rest = works("why", "o").splitlines()
    assert first == "grouped, seed 3"
    assert verdict.startswith("2 groups, of use: ")
    told = " ".join(" ".join(rest).split())
    assert "groups agreement by chance score 1 - - 0.0 2 * 17.0 6.6 +10.4 3 16.0" in told
    assert "kappa 0.31" in told and "by chance 0.0" in told and "in 20 permutations" in told
    assert "mean over 15 clients; at least +1" in told and "with 95 % confidence, 1 asked for" in told
    assert "all clients 15 +1" in told and "group 0 8 +1" in told and "group 1 7 +1" in told
    assert "style 0-0" not in told  # more than a few clients


def test_several_seeds_have_a_line_each_and_means(world: World) -> None:
    trained()
    lines = works("why", "o").splitlines()
    assert lines[:2] == ["grouped, 2 seeds", "groups are used on 1 of 2 seeds"]
    rows = {line.split()[0]: line.split() for line in lines if line and line.split()[0] in ("3", "4", "mean")}
    assert rows["3"][1:4] == ["2", "2", "0.31"] and rows["4"][1:4] == ["2", "1", "0.05"]
    assert rows["mean"][1:4] == ["2", "1.5", "0.18"]
    assert rows["4"][5:7] == ["+0.4", "-0.6"] and "-" in rows["4"]  # the level of the group
    assert works("why", "o", "--seed", "4").startswith("grouped, seed 4\ngroups: of no use here")


def test_a_client_is_told_about_on_every_seed(world: World) -> None:
    trained()
    told = works("why", "o", "--client", "style 1-9")
    block = told[told.index("style 1-9: the same figures") :].split("\n")
    assert [line.split()[:2] for line in block[3:5]] == [["3", "1"], ["4", "1"]]
    message = fails("why", "o", "--client", "style 1-99")
    assert "--client" in message and "did you mean 'style 1-9'" in message


def test_few_clients_have_a_row_each(capsys: pytest.CaptureFixture[str]) -> None:
    for why in (useful((2, 1)), none_found(3), bare()):
        run = Why.of(explained_result(why))
        assert run
        explaining.print_run("m", run)
        told = capsys.readouterr().out
        assert "the same by client" in told
    assert "kappa" not in told and "agreement" not in told
    assert [line.split() for line in told.splitlines()][-1] == ["odd", "none", *"------"]


def test_programs_get_all_of_it(world: World) -> None:
    trained()
    told = json.loads(works("why", "o", "--json"))
    assert told["method"] == "grouped" and [run["seed"] for run in told["runs"]] == [3, 4]
    for run in told["runs"]:
        kept = dict(OF_SEED[run.pop("seed")])
        kept["test"] = {key: value for key, value in kept["test"].items() if key != "t"}
        assert run == kept
    told = json.loads(works("why", "o", "--json", "--client", "style 0-0", "--seed", "3"))
    assert [row["client"] for row in told["runs"][0]["clients"]] == ["style 0-0"]


def test_what_is_not_there_is_said_with_what_is(world: World) -> None:
    assert "holds no run" in fails("why", "nowhere")
    trained()
    assert "did you mean 'grouped'" in fails("why", "o", "--method", "groupd")
    assert "--seed = 9: one of this run's: 3, 4" in fails("why", "o", "--seed", "9")
    assert "pooled does not group clients; methods of this run that say why: grouped" in fails(
        "why", "o", "--method", "pooled"
    )
    assert "class_residuals" in fails("why", "o", "--method", "by-features")
    with open_run_directory(Path("o"), "compare", resume=True):
        assert "another process" in fails("why", "o")


def test_a_run_without_groups_or_results_is_refused(world: World) -> None:
    trained("pooled")
    assert "no method of this run groups clients" in fails("why", "o")
    Path("o/cells/pooled/3.safetensors").unlink()
    assert "pooled is not finished on seed 3 yet; go on with the run first" in fails(
        "why", "o", "--method", "pooled", "--seed", "3"
    )
    Path("o/cells/pooled/4.safetensors").unlink()
    assert "no method is finished on any seed yet" in fails("why", "o")


def test_a_run_of_an_older_version_is_refused(world: World) -> None:
    works("run", "c.toml", "--out", "o", "--set", "seeds=[3]")
    cell = Path("o/cells/grouped/3.safetensors")
    arrays, metadata = read_arrays(cell)
    about = json.loads(metadata["secfpp"])
    write_record(cell, arrays, {**about, "why": {}})
    assert "not by older versions: train it again" in fails("why", "o")
    write_record(cell, arrays, {**about, "why": {"verdict": "yes"}})
    assert "is not what this version keeps" in fails("why", "o")
    write_record(cell, arrays, {**about, "format": "secfpp-cell-1"})
    assert "delete it to train this cell again" in fails("why", "o")
