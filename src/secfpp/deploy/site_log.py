"""A site's log: a line for each request, which says who asked, what left and what was refused.

Lines are JSON, appended to ``log/RUN.jsonl`` and never rewritten. They hold names, numbers and kinds of errors; no
message, no key, no share, no pixel.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from secfpp.errors import DataError, SecFPPError
from secfpp.experiment.results.run_directory import path_part
from secfpp.runtime.envelope import Part
from secfpp.runtime.site import DONE, Handled

LONGEST = 300
"""Characters of an error's text that are kept."""
_NAME = 100
"""Characters of a name that somebody else chose."""
_DATA = re.compile(r"[A-Za-z0-9+/=]{33,}|\[[^\[\]]{48,}\]|\\x[0-9a-f]{2}")
"""What may be a key or an array in the text of an error: a long word of base64 or hex, a long list, bytes."""


class SiteLog:
    """The log of one run at one site; made when the first line is written, readable by its owner only.

    Args:
        folder: of all logs of the site.
        run: name of the run.
        now: tells the time.
    """

    def __init__(self, folder: Path, run: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        name = path_part(run)
        if len(name) > _NAME:  # file systems take 255 bytes, and quotes make three of one
            name = f"{name[:_NAME]}-{sha256(run.encode()).hexdigest()[:8]}"
        self.run, self.path, self._now = run, folder / f"{name}.jsonl", now

    def opened(self, about: Mapping[str, Any], peer: str = "") -> None:
        """Note that a run is opened here.

        Args:
            about: what was asked for, JSON-ready.
            peer: who asked, as the engine knows it.
        """
        self._append({"what": "run", "peer": peer, **about})

    def handled(self, handled: Handled, peer: str = "") -> None:
        """Note a request and what became of it; for `secfpp.runtime.site.Site`."""
        request, reply = handled.request, handled.reply
        line: dict[str, Any] = {"what": "request", "peer": peer, "received": handled.received, "sent": handled.sent}
        if request is not None:
            line |= {"kind": request.kind, "round": request.round, "seq": request.seq}
            answers = [*reply.parts, *[Part("", "")] * (len(request.parts) - len(reply.parts))]
            line["steps"] = [
                {
                    "step": asked.step[:_NAME],
                    "label": asked.label[:_NAME],
                    "in": len(asked.data),
                    "out": len(answer.data),
                }
                | ({} if answer.step == DONE else {"failed": answer.step or "not done"})
                for asked, answer in zip(request.parts, answers, strict=False)
            ]
        if reply.refused:
            line["refused"] = reply.refused
        if handled.error is not None:
            line |= {"error": type(handled.error).__name__, "why": plain(handled.error)}
        self._append(line)

    def note(self, text: str, peer: str = "") -> None:
        """Note something else, in words that hold nothing private."""
        self._append({"what": "note", "peer": peer, "text": text})

    def lines(self) -> Iterator[dict[str, Any]]:
        """All lines in order; one that a crash of the machine left half-written is passed over.

        Raises:
            DataError: no such log.
        """
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror}. A log is there once a run was asked for") from error
        for text in content.splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict):
                yield line

    def _append(self, line: Mapping[str, Any]) -> None:
        """Write a line at once, behind all others; it is there even if the process is killed right after."""
        told = {"at": self._now().isoformat(timespec="milliseconds"), **line}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                size = os.fstat(handle).st_size
                torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
                os.write(handle, b"\n" * torn + json.dumps(told, ensure_ascii=True).encode() + b"\n")
            finally:
                os.close(handle)
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror}. A site answers only what it can log") from error


def logs(folder: Path) -> list[SiteLog]:
    """The logs of all runs, sorted by their names; of a long name a part."""
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        found.append(SiteLog(folder, unquote(path.stem)))
        found[-1].path = path
    return found


def plain(error: BaseException) -> str:
    """What the log says of an error: the text of this package's own ones, without what may be data; of others nothing.

    Whoever raised another one did not know that it would be kept, and may have put anything into it.
    """
    if not isinstance(error, SecFPPError):
        return ""
    text = _DATA.sub("(left out)", " ".join(str(error).split()))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
