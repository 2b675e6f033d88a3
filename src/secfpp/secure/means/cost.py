"""What a `SecureMean` costs, from public numbers alone: exchanges, messages and bytes.

The formulas hold for runs without dropouts, key agreement included, and are compared with measured counts in the
tests. See docs/costs.md for them in words.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain

from secfpp.crypto.bounds import SEED_BYTES, Bound
from secfpp.crypto.channel import ENVELOPE_OVERHEAD, OPENING_BYTES, TAG_BYTES
from secfpp.crypto.sharing import LagrangeCode
from secfpp.secure import committee
from secfpp.secure import message_sizes as sizes
from secfpp.secure.means.batches import portion_of, sizes_of
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
    def _portions(self) -> list[list[int]]:
        """Of each batch, how many clients each message with their envelopes is about; none if they need none."""
        most = portion_of(_envelope(self.share) + (_envelope(self.bound.proof) if self.bound else 0))
        found = [[min(most, n - start) for start in range(0, n, most)] for n in sizes_of(self.n)]
        return found if self.bound or len(found) > 1 or len(found[0]) > 1 else [[]]

    @property
    def exchanges(self) -> int:
        """Greeting, randomness if a committee is drawn, sharing, proofs, answers, agreement, sums, results.

        A batch shares one exchange after the one before it.
        """
        taking_in = max(number + 1 + len(portions) for number, portions in enumerate(self._portions))
        return 4 + (self.n > self.holders) + self.settings.bounded + taking_in

    @property
    def messages(self) -> int:
        """Asks and replies."""
        by_everybody = 3 + (self.n > self.holders) + self.settings.bounded
        by_holders = 2 + sum(map(len, self._portions))
        return 2 * (by_everybody * self.n + by_holders * self.holders)

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
            opening = sizes.array(9, 2, (self.n - 1) * OPENING_BYTES)
            total += sizes.message(sizes.array(4, 1, _envelope(self.share)), opening)
            for clients in chain.from_iterable(self._portions):
                answers = (sizes.array(7, 2, clients * sizes.ELEMENT * self.bound.answer),) if self.bound else ()
                total += sizes.message(*answers)
        return total

    def received(self, holder: bool = True) -> int:
        """Bytes of keys, seeds and envelopes that a client receives; texts and framing come on top."""
        others = self.holders - holder
        total = sizes.keys(self.n, self.holders, holder)
        total += self.holders * _envelope(self.share) + others * OPENING_BYTES
        if self.bound:
            total += SEED_BYTES
        if holder:
            total += (self.n - 1) * _envelope(self.share) + others * TAG_BYTES
            if self.bound:
                messages = sum(map(len, self._portions))
                total += (self.n - 1) * _envelope(self.bound.proof) + 2 * SEED_BYTES * messages
        return total


def _envelope(elements: int) -> int:
    """Bytes of field elements, with the version of the base and the size of the update, sealed."""
    return sizes.ELEMENT * (2 + elements) + ENVELOPE_OVERHEAD
