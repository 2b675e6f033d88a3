from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secfpp.errors import DataError, DiskFullError
from secfpp.protocol import wire
from secfpp.protocol.transcript import Transcript
from secfpp.protocol.transcript_file import TranscriptFile, read_transcript

ABOUT = {"method": "secfpp", "seed": 3, "steps": {"method.train": "Local training"}}


def tell(transcript: Transcript, *clients: str, **changes: Any) -> None:
    for client in clients:
        data = wire.encode({"update": np.zeros((2, 3), np.float32), "who": np.array(client)})
        common: dict[str, Any] = {"exchange": 4, "round_": 2, "step": "method.train", "label": "x", "direction": "up"}
        transcript.record(data, client=client, **common | changes)


def test_a_file_has_what_a_transcript_in_memory_has(tmp_path: Path) -> None:
    path, memory = tmp_path / "deep" / "t.jsonl", Transcript()
    with TranscriptFile(path, ABOUT) as file:
        for transcript in (file, memory):
            tell(transcript, "a", "b")
            tell(transcript, "a", direction="down", delivered=False)
        arrays = (("update", "float32", (2, 3)), ("who", "str", (1,)))
        assert list(file) == [replace(message, arrays=arrays) for message in memory]
        assert (len(file), file.digest()) == (3, memory.digest())
    stored = list(read_transcript(path))
    assert [one.session for one in stored] == [1, 1, 1]
    assert stored[0].about["steps"] == ABOUT["steps"] and stored[0].about["seed"] == 3
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    assert b"float32" in path.read_bytes() and np.zeros(6, np.float32).tobytes() not in path.read_bytes()


def test_a_process_that_is_killed_leaves_every_message_that_was_sent(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    program = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_transcript_file import *
with TranscriptFile(Path({str(path)!r}), ABOUT) as file:
    tell(file, "a", "b", "c")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert [one.message.client for one in read_transcript(path)] == ["a", "b", "c"]


def test_a_torn_line_is_left_out_and_a_new_session_goes_on_behind_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with TranscriptFile(path, ABOUT) as file:
        tell(file, "a", "b")
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert [one.message.client for one in read_transcript(path)] == ["a"]
    with TranscriptFile(path, ABOUT | {"seed": 4}, go_on=True) as file:
        tell(file, "c")
    assert [(one.message.client, one.session, one.about["seed"]) for one in read_transcript(path)] == [
        ("a", 1, 3),
        ("c", 2, 4),
    ]
    with TranscriptFile(path, ABOUT) as file:
        tell(file, "d")
    assert [one.message.client for one in read_transcript(path)] == ["d"]
    with TranscriptFile(tmp_path / "new.jsonl", ABOUT, go_on=True) as file:
        assert len(file) == 0


def test_a_damaged_or_absent_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with pytest.raises(DataError, match="cannot be read"):
        list(read_transcript(path))
    with TranscriptFile(path, ABOUT) as file:
        tell(file, "a")
    first, second = path.read_text().splitlines()
    for lines, number in (([first, second[:-5]], 2), ([first, "[]"], 2), (["{}"], 1)):
        path.write_text("\n".join([*lines, ""]))
        with pytest.raises(DataError, match=rf"t\.jsonl, line {number}: no line of a transcript"):
            list(read_transcript(path))
    path.write_text(json.dumps({**json.loads(first), "format": "other"}) + "\n")
    with pytest.raises(DataError, match="format 'other'"):
        list(read_transcript(path))


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with TranscriptFile(tmp_path / "t.jsonl", ABOUT) as file:
        monkeypatch.setattr(file, "_file", type("Full", (), {"write": full, "close": lambda self: None})())
        with pytest.raises(DiskFullError, match=r"for t\.jsonl"):
            tell(file, "a")
