"""A computation on shares between a server and the clients that hold them.

Every client shares its input with all holders, and every holder deals randomness (`deal`). Then the holders go through
the computation in step (`proceed`): each answers its masked shares of what is to be opened, and the server adds them
up and tells everybody the sums. The server follows the same computation on shares of nothing, so it knows what is
opened and what comes out.

Dropouts: who does not deal is left out, and the rest starts anew. Later, only as many holders answer as it takes to
decode; the others stand by, and cost nothing. If one of those who should answer is missing, the exchange is asked for
again with another in its place, who first gets what was dealt to it (`begin`) and is told what it missed: opened
values are public, so that everybody goes on from the same shares, also a holder that comes back. All sets that answer
an exchange open the same values, since a holder knows one history only, which is part of what its pads are labelled
with.

Checks run beside the computation, see `secfpp.secure.circuits.checks`. Where security is active, holders verify with
each other (`verify`) what they were told, before it can decide anything: see `secfpp.secure.circuits.tally`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np

from secfpp.crypto.arithmetic import Computation, Shared, require_degree
from secfpp.crypto.checks import COIN_BYTES, commitment
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.masks import split
from secfpp.crypto.material import Material
from secfpp.crypto.randomness import Stream
from secfpp.crypto.replicated import Replicated, dealt_keys
from secfpp.errors import FieldRangeError, ProtocolError, TamperError
from secfpp.protocol.fields import integer_in
from secfpp.protocol.program import Arrays
from secfpp.secure.circuits.checks import Checks, Committed, Done, Weighed
from secfpp.secure.circuits.messages import Answering, Opened, Told
from secfpp.secure.circuits.plan import Plan, to_verify
from secfpp.secure.circuits.tally import DIGEST_BYTES, Tally, digest
from secfpp.secure.envelopes import ENVELOPES, others, unpacked
from secfpp.secure.session import Joined, as_array, as_bytes, keep, kept


@dataclass(frozen=True)
class Dealt:
    """What a holder keeps of its own dealing: its share of that, and its coin."""

    own: Elements = field(repr=False)
    coin: bytes = field(repr=False)


@dataclass
class Running:
    """A computation that has begun.

    Args:
        computation: this holder's side of it.
        pending: what it wants opened in the present exchange.
        inputs: this holder's shares of everybody's input [clients, width].
        checks: what runs beside it.
        tally: to verify what it was told; None if it believes that.
        exchange: number of the present exchange.
        history: hash of all that was told in those before.
        verified: the last exchange before which it verified that.
        result: what comes out, once this holder was told everything.
    """

    computation: Computation[Any] = field(repr=False)
    pending: Sequence[Shared]
    inputs: Elements = field(repr=False)
    checks: Checks
    tally: Tally | None = None
    exchange: int = 0
    history: bytes = b""
    verified: int = -1
    result: Any = None

    @property
    def transcript(self) -> bytes:
        """Which exchange this is, and all that was told before."""
        return self.history + self.exchange.to_bytes(4, "big")

    def weigh(self, tally: Tally, told: Told, step_name: str) -> None:
        """Take in the coins before anything is opened, where what was dealt is verified."""
        checks, said = self.checks.told(told, step_name)
        assert isinstance(checks, Weighed)
        self.checks, self.history = checks, sha256(self.history + said).digest()
        tally.add_dealing(checks, self.history)

    @property
    def unverified(self) -> bool:
        """Whether what was told has to be verified before this exchange."""
        return self.tally is not None and self.verified < self.exchange and to_verify(self.exchange, self.pending)

    def verify(self, told: Told, step_name: str) -> None:
        """Before something decisive, verify what was told; once.

        Raises:
            TamperError: it is wrong, or others do not say that it is right.
        """
        if self.unverified:
            assert self.tally is not None
            self.tally.verify(told.tallies.get(self.exchange, {}), self.transcript, step_name)
            self.verified = self.exchange
            if not self.exchange:
                self.checks = Done()


@dataclass
class Holding:
    """What a holder keeps in memory during one computation."""

    joined: Joined
    plan: Plan
    state: Dealt | Running


def deal(joined: Joined, plan: Plan, own_input: Elements) -> Arrays:
    """Share this client's input, and randomness if it is a holder: one sealed envelope for each holder."""
    party, holders = joined.party, joined.holders
    holder = party.name in holders
    stream = Stream.fresh(party.entropy)
    parts = [own_input, *([plan.deal.make(stream)] if holder else [])]
    dealt = np.concatenate(parts)
    shares = plan.code.encode_apart(dealt[None], stream, plan.keys if holder else 0)
    if holder and plan.sets:
        keys = dealt_keys(plan.sets, plan.holders, holders.index(party.name), stream.elements((plan.keys,)))
        for share, own in zip(shares, keys, strict=True):
            share[len(dealt) :] = own
    messages = {name: share.data.cast("B") for name, share in zip(holders, shares, strict=True) if name != party.name}
    reply = {ENVELOPES: joined.channel.seal_each(list(messages), joined.label("deal"), list(messages.values()))}
    if holder:
        coin = party.entropy.random_bytes(COIN_BYTES)
        keep(joined, Holding(joined, plan, Dealt(shares[holders.index(party.name)].copy(), coin)))
        reply["coin"] = as_array(commitment(party.name, coin))
    return reply


def begin(context: object, payload: Arrays, step_name: str) -> Arrays:
    """Take in what was dealt, unless that was done before; shows the coin if what was dealt is verified next."""
    running = _begun(_holding(context, payload, step_name), payload, step_name)
    if running.tally is None or not isinstance(running.checks, Committed):
        return {}
    return {"coin": as_array(running.checks.coin)}


def inputs(context: object, payload: Arrays, step_name: str) -> Elements:
    """This holder's shares of everybody's input [clients, width], whether it took part in the computation or not."""
    holding = _holding(context, payload, step_name)
    if isinstance(holding.state, Running):
        return holding.state.inputs
    return _unsealed(holding.joined, holding.plan, holding.state.own, payload, step_name)[0]


def proceed(context: object, payload: Arrays, step_name: str) -> Arrays:
    """Take in what was opened since, and answer the next exchange."""
    holding, running, told = _caught_up(context, payload, step_name)
    return _answer(holding, running, told, step_name)


def outcome(context: object, payload: Arrays, step_name: str) -> Any:
    """What came out, as far as this holder can tell: it has followed it to the end and verified all of it.

    Args:
        context: the client's.
        payload: names the attempt; of a holder that has not come to the end it holds what it was not told.
        step_name: for errors.

    Returns:
        The result; None if this holder stood by, or does not verify.

    Raises:
        TamperError: it was not told the end, or something else than was opened.
    """
    holding = _holding(context, payload, step_name)
    if isinstance(holding.state, Dealt) or not holding.plan.checks:
        return None
    if "exchange" in payload:
        _, running, told = _caught_up(context, payload, step_name)
        running.verify(told, step_name)
    running = holding.state
    if running.result is None or running.unverified:
        raise TamperError(None, step_name, "a holder that computed is to go on with what it has not seen the end of")
    return running.result


def verify(context: object, payload: Arrays, step_name: str) -> Arrays:
    """Take in what was opened since, and say all other holders what was, sealed.

    Raises:
        ProtocolError: nothing has to be verified now.
    """
    holding, running, told = _caught_up(context, payload, step_name)
    if running.tally is None or not running.unverified:
        raise ProtocolError(f"step {step_name!r}: nothing is to be verified before exchange {running.exchange}")
    shown = running.checks.answer(_answering(holding, running, told, step_name))
    return {**running.tally.answer(running.transcript), **shown}


def _caught_up(context: object, payload: Arrays, step_name: str) -> tuple[Holding, Running, Told]:
    holding = _holding(context, payload, step_name)
    running = _begun(holding, payload, step_name)
    told = Told.read(payload, running.exchange, holding.joined.holders, step_name)
    if told.exchange < running.exchange:
        raise TamperError(None, step_name, "an exchange that is over is asked for again")
    if running.tally is not None and isinstance(running.checks, Committed):
        running.weigh(running.tally, told, step_name)
    for opened in told.opened:
        _advance(running, opened, told, step_name)
    return holding, running, told


def _holding(context: object, payload: Arrays, step_name: str) -> Holding:
    holding: Holding = kept(context, integer_in(payload, "attempt"), Holding, step_name)
    return holding


def _begun(holding: Holding, payload: Arrays, step_name: str) -> Running:
    """The running computation; if it has not begun, open the envelopes and start it."""
    if isinstance(holding.state, Dealt):
        joined, plan = holding.joined, holding.plan
        history = _bound(joined, payload, step_name) if plan.checks else b""
        inputs, dealt, keys = _unsealed(joined, plan, holding.state.own, payload, step_name)
        own = joined.holders.index(joined.party.name)
        replicated = Replicated(plan.sets, plan.holders, own, keys) if plan.sets else None
        material = Material(plan.deal, dealt, plan.limit, replicated)
        tally = Tally(joined, plan, material) if plan.checks else None
        computation = plan.run(Shared(inputs, 1), material)
        checks = Committed(joined, plan, holding.state.coin, inputs, dealt)
        holding.state = Running(computation, next(computation), inputs, checks, tally, history=history)
    return holding.state


def _bound(joined: Joined, payload: Arrays, step_name: str) -> bytes:
    """The hash of all that was dealt to anybody, of which what was dealt to this holder is part.

    Raises:
        TamperError: it is not.
    """
    digests, own = payload.get("digests"), joined.holders.index(joined.party.name)
    shape = (len(joined.clients), len(joined.holders), DIGEST_BYTES)
    if digests is None or digests.shape != shape or digests.dtype != np.uint8:
        raise ProtocolError(f"step {step_name!r}: the hashes of what was dealt did not come with it")
    told = dict(zip(joined.clients, digests[:, own], strict=True))
    for client, envelope in unpacked(ENVELOPES, payload, joined.clients, step_name).items():
        if not np.array_equal(told[client], digest(envelope)):
            raise TamperError(None, step_name, f"what {client!r} dealt is not what all holders were told of")
    return sha256(joined.digest + digests.tobytes()).digest()


def _unsealed(
    joined: Joined, plan: Plan, own: Elements, payload: Arrays, step_name: str
) -> tuple[Elements, list[Elements], list[Elements]]:
    """This holder's shares of everybody's input [clients, width] and of every holder's dealing, and keys from each."""
    label, name = joined.label("deal"), joined.party.name
    envelopes = unpacked(ENVELOPES, payload, joined.clients, step_name)
    if missing := sorted(set(others(name, joined.clients)) - set(envelopes)):
        raise ProtocolError(f"step {step_name!r}: the shares of {missing[0]!r} did not come with it")
    inputs = np.empty((len(joined.clients), plan.width), np.uint64)
    dealt, keys, end = [], [], plan.width + plan.deal.size
    for number, client in enumerate(joined.clients):
        if client == name:
            vector = own
        else:
            content = joined.channel.open(client, label, envelopes[client].data)
            if len(content) % 8:
                raise TamperError(client, step_name, f"{len(content)} bytes, which are no shares")
            vector = np.frombuffer(content, np.uint64)
        expected = end + plan.keys if client in joined.holders else plan.width
        if vector.shape != (expected,):
            raise TamperError(client, step_name, f"{vector.size} shares, {expected} were expected")
        try:
            PrimeField.checked(vector)
        except FieldRangeError as error:
            raise TamperError(client, step_name, "shares that are no field elements") from error
        inputs[number] = vector[: plan.width]
        if client in joined.holders:
            dealt.append(vector[plan.width : end])
            keys.append(vector[end:])
    return inputs, dealt, keys


def _advance(running: Running, opened: Opened, told: Told, step_name: str) -> None:
    """Go on with the public values of the present exchange."""
    running.verify(told, step_name)
    number, values = running.exchange, opened.values
    shapes = [value.shape for value in running.pending]
    if values.ndim != 1 or values.size != sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes):
        raise ProtocolError(f"step {step_name!r}: exchange {number} opened {values.size} values, others were expected")
    history = sha256(running.history + as_bytes(opened.responders))
    history.update(np.ascontiguousarray(PrimeField.checked(values)).data)
    running.checks, said = running.checks.told(told, step_name)
    history.update(said)
    running.history, running.exchange = history.digest(), number + 1
    public = split(values, shapes)
    if running.tally is not None:
        running.tally.add(running.pending, public, running.history)
    try:
        # Copies, so that one does not keep all of them.
        running.pending = running.computation.send([part.copy() for part in public])
    except StopIteration as stop:
        running.pending, running.result = (), stop.value


def _answer(holding: Holding, running: Running, told: Told, step_name: str) -> Arrays:
    answering = _answering(holding, running, told, step_name)
    running.verify(told, step_name)
    require_degree(running.pending, holding.plan.limit)
    values = [value.values for value in running.pending]
    return {"masked": answering.masked("open", values), **running.checks.answer(answering)}


def _answering(holding: Holding, running: Running, told: Told, step_name: str) -> Answering:
    joined, plan = holding.joined, holding.plan
    own, responders = joined.holders.index(joined.party.name), tuple(told.responders.tolist())
    _require_quorum(plan, responders, own, step_name)
    return Answering(joined, responders, own, plan.threshold, running.transcript + bytes(responders))


def _require_quorum(plan: Plan, responders: tuple[int, ...], own: int, step_name: str) -> None:
    if own not in responders or list(responders) != sorted(set(responders)) or responders[-1] >= plan.holders:
        raise ProtocolError(f"step {step_name!r}: holders {responders} should answer, which is no list of holders")
    if len(responders) < plan.needed:
        raise TamperError(
            None, step_name, f"{len(responders)} holders should answer, less than the quorum of {plan.needed}"
        )
