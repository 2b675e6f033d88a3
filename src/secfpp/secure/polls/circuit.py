"""The questions of a poll as one holder computes them: nothing is opened but the answer, and uniform masks.

Exchanges: random signs; what is compared, under its mask, while digits of the mask are prepared; one for each level of
digits, none for counts; the answer. Inputs are bits, so that whatever a client shares is in range once they are checked
to be bits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from secfpp.crypto.arithmetic import Computation, Future, Pool, Shared, opened, side_by_side
from secfpp.crypto.comparison import Comparator
from secfpp.crypto.field import Elements
from secfpp.secure.polls.questions import GAIN_BITS, UNIT, AtLeast, Favours, Question


@dataclass(frozen=True)
class Counting:
    """The circuit of `AtLeast`.

    Args:
        question: what is asked.
        threshold: T, or more where masks carry more, see `secfpp.crypto.comparison.Comparator.carry`.
        limit: the largest degree that is opened, in multiples of T.
    """

    question: AtLeast
    threshold: int
    limit: int

    @property
    def width(self) -> int:
        """Bits that each client shares."""
        return self.question.bits

    @property
    def comparator(self) -> Comparator:
        """How counts are compared."""
        return Comparator.soonest(self.question.clients, self.threshold, self.limit)

    def run(self, inputs: Shared, pool: Pool) -> Computation[Elements]:
        """The answer [k, bits], 0 or 1, of everybody's bits [clients, bits]."""
        asked = self.question
        counts = (Shared.public(asked.members) @ inputs).reshape(-1)
        least = min(asked.least, asked.clients + 1)  # keeps what is compared in range
        drawn = yield from self.comparator.prepare(asked.k * asked.bits, pool)
        masks = Future(drawn.expand(pool))
        _, reached = yield from side_by_side(masks.run(), drawn.negative(least - 1 - counts, masks, pool))
        (answer,) = yield from opened([reached])
        return answer.reshape(asked.k, asked.bits)


@dataclass(frozen=True)
class MeanTest:
    """The circuit of `Favours`: the product of two comparisons, of which neither is opened.

    Args:
        question: what is asked.
        threshold: T, or more where masks carry more, see `secfpp.crypto.comparison.Comparator.carry`.
        limit: the largest degree that is opened, in multiples of T.
    """

    question: Favours
    threshold: int
    limit: int

    @property
    def width(self) -> int:
        """Bits that each client shares: those of its gain plus `UNIT`."""
        return GAIN_BITS

    @property
    def significant(self) -> Comparator:
        """How T^2 (n - 1 + t^2) is compared with t^2 n Q."""
        return Comparator.soonest(self.question.largest_evidence, self.threshold, self.limit)

    @property
    def positive(self) -> Comparator:
        """How T is compared with 0: in as many exchanges, and with so few digits that a product fits the limit."""
        levels = self.significant.levels
        plan = Comparator.plan(self.question.largest_total, self.threshold, self.limit, levels)
        count = min(plan.w, self.limit**levels)
        small, rest = divmod(plan.w, count)
        return replace(plan, widths=(small,) * (count - rest) + (small + 1,) * rest)

    def run(self, inputs: Shared, pool: Pool) -> Computation[Elements]:
        """The answer [1], 0 or 1, of the bits of everybody's gain [clients, GAIN_BITS]."""
        gains = (inputs * Shared.public(1 << np.arange(GAIN_BITS))).sum(1) - UNIT
        u = (gains - self.question.margin).reshape(-1, 1)
        total, squares = u.sum(0), (u * u).sum(0)
        of_total, of_squares = self.question.factors
        evidence = total * total * of_total - squares * of_squares
        more, beyond = yield from side_by_side(self.positive.prepare(1, pool), self.significant.prepare(1, pool))
        of_more, of_beyond = Future(more.expand(pool)), Future(beyond.expand(pool))
        _, _, positive, significant = yield from side_by_side(
            of_more.run(),
            of_beyond.run(),
            more.negative(0 - total, of_more, pool),
            beyond.negative(0 - evidence, of_beyond, pool),
        )
        (answer,) = yield from opened([positive * significant])
        return answer


def circuit_of(question: Question, threshold: int, limit: int) -> Counting | MeanTest:
    """How the question is computed.

    Raises:
        FieldRangeError: too many clients for exact arithmetic.
    """
    if isinstance(question, AtLeast):
        return Counting(question, threshold, limit)
    return MeanTest(question, threshold, limit)


def encode(integer: int) -> Elements:
    """The bits [GAIN_BITS] of a rounded gain, least significant first."""
    bits: Elements = ((integer + UNIT >> np.arange(GAIN_BITS)) & 1).astype(np.uint64)
    return bits
