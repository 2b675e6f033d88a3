"""Commands run as a user does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from secfpp.cli.app import app
from support_experiment import World, toy_world


def toy_folder(monkeypatch: pytest.MonkeyPatch, folder: Path, config: str) -> World:
    """Work in a folder that holds c.toml, where training is a toy's."""
    monkeypatch.chdir(folder)
    (folder / "c.toml").write_text(config)
    return toy_world(monkeypatch)


def secfpp(*words: str) -> Any:
    """The result of a command, however it ends."""
    return CliRunner().invoke(app, list(words))


def works(*words: str) -> Any:
    """The result of a command that must end with 0."""
    result = secfpp(*words)
    assert result.exit_code == 0, result.output or result.exception
    return result


def fails(code: int, *words: str) -> str:
    """The message of a command that must end with `code`, without a traceback."""
    result = secfpp(*words)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return " ".join(result.stderr.split())
