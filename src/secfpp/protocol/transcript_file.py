"""Transcripts on disk: a line for each message, written as it travels, so that a run that is killed leaves what it had.

The first line of every session (a run goes on in a new one) says of which run it is and what the steps are for.
Contents are not kept, but the form of every array and the hash of the whole message, by which a party that keeps its
own messages can tell that these are they. A transcript of a simulation is about what all parties saw: mode 0600.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from secfpp.errors import DataError
from secfpp.protocol import wire
from secfpp.protocol.transcript import Form, Message, Transcript
from secfpp.storage import room_for

_FORMAT = "secfpp-transcript-1"


class TranscriptFile(Transcript):
    """A transcript that keeps nothing in memory and writes every message at once; a context manager.

    Args:
        path: the file; its folder is made.
        about: of the run, ready for JSON.
        go_on: append a session to a file that is there, from its last whole line; else begin it anew.
    """

    def __init__(self, path: Path, about: Mapping[str, Any], *, go_on: bool = False) -> None:
        super().__init__()
        self.path, self._about, self._go_on = path, about, go_on
        self._file: BinaryIO | None = None

    def __enter__(self) -> TranscriptFile:
        """Open the file.

        Raises:
            DiskFullError: there is no room for it.
        """
        with room_for(self.path, 0):
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_RDWR | os.O_CREAT | (0 if self._go_on else os.O_TRUNC)
            self._file = os.fdopen(os.open(self.path, flags, 0o600), "r+b")
            content = self._file.read()
            self._file.truncate(self._file.seek(content.rfind(b"\n") + 1))
        self._write({"format": _FORMAT, **self._about})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[Message]:
        return (one.message for one in read_transcript(self.path))

    def _take(self, message: Message, data: bytes | bytearray) -> None:
        forms = tuple(_form(name, array) for name, array in wire.decode(data).items())
        line = asdict(replace(message, arrays=forms))
        del line["content"]
        self._write(line)

    def _write(self, line: Mapping[str, Any]) -> None:
        assert self._file is not None, "a transcript is written inside its with block"
        text = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        with room_for(self.path, len(text)):
            self._file.write(text)
            self._file.flush()


@dataclass(frozen=True)
class StoredMessage:
    """A message of a file: `session` counts from 1, `about` is what the session's first line says."""

    message: Message
    session: int
    about: Mapping[str, Any]


def read_transcript(path: Path) -> Iterator[StoredMessage]:
    """The messages of a file that `TranscriptFile` wrote, in the order they were sent; a torn last line is left out.

    Raises:
        DataError: no such file, or one that is damaged.
    """
    number, session, about = 0, 0, dict[str, Any]()
    try:
        with path.open("rb") as file:
            for line in file:
                number += 1
                if not line.endswith(b"\n"):
                    return  # the writer was stopped here
                table = json.loads(line)
                if "format" in table:
                    session, about = session + 1, table
                    if about["format"] != _FORMAT:
                        raise ValueError(f"format {about['format']!r}, not {_FORMAT!r}")
                    continue
                arrays = tuple((name, kind, tuple(shape)) for name, kind, shape in table.pop("arrays"))
                yield StoredMessage(Message(**table, content=None, arrays=arrays), session, about)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}, line {number}: no line of a transcript ({error}); record the run again") from error


def _form(name: str, array: Any) -> Form:
    return (name, "str", (len(array.item()),)) if array.dtype.kind == "U" else (name, array.dtype.name, array.shape)
