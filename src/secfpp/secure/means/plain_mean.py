"""The mean with a server that sees every update."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import numpy as np

from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.fixed_point import FixedPoint
from secfpp.errors import ConfigError, FieldRangeError, Problem, ReplyError
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.fields import integer_in, text_in
from secfpp.protocol.program import Arrays, Ask, ClientId, ClientState, Program, Replies, step
from secfpp.secure.means.aggregator import Aggregator, capped, check_codec, check_share
from secfpp.secure.means.batches import batches_of
from secfpp.secure.means.updates import (
    Base,
    Mean,
    agreed_base,
    base_in,
    base_of,
    caught_up,
    clipped,
    encoded_update,
    marked_as_given,
    moved,
    next_version,
    rebased,
    require_clipped,
    settled,
    settled_base,
    told_base,
    version_of,
)
from secfpp.settings import check_types

Noise = Callable[[tuple[int, ...]], np.ndarray]
"""Draws noise of a shape, float64, in the measure of a sum of updates times weights."""


@dataclass(frozen=True)
class PlainMean(Aggregator):
    """The weighted mean with a server that sees every update; two exchanges, and one for each further batch of clients.

    A client whose base is not the present one, because it missed an earlier result, is left out of the sum. It
    gets the base from a member (a third exchange, only then) and takes part the next time; if that member
    drops out meanwhile, it waits a round more. A client that comes back between the exchanges
    gets the result although its update is not in it.

    Args:
        clip: L2 norm to which an update is shortened, positive.
        bits: fractional bits of the fixed-point encoding.
        min_responders: fewer updates than this give no mean.
        most_weight: largest share that one client has in a mean; one with more counts less.

    Raises:
        ConfigError: values that cannot work.
    """

    kind: ClassVar[str] = "plain"

    clip: float = 2.5
    bits: int = 24
    min_responders: int = 1
    most_weight: float = 1.0

    def __post_init__(self) -> None:
        check_types(self, "aggregator")
        check_codec(self.clip, self.bits)
        check_share(self.most_weight)
        if self.min_responders < 1:
            raise ConfigError([Problem("aggregator.min_responders", self.min_responders, "at least 1")])

    @property
    def colluding(self) -> int:
        """See `Aggregator.colluding`: as many as `SecureMean` allows by default."""
        return 2

    def mean(
        self,
        cohort: Cohort,
        slot: str,
        known: Base | None = None,
        group: Collection[ClientId] | None = None,
        noise: Noise | None = None,
    ) -> Program[Mean]:
        """See `Aggregator.mean`; with `noise`, that much is added to the sum before anybody but the server knows it.

        Raises:
            FieldRangeError: the cohort's weights could overflow the sum; nothing has been sent then.
        """
        cohort = replace(cohort, weights=capped(cohort.weights, self.most_weight))
        FixedPoint(self.clip, self.bits).require_capacity(sum(cohort.weights.values()))
        told, totals = yield from self._summed(cohort, slot)
        present = agreed_base(told, self.colluding, known)
        members = tuple(client for client, base in told.items() if base == present)
        late = tuple(client for client, base in told.items() if base != present)
        behind = frozenset(late)
        enough = len(members) >= self.min_responders and present is not None
        result: dict[str, np.ndarray] = {"slot": np.array(slot)}
        if enough:
            assert present is not None
            weight = sum(cohort.weights[client] for client in members)
            result |= {
                "total": totals[present] if noise is None else self._noisy(totals[present], weight, noise),
                "weight": np.array(weight),
                "base_version": np.array(present.version),
                "version": np.array(next_version(present.version, cohort.round)),
            }
        sponsor = members[0] if late and members else None
        alike, asked = {**result, "send_base": np.array(False)}, {**result, "send_base": np.array(True)}
        acks = yield Ask(
            "aggregator.receive" if enough else "aggregator.keep",
            {client: asked if client == sponsor else alike for client in cohort.clients if client not in behind},
        )
        left = settled_base(acks.readable(base_in), members, self.colluding) if enough else present
        if sponsor is not None and left is not None and "base" in acks.get(sponsor, {}):
            yield Ask("aggregator.catch_up", dict.fromkeys(late, _caught_up(slot, acks[sponsor]["base"], left)))
        return Mean(members if enough else (), left)

    def _summed(self, cohort: Cohort, slot: str) -> Program[tuple[dict[ClientId, Base], dict[Base, Elements]]]:
        """Ask for updates, batch by batch; each client's base, and the sum of the updates of each base.

        Which base counts is known only when all have answered. Sums of field elements are exact in any order, so no
        update need be kept until then.
        """
        bases: dict[ClientId, Base] = {}
        shapes: dict[ClientId, tuple[int, ...]] = {}
        totals: dict[tuple[Base, tuple[int, ...]], Elements] = {}
        name, replies = np.array(slot), Replies({})
        for batch in batches_of(cohort.clients, ()):
            replies = yield Ask(
                "aggregator.share", {c: {"slot": name, "weight": np.array(cohort.weights[c])} for c in batch}
            )
            for client, (base, update) in replies.readable(partial(self._shared, cohort.weights)).items():
                bases[client], shapes[client] = base, update.shape
                known = totals.get((base, update.shape))
                totals[base, update.shape] = update if known is None else PrimeField.add(known, update)
        alike = replies.usual(shapes)
        own = {base: total for (base, shape), total in totals.items() if alike and shape == shapes[alike[0]]}
        return {client: bases[client] for client in alike}, own

    def refresh(
        self, cohort: Cohort, slot: str, known: Base | None = None, group: Collection[ClientId] | None = None
    ) -> Program[None]:
        """See `Aggregator.refresh`: one small exchange, two more if somebody is late."""
        name = np.array(slot)
        replies = yield Ask("aggregator.tell", {client: {"slot": name} for client in cohort.clients})
        told = replies.readable(base_in)
        present = agreed_base(told, self.colluding, known)
        late = [client for client, base in told.items() if base != present]
        if not late or present not in told.values():
            return
        assert present is not None
        sponsor = next(client for client, base in told.items() if base == present)
        shown = yield Ask("aggregator.show", {sponsor: {"slot": name}})
        if "base" in shown.get(sponsor, {}):
            yield Ask("aggregator.catch_up", dict.fromkeys(late, _caught_up(slot, shown[sponsor]["base"], present)))

    def _shared(self, weights: Mapping[ClientId, int], client: ClientId, reply: Arrays) -> tuple[Base, Elements]:
        """What a client shared.

        Raises:
            ProtocolError: it sent something else.
            TamperError: its update is not clipped.
        """
        update = reply.get("update")
        if update is None:
            raise ReplyError(client, "sent nothing as its update")
        try:
            checked = PrimeField.checked(update)
        except FieldRangeError as error:
            raise ReplyError(client, f"sent an update that is no array of field elements ({error})") from error
        require_clipped(checked, FixedPoint(self.clip, self.bits), weights[client], client)
        return base_in(client, reply), checked

    def _noisy(self, total: Elements, weight: int, noise: Noise) -> Elements:
        """A sum of this total weight with noise, shortened to what clipped updates can make: members refuse more."""
        codec = FixedPoint(self.clip, self.bits)
        integers = PrimeField.lower(total) + noise(total.shape) / codec.step
        return PrimeField.lift(np.rint(clipped(integers, codec.bound * weight / codec.step)).astype(np.int64))

    @step
    def tell(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Reply which base this client has."""
        return state, told_base(state, text_in(payload, "slot"))

    @step
    def show(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Reply the base, for members that lack it."""
        return state, {"base": base_of(state, text_in(payload, "slot"))}

    @step
    def share(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Reply the weighted, clipped update as field elements, and of which base it is."""
        slot = text_in(payload, "slot")
        state = marked_as_given(state, slot)
        encoded = encoded_update(state, slot, FixedPoint(self.clip, self.bits), integer_in(payload, "weight"))
        return state, {"update": encoded, **told_base(state, slot)}

    @step
    def receive(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Add the mean to the base, and tell which it is; a client with another base goes back to its own and waits."""
        slot = text_in(payload, "slot")
        base = base_of(state, slot)
        if version_of(state, slot) != integer_in(payload, "base_version"):
            return _kept(state, slot, payload)
        new = moved(base, payload["total"], FixedPoint(self.clip, self.bits), integer_in(payload, "weight"))
        state = rebased(state, slot, new, integer_in(payload, "version"))
        return state, {**told_base(state, slot), **_base_if_asked(payload, new)}

    @step
    def keep(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Go back to the base: there was no mean."""
        return _kept(state, text_in(payload, "slot"), payload)

    @step
    def catch_up(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Take over the present base."""
        slot, version = text_in(payload, "slot"), integer_in(payload, "version")
        return caught_up(state, slot, payload["base"], Base(version, text_in(payload, "digest"))), {}


def _kept(state: ClientState, slot: str, payload: Arrays) -> tuple[ClientState, Arrays]:
    base = base_of(state, slot)
    return settled(state, slot), {**told_base(state, slot), **_base_if_asked(payload, base)}


def _base_if_asked(payload: Arrays, base: np.ndarray) -> Arrays:
    return {"base": base} if payload["send_base"] else {}


def _caught_up(slot: str, base: np.ndarray, present: Base) -> Arrays:
    told = {"slot": np.array(slot), "version": np.array(present.version), "digest": np.array(present.digest)}
    return {**told, "base": base}
