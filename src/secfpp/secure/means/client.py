"""A client's side of one run of the secure mean, message by message; see `secfpp.secure.means.secure_mean`."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, reduce

import numpy as np

from secfpp.crypto.bounds import Bound, Challenge, challenge
from secfpp.crypto.channel import TAG_BYTES, Data, Label
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.fixed_point import FixedPoint
from secfpp.crypto.randomness import Stream
from secfpp.crypto.sharing import LagrangeCode
from secfpp.errors import ProtocolError, TamperError, WireError
from secfpp.protocol import wire
from secfpp.protocol.fields import text_in
from secfpp.protocol.program import Arrays, ClientId
from secfpp.secure import committee
from secfpp.secure.envelopes import others
from secfpp.secure.means.batches import TAKE, batch_of
from secfpp.secure.means.bounded import CHECK, PROVE, bound_of, commitment
from secfpp.secure.means.messages import envelopes_of, names_of
from secfpp.secure.means.relay import AGREE, RECEIVE, SUM, Inclusion
from secfpp.secure.means.updates import HEAD, Base, head_of, unweighted
from secfpp.secure.session import Joined, bind
from secfpp.secure.tasks import Task, Work


def code_for(holders: int, threshold: int) -> LagrangeCode:
    """The code in which a quorum of holders, and no fewer, decode."""
    return LagrangeCode(holders, threshold, committee.quorum(holders, threshold) - threshold)


@dataclass
class MeanRun:
    """A client's side of one run: its place, and what it keeps in memory between the steps.

    Attributes:
        codec: of updates.
        update: its own update, unweighted, until it is proven to be clipped.
        head: what comes before its shares, see `head_of`.
        own: its own shares of what it shared, if it is a holder: of its update, then of the proof.
        shares: of others' updates that it was handed, with what came before each.
        answered: about whose proofs it answered.
        agreed: the inclusion that it confirmed.
        size: how many numbers the slot has.
        sum: the sum of the shares it holds of those.
        given: whether it gave that out.
    """

    place: Joined
    codec: FixedPoint
    update: np.ndarray | None = field(default=None, repr=False)
    head: bytes = b""
    own: list[Elements] = field(default_factory=list, repr=False)
    shares: dict[ClientId, tuple[bytes, Elements]] = field(default_factory=dict, repr=False)
    answered: set[ClientId] = field(default_factory=set, repr=False)
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

    def weight(self, client: ClientId) -> int:
        """A participant's weight."""
        return int(self.place.about["weights"][bisect_left(self.place.clients, client)])

    def batch(self, client: ClientId) -> int:
        """In which batch a participant shares."""
        return batch_of(client, self.place.clients, self.place.holders)

    @property
    def least(self) -> int:
        """Fewest updates that the mean may be of."""
        return int(self.place.about["min_responders"])

    @cached_property
    def code(self) -> LagrangeCode:
        """The code of the shares."""
        return code_for(len(self.place.holders), int(self.place.about["threshold"]))

    @property
    def bounded(self) -> bool:
        """Whether everybody proves that its update is clipped."""
        return bool(self.place.about["bounded"])

    def seal_shares(self, update: Elements, base: Base, stream: Stream) -> Task[np.ndarray]:
        """Share the encoded update, made from a base; envelopes for the other holders."""
        blocks = np.zeros((self.code.blocks, self._length(update.size)), np.uint64)
        blocks.reshape(-1)[: update.size] = update.reshape(-1)
        if self.bounded:
            self.update = unweighted(update, self.weight(self.name)).reshape(-1)
        self.head = self._head(base, update.size)
        return (yield from self._seal_encoded(blocks, stream, self.place.label("share")))

    def seal_proof(self, payload: Arrays, stream: Stream) -> Task[np.ndarray]:
        """Share a proof that the update is clipped; envelopes for the other holders.

        Raises:
            TamperError: signs that the server did not commit to, or a second proof is asked for.
        """
        if self.update is None:
            raise TamperError(None, PROVE, "an update is proven to be clipped once, after it was shared")
        bound = bound_of(self.code, self._length(self.update.size), self.codec)
        seed = self._seed(payload, "project", self.batch(self.name), PROVE)
        update, self.update = self.update, None
        proof = yield Work(Bound.prove, (bound, seed), (update, stream), (bound.blocks, bound.length + bound.proof))
        return (yield from self._seal_encoded(proof, stream, self.place.label("prove")))

    def _seal_encoded(self, blocks: Elements, stream: Stream, label: Label) -> Task[np.ndarray]:
        code, holders = self.code, self.place.holders
        shares: Elements = yield Work(LagrangeCode.encode_each, (code,), (blocks, stream), blocks.shape)
        messages = dict(zip(holders, _data(_numbers(self.head, shares)), strict=True))
        if messages.pop(self.name, None) is not None:
            self.own.append(shares[holders.index(self.name)].copy())
        return self.place.channel.seal_each(list(messages), label, list(messages.values()))

    def answer(self, payload: Arrays, size: int) -> Task[Elements]:
        """Open the shares and the proofs of clients, and answer about them, see `Challenge.answers`.

        Raises:
            TamperError: a second time, seeds that the server did not commit to, or an envelope that is not what its
                sender should have sealed.
        """
        clients = names_of(payload, "clients", self.place.clients, CHECK)
        if not self.answered.isdisjoint(clients):
            raise TamperError(None, CHECK, "a holder answers about proofs once, here it is asked again")
        if len(batches := set(map(self.batch, clients))) != 1:
            raise ProtocolError(
                f"step {CHECK!r}: clients of {len(batches)} batches, of which each has seeds of its own"
            )
        seeds = (self._seed(payload, name, min(batches), CHECK) for name in ("project", "check"))
        drawn = challenge(bound_of(self.code, self._length(size), self.codec), *seeds)
        if self.name in clients and len(self.own) < 2:
            raise TamperError(None, CHECK, f"{self.name!r} is said to have proven its update, but did not")
        self.open_shares(payload, clients, size, CHECK)
        senders, label = others(self.name, clients), self.place.label("prove")
        rows = envelopes_of(payload, "proofs", len(senders), CHECK)
        proofs = self._opened(senders, label, rows, size, drawn.bound.proof)[1]
        if self.name in clients:
            proofs = np.insert(proofs, clients.index(self.name), self.own[1], axis=0)
        weights = [self.weight(client) for client in clients]
        vectors = np.stack([self.shares[client][1] for client in clients])
        if set(weights) != {1}:
            inverses = {weight: pow(weight, -1, PrimeField.p) for weight in set(weights)}
            vectors = PrimeField.mul(vectors, np.array([inverses[weight] for weight in weights], np.uint64)[:, None])
        self.answered.update(clients)
        shape = len(clients), vectors.shape[1] + proofs.shape[1]
        answers: Elements = yield Work(Challenge.answers_each, (drawn,), (vectors, proofs), shape)
        return answers

    def _seed(self, payload: Arrays, name: str, batch: int, step: str) -> bytes:
        seed, told = payload[name].tobytes() if name in payload else b"", self.place.fact(name, list)
        if batch >= len(told) or commitment(seed) != told[batch]:
            raise TamperError(None, step, f"the server draws something else for {name!r} than it committed to")
        return seed

    def take_in(self, payload: Arrays, size: int) -> None:
        """Open shares of clients, where nothing is proven.

        Raises:
            TamperError: an envelope that is not what its sender should have sealed.
        """
        self.open_shares(payload, names_of(payload, "clients", self.place.clients, TAKE), size, TAKE)

    def open_shares(self, payload: Arrays, clients: Sequence[ClientId], size: int, step: str) -> None:
        """Open the shares of the updates of `clients`.

        Raises:
            TamperError: an envelope that is not what its sender should have sealed.
        """
        if self.own:
            self.shares[self.name] = self.head, self.own[0]
        senders, label = others(self.name, clients), self.place.label("share")
        rows = envelopes_of(payload, "envelopes", len(senders), step)
        heads, shares = self._opened(senders, label, rows, size, self._length(size))
        self.shares.update(zip(senders, zip(heads, shares, strict=True), strict=True))

    def take_shares(self, payload: Arrays, size: int, least: int) -> np.ndarray:
        """Add the shares of the included clients; tags that tell the other holders that this is the inclusion.

        Raises:
            TamperError: a second inclusion, also if the round was started again in between, or an envelope that is not
                what its sender should have sealed.
        """
        inclusion = Inclusion.read(payload.get("inclusion"), len(self.place.clients), least, AGREE)
        included = inclusion.among(self.place.clients)
        if self.agreed is not None:
            raise TamperError(None, AGREE, "holders confirm one list of included clients per run, here is another")
        if self.name not in self.place.holders:
            raise ProtocolError(f"step {AGREE!r}: {self.name!r} is no holder of this run")
        if self.name in included and not self.own:
            raise TamperError(None, AGREE, f"{self.name!r} is said to be in the mean, but shared nothing")
        if not self.bounded and "envelopes" in payload:
            self.open_shares(payload, included, size, AGREE)
        head = self._head(inclusion.base, size)
        for client in included:
            if client not in self.shares:
                raise TamperError(None, AGREE, f"{client!r} is said to be in the mean, but its update was not checked")
            if self.shares[client][0] != head:
                raise TamperError(None, AGREE, f"{client!r} is said to be in the mean, but has another base")
        weights = {client: self.weight(client) for client in included}
        bind(self.place, f"sum of {self.slot}", [inclusion.base.version, inclusion.base.digest, weights])
        total = reduce(PrimeField.add, (self.shares[client][1] for client in included))
        self.agreed, self.size, self.sum, self.shares, self.own = inclusion, size, total, {}, []
        label = self.place.label("agree", inclusion.digest)
        tags = [self.place.channel.tag(holder, label) for holder in others(self.name, self.place.holders)]
        return np.frombuffer(b"".join(tags), np.uint8).reshape(-1, TAG_BYTES)

    def seal_sums(self, payload: Arrays) -> Arrays:
        """The sum, sealed for all other participants.

        Raises:
            TamperError: fewer holders than a quorum have confirmed the same inclusion.
        """
        if self.agreed is None or self.sum is None:
            raise ProtocolError(f"step {SUM!r}: {self.name!r} was not told who is in the mean; run the round again")
        if self.given:
            raise TamperError(None, SUM, "a holder's sum is given out once, here it is asked for again")
        holders = names_of(payload, "holders", others(self.name, self.place.holders), SUM)
        label, confirmed = self.place.label("agree", self.agreed.digest), 1
        for holder, row in zip(holders, envelopes_of(payload, "echoes", len(holders), SUM), strict=True):
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
        message = _numbers(self._head(self.agreed.base, self.size), self.sum)
        recipients = others(self.name, self.place.clients)
        return self._seal_for_all(recipients, self.place.label("sum", self.agreed.digest), message.tobytes())

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
        senders = names_of(payload, "holders", holders, RECEIVE)
        bodies = dict(zip(senders, _data(envelopes_of(payload, "bodies", len(senders), RECEIVE)), strict=True))
        senders = others(self.name, senders)
        opened: dict[ClientId, bytes] = {}
        for sender, row in zip(senders, _data(envelopes_of(payload, "envelopes", len(senders), RECEIVE)), strict=True):
            with suppress(TamperError):
                opened[sender] = self.place.channel.open_for_all(sender, label, bodies[sender], row)
        good, found = self._readable(opened, label, size, self._head(inclusion.base, size))
        sums.update(zip(map(holders.index, good), found, strict=True))
        wrong += [sender for sender in senders if sender not in good]
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
        """The base for late clients that `payload` names, and who else may have it; nothing if it names none."""
        if "late" not in payload:
            return {}
        late = names_of(payload, "late", others(self.name, self.place.clients), "aggregator.catch_up")
        message = bytes(wire.encode({"base": base, **word}))
        return self._seal_for_all(late, self.place.label("catch_up"), message)

    def open_base(self, payload: Arrays) -> tuple[np.ndarray, Arrays]:
        """The base that a sponsor sealed, and all that came with it."""
        label = self.place.label("catch_up")
        if not {"sponsor", "body", "envelope"} <= payload.keys():
            raise ProtocolError(f"step {label.name!r}: a message without a base")
        sponsor, body, envelope = text_in(payload, "sponsor"), payload["body"].tobytes(), payload["envelope"].tobytes()
        try:
            found = wire.decode(self.place.channel.open_for_all(sponsor, label, body, envelope))
            return found["base"], found
        except (WireError, KeyError):
            raise TamperError(sponsor, label.name, "what it sealed is no base") from None

    def _seal_for_all(self, recipients: Sequence[ClientId], label: Label, message: Data) -> Arrays:
        entropy = self.place.party.entropy
        body, envelopes = self.place.channel.seal_for_all(recipients, label, message, entropy)
        return {"body": np.frombuffer(body, np.uint8), "envelopes": envelopes}

    def _opened(
        self, senders: Sequence[ClientId], label: Label, rows: np.ndarray, size: int, count: int
    ) -> tuple[list[bytes], Elements]:
        """What each sender sealed, see `_read`."""
        return self._read(senders, label, self.place.channel.open_each(senders, label, _data(rows)), size, count)

    def _read(
        self, senders: Sequence[ClientId], label: Label, plaintexts: Sequence[bytes], size: int, count: int
    ) -> tuple[list[bytes], Elements]:
        """From each what comes first, and `count` elements about a slot of `size` numbers [senders, count].

        Raises:
            TamperError: it is something else; the error names the first sender.
        """
        for sender, plaintext in zip(senders, plaintexts, strict=True):
            if len(plaintext) != HEAD + 8 * count:
                raise self._no_share(sender, label, size)
        numbers = np.frombuffer(b"".join(plaintexts), "<u8").reshape(len(senders), HEAD // 8 + count)
        elements = numbers[:, HEAD // 8 :]
        wrong = elements.max(1, initial=0) >= PrimeField.p
        if wrong.any():
            raise self._no_share(senders[int(wrong.argmax())], label, size)
        return [plaintext[:HEAD] for plaintext in plaintexts], elements.astype(np.uint64, copy=False)

    def _readable(
        self, opened: Mapping[ClientId, bytes], label: Label, size: int, head: bytes
    ) -> tuple[list[ClientId], Elements]:
        """Of what senders sealed, the blocks of those who sealed one after this `head`, and who they are."""
        senders = [sender for sender, plaintext in opened.items() if plaintext[:HEAD] == head]
        try:
            plaintexts = [opened[sender] for sender in senders]
            return senders, self._read(senders, label, plaintexts, size, self._length(size))[1]
        except TamperError as error:
            rest = {sender: opened[sender] for sender in senders if sender != error.party}
            return self._readable(rest, label, size, head)

    def _head(self, base: Base, size: int) -> bytes:
        return head_of(base, size, self.place.digest)

    def _no_share(self, sender: ClientId, label: Label, size: int) -> TamperError:
        return TamperError(sender, label.name, f"what it sealed is no share of a slot of {size} numbers")

    def _length(self, size: int) -> int:
        """Numbers in a block of a slot."""
        return -(-size // self.code.blocks)


def _numbers(head: bytes, elements: Elements) -> np.ndarray:
    """What is sealed of blocks [..., n]: the head, and a block each, "<u8"."""
    first = np.frombuffer(head, "<u8")
    numbers = np.empty((*elements.shape[:-1], len(first) + elements.shape[-1]), "<u8")
    numbers[..., : len(first)], numbers[..., len(first) :] = first, elements
    return numbers


def _data(rows: np.ndarray) -> Iterator[memoryview]:
    """The bytes of each row."""
    return (row.data for row in rows.view(np.uint8))
