from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from secfpp.algorithms.secfpp import SecFPP
from secfpp.cli.app import app
from secfpp.experiment.results.transcripts import purposes, record
from secfpp.experiment.spec.plan import Cell
from secfpp.protocol import wire
from support_experiment import World, toy_world

CONFIG = 'seeds = [3, 4]\nrounds = 2\n[data]\nname = "toy"\n[method]\nname = "pooled"\n'


def secfpp(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def works(*words: str) -> str:
    result = secfpp(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def fails(*words: str) -> str:
    result = secfpp(*words)
    assert result.exit_code == 2, result.output
    return " ".join(result.stderr.split())


def message(transcript: Any, client: str, direction: str, step: str, round_: int = 1, **arrays: Any) -> None:
    data = wire.encode({name.replace("__", "."): np.asarray(value) for name, value in arrays.items()})
    about: dict[str, Any] = {"exchange": round_ - 1, "round_": round_, "step": step, "label": ""}
    transcript.record(data, client=client, direction=direction, **about)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Keys of two clients, what they deal, a masked answer; and rounds of training; of another seed one message."""
    with record(tmp_path, Cell("secfpp+x", 1), SecFPP(), go_on=False) as transcript:
        for client in ("a", "b"):
            message(transcript, client, "down", "session.hello", round=1)
            message(transcript, client, "up", "session.hello", offer=np.zeros(96, np.uint8))
        for number in (1, 2):
            message(transcript, "a", "up", "method.train", number)
        message(
            transcript, "a", "up", "clusterer.deal", coin=np.zeros(32, np.uint8), envelopes=np.zeros((1, 40), np.uint8)
        )
        message(transcript, "b", "down", "clusterer.proceed", envelopes=np.zeros(40, np.uint8), told="x" * 7)
        message(transcript, "b", "up", "clusterer.proceed", masked=np.zeros((2, 5), np.uint64))
    with record(tmp_path, Cell("secfpp+x", 12), SecFPP(), go_on=False) as transcript:
        message(transcript, "c", "up", "method.train")
    return tmp_path


def test_what_the_server_saw_is_listed_by_phase(folder: Path) -> None:
    head, *lines = works("transcript", str(folder)).splitlines()
    assert head.startswith("secfpp+x, seed 1: server sent and got 9 messages, ")
    assert [line for line in lines if line and not line.startswith(" ")] == ["keys", "clustering", "training"]
    told = "\n".join(lines)
    assert "  clusterer.deal: Share the client's input with all holders, and randomness if it is one of them." in told
    assert (
        "    a -> server, round 1: one message, 114 B\n      in the clear, read by the server: coin (uint8)\n" in told
    )
    assert "      sealed, read by other clients only: envelopes (uint8)" in told
    assert "      under masks, read by the server: masked (uint64)" in told
    assert "    server -> b, round 1: one message" in told and "sealed, read by the client: envelopes (uint8)" in told
    assert "    a -> server, rounds 1 to 2: 2 messages, 22 B\n      nothing but that it is there" in told
    assert "    server -> 2 clients, round 1: 2 messages" in told


def test_a_party_is_told_of_its_own_messages_only(folder: Path) -> None:
    found = json.loads(works("transcript", str(folder), "--party", "b", "--json"))
    assert (found["method"], found["seed"], found["party"]) == ("secfpp+x", 1, "b")
    assert {frozenset((m["sender"], m["receiver"])) for m in found["messages"]} == {frozenset(("b", "server"))}
    asked, answered = found["messages"][-2:]
    assert asked["content"] == [
        {"name": "envelopes", "type": "uint8", "shape": [40], "reader": "b", "form": "sealed"},
        {"name": "told", "type": "str", "shape": [7], "reader": "b", "form": "clear"},
    ]
    assert answered["content"] == [
        {"name": "masked", "type": "uint64", "shape": [2, 5], "reader": "server", "form": "masked"}
    ]
    assert answered["phase"] == "clustering" and len(answered["sha256"]) == 64 and answered["bytes"] == 108
    (dealt,) = (
        m for m in json.loads(works("transcript", str(folder), "--json"))["messages"] if m["step"] == "clusterer.deal"
    )
    assert [(a["name"], a["reader"]) for a in dealt["content"]] == [("coin", "server"), ("envelopes", "other clients")]


def test_every_message_can_have_a_line(folder: Path) -> None:
    lines = works("transcript", str(folder), "--party", "a", "--each").splitlines()
    assert lines[2].split() == ["exchange", "round", "phase", "message", "sender", "receiver", "bytes", "content"]
    assert len(lines) == 3 + 5
    assert lines[-1].endswith("coin uint8[32], 1 sealed")


def test_another_seed_is_chosen_and_what_is_not_there_is_said(folder: Path, tmp_path: Path) -> None:
    assert "seed 12: server sent and got one message" in works("transcript", str(folder), "--seed", "12")
    assert "one of: 1, 12" in fails("transcript", str(folder), "--seed", "2")
    assert "did you mean 'secfpp+x'" in fails("transcript", str(folder), "--method", "secfpp")
    assert "unknown party of this run. Known: a, b, server" in fails("transcript", str(folder), "--party", "zoo")
    assert "secfpp run ... --transcript" in fails("transcript", str(tmp_path / "absent"))


def test_a_run_writes_its_messages_for_each_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.toml").write_text(CONFIG)
    world: World = toy_world(monkeypatch)
    world.says = lambda transcript: message(transcript, "d/0", "up", "method.train")
    works("run", "c.toml", "--out", "o", "--transcript", "t")
    assert sorted(path.relative_to("t") for path in Path("t").rglob("*.jsonl")) == [
        Path("pooled/3.jsonl"),
        Path("pooled/4.jsonl"),
    ]
    assert Path("t").stat().st_mode & 0o777 == 0o700
    assert "pooled, seed 4: server sent and got one message" in works("transcript", "t", "--seed", "4")
    works("run", "c.toml", "--out", "p")
    assert len(world.trained) == 4


def test_steps_say_what_they_are_for() -> None:
    found = purposes(SecFPP())
    assert {"session.hello", "clusterer.deal", "aggregator.share", "poll.proceed", "method.train"} <= found.keys()
    assert all(found.values())


def test_the_page_for_auditors_has_every_message() -> None:
    page = (Path(__file__).parents[3] / "docs" / "what-leaves.md").read_text()
    assert [step for step in purposes(SecFPP()) if f"`{step}`" not in page] == []
