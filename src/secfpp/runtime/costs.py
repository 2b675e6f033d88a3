"""What a run cost: exchanges, messages, bytes and seconds, by client and by component."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from secfpp.protocol.program import ClientId


@dataclass
class Share:
    """One component's part of the costs; `up` and `down` are bytes over all clients."""

    exchanges: int = 0
    messages: int = 0
    up: int = 0
    down: int = 0


@dataclass
class Costs:
    """Counters that only grow; a component is the part of a step's name before the dot.

    Bytes and messages are those on a client's link: an ask that never reaches its client is not
    counted, a reply that is lost on the way is.

    Args:
        exchanges: trips from the server to clients and back; asks made side by side share one.
        messages: asks received and replies sent.
        up: bytes sent, per client.
        down: bytes received, per client.
        seconds: of work per component: the clients' steps, the server's own, and encoding and decoding messages.
        components: the other counters per component; an exchange that several components share
            counts for each of them.
    """

    exchanges: int = 0
    messages: int = 0
    up: dict[ClientId, int] = field(default_factory=dict)
    down: dict[ClientId, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    components: dict[str, Share] = field(default_factory=dict)

    @property
    def client_up(self) -> int:
        """Bytes sent by all clients."""
        return sum(self.up.values())

    @property
    def client_down(self) -> int:
        """Bytes received by all clients."""
        return sum(self.down.values())

    def count_exchange(self, components: Iterable[str]) -> None:
        """One more exchange, in which these components took part."""
        self.exchanges += 1
        for component in set(components):
            self.components.setdefault(component, Share()).exchanges += 1

    def count_down(self, component: str, client: ClientId, size: int) -> None:
        """One ask of `size` bytes that reached its client."""
        self.messages += 1
        self.down[client] = self.down.get(client, 0) + size
        share = self.components.setdefault(component, Share())
        share.messages += 1
        share.down += size

    def count_up(self, component: str, client: ClientId, size: int) -> None:
        """One reply of `size` bytes that a client sent."""
        self.messages += 1
        self.up[client] = self.up.get(client, 0) + size
        share = self.components.setdefault(component, Share())
        share.messages += 1
        share.up += size

    def count_seconds(self, component: str, seconds: float) -> None:
        """Time that one component worked."""
        self.seconds[component] = self.seconds.get(component, 0.0) + seconds

    def split_seconds(self, components: Collection[str], seconds: float) -> None:
        """Time that cannot be told apart by component: an equal part to each."""
        for component in components:
            self.count_seconds(component, seconds / len(components))

    @contextmanager
    def timed(self, components: Collection[str]) -> Iterator[None]:
        """Count the seconds of a ``with`` block as `split_seconds` does, also when it raises."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.split_seconds(components, time.perf_counter() - started)

    def copy(self) -> Costs:
        """An independent copy, e.g. from before a round."""
        components = {name: Share(**asdict(share)) for name, share in self.components.items()}
        return Costs(self.exchanges, self.messages, dict(self.up), dict(self.down), dict(self.seconds), components)

    def since(self, earlier: Costs) -> Costs:
        """What was added after the copy `earlier` was made."""
        components = {
            name: Share(
                **{
                    counter.name: getattr(share, counter.name)
                    - getattr(earlier.components.get(name, Share()), counter.name)
                    for counter in fields(Share)
                }
            )
            for name, share in self.components.items()
        }
        return Costs(
            self.exchanges - earlier.exchanges,
            self.messages - earlier.messages,
            {client: size - earlier.up.get(client, 0) for client, size in self.up.items()},
            {client: size - earlier.down.get(client, 0) for client, size in self.down.items()},
            {name: seconds - earlier.seconds.get(name, 0.0) for name, seconds in self.seconds.items()},
            components,
        )

    def as_dict(self) -> dict[str, Any]:
        """All counters with the two byte totals, ready for JSON."""
        return {**asdict(self), "client_up": self.client_up, "client_down": self.client_down}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Costs:
        """The counters of which `as_dict` made `table`.

        Raises:
            KeyError: a counter is missing.
            TypeError: a component has other counters than a `Share`.
        """
        counters = {counter.name: table[counter.name] for counter in fields(cls)}
        return cls(**counters | {"components": {name: Share(**share) for name, share in table["components"].items()}})
