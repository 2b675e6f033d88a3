"""A site's warm process behind a socket of its folder."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from secfpp.deploy import site_socket
from secfpp.deploy.child import NoAnswerError
from secfpp.deploy.frames import MAX_FRAME
from secfpp.deploy.site_socket import SOCKET, ask_signature, ask_site, serve_socket
from secfpp.errors import ConfigError, DataError

TESTS = Path(__file__).parents[2]
SERVING = """
import sys
from pathlib import Path
from secfpp.deploy.site_socket import serve_until_ended
serve_until_ended(Path(sys.argv[1]), sys.argv[2], lambda challenge: challenge[::-1], lambda: print("ready", flush=True))
"""


def serving(folder: Path, opener: str = "support.flare_parts:open_echo") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SERVING, str(folder), opener]
    made = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(TESTS)}, stdout=subprocess.PIPE)
    assert made.stdout is not None
    assert made.stdout.readline() == b"ready\n"
    return made


def ended(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    process.stdout.close()
    return process.wait(30.0)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    process = serving(tmp_path)
    yield tmp_path
    process.terminate()
    ended(process)


def test_requests_come_back_whatever_their_size(site: Path) -> None:
    for message in (b"", b"x", bytes(range(256)) * 8000, os.urandom(12_000_000)):
        assert ask_site(site, message, 10.0) == message
    assert ask_signature(site, b"abc", 10.0) == b"cba"


def test_only_its_user_may_use_the_socket(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert stat.S_IMODE((site / SOCKET).stat().st_mode) == 0o600
    monkeypatch.setattr(site_socket, "_same_user", lambda channel: False)
    with pytest.raises(NoAnswerError, match="another user"):
        ask_site(site, b"hello", 1.0)


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="this system does not tell who connects")
def test_who_connects_is_known() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert site_socket._same_user(one)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_another_user_gets_nothing() -> None:
    with tempfile.TemporaryDirectory() as room:
        site = Path(room)
        process = serving(site)
        site.chmod(0o711)
        (site / SOCKET).chmod(0o666)
        code = f"""
import os, socket
os.setgid(65534); os.setuid(65534)
made = socket.socket(socket.AF_UNIX)
made.connect({str(site / SOCKET)!r})
try:
    made.sendall((6).to_bytes(8, "big") + b"mhello")
    print(made.recv(100))
except OSError:
    print(b"")
"""
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert ran.stdout == b"b''\n"
        assert ask_site(site, b"hello", 5.0) == b"hello"
        process.terminate()
        ended(process)


def test_a_signal_that_comes_between_two_waits_ends_it(tmp_path: Path) -> None:
    """Here it comes to another thread, which interrupts no wait of the main one; so it is seen at the next."""
    code = """
import signal, sys, threading, time
from pathlib import Path
from secfpp.deploy.site_socket import serve_until_ended

def send():
    time.sleep(0.3)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

serve_until_ended(Path(sys.argv[1]), "support.flare_parts:open_echo", None, threading.Thread(target=send).start)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env={**os.environ, "PYTHONPATH": str(TESTS)}, timeout=30.0
    )
    assert ran.returncode == 0
    assert (tmp_path / "closed").exists()


def test_requests_wait_for_each_other_and_not_beyond_their_patience(site: Path) -> None:
    found: list[bytes] = []
    busy = threading.Thread(target=lambda: found.append(ask_site(site, b"sleep:1.5", 10.0)))
    busy.start()
    time.sleep(0.3)
    with pytest.raises(NoAnswerError, match="no reply in time"):
        ask_site(site, b"die", 0.2)
    assert ask_site(site, b"later", 10.0) == b"later"  # and the one that nobody waits for was not carried out
    busy.join()
    assert found == [b"sleep:1.5"]


def test_what_is_no_request_is_not_answered(site: Path) -> None:
    for data in (
        b"",
        b"\0" * 7,
        (MAX_FRAME + 1).to_bytes(8, "big"),
        (0).to_bytes(8, "big"),
        (1).to_bytes(8, "big") + b"?",
    ):
        with socket.socket(socket.AF_UNIX) as channel:
            channel.settimeout(5.0)
            channel.connect(str(site / SOCKET))
            channel.sendall(data)
            channel.shutdown(socket.SHUT_WR)
            assert channel.recv(100) == b""
    assert ask_site(site, b"hello", 5.0) == b"hello"


def test_it_ends_kindly_and_leaves_no_socket(tmp_path: Path) -> None:
    process = serving(tmp_path)
    process.send_signal(signal.SIGTERM)
    assert ended(process) == 0
    assert (tmp_path / "closed").exists()
    assert not (tmp_path / SOCKET).exists()
    with pytest.raises(NoAnswerError, match=SOCKET):
        ask_site(tmp_path, b"hello", 1.0)


def test_a_killed_one_is_noticed_and_can_be_started_again(tmp_path: Path) -> None:
    process = serving(tmp_path)
    with pytest.raises(NoAnswerError):
        ask_site(tmp_path, b"die", 5.0)
    assert ended(process) == 3
    again = serving(tmp_path)
    assert ask_site(tmp_path, b"hello", 5.0) == b"hello"
    with pytest.raises(ConfigError, match="another process already"):
        serve_socket(tmp_path, "support.flare_parts:open_echo")
    again.terminate()
    ended(again)


def test_a_folder_that_cannot_be_served_says_why(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data here"):
        serve_socket(tmp_path, "support.flare_parts:refuse")
    assert not (tmp_path / SOCKET).exists()
    with pytest.raises(DataError, match="secfpp site init"):
        serve_socket(tmp_path / "absent")
    with pytest.raises(ConfigError, match="use a shorter path"):
        serve_socket(tmp_path / ("x" * 100))
