"""What a `SecureMean` costs, from public numbers alone: exchanges, messages and bytes.

The formulas hold for runs without dropouts, key agreement included, and are compared with measured counts in the
tests. See docs/costs.md for them in words.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from secfpp.crypto.bounds import SEED_BYTES, Bound
from secfpp.crypto.channel import ENVELOPE_OVERHEAD, TAG_BYTES
from secfpp.crypto.sharing import LagrangeCode
from secfpp.secure import committee
from secfpp.secure import message_sizes as sizes
from secfpp.secure.means.bounded import bound_of
from secfpp.secure.means.client import code_for
from secfpp.secure.means.secure_mean import SecureMean


@dataclass(frozen=True)
class MeanCost:
    """Costs of one `SecureMean`.

    Args:
        n: clients, all of whom answer.
        size: elements of an update.
        settings: of the mean.
    """

    n: int
    size: int
    settings: SecureMean = field(default_factory=SecureMean)

    @property
    def holders(self) -> int:
        """How many hold shares, c."""
        return min(self.n, committee.LARGEST)

    @property
    def _code(self) -> LagrangeCode:
        return code_for(self.holders, self.settings.threshold)

    @property
    def share(self) -> int:
        """Field elements of a share: the update's over the quorum less T."""
        return -(-self.size // self._code.blocks)

    @property
    def bound(self) -> Bound | None:
        """What clients prove of their updates, if they do."""
        return bound_of(self._code, self.share, self.settings.codec) if self.settings.bounded else None

    @property
    def exchanges(self) -> int:
        """Greeting, randomness if a committee is drawn, sharing, proofs, answers, agreement, sums, results."""
        return 5 + (self.n > self.holders) + 2 * self.settings.bounded

    @property
    def messages(self) -> int:
        """Asks and replies."""
        by_holders = 2 + self.settings.bounded
        return 2 * ((self.exchanges - by_holders) * self.n + by_holders * self.holders)

    def sent(self, holder: bool = True) -> int:
        """Bytes that a client sends, exactly."""
        recipients = self.holders - holder
        base = sizes.array(7, 0, 8), sizes.array(6, 1, 32)  # its version and its hash
        total = sizes.greeting(self.n > self.holders) + sizes.message(*base)
        total += sizes.message(sizes.array(9, 2, recipients * _envelope(self.share)), *base)
        if self.bound:
            total += sizes.message(sizes.array(9, 2, recipients * _envelope(self.bound.proof)))
        if holder:
            total += sizes.message(sizes.array(6, 2, recipients * TAG_BYTES))
            total += sizes.message(sizes.array(9, 2, (self.n - 1) * _envelope(self.share)))
            if self.bound:
                total += sizes.message(sizes.array(7, 2, self.n * sizes.ELEMENT * self.bound.answer))
        return total

    def received(self, holder: bool = True) -> int:
        """Bytes of keys, seeds and envelopes that a client receives; texts and framing come on top."""
        others = self.holders - holder
        total = sizes.keys(self.n, self.n > self.holders) + others * _envelope(self.share)
        if self.bound:
            total += SEED_BYTES
        if holder:
            total += (self.n - 1) * _envelope(self.share) + others * TAG_BYTES
            if self.bound:
                total += (self.n - 1) * _envelope(self.bound.proof) + 2 * SEED_BYTES
        return total


def _envelope(elements: int) -> int:
    """Bytes of field elements, with the version of the base and the size of the update, sealed."""
    return sizes.ELEMENT * (2 + elements) + ENVELOPE_OVERHEAD
