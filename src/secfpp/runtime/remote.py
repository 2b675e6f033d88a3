"""The driver whose clients are sites elsewhere; a `Transport` carries bytes to them and back."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Protocol

from secfpp.errors import ProtocolError
from secfpp.protocol import wire
from secfpp.protocol.program import Arrays, Ask, ClientId, ResolvedStep
from secfpp.protocol.transcript import Transcript
from secfpp.runtime.driver import Driver, repeated
from secfpp.runtime.envelope import Kind, Part, Reply, Request
from secfpp.runtime.site import DONE

OPENING = 600.0
"""Seconds that a site has at least to open or close a run: it may load a model and encode all its images."""
_log = logging.getLogger(__name__)


class Transport(Protocol):
    """What an engine has to do: carry bytes."""

    @property
    def sites(self) -> tuple[ClientId, ...]:
        """The sites that can be reached at all, by the names of their clients."""

    def exchange(self, messages: Mapping[ClientId, bytes], deadline: float) -> Mapping[ClientId, bytes]:
        """Send each site its message and return the replies that come within `deadline` seconds.

        A site that is dead, late or fails is left out. A message may reach its site more than once.
        """


class RemoteDriver(Driver):
    """Carries a program's asks to sites: one message for each and exchange.

    A site that does not answer in time is set aside: it is not asked again until the round is committed. Costs count
    the protocol's messages as `InProcessDriver` does, those of sites that answered; what an envelope adds, the opening
    and the commits are not in them.

    Args:
        algorithm: the object whose components hold the steps.
        transport: to the sites.
        deadline: seconds for an exchange.
        transcript: see `Driver`.

    Attributes:
        aside: sites that did not answer since the last commit.
        failures: ``(round, client, step, kind of exception)`` of steps that failed at a site.
        seconds: how long each of the program's exchanges took.
    """

    def __init__(
        self, algorithm: object, transport: Transport, *, deadline: float, transcript: Transcript | None = None
    ) -> None:
        super().__init__(algorithm, transport.sites, transcript=transcript, tolerant=True)
        self.transport, self.deadline = transport, deadline
        self.attempt, self._seq = 1 + secrets.randbits(62), 0
        self.aside: set[ClientId] = set()
        self.failures: list[tuple[int, ClientId, str, str]] = []
        self.seconds: list[float] = []
        self._committed: set[ClientId] = set()

    def open(self, about: Any, round_: int, sites: Collection[ClientId] | None = None) -> dict[ClientId, Reply]:
        """Open the run at sites, all by default, after `round_` committed rounds; the replies of those that answer."""
        return self._tell("open", round_, self.clients if sites is None else sites, about)

    def commit(self, about: Any) -> dict[ClientId, Reply]:
        """Have all sites keep their state of this round; those that were set aside and are back count again.

        Sites that kept it with their last answer are not asked.

        Returns:
            The replies of sites at which the run had to be opened again.
        """
        replies = self._tell("commit", self.round_, self.clients - self._committed)
        lost = [client for client, reply in replies.items() if reply.refused in ("closed", "old")]
        opened = self.open(about, self.round_, lost) if lost else {}
        replies |= opened
        left = self.clients - self._committed
        self.aside = {client for client in left if client not in replies or replies[client].refused}
        self._committed.clear()
        return opened

    def close(self) -> dict[ClientId, Any]:
        """End the run; what sites tell at its end."""
        replies = self._tell("close", self.round_, self.clients)
        return {client: reply.about for client, reply in replies.items() if not reply.refused}

    def _deliver(
        self, asks: Mapping[str, Ask], steps: Mapping[str, ResolvedStep]
    ) -> Mapping[str, Mapping[ClientId, Arrays]]:
        ready = repeated([payload for ask in asks.values() for payload in ask.payloads.values()])
        parts: dict[ClientId, list[Part]] = {}
        for label in sorted(asks):
            for client, payload in sorted(asks[label].payloads.items()):
                data = ready.get(id(payload)) or bytes(wire.encode(payload))
                parts.setdefault(client, []).append(Part(label, asks[label].step, data))
        reached = {client: tuple(own) for client, own in parts.items() if client not in self.aside}
        started = time.perf_counter()
        last = {client for ask in asks.values() if ask.last for client in ask.payloads}
        replies = self._exchange_with("ask", self.round_, reached, last=last)
        self._committed |= {client for client in last & replies.keys() if not replies[client].refused}
        self.seconds.append(time.perf_counter() - started)
        self.aside |= reached.keys() - replies.keys()
        arrived: dict[str, dict[ClientId, Arrays]] = {label: {} for label in asks}
        for client, own in sorted(parts.items()):
            reply = replies.get(client)
            good = reply is not None and not reply.refused and [p.label for p in reply.parts] == [p.label for p in own]
            if reply is not None and not good:
                self._odd(client, own[0].step, reply)
            for i, asked in enumerate(own):
                self._record(asked.data, asked.step, asked.label, client, "down", reply is not None)
                if reply is not None:
                    self._count(asked.step, client, "down", len(asked.data))
                if reply is not None and good:
                    self._take(client, asked, reply.parts[i], arrived[asked.label])
        return arrived

    def _take(self, client: ClientId, asked: Part, part: Part, arrived: dict[ClientId, Arrays]) -> None:
        if part.step != DONE:
            self.failures.append((self.round_, client, asked.step, part.step))
            _log.warning("%s: step %s failed there with %s", client, asked.step, part.step)
            return
        self._count(asked.step, client, "up", len(part.data))
        self._record(part.data, asked.step, asked.label, client, "up", True)
        try:
            reply = wire.decode(part.data)
        except ProtocolError as error:
            self._refuse(asked.step, client, error)
            return
        if self._accepted(client, asked.step, reply):
            arrived[client] = reply

    def _odd(self, client: ClientId, step: str, reply: Reply) -> None:
        """A site that does not carry out what it is asked: it is set aside."""
        self.aside.add(client)
        self.failures.append((self.round_, client, step, reply.refused or "malformed"))
        _log.warning("%s refuses a request (%s); its own log says why", client, reply.refused or "malformed")

    def _tell(self, kind: Kind, round_: int, sites: Iterable[ClientId], about: Any = None) -> dict[ClientId, Reply]:
        return self._exchange_with(kind, round_, dict.fromkeys(sorted(sites), ()), about)

    def _exchange_with(
        self,
        kind: Kind,
        round_: int,
        parts: Mapping[ClientId, tuple[Part, ...]],
        about: Any = None,
        last: Collection[ClientId] = (),
    ) -> dict[ClientId, Reply]:
        """Send requests, some of them the `last` ones of the round; the replies to them that can be read."""
        if not parts:
            return {}
        self._seq += 1
        requests = {
            client: Request("last" if client in last else kind, self.attempt, round_, self._seq, own, about).encode()
            for client, own in parts.items()
        }
        found: dict[ClientId, Reply] = {}
        deadline = max(self.deadline, OPENING) if kind in ("open", "close") else self.deadline
        for client, data in self.transport.exchange(requests, deadline).items():
            try:
                reply = Reply.decode(data)
            except ProtocolError as error:
                _log.warning("%s: %s", client, error)
                continue
            if client in parts and reply.seq == self._seq:
                found[client] = reply
        return found


class LocalTransport:
    """Sites of this process, each with its `handle`; for tests, and to try a run before it is taken elsewhere.

    Args:
        handlers: client to what answers its messages.
    """

    def __init__(self, handlers: Mapping[ClientId, Callable[[bytes], bytes]]) -> None:
        self.handlers = dict(sorted(handlers.items()))

    @property
    def sites(self) -> tuple[ClientId, ...]:
        """See `Transport.sites`."""
        return tuple(self.handlers)

    def exchange(self, messages: Mapping[ClientId, bytes], deadline: float) -> Mapping[ClientId, bytes]:
        """See `Transport.exchange`."""
        return {client: self.handlers[client](message) for client, message in messages.items()}
