"""A client's side of one run of the secure mean, message by message; see `secfpp.secure.secure_mean`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from secfpp.crypto.channel import ENVELOPE_OVERHEAD, Label
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.randomness import Stream
from secfpp.crypto.sharing import LagrangeCode
from secfpp.errors import FieldRangeError, ProtocolError, TamperError, WireError
from secfpp.protocol import wire
from secfpp.protocol.program import Arrays, ClientId
from secfpp.secure import committee
from secfpp.secure.mean_relay import AGREE, RECEIVE, SUM, Inclusion, others
from secfpp.secure.session import Joined


def code_for(holders: int, threshold: int) -> LagrangeCode:
    """The code in which a quorum of holders, and no fewer, decode."""
    return LagrangeCode(holders, threshold, committee.quorum(holders, threshold) - threshold)


@dataclass
class MeanRun:
    """A client's side of one run: its place, and what it keeps in memory between the steps.

    Attributes:
        share: its own share of its own update, if it is a holder and has shared.
        agreed: digest of the inclusion that it confirmed.
        sum: the sum of the shares it holds of those.
        given: whether it gave that out.
    """

    place: Joined
    share: Elements | None = field(default=None, repr=False)
    agreed: bytes | None = None
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

    @property
    def code(self) -> LagrangeCode:
        """The code of the shares."""
        return code_for(len(self.place.holders), int(self.place.about["threshold"]))

    def seal_shares(self, update: Elements, version: int, stream: Stream) -> np.ndarray:
        """Share the encoded update; envelopes for the other holders."""
        code, holders = self.code, self.place.holders
        blocks = np.zeros((code.blocks, -(-update.size // code.blocks)), np.uint64)
        blocks.reshape(-1)[: update.size] = update.reshape(-1)
        shares = dict(zip(holders, code.encode(blocks, stream), strict=True))
        self.share = shares.get(self.name)
        recipients = others(self.name, holders)
        label, number = self.place.label("share"), np.array(version, np.int64)
        messages = [wire.encode({"elements": shares[h], "version": number}) for h in recipients]
        return self._seal(recipients, label, messages)

    def take_shares(self, payload: Arrays, size: int, least: int) -> np.ndarray:
        """Add the shares of the included clients; words for the other holders that this is the inclusion.

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
        length = -(-size // self.code.blocks)
        label, total = self.place.label("share"), np.zeros(length, np.uint64)
        for sender, row in zip(senders, _envelopes(payload, "envelopes", len(senders), AGREE), strict=True):
            message = self._open(sender, label, row, length)
            version = message.get("version")
            if version is None or version.shape != () or version.dtype.kind != "i":
                raise TamperError(sender, label.name, "what it sealed is no share with its version")
            if int(version) != inclusion.version:
                raise TamperError(None, AGREE, f"{sender!r} is said to be in the mean, but has another base")
            total = PrimeField.add(total, message["elements"])
        if self.name in inclusion.included:
            assert self.share is not None
            total = PrimeField.add(total, self.share)
        self.agreed, self.sum, self.share = inclusion.digest, total, None
        recipients = others(self.name, self.place.holders)
        return self._seal(recipients, self.place.label("agree", inclusion.digest), [b""] * len(recipients))

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
        label, confirmed = self.place.label("agree", self.agreed), 1
        for holder, row in zip(holders, _envelopes(payload, "echoes", len(holders), SUM), strict=True):
            try:
                self.place.channel.open(holder, label, row.tobytes())
                confirmed += 1
            except TamperError:
                continue
        if confirmed < self.code.required():
            raise TamperError(
                None,
                SUM,
                f"{confirmed} holders confirm that they were told of the same updates in the mean, "
                f"{self.code.required()} are needed: the server told others something else, or words were changed",
            )
        self.given = True
        recipients, message = others(self.name, self.place.clients), wire.encode({"elements": self.sum})
        return self._seal(recipients, self.place.label("sum", self.agreed), [message] * len(recipients))

    def open_sum(self, payload: Arrays, inclusion: Inclusion, size: int) -> tuple[Elements, dict[ClientId, str]]:
        """Decode the sum of the included updates, flat.

        Returns:
            The sum [size], and what is wrong with the sums of which holders; they were left out.

        Raises:
            TamperError: not enough good sums are left to tell.
        """
        if self.agreed not in (None, inclusion.digest):
            raise TamperError(None, RECEIVE, "the mean is said to be of other updates than was agreed")
        code, holders = self.code, self.place.holders
        length, label = -(-size // code.blocks), self.place.label("sum", inclusion.digest)
        sums, wrong = {} if self.sum is None else {holders.index(self.name): self.sum}, {}
        senders = _names(payload, "holders", others(self.name, holders), RECEIVE)
        for sender, row in zip(senders, _envelopes(payload, "envelopes", len(senders), RECEIVE), strict=True):
            try:
                sums[holders.index(sender)] = self._open(sender, label, row, length)["elements"]
            except TamperError as error:
                wrong[sender] = str(error).partition(": ")[2]
        if len(sums) < code.required():
            raise TamperError(
                next(iter(wrong)) if len(wrong) == 1 else None,
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
                wrong[holders[liar]] = "a sum that does not fit those of the other holders"
            blocks = code.decode(sums)
        return blocks.reshape(-1)[:size], wrong

    def seal_base(self, payload: Arrays, base: np.ndarray, version: np.ndarray) -> Arrays:
        """The base for the late clients named in `payload`; nothing if there are none."""
        if "late" not in payload:
            return {}
        late = _names(payload, "late", others(self.name, self.place.clients), "aggregator.catch_up")
        message = wire.encode({"base": base, "version": version})
        return {"bases": self._seal(late, self.place.label("catch_up"), [message] * len(late))}

    def open_base(self, payload: Arrays) -> tuple[np.ndarray, np.ndarray]:
        """The base, and its version, that a sponsor sealed."""
        label = self.place.label("catch_up")
        if not {"sponsor", "base"} <= payload.keys():
            raise ProtocolError(f"step {label.name!r}: a message without a base")
        sponsor = str(payload["sponsor"].item())
        message = self._message(sponsor, label, payload["base"])
        if message.keys() != {"base", "version"}:
            raise TamperError(sponsor, label.name, "what it sealed is no base with its version")
        return message["base"], message["version"]

    def _seal(self, recipients: Sequence[ClientId], label: Label, messages: Sequence[bytes]) -> np.ndarray:
        seal = self.place.channel.seal
        envelopes = [
            np.frombuffer(seal(recipient, label, message), np.uint8)
            for recipient, message in zip(recipients, messages, strict=True)
        ]
        return np.stack(envelopes) if envelopes else np.zeros((0, ENVELOPE_OVERHEAD), np.uint8)

    def _open(self, sender: ClientId, label: Label, row: np.ndarray, length: int) -> dict[str, np.ndarray]:
        """A sealed message with `length` field elements."""
        message = self._message(sender, label, row)
        elements = message.get("elements")
        try:
            if elements is not None and PrimeField.checked(elements).shape == (length,):
                return message
        except FieldRangeError:
            pass
        raise TamperError(sender, label.name, f"what it sealed are not {length} field elements")

    def _message(self, sender: ClientId, label: Label, row: np.ndarray) -> dict[str, np.ndarray]:
        plaintext = self.place.channel.open(sender, label, row.tobytes())
        try:
            return wire.decode(plaintext)
        except WireError:
            raise TamperError(sender, label.name, "what it sealed is no message of this protocol") from None


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
        names = tuple(map(str, json.loads(payload[key].item())))
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
