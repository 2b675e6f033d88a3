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

Checks: see `secfpp.crypto.checks`; they are answered in the second exchange.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np

from secfpp.crypto.arithmetic import Computation, Shared, require_degree
from secfpp.crypto.checks import COIN_BYTES, combination, commitment, joint_stream, parity_weights
from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.masks import masked, split
from secfpp.crypto.material import Material
from secfpp.crypto.randomness import Stream
from secfpp.crypto.sharing import weights_at_zero
from secfpp.errors import FieldRangeError, ProtocolError, TamperError
from secfpp.protocol.fields import integer_in
from secfpp.protocol.program import Arrays
from secfpp.secure.circuits.checks import CHECKED
from secfpp.secure.circuits.plan import Plan
from secfpp.secure.session import Joined, as_array, as_bytes, keep, kept


@dataclass
class Holding:
    """What a holder keeps in memory during one computation."""

    joined: Joined
    plan: Plan
    own: Elements
    coin: bytes
    inputs: Elements = field(default_factory=lambda: np.zeros((0, 0), np.uint64))
    dealt: list[Elements] = field(default_factory=list)
    computation: Computation[Any] | None = None
    pending: Sequence[Shared] = ()
    exchange: int = 0
    history: bytes = b""
    checks: tuple[Elements, Elements] | None = None
    coins: Mapping[str, bytes] = field(default_factory=dict)


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
        keep(joined, Holding(joined, plan, shares[holders.index(party.name)].copy(), coin))
        reply["coin"] = as_array(commitment(party.name, coin))
    return reply


def begin(context: object, payload: Arrays, step_name: str) -> Holding:
    """Take in what was dealt, unless that was done before."""
    holding: Holding = kept(context, integer_in(payload, "attempt"), Holding, step_name)
    if holding.computation is None:
        _begin(holding, payload, step_name)
    return holding


def proceed(context: object, payload: Arrays, step_name: str) -> Arrays:
    """Take in what was opened since, and answer the next exchange."""
    holding = begin(context, payload, step_name)
    if integer_in(payload, "exchange") < holding.exchange:
        raise TamperError(None, step_name, "an exchange that is over is asked for again")
    while holding.exchange < integer_in(payload, "exchange"):
        _advance(holding, payload, step_name)
    return _answer(holding, payload, step_name)


def _begin(holding: Holding, payload: Arrays, step_name: str) -> None:
    """Open the envelopes and start the computation."""
    joined, plan = holding.joined, holding.plan
    label, name = joined.label("deal"), joined.party.name
    inputs = np.empty((len(joined.clients), plan.width), np.uint64)
    dealt = []
    for number, client in enumerate(joined.clients):
        envelope = payload.get(f"from.{client}")
        if client != name and envelope is None:
            raise ProtocolError(f"step {step_name!r}: the shares of {client!r} did not come with it")
        if client == name:
            vector = holding.own
        else:
            content = joined.channel.open(client, label, as_bytes(envelope))
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
    holding.inputs, holding.dealt = inputs, dealt
    holding.own = np.zeros(0, np.uint64)
    holding.computation = plan.run(Shared(inputs, 1), Material(plan.deal, dealt, plan.limit))
    holding.pending = next(holding.computation)


def _advance(holding: Holding, payload: Arrays, step_name: str) -> None:
    """Go on with the public values of the present exchange."""
    number = holding.exchange
    values, responders = payload.get(f"opened.{number}"), payload.get(f"responders.{number}")
    if values is None or responders is None:
        raise ProtocolError(f"step {step_name!r}: what was opened in exchange {number} did not come with it")
    shapes = [value.shape for value in holding.pending]
    if values.ndim != 1 or values.size != sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes):
        raise ProtocolError(f"step {step_name!r}: exchange {number} opened {values.size} values, others were expected")
    assert holding.computation is not None
    history = sha256(holding.history + as_bytes(responders) + PrimeField.checked(values).tobytes())
    if number == CHECKED - 1:  # whatever else is said of coins later: they are part of the history
        holding.coins = _coins(holding, payload, step_name)
        history.update(json.dumps({name: coin.hex() for name, coin in holding.coins.items()}).encode())
        holding.checks = _checks(holding)
        holding.inputs, holding.dealt = holding.inputs[:0], []  # large, and not needed any more
    holding.history, holding.exchange = history.digest(), number + 1
    try:
        holding.pending = holding.computation.send(split(values, shapes))
    except StopIteration:
        holding.pending = ()


def _answer(holding: Holding, payload: Arrays, step_name: str) -> Arrays:
    joined, plan = holding.joined, holding.plan
    own = joined.holders.index(joined.party.name)
    listed = payload.get("responders", np.zeros(0))
    if listed.ndim != 1 or listed.dtype != np.uint8:
        raise ProtocolError(f"step {step_name!r}: a message without the holders that should answer")
    responders = tuple(listed.tolist())
    _require_quorum(holding, responders, own, step_name)
    require_degree(holding.pending, plan.limit)
    transcript = holding.history + holding.exchange.to_bytes(4, "big") + bytes(responders)

    def pads(purpose: str) -> Callable[[int], bytes]:
        label = joined.label(purpose, transcript)
        return lambda other: joined.channel.pair_key(joined.holders[other], label)

    values = [value.values for value in holding.pending]
    reply = {"masked": masked(values, responders, own, plan.threshold, pads("open"))}
    if holding.exchange == CHECKED - 1:
        reply["coin"] = as_array(holding.coin)
    elif holding.exchange == CHECKED:
        checks = _answers(holding, responders, own)
        reply["checks"] = masked(checks, responders, own, plan.threshold, pads("check"))
    return reply


def _require_quorum(holding: Holding, responders: tuple[int, ...], own: int, step_name: str) -> None:
    if own not in responders or list(responders) != sorted(set(responders)) or responders[-1] >= holding.plan.holders:
        raise ProtocolError(f"step {step_name!r}: holders {responders} should answer, which is no list of holders")
    if len(responders) < holding.plan.needed:
        raise TamperError(
            None, step_name, f"{len(responders)} holders should answer, less than the quorum of {holding.plan.needed}"
        )


def _coins(holding: Holding, payload: Arrays, step_name: str) -> dict[str, bytes]:
    """The coins of a quorum, as they were committed to."""
    joined, plan = holding.joined, holding.plan
    coins = {name: as_bytes(payload.get(f"coin.{name}")) for name in joined.holders if f"coin.{name}" in payload}
    if len(coins) < plan.needed or coins.get(joined.party.name, holding.coin) != holding.coin:
        raise TamperError(None, step_name, "the coins of a quorum did not come, or not the one that this client showed")
    for name, coin in coins.items():
        if commitment(name, coin) != as_bytes(payload.get(f"commitment.{name}")):
            raise TamperError(name, step_name, "the coin shown is not what was committed to")
    return coins


def _checks(holding: Holding) -> tuple[Elements, Elements]:
    """Shares of what must vanish: the checks of degree [clients], and those of what was shared [clients]."""
    joined, plan = holding.joined, holding.plan
    weights = joint_stream(holding.coins, "degree")
    degree = combination(holding.inputs, weights.elements((plan.width,)))
    members = [joined.clients.index(name) for name in joined.holders]
    factors = weights.elements((plan.deal.size,))
    material = np.concatenate([combination(vector[None], factors) for vector in holding.dealt])
    degree[members] = PrimeField.add(degree[members], material)
    weights = joint_stream(holding.coins, "zero")
    defects = plan.defects(Shared(holding.inputs, 1))
    zero = combination(defects.values, weights.elements((defects.shape[1],)))
    spoiled = np.stack([plan.deal.defects(vector).values for vector in holding.dealt])
    zero[members] = PrimeField.add(zero[members], combination(spoiled, weights.elements((spoiled.shape[1],))))
    return degree, zero


def _answers(holding: Holding, responders: tuple[int, ...], own: int) -> list[Elements]:
    """The checks as these responders open them: what must vanish [responders, clients], and [clients]."""
    assert holding.checks is not None
    degree, zero = holding.checks
    parity = parity_weights(responders, own, holding.plan.threshold, joint_stream(holding.coins, "parity"))
    opening = PrimeField.inverse(weights_at_zero(responders)[responders.index(own)])  # which masking multiplies with
    return [PrimeField.mul(PrimeField.mul(parity, opening)[:, None], degree), zero]
