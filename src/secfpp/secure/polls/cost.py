"""What a `SecurePoll` costs, from public numbers alone; compared with measured counts in the tests.

With c holders, of whom T may collude, n clients, m bits and k groups, `at_least` compares k m counts of at most n, in w
bits with 2^(w - 1) above (T + 2)(n + 1), cut into 4 digits (2 where nothing above degree 3 T is opened). For each it
opens w elements, then one and 2^b - 1 for every digit of b > 1 bits, then the answer. `favours` makes two comparisons,
of up to 60 bits. Exchanges of the computation are 3 and 4; where nothing above degree 3 T is opened, 3 or 4 and 5 or 6.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from secfpp.crypto.comparison import Comparator
from secfpp.crypto.material import UNIFORM, Kind
from secfpp.secure.circuits.cost import CircuitCost, compared
from secfpp.secure.polls.circuit import Counting, MeanTest, circuit_of
from secfpp.secure.polls.questions import AtLeast, Question
from secfpp.secure.polls.secure_poll import SecurePoll


@dataclass(frozen=True)
class PollCost(CircuitCost):
    """Costs of one answer of a `SecurePoll`.

    Args:
        settings: the poll.
        question: what is asked, of how many clients; who is in which group makes no difference.
    """

    settings: SecurePoll
    question: Question

    @property
    def n(self) -> int:
        """Clients, all of whom answer."""
        return self.question.clients

    @property
    def limit(self) -> int:
        """The largest degree that is opened, in multiples of T."""
        return self.settings.limit(self.n)

    @property
    def shared(self) -> int:
        """Field elements that a client shares: its bits, or those of its gain."""
        return self._circuit.width

    @property
    def answers(self) -> int:
        """Bits that become public."""
        return self.question.k * self.question.bits if isinstance(self.question, AtLeast) else 1

    @cached_property
    def opened(self) -> tuple[int, ...]:
        """Openings in every exchange of the computation, in order."""
        every = [compared(comparator, self.answers, self.limit) for comparator in self._comparators]
        return (*map(sum, zip(*every, strict=True)), self.answers)

    @property
    def decisive(self) -> int:
        """The answers."""
        return 1

    @property
    def demand(self) -> Mapping[Kind, int]:
        """Pieces of randomness by kind: comparisons take an integer and two uniform elements, answers nothing."""
        count = len(self._comparators) * self.answers
        wanted = Counter[Kind]({UNIFORM: sum(self.opened) + count - self.answers + self.verified})
        for comparator in () if self.active else self._comparators:
            wanted["integers", comparator.k] += self.answers
        return wanted

    @cached_property
    def _circuit(self) -> Counting | MeanTest:
        return circuit_of(self.question, self.carry, self.limit)

    @property
    def _comparators(self) -> list[Comparator]:
        circuit = self._circuit
        return [circuit.comparator] if isinstance(circuit, Counting) else [circuit.positive, circuit.significant]
