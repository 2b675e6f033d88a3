"""A client's side of one run of the secure mean, message by message; see `secfpp.secure.means.secure_mean`."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from secfpp.crypto.channel import Label
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.randomness import Stream
from secfpp.crypto.sharing import LagrangeCode
from secfpp.errors import ProtocolError, TamperError, WireError
from secfpp.protocol import wire
from secfpp.protocol.fields import parsed
from secfpp.protocol.program import Arrays, ClientId
from secfpp.secure import committee
from secfpp.secure.means.relay import AGREE, RECEIVE, SUM, Inclusion, others
from secfpp.secure.session import Joined

_HEAD = struct.Struct("<2Q")


def code_for(holders: int, threshold: int) -> LagrangeCode:
    """The code in which a quorum of holders, and no fewer, decode."""
    return LagrangeCode(holders, threshold, committee.quorum(holders, threshold) - threshold)


@dataclass
class MeanRun:
    """A client's side of one run: its place, and what it keeps in memory between the steps.

    Attributes:
        share: its own share of its own update, if it is a holder and has shared.
        agreed: the inclusion that it confirmed.
        size: how many numbers the slot has.
        sum: the sum of the shares it holds of those.
        given: whether it gave that out.
    """

    place: Joined
    share: Elements | None = field(default=None, repr=False)
    agreed: Inclusion | None = None
    size: int = 0
    sum: Elements | None = field(default=None, repr=False)
    given: bool = False

    @property
    def name(self) -> ClientId:
        """The client."""
        return self.place.party.name

    @property
    def slot(self) -> str:
        """What is averaged."""
        return str(self.place.about["slot"])

    @property
    def weights(self) -> Mapping[ClientId, int]:
        """Each participant's weight."""
        weights: Mapping[ClientId, int] = self.place.about["weights"]
        return weights

    @cached_property
    def code(self) -> LagrangeCode:
        """The code of the shares."""
        return code_for(len(self.place.holders), int(self.place.about["threshold"]))

    def seal_shares(self, update: Elements, version: int, stream: Stream) -> np.ndarray:
        """Share the encoded update; envelopes for the other holders."""
        code, holders = self.code, self.place.holders
        blocks = np.zeros((code.blocks, self._length(update.size)), np.uint64)
        blocks.reshape(-1)[: update.size] = update.reshape(-1)
        shares = dict(zip(holders, code.encode(blocks, stream), strict=True))
        self.share = shares.get(self.name)
        recipients = others(self.name, holders)
        messages = [_numbers(version, update.size, shares[holder]) for holder in recipients]
        return self._seal(recipients, self.place.label("share"), messages)

    def take_shares(self, payload: Arrays, size: int, least: int) -> np.ndarray:
        """Add the shares of the included clients; tags that tell the other holders that this is the inclusion.

        Raises:
            TamperError: a second inclusion, or an envelope that is not what its sender should have sealed.
        """
        inclusion = Inclusion.read(payload.get("inclusion"), self.weights, least, AGREE)
        if self.agreed is not None:
            raise TamperError(None, AGREE, "holders confirm one list of included clients per run, here is another")
        if self.name not in self.place.holders:
            raise ProtocolError(f"step {AGREE!r}: {self.name!r} is no holder of this run")
        if self.name in inclusion.included and self.share is None:
            raise TamperError(None, AGREE, f"{self.name!r} is said to be in the mean, but shared nothing")
        senders = others(self.name, inclusion.included)
        label, total = self.place.label("share"), np.zeros(self._length(size), np.uint64)
        for sender, row in zip(senders, _envelopes(payload, "envelopes", len(senders), AGREE), strict=True):
            version, share = self._open(sender, label, row, size)
            if version != inclusion.version:
                raise TamperError(None, AGREE, f"{sender!r} is said to be in the mean, but has another base")
            total = PrimeField.add(total, share)
        if self.name in inclusion.included:
            assert self.share is not None
            total = PrimeField.add(total, self.share)
        self.agreed, self.size, self.sum, self.share = inclusion, size, total, None
        label = self.place.label("agree", inclusion.digest)
        return _rows([self.place.channel.tag(holder, label) for holder in others(self.name, self.place.holders)])

    def seal_sums(self, payload: Arrays) -> np.ndarray:
        """Envelopes with the sum for all other participants.

        Raises:
            TamperError: fewer holders than a quorum have confirmed the same inclusion.
        """
        if self.agreed is None or self.sum is None:
            raise ProtocolError(f"step {SUM!r}: {self.name!r} was not told who is in the mean; run the round again")
        if self.given:
            raise TamperError(None, SUM, "a holder's sum is given out once, here it is asked for again")
        holders = _names(payload, "holders", others(self.name, self.place.holders), SUM)
        label, confirmed = self.place.label("agree", self.agreed.digest), 1
        for holder, row in zip(holders, _envelopes(payload, "echoes", len(holders), SUM), strict=True):
            try:
                self.place.channel.check(holder, label, row.tobytes())
                confirmed += 1
            except TamperError:
                continue
        if confirmed < self.code.required():
            raise TamperError(
                None,
                SUM,
                f"{confirmed} holders confirm that they were told of the same updates in the mean, "
                f"{self.code.required()} are needed: the server told others something else, or tags were changed",
            )
        self.given = True
        recipients, message = others(self.name, self.place.clients), _numbers(self.agreed.version, self.size, self.sum)
        return self._seal(recipients, self.place.label("sum", self.agreed.digest), [message] * len(recipients))

    def open_sum(self, payload: Arrays, inclusion: Inclusion, size: int) -> tuple[Elements, list[ClientId]]:
        """Decode the sum of the included updates, flat.

        Returns:
            The sum [size], and the holders whose sums are wrong; they were left out.

        Raises:
            TamperError: not enough good sums are left to tell.
        """
        if self.agreed not in (None, inclusion):
            raise TamperError(None, RECEIVE, "the mean is said to be of other updates than was agreed")
        code, holders = self.code, self.place.holders
        label = self.place.label("sum", inclusion.digest)
        sums: dict[int, Elements] = {} if self.sum is None else {holders.index(self.name): self.sum}
        wrong: list[ClientId] = []
        senders = _names(payload, "holders", others(self.name, holders), RECEIVE)
        for sender, row in zip(senders, _envelopes(payload, "envelopes", len(senders), RECEIVE), strict=True):
            try:
                sums[holders.index(sender)] = self._open(sender, label, row, size)[1]
            except TamperError:
                wrong.append(sender)
        if len(sums) < code.required():
            raise TamperError(
                wrong[0] if len(wrong) == 1 else None,
                RECEIVE,
                f"{len(sums)} good sums, {code.required()} are needed; not good: {', '.join(wrong) or 'none'}",
            )
        try:
            blocks = code.decode(sums)
        except TamperError:
            liars = code.liars(sums)
            if not liars:
                raise TamperError(
                    None,
                    RECEIVE,
                    f"the {len(sums)} sums are not of one polynomial, and there are too few to tell whose are wrong: "
                    "a holder sent a wrong sum, or a client wrong shares",
                ) from None
            for liar in liars:
                del sums[liar]
                wrong.append(holders[liar])
            blocks = code.decode(sums)
        return blocks.reshape(-1)[:size], wrong

    def seal_base(self, payload: Arrays, base: np.ndarray, word: Arrays) -> Arrays:
        """The base for the late clients named in `payload`, and who else may have it; nothing if there are none."""
        if "late" not in payload:
            return {}
        late = _names(payload, "late", others(self.name, self.place.clients), "aggregator.catch_up")
        message = bytes(wire.encode({"base": base, **word}))
        return {"bases": self._seal(late, self.place.label("catch_up"), [message] * len(late))}

    def open_base(self, payload: Arrays) -> tuple[np.ndarray, Arrays]:
        """The base that a sponsor sealed, and all that came with it."""
        label = self.place.label("catch_up")
        if not {"sponsor", "base"} <= payload.keys():
            raise ProtocolError(f"step {label.name!r}: a message without a base")
        sponsor = str(payload["sponsor"].item())
        try:
            found = wire.decode(self.place.channel.open(sponsor, label, payload["base"].tobytes()))
            return found["base"], found
        except (WireError, KeyError):
            raise TamperError(sponsor, label.name, "what it sealed is no base") from None

    def _seal(self, recipients: Sequence[ClientId], label: Label, messages: Sequence[bytes]) -> np.ndarray:
        seal = self.place.channel.seal
        sealed = zip(recipients, messages, strict=True)
        return _rows([seal(recipient, label, message) for recipient, message in sealed])

    def _open(self, sender: ClientId, label: Label, row: np.ndarray, size: int) -> tuple[int, Elements]:
        """A version and a block of a slot of `size` numbers, see `_numbers`."""
        plaintext = self.place.channel.open(sender, label, row.tobytes())
        if len(plaintext) == 8 * (2 + self._length(size)):
            (version, length), share = _HEAD.unpack_from(plaintext), np.frombuffer(plaintext, "<u8", offset=_HEAD.size)
            if length == size and int(share.max(initial=0)) < PrimeField.p:
                return version, share.astype(np.uint64, copy=False)
        raise TamperError(sender, label.name, f"what it sealed is no share of a slot of {size} numbers")

    def _length(self, size: int) -> int:
        """Numbers in a block of a slot."""
        return -(-size // self.code.blocks)


def _numbers(version: int, size: int, elements: Elements) -> bytes:
    """What is sealed: the version of the base, the size of the slot, a block; each number in 8 bytes, little-endian."""
    return _HEAD.pack(version, size) + elements.astype("<u8", copy=False).tobytes()


def _rows(messages: Sequence[bytes]) -> np.ndarray:
    """Messages of one length, uint8 [messages, bytes]."""
    return np.frombuffer(b"".join(messages), np.uint8).reshape(len(messages), -1 if messages else 0)


def attempt_in(payload: Arrays) -> int:
    """The attempt that a message is of.

    Raises:
        ProtocolError: it names none.
    """
    attempt = payload.get("attempt")
    if attempt is None or attempt.shape != () or attempt.dtype.kind != "i":
        raise ProtocolError("a message of the secure mean without the number of its attempt")
    return int(attempt)


def _names(payload: Arrays, key: str, allowed: Sequence[ClientId], step: str) -> tuple[ClientId, ...]:
    """Clients that a message names, a sorted part of `allowed`."""
    try:
        names = tuple(map(str, parsed(payload[key].item())))
    except (ValueError, TypeError, KeyError) as error:
        raise ProtocolError(f"step {step!r}: a list of {key} that cannot be read") from error
    if list(names) != sorted(set(names)) or not set(names) <= set(allowed):
        raise ProtocolError(f"step {step!r}: {key} that are not clients of this run, each once, sorted")
    return names


def _envelopes(payload: Arrays, key: str, count: int, step: str) -> np.ndarray:
    array = payload.get(key)
    if array is None or array.dtype != np.uint8 or array.ndim != 2 or len(array) != count:
        raise ProtocolError(f"step {step!r}: {count} envelopes are announced, the message has others")
    return array
