"""Processes of this machine that are surely ended, with all that they start in turn.

Engines start workers that may be sessions of their own and outlive a killed parent. So all that is started here
inherits a mark in its environment, and is found by it.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from secfpp.errors import MissingExtraError

_MARK = "SECFPP_PART"
_PATIENCE = 5.0


class Processes:
    """Processes by the part that they are of; `stop` ends them all.

    Args:
        extra: the extra that is to be installed if psutil is missing.
        environment: variables for all of them beside those of this process.
    """

    def __init__(self, extra: str, environment: Mapping[str, str] | None = None) -> None:
        try:
            import psutil
        except ImportError as error:
            raise MissingExtraError(extra, extra) from error
        self._psutil: Any = psutil
        self._environment = dict(environment or {})
        self._token = secrets.token_hex(8)
        self._started: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []

    def start(
        self, part: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Start one process in `folder`, with its output at the end of ``console.log`` there."""
        folder.mkdir(parents=True, exist_ok=True)
        log = (folder / "console.log").open("ab")
        mark = {_MARK: f"{self._token}:{part}"}
        started = subprocess.Popen(
            list(command),
            cwd=folder,
            env={**os.environ, **self._environment, **environment, **mark},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._started.append((started, log))
        return started

    def running(self, part: str | None = None) -> list[Any]:
        """The running processes of one part, or of all: `psutil.Process` each, those that they started too."""
        wanted = None if part is None else f"{self._token}:{part}"
        found = []
        for process in self._psutil.process_iter():
            try:
                mark = process.environ().get(_MARK, "")
                dead = process.status() == self._psutil.STATUS_ZOMBIE
            except self._psutil.Error:
                continue
            if not dead and (mark == wanted if wanted else mark.startswith(f"{self._token}:")):
                found.append(process)
        return found

    def kill(self, part: str) -> None:
        """End all processes of `part` at once, as if its machine had lost power."""
        self._end(part, signal.SIGKILL)

    def stop(self, part: str | None = None) -> None:
        """End those of a part, or everything, kindly and then by force."""
        self._end(part, signal.SIGTERM)
        until = time.monotonic() + _PATIENCE
        while self.running(part) and time.monotonic() < until:
            self._reap()
            time.sleep(0.1)
        self._end(part, signal.SIGKILL)
        if part is None:
            for started, log in self._started:
                started.wait()
                log.close()
            self._started.clear()

    def _end(self, part: str | None, how: signal.Signals) -> None:
        for _ in range(10):  # a process that is just being started is found the next time
            found = self.running(part)
            for process in found:
                try:
                    process.send_signal(how)
                except self._psutil.Error:
                    continue
            if how != signal.SIGKILL or not found:
                return
            self._reap()
            time.sleep(0.05)

    def _reap(self) -> None:
        for started, _ in self._started:
            started.poll()
