"""Folders of runs at a server."""

from __future__ import annotations

from pathlib import Path

from secfpp.deploy.names import AGREED, plain_name
from secfpp.errors import ConfigError
from secfpp.storage import atomic_write


def open_run(root: Path, run: str, agreed: bytes, resume: bool) -> Path:
    """The folder of a run under `root`, with what was agreed in it.

    Raises:
        ConfigError: the run's name is no plain file name; there is such a run and it is not to be resumed, or
            none and it is, or it was agreed otherwise.
    """
    folder = root / plain_name(run)
    found = (folder / AGREED).read_bytes() if (folder / AGREED).exists() else None
    if resume and found is None:
        raise ConfigError(f"there is no run {run!r} to go on with: start it without --resume")
    if not resume and found is not None:
        raise ConfigError(f"there is a run {run!r} already: go on with --resume, or give it another name")
    if found not in (None, agreed):
        raise ConfigError(f"run {run!r} was agreed otherwise: take its own agreed file, or give it another name")
    atomic_write(folder / AGREED, agreed)
    return folder
