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
from secfpp.crypto.gate import SUMS
from secfpp.crypto.material import Deal, Kind
from secfpp.crypto.replicated import SLOT, Sets
from secfpp.secure import committee
from secfpp.secure import message_sizes as sizes
from secfpp.secure.circuits.plan import Security, carry, sets_of, verifiers, verifying
from secfpp.secure.circuits.tally import DIGEST_BYTES

Role = Literal["responder", "verifier", "standby", "client"]
"""A holder that answers openings, one that only verifies what it is told, one that stands by in case another drops out,
or a client that holds no shares."""


class Settings(Protocol):
    """What costs need to know of the component that computes."""

    @property
    def committee(self) -> int:
        """Most holders."""

    @property
    def security(self) -> Security:
        """Whether what is told is verified."""

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
    @abstractmethod
    def decisive(self) -> int:
        """How often something is opened that may depend on what was told before."""

    @property
    def checks(self) -> int:
        """How often holders verify: what was dealt, what they were told before each of these exchanges, and the end."""
        return self.decisive + 2 if self.active else 0

    @property
    def active(self) -> bool:
        """Whether it is."""
        return self.settings.security == "active"

    @property
    def verified(self) -> int:
        """Uniform elements that this takes."""
        return verifying(self.checks, self.holders, self.threshold, self.limit)

    @property
    def verifiers(self) -> int:
        """Holders that verify, those that answer among them."""
        return verifiers(self.holders, self.threshold, self.limit) if self.active else self.responders

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
        return 2 + (self.n > self.holders) + len(self.opened) + self._more

    @property
    def _more(self) -> int:
        """Exchanges where security is active: one in which holders get what was dealt, the checks, and the end."""
        return 1 + self.checks + 1 if self.active else 0

    @property
    def messages(self) -> int:
        """Asks and replies."""
        answered = (len(self.opened) + self.active) * self.responders
        verified = (self.checks + self.active) * self.verifiers
        return 2 * ((self.exchanges - self._more - len(self.opened)) * self.n + answered + verified)

    @property
    def dealt(self) -> int:
        """Field elements of randomness that a holder shares on top."""
        return Deal(self.holders, self.threshold, self.demand).size + SLOT * len(self.sets)

    @property
    def sets(self) -> Sets:
        """Holders that have a key in common, where integers are not dealt."""
        return sets_of(self.holders, self.threshold, self.limit, self.settings.security)

    @property
    def carry(self) -> int:
        """See `secfpp.crypto.comparison.Comparator`."""
        return carry(self.holders, self.threshold, self.limit, self.settings.security)

    def sent(self, role: Role) -> int:
        """Bytes that a client sends, exactly."""
        holder = role != "client"
        size = sizes.ELEMENT * (self.shared + holder * self.dealt) + ENVELOPE_OVERHEAD
        total = sizes.greeting(self.n > self.holders) + holder * sizes.array(4, 1, sizes.COMMITMENT)
        total += sizes.message(sizes.array(9, 2, size * (self.holders - holder)))
        if role == "responder":
            opened = (*self.opened, 0) if self.active else self.opened
            total += sum(sizes.message(sizes.array(6, 1, sizes.ELEMENT * count)) for count in opened)
        if role == "responder" or role == "verifier":
            checks = sizes.ELEMENT * (self.verifiers + 1) * self.n
            total += sizes.array(4, 1, COIN_BYTES) + sizes.array(6, 1, checks)
        if (role == "responder" or role == "verifier") and self.active:
            tally = sizes.array(9, 2, _TALLY * (self.holders - 1))
            total += sizes.message() + self.checks * sizes.message(tally) + (self.holders - 1) * sizes.ELEMENT
        return total

    def received(self, role: Role) -> int:
        """Bytes of keys, envelopes and opened values that a client receives; texts and framing come on top."""
        total = sizes.keys(self.n, self.holders, role != "client" or self.n <= self.holders)
        if role in ("responder", "verifier"):
            total += (self.n - 1) * (sizes.ELEMENT * self.shared + ENVELOPE_OVERHEAD)
            opened = self.opened if self.active else self.opened[:-1]
            total += (self.holders - 1) * sizes.ELEMENT * self.dealt + sizes.ELEMENT * sum(opened)
            total += self.holders * sizes.COMMITMENT + self.verifiers * COIN_BYTES
        if role in ("responder", "verifier") and self.active:
            heard = self.checks if role == "responder" else self.checks - 1  # the last one does not go on
            total += (self.verifiers - 1) * (heard * _TALLY + sizes.ELEMENT)
            total += DIGEST_BYTES * self.n * self.holders
        return total


_TALLY = sizes.ELEMENT * SUMS + ENVELOPE_OVERHEAD
"""What a holder says to another of what it was told; the first time an element more."""


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
