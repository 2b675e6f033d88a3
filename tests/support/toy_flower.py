"""The sites of `support.toy_sites` behind a real Flower system; needs Flower.

Flower lets only the app at the server send messages. So the driver of a test hands its exchanges to that app over a
socket, as frames: the deadline and the messages in one wire message, the replies in another.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tomli_w

from secfpp.deploy.flower.job import Ended, run_app, write_app
from secfpp.deploy.flower.processes import Federation
from secfpp.deploy.frames import receive, send
from secfpp.protocol import wire
from secfpp.runtime.remote import RemoteDriver
from support import toy_sites
from support.flower_parts import bound_sites

BRIDGED = "support.flower_apps:bridged"
_SOCKET = "bridge.sock"
_PATIENCE = 600.0


def bridge(transport: object, folder: Path) -> int:
    """At the server: make the exchanges that come over the socket in the run's folder, until nothing comes any more."""
    (folder / "sites").write_text("\n".join(transport.sites))  # type: ignore[attr-defined]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / _SOCKET))
        listener.listen()
        channel, _ = listener.accept()
        with channel:
            while (asked := receive(channel)) is not None:
                messages = _unpacked(asked)
                deadline = float(messages.pop("deadline"))
                send(channel, _packed(transport.exchange(messages, deadline)))  # type: ignore[attr-defined]
    return 0


class BridgedTransport:
    """A `secfpp.runtime.remote.Transport` to the other end of `bridge`; `start` starts a site's work again."""

    def __init__(self, run: Path, federation: Federation) -> None:
        self._channel = socket.socket(socket.AF_UNIX)
        self._channel.connect(str(run / _SOCKET))
        self.sites = tuple((run / "sites").read_text().split())
        self._federation = federation

    def exchange(self, messages: Mapping[str, bytes], deadline: float) -> Mapping[str, bytes]:
        send(self._channel, _packed({**messages, "deadline": str(deadline).encode()}))
        replies = receive(self._channel)
        assert replies is not None, "the run has ended"
        return _unpacked(replies)

    def start(self, site: str) -> None:
        self._federation.start_work(site)

    def close(self) -> None:
        self._channel.close()


@contextmanager
def flower(folder: Path) -> Iterator[RemoteDriver]:
    """A driver whose sites are those of `folder`, behind a SuperLink, SuperNodes and relays on loopback."""
    bound = bound_sites(folder, list(toy_sites.CLIENTS), sites=folder)
    app = write_app(folder / "app", "toy", tomli_w.dumps({"toy": True}).encode(), server=BRIDGED)
    ended: list[Ended] = []
    with bound.federation(toy_sites.OPENER) as federation:
        federation.start_all()
        arguments = federation.link, bound.server, app, "toy", folder / "out", _PATIENCE
        running = threading.Thread(target=lambda: ended.append(run_app(*arguments)))
        running.start()
        run, until = bound.server / "runs" / "toy", time.monotonic() + 120.0
        while not (run / _SOCKET).exists():
            assert time.monotonic() < until and running.is_alive(), "the run did not start"
            time.sleep(0.1)
        time.sleep(0.5)
        transport = BridgedTransport(run, federation)
        try:
            yield toy_sites.opened(transport)
        finally:
            transport.close()
            running.join(60.0)
    assert [one.status for one in ended] == [0]


def _packed(messages: Mapping[str, bytes]) -> bytes:
    return bytes(wire.encode({name: np.frombuffer(data, np.uint8) for name, data in messages.items()}))


def _unpacked(data: bytes) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in wire.decode(data).items()}
