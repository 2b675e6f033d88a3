"""A site's work as a warm process behind a Unix socket in its folder, for engines whose own processes come and go.

One connection carries one request and its reply. Who connects must be the user that serves, and the file of the socket
lets nobody else in. The site's key stays with who serves: who asks gets signatures that say which node it speaks by.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from pkgutil import resolve_name

from filelock import FileLock, Timeout

from secfpp.deploy.child import GRACE, NoAnswerError, Site
from secfpp.deploy.frames import receive, send
from secfpp.errors import ConfigError, DataError

SOCKET = "site.sock"
"""In the site's folder."""
OPENER = "secfpp.deploy.site_process:open_site"
_MESSAGE, _CHALLENGE = b"m", b"c"
_LONGEST = 107
_CREDENTIALS = struct.Struct("3i")

Sign = Callable[[bytes], bytes]
"""The site's answer to a challenge, see `secfpp.deploy.flower.identity`."""
_WAKE = 1.0
"""Seconds after which a wait looks for a signal that did not interrupt it."""
_log = logging.getLogger(__name__)


def serve_socket(
    folder: Path, opener: str = OPENER, sign: Sign | None = None, ready: Callable[[], None] | None = None
) -> None:
    """Open the site of a folder and answer requests to its socket, one at a time, until the process is interrupted.

    Args:
        folder: the site's folder.
        opener: ``module:function``, called with the folder; returns a `Site`.
        sign: answers challenges; without it they are not answered.
        ready: called when requests are answered.

    Raises:
        ConfigError: the folder's path is too long for a socket, or somebody serves it already.
        DataError: no such folder, or one that cannot be written; and whatever the opener raises.
    """
    turn = threading.Lock()
    with _listening(folder) as listener:
        site: Site = resolve_name(opener)(folder)
        try:
            if ready:
                ready()
            listener.settimeout(_WAKE)
            while True:
                try:
                    channel, _ = listener.accept()
                except TimeoutError:
                    continue
                threading.Thread(target=_answer, args=(channel, site, sign, turn), daemon=True).start()
        finally:
            turn.acquire(timeout=GRACE)  # what is being worked on may end
            site.close()


def ask_site(folder: Path, message: bytes, patience: float) -> bytes:
    """The reply of the site that serves `folder` to a request.

    Args:
        folder: the site's folder.
        message: the request.
        patience: seconds to wait at most.

    Raises:
        NoAnswerError: nobody serves it, or there is no reply in time.
    """
    return _ask(folder, _MESSAGE + message, patience)


def ask_signature(folder: Path, challenge: bytes, patience: float) -> bytes:
    """What the site that serves `folder` answers to a challenge.

    Raises:
        NoAnswerError: as `ask_site`, or the site signs nothing.
    """
    return _ask(folder, _CHALLENGE + challenge, patience)


def _ask(folder: Path, request: bytes, patience: float) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(max(patience, 0.001))
        try:
            channel.connect(_address(folder))
            if not _same_user(channel):
                raise NoAnswerError(f"{folder / SOCKET} is served by another user")
            send(channel, request)
            reply = receive(channel)
        except OSError as error:
            raise NoAnswerError(f"{folder / SOCKET}: {error.strerror or 'no reply in time'}") from error
    if reply is None:
        raise NoAnswerError(f"{folder / SOCKET}: the site has no reply; its own log says why")
    return reply


def _answer(channel: socket.socket, site: Site, sign: Sign | None, turn: threading.Lock) -> None:
    """Answer one request; where there is nothing to say, close the connection."""
    with channel:
        try:
            if not _same_user(channel):
                _log.error("a request of another user is refused")
                return
            request = receive(channel)
            if not request:
                return
            kind, message = request[:1], request[1:]
            if kind == _CHALLENGE and sign is not None:
                send(channel, sign(message))
            elif kind == _MESSAGE:
                with turn:
                    if not _left(channel):
                        send(channel, site.handle(message))
        except OSError:
            _log.warning("who asked has left")
        except Exception as error:
            _log.error("a request ended with a %s", type(error).__name__)  # its text may hold what is secret


def _left(channel: socket.socket) -> bool:
    """Whether nobody waits for the reply any more."""
    try:
        return not channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False


def _same_user(channel: socket.socket) -> bool:
    """Whether the other end is this user's process, where the system can tell; the socket's mode says the same."""
    kind = getattr(socket, "SO_PEERCRED", None)
    if kind is None:
        return True
    _, user, _ = _CREDENTIALS.unpack(channel.getsockopt(socket.SOL_SOCKET, kind, _CREDENTIALS.size))
    return bool(user == os.getuid())


@contextmanager
def _listening(folder: Path) -> Iterator[socket.socket]:
    """The folder's socket, with mode 0600; gone afterwards."""
    address = _address(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder: make the site first, with secfpp site init")
    try:
        with FileLock(folder / f"{SOCKET}.lock", timeout=0, mode=0o600):
            Path(address).unlink(missing_ok=True)  # of a process that was killed
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                before = os.umask(0o177)
                try:
                    listener.bind(address)
                finally:
                    os.umask(before)
                listener.listen()
                try:
                    yield listener
                finally:
                    Path(address).unlink(missing_ok=True)
    except Timeout as error:
        raise ConfigError(f"{folder} is served by another process already: end that one first") from error
    except PermissionError as error:
        raise DataError(f"{folder}: {error.strerror}. It must belong to the user that serves it") from error


def _address(folder: Path) -> str:
    address = str(folder.absolute() / SOCKET)
    if len(os.fsencode(address)) > _LONGEST:
        raise ConfigError(f"{address} has more than {_LONGEST} bytes, too many for a socket: use a shorter path")
    return address


def serve_until_ended(
    folder: Path, opener: str = OPENER, sign: Sign | None = None, ready: Callable[[], None] | None = None
) -> None:
    """`serve_socket`, ended by SIGTERM and SIGINT with the site's own clean-up."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(0)

    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, end)
    with suppress(SystemExit):
        serve_socket(folder, opener, sign, ready)
