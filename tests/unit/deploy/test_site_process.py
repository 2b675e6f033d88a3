"""What a site carries out and what it refuses, whatever brings the requests."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secfpp.algorithms.secfpp import SecFPP
from secfpp.deploy import site_process
from secfpp.deploy.agreed import Agreed
from secfpp.deploy.site_folder import SiteFolder
from secfpp.deploy.site_process import ENGINE, OTHERS, OpenSite, open_site
from secfpp.errors import ConfigError
from secfpp.models.backbone import Backbone, load_backbone
from secfpp.protocol import wire
from secfpp.runtime.envelope import Part, Reply, Request
from secfpp.runtime.site import DONE
from secfpp.secure.clustering.secure_agreement import SecureAgreement
from support.sites import CLASSES, FAST, NAMES, agreed_on, make_sites, pictures, roster_of


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("mini", device="cpu")


@pytest.fixture
def agreed(tmp_path: Path, backbone: Backbone) -> Agreed:
    """What anna agreed to; the folders of the others are there too."""
    sites = make_sites(tmp_path, pictures(tmp_path / "data"))
    roster = roster_of(sites)
    made = agreed_on(roster, backbone, FAST)
    sites["anna"].agree(made, roster)
    return made


@pytest.fixture
def folder(agreed: Agreed, tmp_path: Path) -> Path:
    return tmp_path / "anna"


@pytest.fixture
def anna(folder: Path) -> Iterator[OpenSite]:
    site = open_site(folder)
    yield site
    site.close()


class Server:
    """Sends one request after the other."""

    def __init__(self, site: OpenSite, attempt: int = 7) -> None:
        self.site, self.attempt, self.seq = site, attempt, 0

    def send(self, kind: Any, round_: int = 0, about: Any = None, parts: tuple[Part, ...] = ()) -> Reply:
        self.seq += 1
        return Reply.decode(self.site.handle(Request(kind, self.attempt, round_, self.seq, parts, about).encode()))

    def open(self, agreed: Agreed, round_: int = 0) -> Reply:
        return self.send("open", round_, {"run": agreed.run, "digest": agreed.digest, "agreed": agreed.table})

    def train(self, round_: int) -> Reply:
        payload = bytes(wire.encode({"round": np.array(round_)}))
        return self.send("ask", round_, parts=(Part("", "method.train", payload),))


def lines(folder: Path, run: str) -> list[dict[str, Any]]:
    return list(SiteFolder(folder).log(run).lines())


def test_a_round_is_carried_out_and_logged(anna: OpenSite, agreed: Agreed, folder: Path) -> None:
    server = Server(anna)
    opened = server.open(agreed)
    assert (opened.refused, opened.about) == ("", {"weight": 12, "round": 0})
    assert [part.step for part in server.train(1).parts] == [DONE]
    assert server.send("commit", 1).refused == ""
    _, asked, *requests = lines(folder, agreed.run)  # the first says that the run was agreed to
    assert (asked["what"], asked["digest"], asked["peer"]) == ("run", agreed.digest, ENGINE)
    assert [one["kind"] for one in requests] == ["open", "ask", "commit"]
    assert not SiteFolder(folder).log(OTHERS).path.exists()


def test_what_rounds_would_wait_for_is_prepared_when_a_run_is_opened(
    anna: OpenSite, agreed: Agreed, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[tuple[int, int, int]] = []
    monkeypatch.setattr(SecureAgreement, "prepare", lambda own, *about: prepared.append(about))
    assert Server(anna).open(agreed).refused == ""
    assert prepared == [(len(NAMES), len(CLASSES) * FAST.directions, agreed.seed)]


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        ({"rounds": 9, "image_size": 32}, ["image_size", "rounds"]),
        ({"algorithm": replace(FAST, effort=0.9)}, ["method.effort"]),
        ({"algorithm": SecFPP()}, ["method.effort", "method.training.batch", "method.training.steps"]),
    ],
)
def test_other_settings_than_agreed_are_refused_with_the_keys(
    change: Mapping[str, Any], keys: list[str], anna: OpenSite, agreed: Agreed, folder: Path
) -> None:
    reply = Server(anna).open(replace(agreed, **change))
    assert (reply.refused, reply.about) == ("disagrees", keys)
    asked, request = lines(folder, OTHERS)
    assert (asked["run"], request["refused"]) == (agreed.run, "disagrees")
    assert request["why"].endswith(f"differs from the agreed one in {', '.join(keys)}")
    assert Server(anna).train(1).refused == "closed"


def test_another_release_is_refused(anna: OpenSite, agreed: Agreed) -> None:
    about = {"run": agreed.run, "digest": "00", "agreed": agreed.table}
    reply = Server(anna).send("open", 0, about)
    assert (reply.refused, reply.about) == ("disagrees", ["the version of secfpp"])


def test_requests_of_no_agreed_run_share_one_log(anna: OpenSite, agreed: Agreed, folder: Path) -> None:
    server = Server(anna)
    for number in range(5):
        assert server.send("open", 0, {"run": f"made-up-{number}", "digest": str(number)}).refused == "disagrees"
    assert server.send("open", 0, ["nonsense"]).refused == "disagrees"
    assert server.train(1).refused == "closed"
    assert {path.stem for path in (folder / "log").glob("*.jsonl")} == {agreed.run, OTHERS}
    assert [one["run"] for one in lines(folder, OTHERS) if one["what"] == "run"][:2] == ["made-up-0", "made-up-1"]


def test_a_site_that_agreed_to_nothing_takes_part_in_nothing(agreed: Agreed, tmp_path: Path) -> None:
    ben = open_site(tmp_path / "ben")
    assert Server(ben).open(agreed).refused == "failed"
    ben.close()
    assert "agreed.toml" in lines(tmp_path / "ben", OTHERS)[-1]["why"]


@pytest.mark.parametrize(
    ("before", "now", "key", "said"),
    [
        ("most_rounds = 100", "most_rounds = 1", "rounds", "rounds = 2: at most 1"),
        (
            "active_security = false",
            "active_security = true",
            "method.poll.security",
            "method.poll.security = 'passive': one on shares with security = \"active\"",
        ),
    ],
)
def test_a_run_that_limits_forbid_by_now_is_refused_and_the_line_stays_here(
    before: str, now: str, key: str, said: str, anna: OpenSite, agreed: Agreed, folder: Path
) -> None:
    text = anna.folder.file.text.replace(before, now)
    line = next(number for number, each in enumerate(text.splitlines(), 1) if each == now)
    (folder / "site.toml").write_text(text)
    anna.close()
    site = open_site(folder)
    reply = Server(site).open(agreed)
    assert reply.refused == "forbidden" and key in reply.about
    site.close()
    last = lines(folder, agreed.run)[-1]
    assert last["refused"] == "forbidden"
    assert f"{said} (site.toml line {line}: {now})" in last["why"]


def test_a_damaged_state_is_refused_and_said_here_only(anna: OpenSite, agreed: Agreed, folder: Path) -> None:
    server = Server(anna)
    server.open(agreed)
    server.train(1)
    server.send("commit", 1)
    (state,) = (folder / "state").rglob("round-000001.safetensors")
    state.write_bytes(state.read_bytes()[:-40])
    reply = Server(anna, attempt=8).open(agreed, 1)
    assert (reply.refused, reply.about) == ("failed", None)
    assert "cannot be read" in lines(folder, agreed.run)[-1]["why"]


@pytest.mark.parametrize("when", ["before", "in the middle"])
def test_what_cannot_be_logged_does_not_leave(when: str, anna: OpenSite, agreed: Agreed, folder: Path) -> None:
    def spoil() -> None:
        (folder / "log").rename(folder / "full")
        (folder / "log").write_bytes(b"")  # a file where a folder is needed

    server = Server(anna)
    if when == "before":
        spoil()
        assert server.open(agreed).refused == "failed"
        return
    server.open(agreed)
    spoil()
    reply = server.train(1)
    assert (reply.refused, reply.parts, reply.about) == ("failed", (), "DataError")
    server.seq -= 1
    assert server.train(1) == reply  # a repeated one gets no more


def test_a_second_process_for_one_site_waits_and_is_refused(
    anna: OpenSite, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site_process, "PATIENCE", 0.1)
    with pytest.raises(ConfigError, match="another process answers for this site"):
        open_site(folder)
    monkeypatch.setattr(site_process, "PATIENCE", 20.0)
    threading.Timer(0.2, anna.close).start()
    open_site(folder).close()


@pytest.mark.parametrize("allowed", [False, True])
def test_after_a_run_the_prompt_is_here_and_figures_are_told_if_limits_allow(
    allowed: bool, anna: OpenSite, agreed: Agreed, folder: Path
) -> None:
    if allowed:
        anna.close()
        (folder / "site.toml").write_text(anna.folder.file.text.replace("tell_metrics = false", "tell_metrics = true"))
        anna = open_site(folder)
    server = Server(anna)
    server.open(agreed)
    server.train(1)
    server.send("commit", 1)
    reply = server.send("close", 1)
    assert reply.refused == "" and (folder / "prompt.safetensors").exists()
    assert (set(reply.about) == {"test", "validation", "images"}) if allowed else reply.about == {}
    assert "the prompt is written" in json.dumps(lines(folder, agreed.run))
    anna.close()


def test_a_prompt_that_cannot_be_written_is_a_refusal(anna: OpenSite, agreed: Agreed, folder: Path) -> None:
    server = Server(anna)
    server.open(agreed)
    (folder / "prompt.safetensors").mkdir()
    assert server.send("close", 0).refused == "failed"
