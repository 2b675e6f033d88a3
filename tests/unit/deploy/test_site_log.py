from __future__ import annotations

import json
import stat
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from secfpp.deploy.site_log import LONGEST, SiteLog, logs, plain
from secfpp.errors import ConfigError, DataError, ProtocolError
from secfpp.protocol import wire
from secfpp.protocol.program import ClientState
from secfpp.runtime.envelope import Part, Reply, Request
from secfpp.runtime.site import Handled, Run, Site
from secfpp.runtime.site_store import SiteStore
from support.toy import Context, Toy

SECRET = "9f" * 32


def log_in(folder: Path) -> SiteLog:
    return SiteLog(folder / "log", "trial", lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))


def site_with(log: SiteLog, folder: Path) -> Site:
    class Leaking(Toy):
        def client_state(self, context: Context) -> ClientState:
            return ClientState({"count": np.array(0)})

    run = Run(Leaking(), Context("anna", []), SiteStore(folder / "state", "x"))
    return Site("anna", lambda about: run, lambda handled: log.handled(handled, "server of ben"))


def ask(step: str, seq: int, **payload: object) -> bytes:
    data = bytes(wire.encode({name: np.array(value) for name, value in payload.items()}))
    return Request("ask", 7, 1, seq, (Part("a", step, data),)).encode()


def test_every_request_has_a_line_with_who_asked_and_what_left(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    site = site_with(log, tmp_path)
    log.opened({"agreed": "ab", "method": "secfpp"}, "server of ben")
    opened = site.handle(Request("open", 7, 0, 1).encode())
    answer = Reply.decode(site.handle(ask("method.add", 2, by=1)))
    site.handle(ask("method.fail", 3, victim="anna"))
    site.handle(ask("method.add", 1, by=1))
    site.handle(b"nonsense")
    about, opening, added, failed, old, odd = log.lines()
    assert about == {
        "at": "2026-01-02T03:04:05.000+00:00",
        "what": "run",
        "peer": "server of ben",
        "agreed": "ab",
        "method": "secfpp",
    }
    assert (opening["kind"], opening["peer"], opening["sent"]) == ("open", "server of ben", len(opened))
    (step,) = added["steps"]
    assert (step["step"], step["out"]) == ("method.add", len(answer.parts[0].data)) and "failed" not in step
    assert failed["steps"][0]["failed"] == "ValueError" and "luck" not in json.dumps(failed)
    assert (old["refused"], old["error"], old["steps"][0]["out"]) == ("old", "Refused", 0)
    assert odd["refused"] == "malformed" and "kind" not in odd


def test_a_log_is_its_owners_only_and_is_never_rewritten(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    log.note("first")
    before = log.path.read_bytes()
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600
    with log.path.open("ab") as file:
        file.write(b'{"what": "half')  # as a machine that stops leaves it
    log_in(tmp_path).note("second")
    assert log.path.read_bytes().startswith(before)
    assert [line["text"] for line in log.lines()] == ["first", "second"]
    SiteLog(tmp_path / "log", "../a run").note("third")
    assert [(one.run, one.path.parent) for one in logs(tmp_path / "log")] == [
        ("../a run", log.path.parent),
        ("trial", log.path.parent),
    ]


def test_a_log_that_is_not_there_says_when_it_will_be(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="once a run was asked for"):
        list(log_in(tmp_path).lines())


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (ValueError(SECRET), ""),
        (ConfigError("clip is 3: at most 2"), "clip is 3: at most 2"),
        (ProtocolError(f"the key {SECRET} is odd"), "the key (left out) is odd"),
        (ProtocolError("two\nlines"), "two lines"),
        (ProtocolError(f"values {list(range(30))}"), "values (left out)"),
        (ProtocolError("a " * 400), f"{('a ' * 400)[:LONGEST]}..."),
    ],
)
def test_of_an_error_the_log_has_only_what_can_hold_no_secret(error: Exception, kept: str) -> None:
    assert plain(error) == kept


def test_a_run_with_a_long_name_has_a_log_too(tmp_path: Path) -> None:
    first, second = (SiteLog(tmp_path / "log", "\N{GREEK SMALL LETTER BETA}" * 100 + end) for end in "ab")
    first.note("x")
    second.note("y")
    assert len(logs(tmp_path / "log")) == 2 and all(len(list(one.lines())) == 1 for one in logs(tmp_path / "log"))


def test_names_that_a_server_makes_up_do_not_fill_the_log(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    request = Request("ask", 1, 1, 1, (Part("x" * 10_000, "y\n" * 10_000),))
    log.handled(Handled(request, Reply(1, "closed"), 5, 6, ValueError("x")))
    (line,) = log.lines()
    assert len(log.path.read_bytes()) < 1_000 and len(line["steps"][0]["label"]) == 100
