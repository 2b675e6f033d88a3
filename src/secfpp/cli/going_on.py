"""The command that goes on with a training that was stopped."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

GOES_ON = {"demo": ("--resume",), "run": ("--resume",), "compare": (), "sweep": (), "audit": (), "attack": ()}
"""Commands that train, and what must be added to one to go on."""


def going_on(words: Sequence[str]) -> str:
    """What to type to go on, ready for a shell; empty if nothing was trained.

    Args:
        words: of the command that was stopped, without the program.
    """
    command = next((word for word in words if not word.startswith("-")), "")
    if command not in GOES_ON:
        return ""
    kept = [word for word in words if word != "--force"]
    return shlex.join([_program(), *kept, *(word for word in GOES_ON[command] if word not in kept)])


def _program() -> str:
    """This program as it was called, or by its name alone where a shell finds it."""
    called = Path(sys.argv[0])
    if called.name != "secfpp":
        return "secfpp"
    found = shutil.which("secfpp")
    return "secfpp" if found and Path(found).resolve() == called.resolve() else sys.argv[0]
