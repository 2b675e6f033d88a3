"""Commands on prompts, run as a user does, in a folder that holds a.safetensors and photos/."""

from __future__ import annotations

from typer.testing import CliRunner

from secfpp.cli.app import app

CLASSES = ("cat", "dog", "bird")
LEVELS = ["personal", "domain"]


IMAGES = ["photos/cat/000.png", "photos/cat/001.png", "photos/dog/deep/000.png"]


def secfpp(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result.stdout


def fails(*words: str) -> str:
    """The message of a command that must end with 2, without a traceback."""
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.stderr.replace("│", " ").split())


def predict(*words: str) -> str:
    return secfpp("predict", "--prompt", "a.safetensors", *words)
