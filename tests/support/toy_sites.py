"""Sites that run a toy algorithm, in this process or in processes of their own, and ways to carry messages to them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from secfpp.deploy.children import ChildrenTransport
from secfpp.protocol.program import Arrays, Ask, ClientState, Joint, Program, step
from secfpp.runtime.driver import Driver
from secfpp.runtime.envelope import Reply as Reply
from secfpp.runtime.in_process import InProcessDriver
from secfpp.runtime.remote import LocalTransport, RemoteDriver, Transport
from secfpp.runtime.site import Handled, Run, Site
from secfpp.runtime.site_store import SiteStore
from secfpp.secure.means.aggregator import Aggregator
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.secure.means.updates import with_base
from secfpp.secure.session import Party, Session, parties_in_memory

CLIENTS = ("ann", "ben", "cleo", "dora", "emil")
SECRET = "a secret of the hospital"


@dataclass
class Place:
    """A client's context."""

    client: str
    party: Party | None = None
    seed: int = 0
    folder: Path = field(default_factory=Path)


@dataclass(frozen=True)
class Walk:
    """Clients that count, wait, echo, fail and die as they are told, and average what they count securely."""

    session: ClassVar[Session] = Session()
    aggregator: Aggregator = field(default_factory=SecureMean)

    def client_state(self, context: Place) -> ClientState:
        start = ClientState({"count": np.array(0), "seen": np.zeros(0, np.int64)})
        return with_base(start, "p", np.zeros(3, np.float32))

    @step
    def add(self, context: Place, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        count = state["count"] + payload["by"]
        moved = state["p"] + np.float32(0.01) * count * (1 + CLIENTS.index(context.client))
        return state.replace(count=count, p=moved.astype(np.float32), seen=np.append(state["seen"], payload["by"])), {
            "count": count
        }

    @step
    def echo(self, context: Place, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        return state, payload

    @step
    def wait(self, context: Place, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        if context.client == payload["who"].item():
            time.sleep(float(payload["seconds"]))
        return state.replace(count=state["count"] + 1), {}

    @step
    def leak(self, context: Place, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        if context.client == payload["who"].item():
            raise RuntimeError(SECRET)
        return state, {}

    @step
    def die(self, context: Place, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        if context.client == payload["who"].item():
            os._exit(9)
        return state.replace(count=state["count"] + 1), {}

    def not_a_step(self, context: Place, state: ClientState, payload: Arrays) -> None:
        raise AssertionError("nobody may call this")


def ask(name: str, clients: tuple[str, ...] = CLIENTS, **payload: Any) -> Ask:
    same = {key: np.array(value) for key, value in payload.items()}
    return Ask(name, {client: same for client in clients})  # noqa: C420


def walking(rounds: int) -> Program[list[tuple[str, ...]]]:
    """Several clients count in exchanges of one and of two asks; who answered each time."""
    answered = []
    for number in range(rounds):
        replies = yield Joint({"b": ask("method.add", by=number), "a": ask("method.add", CLIENTS[:2], by=100)})
        answered.append(tuple(replies.joint["b"]))
    return answered


def a_site(
    place: Place,
    folder: Path,
    algorithm: Any = None,
    on_handled: Callable[[Handled], None] | None = None,
) -> Site:
    walk = algorithm or Walk()
    return Site(place.client, lambda about: Run(walk, place, SiteStore(folder, "walk"), {"weight": 1}), on_handled)


def places() -> dict[str, Place]:
    parties = parties_in_memory(CLIENTS)
    return {client: Place(client, parties[client]) for client in CLIENTS}


class OpenSite:
    """What a child process serves: a site without keys, in the folder of its name."""

    def __init__(self, folder: Path) -> None:
        self._site = a_site(Place(folder.name), folder)

    def handle(self, message: bytes) -> bytes:
        return self._site.handle(message)

    def close(self) -> None:
        pass


def open_site(folder: Path) -> OpenSite:
    return OpenSite(folder)


OPENER = f"{__name__}:open_site"


@contextmanager
def in_process(folder: Path) -> Iterator[Driver]:
    contexts = places()
    walk = Walk()
    states = {client: walk.client_state(place) for client, place in contexts.items()}
    yield InProcessDriver(walk, contexts, states, chunk=1, tolerant=True)


@contextmanager
def here(folder: Path) -> Iterator[Driver]:
    sites = {client: a_site(place, folder / client) for client, place in places().items()}
    yield opened(LocalTransport({client: site.handle for client, site in sites.items()}))


@contextmanager
def children(folder: Path) -> Iterator[Driver]:
    with ChildrenTransport({client: folder / client for client in CLIENTS}, OPENER) as transport:
        yield opened(transport)


def opened(transport: Transport, round_: int = 0, deadline: float = 60.0) -> RemoteDriver:
    driver = RemoteDriver(Walk(), transport, deadline=deadline)
    replies = driver.open({}, round_)
    assert all(not reply.refused for reply in replies.values()), replies
    driver.round_ = round_ + 1
    return driver


def committed(folder: Path, round_: int) -> Mapping[str, ClientState]:
    """What the sites keep on disk."""
    found = {client: SiteStore(folder / client, "walk").load(round_) for client in CLIENTS}
    return {client: known[1] for client, known in found.items() if known}
