"""The command line: ``secfpp``. Every command imports what it needs when it runs, so that help is instant."""

from __future__ import annotations


def main() -> None:
    """Entry point of the ``secfpp`` program."""
    from secfpp.cli.app import app

    app()
