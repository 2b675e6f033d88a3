"""The file of a ledger: a line of JSON for each entry, only ever added to, each bound to those before it.

A line is on disk before `append` returns. Its ``sum`` is a digest of itself and of the sum before, so that a line that
was changed, moved or lost in between is seen; nobody is kept from writing another file altogether. If a line is
half-written, `append` has not returned, and nothing that waited for it has been done.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock

from secfpp.errors import DataError
from secfpp.storage import atomic_write, room_for

Line = dict[str, Any]


def lock(path: Path) -> BaseFileLock:
    """What one process at a time holds while it adds to the ledger at `path`, or makes it."""
    return FileLock(path.with_name(f"{path.name}.lock"), mode=0o600)


@dataclass
class LedgerFile:
    """A file of lines, read once and then followed; other processes may add to it too.

    Attributes:
        path: where it is.
        lines: what was read so far.
        torn: what stands behind the last whole line, if the line after it is half-written.
    """

    path: Path
    lines: list[Line] = field(default_factory=list)
    torn: bytes = b""
    _read: int = 0
    _inode: int | None = None
    _sum: str = ""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from adding lines; what they added before is in `lines` then."""
        with lock(self.path):
            self.follow()
            yield

    @classmethod
    def create(cls, path: Path, first: Mapping[str, Any]) -> LedgerFile:
        """A file of one line, in place of any that is there, readable by its owner only; whole or not there at all."""
        atomic_write(path, _encoded(first, ""))
        _sync_folder(path)
        made = cls(path)
        made.follow()
        return made

    def follow(self) -> None:
        """Read what was added.

        Raises:
            DataError: a file that cannot be read, or a line that is not what was written.
        """
        try:
            with self.path.open("rb") as file:
                found = os.fstat(file.fileno())
                file.seek(self._read)
                added = file.read()
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror}. A ledger must be readable to be added to") from error
        if self._inode not in (None, found.st_ino) or found.st_size < self._read:
            raise DataError(f"{self.path}: another ledger was put in its place, or it was cut. Start the run again")
        self._inode = found.st_ino
        *whole, rest = added.split(b"\n")
        for text in whole:
            self._take(text)
            self._read += len(text) + 1
        self.torn = rest

    def append(self, line: Mapping[str, Any]) -> None:
        """Add a line; to be called under `locked`. It is on disk when this returns, or nothing of it is.

        Raises:
            DataError: the line before is half-written, or the file cannot be written.
            DiskFullError: there is no room.
        """
        if self.torn:
            raise DataError(
                f"{self.path}, line {len(self.lines) + 1}: half-written. The process was killed, or the machine "
                "stopped, before the release that it stands for was made. Note that down with: secfpp privacy ledger "
                f"{self.path} --settle"
            )
        encoded = _encoded(line, self._sum)
        self._write(encoded)
        self._take(encoded[:-1])
        self._read += len(encoded)

    def settle(self) -> bytes:
        """Give a half-written line an end, and say in a line of its own what it was; to be called under `locked`.

        Returns:
            What was half-written, nothing if nothing was.
        """
        rest = self.torn
        if rest:
            note = {"kind": "torn", "bytes": len(rest), "sha256": sha256(rest).hexdigest()}
            encoded = _encoded(note, self._sum)
            self._write(encoded, at=self._read)
            self.torn = b""
            self._take(encoded[:-1])
            self._read += len(encoded)
        return rest

    def _write(self, encoded: bytes, at: int | None = None) -> None:
        try:
            with room_for(self.path, len(encoded)):
                handle = os.open(self.path, os.O_WRONLY)
                try:
                    size = os.fstat(handle).st_size if at is None else at
                    os.lseek(handle, size, os.SEEK_SET)
                    try:
                        written = 0
                        while written < len(encoded):
                            written += os.write(handle, encoded[written:])
                        os.ftruncate(handle, size + written)
                        os.fsync(handle)
                    except OSError:
                        os.ftruncate(handle, size)
                        raise
                finally:
                    os.close(handle)
        except OSError as error:
            raise DataError(f"{self.path}: {error.strerror}. Nothing is released that is not in the ledger") from error

    def _take(self, text: bytes) -> None:
        try:
            line = json.loads(text)
            found = line.pop("sum")
            if not isinstance(line.get("kind"), str):
                raise ValueError("no kind")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(f"cannot be read ({error})") from error
        expected = _sum_of(line, self._sum)
        if found != expected:
            raise self._damaged("is not what was written, or a line before it is missing")
        self.lines.append(line)
        self._sum = expected

    def _damaged(self, found: str) -> DataError:
        return DataError(
            f"{self.path}, line {len(self.lines) + 1}: {found}. What was released cannot be told from it: bring the "
            "file back from a copy, or begin another with --new-ledger, which says so in every report"
        )


def _encoded(line: Mapping[str, Any], before: str) -> bytes:
    return json.dumps({**line, "sum": _sum_of(line, before)}, allow_nan=False).encode() + b"\n"


def _sum_of(line: Mapping[str, Any], before: str) -> str:
    return sha256(f"{before}\n{json.dumps(line, sort_keys=True)}".encode()).hexdigest()[:32]


def _sync_folder(path: Path) -> None:
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def keep_aside(path: Path) -> str:
    """Give the ledger at `path` a second name beside it, under which it stays; that name."""
    number = 1
    while True:
        aside = path.with_name(f"{path.stem}.{number}{path.suffix}")
        try:
            os.link(path, aside)
        except FileExistsError:
            number += 1
        else:
            _sync_folder(path)
            return aside.name
