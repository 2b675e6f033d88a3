"""Serving the page on this machine's own address, and nowhere else."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import uvicorn

from secfpp.errors import ConfigError, Problem
from secfpp.page.app import make_app
from secfpp.page.classifier import Classifier

LOOPBACK = "127.0.0.1"
"""The one address: other machines cannot reach it."""
MOST_CONNECTIONS = 32
PATIENCE = 5
"""Seconds that requests in work get to end when the server is stopped."""


@contextmanager
def open_port(port: int) -> Iterator[socket.socket]:
    """A socket on `LOOPBACK` at this port, or any that is free if it is 0; closed in the end.

    Raises:
        ConfigError: the port is in use or not allowed.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            own.bind((LOOPBACK, port))
        except OSError as error:
            allowed = f"{error.strerror}: take another, or 0 for any that is free"
            raise ConfigError([Problem("--port", port, allowed)]) from error
        yield own


class _Server(uvicorn.Server):
    """Tells when it answers."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        if self.started:
            self._ready()


def serve(classifier: Classifier, own: socket.socket, ready: Callable[[], None]) -> None:
    """Answer until the process is told to stop by Ctrl-C or SIGTERM; requests in work are answered first.

    Args:
        classifier: what answers.
        own: a socket of `open_port`.
        ready: called when the page can be opened.
    """
    config = uvicorn.Config(
        make_app(classifier),
        access_log=False,
        log_level="error",
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=PATIENCE,
    )
    with suppress(KeyboardInterrupt):
        _Server(config, ready).run(sockets=[own])
