"""What a `SecureMean` costs, from public numbers alone: exchanges, messages and bytes.

The formulas hold for runs without dropouts, key agreement included, and are compared with measured counts in the
tests. See docs/costs.md for them in words.
"""

from __future__ import annotations

from dataclasses import dataclass

from secfpp.crypto.channel import ENVELOPE_OVERHEAD, TAG_BYTES
from secfpp.secure import committee
from secfpp.secure import message_sizes as sizes
from secfpp.secure.means.client import code_for


@dataclass(frozen=True)
class MeanCost:
    """Costs of one `SecureMean`.

    Args:
        n: clients, all of whom answer.
        size: elements of an update.
        threshold: T.
    """

    n: int
    size: int
    threshold: int = 2

    @property
    def holders(self) -> int:
        """How many hold shares, c."""
        return min(self.n, committee.LARGEST)

    @property
    def share(self) -> int:
        """Field elements of a share: the update's over the quorum less T."""
        return -(-self.size // code_for(self.holders, self.threshold).blocks)

    @property
    def exchanges(self) -> int:
        """Greeting, randomness for a committee if one is drawn, sharing, agreement, sums, results."""
        return 5 + (self.n > self.holders)

    @property
    def messages(self) -> int:
        """Asks and replies."""
        return 2 * ((self.exchanges - 2) * self.n + 2 * self.holders)

    def sent(self, holder: bool = True) -> int:
        """Bytes that a client sends, exactly."""
        recipients = self.holders - holder
        base = sizes.array(7, 0, 8), sizes.array(6, 1, 32)  # its version and its hash
        total = sizes.greeting(self.n > self.holders) + sizes.message(*base)
        total += sizes.message(sizes.array(9, 2, recipients * self._envelope), *base)
        if holder:
            total += sizes.message(sizes.array(6, 2, recipients * TAG_BYTES))
            total += sizes.message(sizes.array(9, 2, (self.n - 1) * self._envelope))
        return total

    def received(self, holder: bool = True) -> int:
        """Bytes of keys and envelopes that a client receives; texts and framing come on top."""
        others = self.holders - holder
        total = sizes.keys(self.n, self.n > self.holders) + others * self._envelope
        if holder:
            total += (self.n - 1) * self._envelope + others * TAG_BYTES
        return total

    @property
    def _envelope(self) -> int:
        """A share or a sum, with the version of the base and the size of the update, sealed."""
        return sizes.ELEMENT * (2 + self.share) + ENVELOPE_OVERHEAD
