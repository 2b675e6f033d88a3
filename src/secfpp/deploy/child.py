"""A site's work in a process of its own: requests go in and replies come out over a socket.

An engine's process only passes bytes on. If the work dies, the engine does not, and may start it again.
If the engine's process dies, the work ends too, at once or after what it is doing, and within `GRACE` seconds.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from pkgutil import resolve_name
from queue import SimpleQueue
from typing import Protocol

from secfpp.deploy.frames import receive, send
from secfpp.errors import SecFPPError

GRACE = 5.0
"""Seconds that work in progress has to end when nobody waits for it any more."""


class Site(Protocol):
    """What does the work; made by a function of the site's folder."""

    def handle(self, message: bytes) -> bytes:
        """The reply to a request; never raises."""

    def close(self) -> None:
        """Called when no more requests come."""


class NoAnswerError(SecFPPError):
    """The work has ended, or is busy with something else for too long."""


class Child:
    """The parent's side: starts the process, and asks it one thing at a time.

    Args:
        opener: ``module:function``, called there with the folder; returns a `Site`.
        folder: the site's folder.
    """

    def __init__(self, opener: str, folder: Path) -> None:
        self._socket, other = socket.socketpair()
        self._turn = threading.Lock()
        with other:
            command = [sys.executable, "-m", __name__, opener, str(folder), str(other.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[other.fileno()], stdin=subprocess.DEVNULL, stdout=2)
        self._answered = self._gone = False

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    @property
    def died(self) -> bool:
        """Whether the process has ended after it answered something: one that never did would end again."""
        return self._answered and (self._gone or self._process.poll() is not None)

    def ask(self, message: bytes, patience: float) -> bytes:
        """The reply to `message`, however long the work takes.

        Args:
            message: the request.
            patience: seconds to wait at most for the end of what was asked before.

        Raises:
            NoAnswerError: the process has ended, or was not free in time.
        """
        if not self._turn.acquire(timeout=min(max(patience, 0.0), threading.TIMEOUT_MAX)):
            raise NoAnswerError("the site is still busy with an earlier request")
        try:
            send(self._socket, message)
            reply = receive(self._socket)
        except OSError as error:
            self._gone = True
            raise NoAnswerError("the site's process has ended") from error
        finally:
            self._turn.release()
        if reply is None:
            self._gone = True
            raise NoAnswerError("the site's process has ended")
        self._answered = True
        return reply

    def close(self) -> None:
        """End the process: if it is idle with its own clean-up, else after `GRACE` seconds. Wakes who still asks."""
        with suppress(OSError):  # it has ended already
            self._socket.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(2 * GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._socket.close()


def serve(opener: str, folder: Path, channel: socket.socket) -> None:
    """The child's side: open the site, answer until the parent closes or ends, close the site."""
    requests: SimpleQueue[bytes | None] = SimpleQueue()
    threading.Thread(target=_read, args=(channel, requests), daemon=True).start()
    site: Site = resolve_name(opener)(folder)
    for message in _until_none(requests):
        try:
            send(channel, site.handle(message))
        except OSError:
            break
    site.close()


def _until_none(requests: SimpleQueue[bytes | None]) -> Iterator[bytes]:
    while (message := requests.get()) is not None:
        yield message


def _read(channel: socket.socket, requests: SimpleQueue[bytes | None]) -> None:
    """Queue what comes in; when nobody is there any more, see to it that this process ends."""
    with suppress(OSError):
        while (message := receive(channel)) is not None:
            requests.put(message)
    requests.put(None)
    threading.Event().wait(GRACE)
    os._exit(1)


def main() -> None:
    """Run as ``python -m secfpp.deploy.child OPENER FOLDER DESCRIPTOR``."""
    opener, folder, descriptor = sys.argv[1:]
    try:
        with socket.socket(fileno=int(descriptor)) as channel:
            serve(opener, Path(folder), channel)
    except SecFPPError as error:
        sys.exit(f"Error: {error}")
    except Exception as error:
        sys.exit(f"The site's work ended with a {type(error).__name__}.")  # its text may hold what is secret


if __name__ == "__main__":
    main()
