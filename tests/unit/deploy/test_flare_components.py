"""The two components, with stand-ins for FLARE around them."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from secfpp.errors import ConfigError, DataError
from support.flare_parts import Bound, bound_kits

pytest.importorskip("nvflare")
from nvflare.collab.api.exceptions import RunAborted

from secfpp.deploy.flare.server import FlareTransport, Server
from secfpp.deploy.flare.site import Relay
from secfpp.deploy.runs import open_run
from support.flare_components import AskingServer, EchoRelay


class Proxy:
    """A site as FLARE shows it to the server; calls a function in place of the site."""

    def __init__(self, name: str, methods: dict[str, Callable[..., Any]]) -> None:
        self.name, self._methods, self.timeouts = name, methods, list[float]()

    def __call__(self, timeout: float) -> SimpleNamespace:
        self.timeouts.append(timeout)
        return SimpleNamespace(**self._methods)


def answering(reply: Callable[[bytes], Any]) -> Proxy:
    return Proxy("site", {"answer": lambda message, patience: reply(message)})


def failing(error: Exception) -> Callable[[bytes], Any]:
    def fail(message: bytes) -> Any:
        raise error

    return fail


@pytest.fixture(scope="module")
def bound(tmp_path_factory: pytest.TempPathFactory) -> Bound:
    return bound_kits(tmp_path_factory.mktemp("federation"), ["north", "south"])


def test_an_exchange_brings_the_replies_of_those_that_have_one() -> None:
    sites = {
        "well": answering(lambda message: message[::-1]),
        "silent": answering(lambda message: None),
        "broken": answering(failing(RuntimeError("secret"))),
        "idle": answering(lambda message: b"never asked"),
    }
    transport = FlareTransport(sites)
    assert transport.sites == ("broken", "idle", "silent", "well")
    assert transport.exchange({"well": b"abc", "silent": b"x", "broken": b"y"}, 5.0) == {"well": b"cba"}
    assert sites["idle"].timeouts == []
    assert transport.exchange({}, 5.0) == {}


def test_all_sites_are_asked_at_once_and_late_ones_are_absent() -> None:
    done = threading.Event()
    meet = threading.Barrier(2, timeout=5.0)

    def together(message: bytes) -> bytes:
        meet.wait()
        return message

    late = answering(lambda message: done.wait(30.0) and message)
    transport = FlareTransport({"a": answering(together), "b": answering(together), "late": late})
    began = time.monotonic()
    assert transport.exchange(dict.fromkeys(transport.sites, b"x"), 1.0) == {"a": b"x", "b": b"x"}
    assert 0.9 < time.monotonic() - began < 5.0
    done.set()
    assert late.timeouts[0] > 1.0


def test_a_reply_of_an_earlier_exchange_is_none_of_this_one() -> None:
    first = threading.Event()

    def slow(message: bytes) -> bytes:
        if message == b"first":
            first.wait(10.0)
        return message

    transport = FlareTransport({"a": answering(slow)})
    assert transport.exchange({"a": b"first"}, 0.1) == {}
    first.set()
    assert transport.exchange({"a": b"second"}, 5.0) == {"a": b"second"}


def test_a_job_that_is_aborted_ends_the_exchange() -> None:
    with pytest.raises(RunAborted):
        FlareTransport({"a": answering(failing(RunAborted("stop")))}).exchange({"a": b"x"}, 5.0)


def context(bound: Bound, name: str, caller: str = "server") -> Any:
    kit = bound.kits.sites[name]
    return SimpleNamespace(caller=caller, workspace=SimpleNamespace(get_root_dir=lambda: str(kit)))


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The child finds the stand-ins; that a relay keeps PyTorch out of its process is undone for other tests."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setitem(sys.modules, "torch", sys.modules.get("torch") or ModuleType("torch"))


def test_a_relay_answers_the_server_and_nobody_else(bound: Bound) -> None:
    relay = EchoRelay()
    assert relay.answer(message=b"x", patience=1.0, context=context(bound, "north")) is None
    relay.start(context=context(bound, "north"))
    assert relay.answer(message=b"x", patience=1.0, context=context(bound, "north")) == b"x"
    other = context(bound, "north", caller="south")
    assert relay.answer(message=b"x", patience=1.0, context=other) is None
    assert relay.identity(context=other) is None
    relay.stop(context=context(bound, "north"))
    assert relay.answer(message=b"x", patience=1.0, context=context(bound, "north")) is None


def until_dead(pid: int) -> None:
    end = time.monotonic() + 20.0
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except OSError:
            return
        time.sleep(0.02)
    raise AssertionError(f"process {pid} is still there")


def test_work_that_died_is_started_again_once_it_had_answered(bound: Bound) -> None:
    relay, asked = EchoRelay(), {"patience": 1.0, "context": context(bound, "north")}
    relay.start(context=context(bound, "north"))
    assert relay.answer(message=b"x", **asked) == b"x"
    first = int((bound.sites["north"] / "pid").read_text())
    assert relay.answer(message=b"die", **asked) is None
    until_dead(first)
    assert relay.answer(message=b"y", **asked) == b"y"
    assert int((bound.sites["north"] / "pid").read_text()) != first
    relay.stop(context=context(bound, "north"))


def test_work_that_cannot_begin_is_not_started_again_and_again(bound: Bound, monkeypatch: pytest.MonkeyPatch) -> None:
    relay, asked = EchoRelay(), {"patience": 1.0, "context": context(bound, "north")}
    monkeypatch.setattr(EchoRelay, "opener", "support.flare_parts:refuse")
    relay.start(context=context(bound, "north"))
    assert relay._child is not None
    first = relay._child.pid
    until_dead(first)
    assert relay.answer(message=b"x", **asked) is None
    assert relay.answer(message=b"x", **asked) is None
    assert relay._child.pid == first
    relay.stop(context=context(bound, "north"))


def test_a_relay_is_made_where_there_is_no_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: object) -> object:
        raise OSError("no such library")

    monkeypatch.setattr("ctypes.CDLL", absent)
    assert EchoRelay().opener == EchoRelay.opener


def test_a_relay_starts_the_products_own_site_and_takes_nothing_from_the_job() -> None:
    assert Relay.opener == "secfpp.deploy.site_process:open_site"
    assert Server.program == "secfpp.deploy.server_process:serve"
    with pytest.raises(TypeError):
        Relay(opener="os:system")  # type: ignore[call-arg]


def test_a_relay_of_an_unbound_kit_does_not_start(tmp_path: Path) -> None:
    unbound = SimpleNamespace(workspace=SimpleNamespace(get_root_dir=lambda: str(tmp_path)))
    with pytest.raises(DataError, match="not bound"):
        EchoRelay().start(context=unbound)


def served(bound: Bound, room: Path, run: str, sites: dict[str, dict[str, Any] | None]) -> list[list[str]]:
    """What `AskingServer` wrote of one exchange, if these sites say this of themselves."""
    clients = []
    for name, identity in sites.items():
        methods = {"identity": lambda told=identity: told, "answer": lambda message, patience: message}
        proxy = Proxy(name, methods)
        clients.append(proxy)
    server = bound.kits.server
    workspace = SimpleNamespace(get_root_dir=lambda: str(server), get_run_dir=lambda job: str(room))
    app = SimpleNamespace(get_prop=lambda name: SimpleNamespace(get_job_id=lambda: "job"))
    AskingServer(run, b64encode(b"[[steps]]\n").decode()).serve(
        context=SimpleNamespace(workspace=workspace, app=app, clients=clients)
    )
    return [step["replies"] for step in json.loads((room / "results" / "told.json").read_text())]


def told_by(bound: Bound, name: str) -> dict[str, Any]:
    relay = EchoRelay()
    relay.start(context=context(bound, name))
    relay.stop(context=context(bound, name))
    found = relay.identity(context=context(bound, name))
    assert found is not None
    return found


def test_a_site_whose_certificate_is_not_bound_to_the_roster_is_left_out(
    bound: Bound, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    north, south = told_by(bound, "north"), told_by(bound, "south")
    assert served(bound, tmp_path, "all", {"north": north, "south": south}) == [["north", "south"]]
    assert json.loads((tmp_path / "secfpp-status.json").read_text()) == {"status": 0, "why": ""}
    forged = {**south, "signature": bytes(64)}
    assert served(bound, tmp_path, "forged", {"north": north, "south": forged}) == [["north"]]
    assert "'south' is left out" in caplog.text
    assert served(bound, tmp_path, "other", {"north": north, "south": north}) == [["north"]]
    assert served(bound, tmp_path, "silent", {"north": north, "south": None}) == [["north"]]
    assert served(bound, tmp_path, "odd", {"north": north, "south": {"certificate": 3}}) == [["north"]]


def test_a_run_is_gone_on_with_only_as_it_was_agreed(tmp_path: Path) -> None:
    folder = open_run(tmp_path, "trial", b"rounds = 8", resume=False)
    assert (folder / "agreed.toml").read_bytes() == b"rounds = 8"
    assert open_run(tmp_path, "trial", b"rounds = 8", resume=True) == folder
    with pytest.raises(ConfigError, match="already"):
        open_run(tmp_path, "trial", b"rounds = 8", resume=False)
    with pytest.raises(ConfigError, match="agreed otherwise"):
        open_run(tmp_path, "trial", b"rounds = 9", resume=True)
    with pytest.raises(ConfigError, match="no run"):
        open_run(tmp_path, "other", b"rounds = 8", resume=True)


@pytest.mark.parametrize("run", ["", ".", "..", "../up", "a/b", "/etc", ".hidden"])
def test_a_run_stays_in_the_servers_folder(run: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run name"):
        open_run(tmp_path, run, b"", resume=False)
