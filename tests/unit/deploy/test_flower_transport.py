"""Who is asked over Flower's grid, and whose replies count; the grid is a stand-in."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from secfpp.crypto.roster import Roster
from secfpp.deploy.flower.identity import check_presence, new_challenge, sign_challenge, site_name
from secfpp.deploy.site_socket import SOCKET, serve_socket
from secfpp.errors import ConfigError, DataError, TamperError
from support.flower_parts import ECHO, Bound, bound_sites

pytest.importorskip("flwr")
from flwr.app import Error, Message
from flwr.supercore.task_identity import TaskIdentity

from secfpp.deploy.flower.client import reply_to
from secfpp.deploy.flower.transport import FlowerTransport

NAMES = ["east", "north"]


class Grid:
    """Nodes that answer as told, at once or later."""

    def __init__(self, nodes: dict[int, Callable[[Message], Message | None]]) -> None:
        self.nodes = nodes
        self.replies: dict[str, Message] = {}

    def get_node_ids(self) -> list[int]:
        return list(self.nodes)

    def push_messages(self, messages: list[Message]) -> list[str]:
        numbers = []
        for message in messages:
            number = message.object_id
            message.metadata.__dict__["_message_id"] = number
            numbers.append(number)
            if reply := self.nodes[message.metadata.dst_node_id](message):
                self.replies[number] = reply
        return numbers

    def pull_messages(self, numbers: list[str]) -> list[Message]:
        return [self.replies.pop(number) for number in numbers if number in self.replies]


@pytest.fixture(autouse=True)
def _identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Flower sets in the processes that it starts."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture
def bound(tmp_path: Path) -> Bound:
    """Sites that are served by threads; they end with the tests."""
    made = bound_sites(tmp_path, NAMES)
    for site in made.sites.values():
        sign = partial(sign_challenge, site)
        threading.Thread(target=serve_socket, args=(site, ECHO, sign), daemon=True).start()
        while not (site / SOCKET).exists():
            time.sleep(0.01)
    return made


def node(bound: Bound, name: str, claims: str = "") -> Callable[[Message], Message | None]:
    return lambda message: reply_to(message, bound.sites[name], claims or name)


def met(grid: Grid, bound: Bound, patience: float = 5.0) -> FlowerTransport:
    return FlowerTransport(grid, Roster.load(bound.roster), patience)


def test_each_site_gets_its_request_and_its_reply_comes_back(bound: Bound) -> None:
    made = met(Grid({7: node(bound, "north"), 2**63 + 1: node(bound, "east")}), bound)
    assert made.sites == ("east", "north")
    assert made.exchange({"east": b"e", "north": b""}, 5.0) == {"east": b"e", "north": b""}
    assert made.exchange({"north": b"only"}, 5.0) == {"north": b"only"}
    assert made.ping() < 5.0
    with pytest.raises(KeyError):
        made.exchange({"west": b"w"}, 5.0)


def test_a_node_that_claims_another_sites_name_is_left_out(bound: Bound, caplog: pytest.LogCaptureFixture) -> None:
    made = met(Grid({1: node(bound, "north"), 2: node(bound, "north", "east")}), bound, patience=0.3)
    assert made.sites == ("north",)
    assert "node 2 is left out" in caplog.text
    assert "not there: east" in caplog.text


def test_a_dead_node_and_an_error_hold_up_nothing_beyond_the_deadline(bound: Bound) -> None:
    grid = Grid({1: node(bound, "north"), 2: node(bound, "east")})
    made = met(grid, bound)
    grid.nodes[2] = lambda message: None
    began = time.monotonic()
    assert made.exchange({"east": b"e", "north": b"n"}, 0.5) == {"north": b"n"}
    assert 0.4 < time.monotonic() - began < 2.0
    grid.nodes[2] = lambda message: Message(Error(code=0, reason="secret"), reply_to=message)
    began = time.monotonic()
    assert made.exchange({"east": b"e", "north": b"n"}, 5.0) == {"north": b"n"}
    assert time.monotonic() - began < 2.0


def test_a_site_with_a_new_node_is_reached_again(bound: Bound) -> None:
    grid = Grid({1: node(bound, "north"), 2: node(bound, "east")})
    made = met(grid, bound)
    del grid.nodes[2]
    grid.nodes[3] = node(bound, "east")
    grid.nodes[2] = lambda message: None
    assert made.exchange({"east": b"e", "north": b"n"}, 0.3) == {"north": b"n"}
    assert made.exchange({"east": b"e", "north": b"n"}, 5.0) == {"east": b"e", "north": b"n"}


def test_a_site_whose_work_has_ended_has_no_reply(bound: Bound, tmp_path: Path) -> None:
    grid = Grid({1: node(bound, "north"), 2: node(bound, "east")})
    made = met(grid, bound)
    grid.nodes[2] = lambda message: reply_to(message, tmp_path, "east")
    assert made.exchange({"east": b"e", "north": b"n"}, 5.0) == {"north": b"n"}


def test_a_message_that_says_nothing_gets_a_reply_without_data(bound: Bound) -> None:
    made: list[Any] = []
    grid = Grid({1: lambda message: made.append(message)})
    met(grid, bound, patience=0.2)
    made[0].content["secfpp"]["patience"] = "soon"
    assert dict(reply_to(made[0], bound.sites["east"], "east").content["secfpp"]) == {}


def test_a_signature_counts_for_one_challenge_node_and_roster(bound: Bound) -> None:
    roster, challenge = Roster.load(bound.roster), new_challenge(5)
    signature = sign_challenge(bound.sites["east"], challenge)
    check_presence(challenge, signature, "east", roster)
    for other, name, of in (
        (new_challenge(5), "east", roster),
        (challenge[:-1] + b"\x06", "east", roster),
        (challenge, "north", roster),
        (challenge, "east", Roster(roster.run, 2, roster.keys)),
        (challenge, "east", roster.without("east")),
    ):
        with pytest.raises(TamperError, match="claims this name"):
            check_presence(other, signature, name, of)


def test_a_site_has_the_name_that_the_roster_has_for_its_key(bound: Bound) -> None:
    folder = bound.sites["east"]
    assert site_name(folder) == "east"
    Roster.load(bound.roster).without("east").save(folder / "roster.toml")
    with pytest.raises(ConfigError, match="get the newest roster"):
        sign_challenge(folder, b"challenge")
    (folder / "roster.toml").unlink()
    with pytest.raises(DataError, match=r"roster\.toml"):
        site_name(folder)
