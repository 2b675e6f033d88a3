"""What any computation on shares costs, from public numbers alone: exchanges, messages and bytes.

The formulas hold for runs without dropouts, key agreement included.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal, Protocol

from secfpp.crypto.channel import ENVELOPE_OVERHEAD
from secfpp.crypto.checks import COIN_BYTES
from secfpp.crypto.comparison import Comparator
from secfpp.crypto.material import Deal, Kind
from secfpp.secure import committee
from secfpp.secure import message_sizes as sizes

Role = Literal["responder", "standby", "client"]
"""A holder that answers openings, one that stands by in case another drops out, or a client that holds no shares."""


class Settings(Protocol):
    """What costs need to know of the component that computes."""

    @property
    def committee(self) -> int:
        """Most holders."""

    def collusion(self, clients: int) -> int:
        """How many of the holders among so many clients may collude, T."""


class CircuitCost(ABC):
    """Costs of one computation among `n` clients, of whom `holders` hold shares and `threshold` may collude."""

    settings: Settings

    @property
    @abstractmethod
    def n(self) -> int:
        """Clients, all of whom answer."""

    @property
    @abstractmethod
    def limit(self) -> int:
        """The largest degree that is opened, in multiples of T."""

    @property
    @abstractmethod
    def opened(self) -> tuple[int, ...]:
        """Openings in every exchange of the computation, in order."""

    @property
    @abstractmethod
    def demand(self) -> Mapping[Kind, int]:
        """Pieces of randomness by kind."""

    @property
    @abstractmethod
    def shared(self) -> int:
        """Field elements of input that a client shares."""

    @property
    def holders(self) -> int:
        """How many hold shares, c."""
        return min(self.n, self.settings.committee)

    @property
    def threshold(self) -> int:
        """How many of them may collude, T."""
        return self.settings.collusion(self.n)

    @property
    def responders(self) -> int:
        """Holders that answer an exchange, the first of them as long as none drops out."""
        return max(self.limit * self.threshold + 1, committee.quorum(self.holders, self.threshold))

    @property
    def exchanges(self) -> int:
        """Greeting, randomness for a committee if one is drawn, dealing, and those of the computation."""
        return 2 + (self.n > self.holders) + len(self.opened)

    @property
    def messages(self) -> int:
        """Asks and replies."""
        return 2 * ((self.exchanges - len(self.opened)) * self.n + len(self.opened) * self.responders)

    @property
    def dealt(self) -> int:
        """Field elements of randomness that a holder shares on top."""
        return Deal(self.holders, self.threshold, self.demand).size

    def sent(self, role: Role, name_bytes: int) -> int:
        """Bytes that a client sends, exactly, if all names are `name_bytes` long."""
        holder = role != "client"
        size = sizes.ELEMENT * (self.shared + holder * self.dealt) + ENVELOPE_OVERHEAD
        total = sizes.greeting(self.n > self.holders) + holder * sizes.array(4, 1, sizes.COMMITMENT)
        total += sizes.message(*[sizes.array(3 + name_bytes, 1, size)] * (self.holders - holder))
        if role == "responder":
            total += sum(sizes.message(sizes.array(6, 1, sizes.ELEMENT * count)) for count in self.opened)
            checks = sizes.ELEMENT * (self.responders + 1) * self.n
            total += sizes.array(4, 1, COIN_BYTES) + sizes.array(6, 1, checks)
        return total

    def received(self, role: Role) -> int:
        """Bytes of keys, envelopes and opened values that a client receives; texts and framing come on top."""
        total = sizes.keys(self.n, self.holders)
        if role == "responder":
            total += (self.n - 1) * (sizes.ELEMENT * self.shared + ENVELOPE_OVERHEAD)
            total += (self.holders - 1) * sizes.ELEMENT * self.dealt + sizes.ELEMENT * sum(self.opened[:-1])
            total += self.holders * sizes.COMMITMENT + self.responders * COIN_BYTES
        return total


def compared(comparator: Comparator, count: int, limit: int) -> list[int]:
    """Openings of `count` signs: random bits; what is compared, and digits; those in which digits are combined.

    It holds for digits of at most `limit` bits, which are ready in the exchange in which they are compared.
    """
    digits = sum((1 << bits) - 1 for bits in comparator.widths if bits > 1)
    opened, number = [comparator.w, 1 + digits], len(comparator.widths)
    for _ in range(comparator.levels):
        groups = -(-number // limit)
        single = number % limit == 1
        opened.append(2 * (groups - single) - 1)  # "greater" of all groups, "equal" of all but the lowest
        number = groups
    return [count * each for each in opened]
