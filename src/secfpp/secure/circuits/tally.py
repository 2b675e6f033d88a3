"""How one holder verifies what it was told and dealt, with the others; see `secfpp.crypto.verified`.

Before an exchange in which something is opened that is not uniform by itself, and at the end, holders seal what they
make of what they were told to each other. None opens that exchange, or goes on after it, before it has seen that enough
of the others were told the same, and that this was opened.

Before anything is opened at all they verify what was dealt:

* that what should vanish does, which is told to be 0 like the roots of squares (see `secfpp.crypto.gate`);
* that all dealings are of degree T: a combination of everybody's, under one more random element, has to be. Otherwise
  two sets of responders would open different values, whose difference is made of single shares.

Their weights come of the coins of a quorum, as in `secfpp.crypto.checks`. A holder shows its coin after it was told
hashes of everything that was dealt to anybody. Whoever verifies together was told the same hashes, and has an honest
holder among them whose coin is in: so nothing was dealt by somebody who knew the weights, also what is given later to a
holder that stood by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256

import numpy as np

from secfpp.crypto.arithmetic import Shared, Square
from secfpp.crypto.checks import combination, joint_stream
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.gate import SUMS, weighed
from secfpp.crypto.material import Material
from secfpp.crypto.randomness import Stream
from secfpp.crypto.verified import blended, mask_shape, of_degree, of_zeros, zero_share
from secfpp.errors import FieldRangeError, ProtocolError, TamperError
from secfpp.protocol.program import Arrays, ClientId
from secfpp.secure.circuits.checks import Weighed
from secfpp.secure.circuits.plan import Plan
from secfpp.secure.envelopes import ENVELOPES, others
from secfpp.secure.session import Joined, as_array

DIGEST_BYTES = 32


def digest(envelope: np.ndarray) -> np.ndarray:
    """The hash of what one party dealt to another, sealed [32]."""
    return as_array(sha256(np.ascontiguousarray(envelope).data).digest())


class Tally:
    """What a holder makes of what it was told since it last verified that.

    Args:
        joined: its place.
        plan: the computation.
        material: from which it takes what hides its sums.
    """

    def __init__(self, joined: Joined, plan: Plan, material: Material) -> None:
        self._joined, self._plan, self._gate = joined, plan, material.gate
        shape = mask_shape(plan.holders, plan.threshold, plan.limit)
        self._masks = material.uniform((plan.checks, *shape)).values
        self._blind = material.uniform((shape[1],)).values
        self._sums, self._number = np.zeros(SUMS, np.uint64), 0
        self._dealt: Elements | None = None  # until it is verified
        self._own: Elements | None = None  # until what was told so far is verified
        self._sealed: Arrays = {}

    def add(self, opened: Sequence[Shared], told: Sequence[Elements], history: bytes) -> None:
        """Take in the public values of an exchange, and that history, of which they are part.

        Those of squares are left out: the gate takes them in.
        """
        pairs = [(of, value) for of, value in zip(opened, told, strict=True) if not isinstance(of, Square)]
        differences = [PrimeField.sub(of.values, value).reshape(-1) for of, value in pairs]
        if differences:
            self._add(np.concatenate(differences), history)

    def add_dealing(self, weighed_: Weighed, history: bytes) -> None:
        """Take in the checks of what was dealt."""
        self._add(weighed_.zero, history + b"dealing")
        weights = joint_stream(weighed_.coins, "everybody").elements(weighed_.degree.shape)
        self._dealt = combination(weighed_.degree[None], weights)

    def _add(self, defects: Elements, history: bytes) -> None:
        weights = Stream(sha256(b"secfpp/told/1\0" + history).digest())
        self._sums = PrimeField.add(self._sums, weighed(defects, weights))

    def _shown(self, transcript: bytes) -> Elements:
        """What this holder shows: the sums, and the dealing as long as that is not verified."""
        if self._own is None:
            if self._number == len(self._masks) or (not self._number and self._dealt is None):
                raise ProtocolError("what was told is to be verified more often than planned, or too early")
            told = Stream(sha256(b"secfpp/zeros/1\0" + transcript).digest())
            own = self._number_of(self._joined.party.name)
            zeros = zero_share(self._masks[self._number], own, told)
            self._own = PrimeField.add(PrimeField.add(self._sums, self._gate.sums), zeros)
            if self._dealt is not None:
                blind = blended(self._blind, Stream(sha256(b"secfpp/blind/1\0" + transcript).digest()))
                self._own = np.concatenate([self._own, PrimeField.add(self._dealt, blind)])
        return self._own

    def answer(self, transcript: bytes) -> Arrays:
        """What it shows all other holders, sealed; the same again if it is asked again."""
        if not self._sealed:
            content = self._shown(transcript).tobytes()
            label, channel = self._joined.label("tally", transcript), self._joined.channel
            recipients = others(self._joined.party.name, self._joined.holders)
            self._sealed = {ENVELOPES: channel.seal_each(recipients, label, [content] * len(recipients))}
        return self._sealed

    def verify(self, tallies: Mapping[ClientId, np.ndarray], transcript: bytes, step_name: str) -> None:
        """Verify all that was told since the last time, by what others show, sealed.

        Raises:
            TamperError: something else was told than was opened or dealt, or one of the others lies, or too few
                were told the same.
        """
        own = self._shown(transcript)
        label, shown = self._joined.label("tally", transcript), {self._number_of(self._joined.party.name): own}
        for name, sealed in tallies.items():
            values = np.frombuffer(self._joined.channel.open(name, label, sealed.data), np.uint8)
            shown[self._number_of(name)] = _elements(values, own.size, name, step_name)
        if len(shown) < self._plan.verifiers:
            raise TamperError(
                None, step_name, f"{len(shown)} holders verify what was told, less than {self._plan.verifiers}"
            )
        sums = {number: values[:SUMS] for number, values in shown.items()}
        if not of_zeros(sums, self._plan.limit * self._plan.threshold):
            raise TamperError(None, step_name, "holders were told something else than was opened, or one of them lies")
        dealt = {number: values[SUMS:] for number, values in shown.items()}
        if self._dealt is not None and not of_degree(dealt, self._plan.threshold):
            raise TamperError(None, step_name, "what was dealt is not of degree T, or a holder lies")
        self._sums, self._number = np.zeros(SUMS, np.uint64), self._number + 1
        self._dealt, self._own, self._sealed = None, None, {}

    def _number_of(self, name: ClientId) -> int:
        return self._joined.holders.index(name)


def _elements(content: np.ndarray, size: int, holder: ClientId, step_name: str) -> Elements:
    try:
        if content.size == 8 * size:
            return PrimeField.checked(content.view(np.uint64))
    except FieldRangeError:
        pass
    raise TamperError(holder, step_name, "what it says of what it was told is no list of field elements")
