"""The command line: ``secfpp``. Every command imports what it needs when it runs, so that help is instant."""

from __future__ import annotations


def main() -> None:
    """Entry point of the ``secfpp`` program."""
    import os

    # Waiting threads that spin starve each other when other work shares the cores; read when PyTorch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from secfpp.cli.app import app, warn_plainly

    warn_plainly()
    app()
