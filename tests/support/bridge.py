"""Exchanges of a test, made by an engine's server.

Engines let only the job at their server send messages. So the driver of a test hands its exchanges to that job over a
socket, as frames: the deadline and the messages in one wire message, the replies in another.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from secfpp.deploy.frames import receive, send
from secfpp.protocol import wire

SOCKET = "bridge.sock"


def bridge(transport: object, folder: Path) -> int:
    """At the server: make the exchanges that come over the socket in the run's folder, until nothing comes any more."""
    (folder / "sites").write_text("\n".join(transport.sites))  # type: ignore[attr-defined]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / SOCKET))
        listener.listen()
        channel, _ = listener.accept()
        with channel:
            while (asked := receive(channel)) is not None:
                messages = _unpacked(asked)
                deadline = float(messages.pop("deadline"))
                send(channel, _packed(transport.exchange(messages, deadline)))  # type: ignore[attr-defined]
    return 0


class BridgedTransport:
    """A `secfpp.runtime.remote.Transport` to the other end of `bridge`; `start` starts a site again, if it can be."""

    def __init__(self, run: Path, start: Callable[[str], None] = str) -> None:
        self._channel = socket.socket(socket.AF_UNIX)
        self._channel.connect(str(run / SOCKET))
        self.sites = tuple((run / "sites").read_text().split())
        self.start = start

    def exchange(self, messages: Mapping[str, bytes], deadline: float) -> Mapping[str, bytes]:
        send(self._channel, _packed({**messages, "deadline": str(deadline).encode()}))
        replies = receive(self._channel)
        assert replies is not None, "the run has ended"
        return _unpacked(replies)

    def close(self) -> None:
        self._channel.close()


def _packed(messages: Mapping[str, bytes]) -> bytes:
    return bytes(wire.encode({name: np.frombuffer(data, np.uint8) for name, data in messages.items()}))


def _unpacked(data: bytes) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in wire.decode(data).items()}
