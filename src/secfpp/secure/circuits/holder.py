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

Checks run beside the computation, see `secfpp.secure.circuits.checks`.
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
from secfpp.errors import FieldRangeError, ProtocolError, TamperError
from secfpp.protocol.fields import integer_in
from secfpp.protocol.program import Arrays
from secfpp.secure.circuits.checks import Checks, Committed
from secfpp.secure.circuits.messages import Answering, Opened, Told, envelopes_in
from secfpp.secure.circuits.plan import Plan
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
        exchange: number of the present exchange.
        history: hash of all that was told in those before.
    """

    computation: Computation[Any] = field(repr=False)
    pending: Sequence[Shared]
    inputs: Elements = field(repr=False)
    checks: Checks
    exchange: int = 0
    history: bytes = b""


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
    shares = plan.code.encode(np.concatenate(parts)[None], stream)
    label = joined.label("deal")
    reply: dict[str, np.ndarray] = {
        f"to.{name}": as_array(joined.channel.seal(name, label, share.data.cast("B")))
        for name, share in zip(holders, shares, strict=True)
        if name != party.name
    }
    if holder:
        coin = party.entropy.random_bytes(COIN_BYTES)
        keep(joined, Holding(joined, plan, Dealt(shares[holders.index(party.name)].copy(), coin)))
        reply["coin"] = as_array(commitment(party.name, coin))
    return reply


def begin(context: object, payload: Arrays, step_name: str) -> None:
    """Take in what was dealt, unless that was done before."""
    _begun(_holding(context, payload, step_name), payload, step_name)


def inputs(context: object, payload: Arrays, step_name: str) -> Elements:
    """This holder's shares of everybody's input [clients, width], whether it took part in the computation or not."""
    holding = _holding(context, payload, step_name)
    if isinstance(holding.state, Running):
        return holding.state.inputs
    return _unsealed(holding.joined, holding.plan, holding.state.own, payload, step_name)[0]


def proceed(context: object, payload: Arrays, step_name: str) -> Arrays:
    """Take in what was opened since, and answer the next exchange."""
    holding = _holding(context, payload, step_name)
    running = _begun(holding, payload, step_name)
    told = Told.read(payload, running.exchange, step_name)
    if told.exchange < running.exchange:
        raise TamperError(None, step_name, "an exchange that is over is asked for again")
    for opened in told.opened:
        _advance(running, opened, told, step_name)
    return _answer(holding, running, told, step_name)


def _holding(context: object, payload: Arrays, step_name: str) -> Holding:
    holding: Holding = kept(context, integer_in(payload, "attempt"), Holding, step_name)
    return holding


def _begun(holding: Holding, payload: Arrays, step_name: str) -> Running:
    """The running computation; if it has not begun, open the envelopes and start it."""
    if isinstance(holding.state, Dealt):
        joined, plan = holding.joined, holding.plan
        inputs, dealt = _unsealed(joined, plan, holding.state.own, payload, step_name)
        computation = plan.run(Shared(inputs, 1), Material(plan.deal, dealt, plan.limit))
        checks = Committed(joined, plan, holding.state.coin, inputs, dealt)
        holding.state = Running(computation, next(computation), inputs, checks)
    return holding.state


def _unsealed(
    joined: Joined, plan: Plan, own: Elements, payload: Arrays, step_name: str
) -> tuple[Elements, list[Elements]]:
    """This holder's shares of everybody's input [clients, width] and of every holder's dealing."""
    label, name, envelopes = joined.label("deal"), joined.party.name, envelopes_in(payload)
    inputs = np.empty((len(joined.clients), plan.width), np.uint64)
    dealt = []
    for number, client in enumerate(joined.clients):
        if client == name:
            vector = own
        elif client not in envelopes:
            raise ProtocolError(f"step {step_name!r}: the shares of {client!r} did not come with it")
        else:
            content = joined.channel.open(client, label, as_bytes(envelopes[client]))
            if len(content) % 8:
                raise TamperError(client, step_name, f"{len(content)} bytes, which are no shares")
            vector = np.frombuffer(content, np.uint64)
        expected = plan.width + (plan.deal.size if client in joined.holders else 0)
        if vector.shape != (expected,):
            raise TamperError(client, step_name, f"{vector.size} shares, {expected} were expected")
        try:
            PrimeField.checked(vector)
        except FieldRangeError as error:
            raise TamperError(client, step_name, "shares that are no field elements") from error
        inputs[number] = vector[: plan.width]
        if client in joined.holders:
            dealt.append(vector[plan.width :])
    return inputs, dealt


def _advance(running: Running, opened: Opened, told: Told, step_name: str) -> None:
    """Go on with the public values of the present exchange."""
    number, values = running.exchange, opened.values
    shapes = [value.shape for value in running.pending]
    if values.ndim != 1 or values.size != sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes):
        raise ProtocolError(f"step {step_name!r}: exchange {number} opened {values.size} values, others were expected")
    history = sha256(running.history + as_bytes(opened.responders) + PrimeField.checked(values).tobytes())
    running.checks, said = running.checks.told(told, step_name)
    history.update(said)
    running.history, running.exchange = history.digest(), number + 1
    try:
        parts = [part.copy() for part in split(values, shapes)]  # so that one does not keep all of them
        running.pending = running.computation.send(parts)
    except StopIteration:
        running.pending = ()


def _answer(holding: Holding, running: Running, told: Told, step_name: str) -> Arrays:
    joined, plan = holding.joined, holding.plan
    own, responders = joined.holders.index(joined.party.name), tuple(told.responders.tolist())
    _require_quorum(plan, responders, own, step_name)
    require_degree(running.pending, plan.limit)
    transcript = running.history + running.exchange.to_bytes(4, "big") + bytes(responders)
    answering = Answering(joined, responders, own, plan.threshold, transcript)
    values = [value.values for value in running.pending]
    return {"masked": answering.masked("open", values), **running.checks.answer(answering)}


def _require_quorum(plan: Plan, responders: tuple[int, ...], own: int, step_name: str) -> None:
    if own not in responders or list(responders) != sorted(set(responders)) or responders[-1] >= plan.holders:
        raise ProtocolError(f"step {step_name!r}: holders {responders} should answer, which is no list of holders")
    if len(responders) < plan.needed:
        raise TamperError(
            None, step_name, f"{len(responders)} holders should answer, less than the quorum of {plan.needed}"
        )
