"""A server that tells holders something else than was opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from secfpp.crypto.arithmetic import Shared
from secfpp.crypto.field import Elements
from secfpp.protocol.program import Program
from secfpp.secure.circuits import server
from secfpp.secure.circuits.messages import Opened

Lie = Callable[[int, Shared, Elements], Elements]
"""What is told instead, from the exchange, what is opened, and the value."""


def lying(monkeypatch: pytest.MonkeyPatch, lie: Lie) -> list[list[Elements]]:
    """Make the server tell something else; what it sees itself, exchange by exchange."""
    seen: list[list[Elements]] = []

    class Lying(server._Lead):
        def open(self, wanted: Sequence[Shared]) -> Program[list[Elements]]:
            values = yield from super().open(wanted)
            seen.append(values)
            told = [lie(len(seen) - 1, of, value) for of, value in zip(wanted, values, strict=True)]
            flat = np.concatenate([value.reshape(-1) for value in told]) if told else np.zeros(0, np.uint64)
            self.opened[-1] = Opened(self.opened[-1].responders, flat)
            return told

    monkeypatch.setattr(server, "_Lead", Lying)
    return seen
