"""What clients hold in memory while a run goes on: read between two exchanges, as whoever controls one of them can."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.fixed_point import FixedPoint
from secfpp.crypto.sharing import LagrangeCode, alpha, beta, interpolation
from secfpp.protocol.program import ClientId, ClientState
from secfpp.runtime.in_process import InProcessDriver
from secfpp.secure.means.client import MeanRun


class Given(NamedTuple):
    """One thing that a client gives into an average: whose, in which round, of which slot."""

    client: ClientId
    round: int
    slot: str


@dataclass(frozen=True)
class Shares:
    """The shares of one thing given, as holders opened them.

    Attributes:
        code: of the shares.
        codec: of what is shared.
        weight: what it counts.
        of: holder's name -> its number and its share, uint64 [length of a block].
    """

    code: LagrangeCode
    codec: FixedPoint
    weight: int
    of: dict[ClientId, tuple[int, Elements]] = field(default_factory=dict)

    def read(self, size: int, without: ClientId) -> np.ndarray | None:
        """What as many holders as may collude make of their shares: float64 [size].

        They take the polynomial of least degree through their shares, which is the one that was dealt if nothing random
        is in it, and read it where the blocks are.

        Args:
            size: numbers that were shared.
            without: a holder who is not among them: whose secret it is.

        Returns:
            None if fewer of their shares are known.
        """
        known = dict(share for name, share in sorted(self.of.items()) if name != without)
        numbers = sorted(known)[: self.code.threshold]
        if len(numbers) < self.code.threshold:
            return None
        blocks = tuple(map(beta, range(self.code.blocks)))
        read = PrimeField.matmul(
            interpolation(tuple(map(alpha, numbers)), blocks), np.stack([known[number] for number in numbers])
        )
        return self.codec.decode(read.reshape(-1)[:size], self.weight)


@dataclass
class Memory:
    """Everything that was seen in memory.

    Attributes:
        given: updates of slots, float64 of their shape, as the client itself knows them: with its own noise, if any.
        held: shares of them, with the holders that were looked at: one more than may collude.
    """

    given: dict[Given, np.ndarray] = field(default_factory=dict)
    held: dict[Given, Shares] = field(default_factory=dict)

    def look(self, driver: InProcessDriver) -> None:
        """Note what is there before an exchange about an average."""
        for client, state in driver.states.items():
            self._note_given(client, state, driver.round_)
            session = getattr(getattr(driver.contexts[client], "party", None), "session", None)
            for run in () if session is None else session.running.values():
                if isinstance(run, MeanRun):
                    self._note_held(run, driver.round_)

    def of(self, slot: str, client: ClientId) -> Mapping[int, np.ndarray]:
        """What a client gave of a slot, by round."""
        return {key.round: update for key, update in self.given.items() if (key.client, key.slot) == (client, slot)}

    def _note_given(self, client: ClientId, state: ClientState, round_: int) -> None:
        for name, base in state.arrays.items():
            slot, _, kind = name.rpartition(".")
            if kind == "base" and not np.array_equal(state[slot], base):
                self.given[Given(client, round_, slot)] = state[slot].astype(np.float64) - base

    def _note_held(self, run: MeanRun, round_: int) -> None:
        number = run.place.holders.index(run.name) if run.name in run.place.holders else len(run.place.holders)
        if number > run.code.threshold:
            return
        for client, (_, share) in run.shares.items():
            if client != run.name:
                key = Given(client, round_, run.slot)
                shares = self.held.setdefault(key, Shares(run.code, run.codec, run.weight(client)))
                shares.of[run.name] = number, share
