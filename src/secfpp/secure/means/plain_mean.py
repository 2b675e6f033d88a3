"""The mean with a server that sees every update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from secfpp.crypto.field import PrimeField
from secfpp.crypto.fixed_point import FixedPoint
from secfpp.errors import ConfigError, FieldRangeError, Problem, ProtocolError
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.fields import integer_in, text_in
from secfpp.protocol.program import Arrays, Ask, ClientId, ClientState, Program, step
from secfpp.secure.means.aggregator import Aggregator, check_codec
from secfpp.secure.means.updates import (
    base_of,
    caught_up,
    encoded_update,
    latecomers,
    moved,
    next_version,
    rebased,
    version_in,
    version_of,
)
from secfpp.settings import check_types


@dataclass(frozen=True)
class PlainMean(Aggregator):
    """The weighted mean with a server that sees every update; two exchanges.

    A client whose base is not the present one, because it missed an earlier result, is left out of the sum. It
    gets the base from a member (a third exchange, only then) and takes part the next time; if that member
    drops out meanwhile, it waits a round more. A client that comes back between the exchanges
    gets the result although its update is not in it.

    Args:
        clip: L2 norm to which an update is shortened, positive.
        bits: fractional bits of the fixed-point encoding.
        min_responders: fewer updates than this give no mean.

    Raises:
        ConfigError: values that cannot work.
    """

    kind: ClassVar[str] = "plain"

    clip: float = 10.0
    bits: int = 24
    min_responders: int = 1

    def __post_init__(self) -> None:
        check_types(self, "aggregator")
        check_codec(self.clip, self.bits)
        if self.min_responders < 1:
            raise ConfigError([Problem("aggregator.min_responders", self.min_responders, "at least 1")])

    def mean(self, cohort: Cohort, slot: str) -> Program[tuple[ClientId, ...]]:
        """See `Aggregator.mean`.

        Raises:
            FieldRangeError: the cohort's weights could overflow the sum; nothing has been sent then.
            ProtocolError: a reply that no honest client gives.
        """
        FixedPoint(self.clip, self.bits).require_capacity(sum(cohort.weights.values()))
        name = np.array(slot)
        replies = yield Ask(
            "aggregator.share",
            {client: {"slot": name, "weight": np.array(weight)} for client, weight in cohort.weights.items()},
        )
        versions = {client: version_in(replies, client) for client in replies}
        present = max(versions.values(), default=0)
        members = tuple(client for client, version in versions.items() if version == present)
        late = tuple(client for client in versions if client not in members)
        enough = len(members) >= self.min_responders
        if enough:
            result: Arrays = {
                "slot": name,
                "total": _sum({client: replies[client] for client in members}),
                "weight": np.array(sum(cohort.weights[client] for client in members)),
                "base_version": np.array(present),
                "version": np.array(next_version(present, cohort.round)),
            }
        else:
            result = {"slot": name, "version": np.array(present)}
        sponsor = members[0] if late else None
        acks = yield Ask(
            "aggregator.receive" if enough else "aggregator.keep",
            {
                client: {**result, "send_base": np.array(client == sponsor)}
                for client in cohort.clients
                if client not in late
            },
        )
        if sponsor is not None and "base" in acks.get(sponsor, {}):
            base = {"slot": name, "base": acks[sponsor]["base"], "version": result["version"]}
            yield Ask("aggregator.catch_up", dict.fromkeys(late, base))
        return members if enough else ()

    def refresh(self, cohort: Cohort, slot: str) -> Program[None]:
        """See `Aggregator.refresh`: one small exchange, two more if somebody is late."""
        name = np.array(slot)
        replies = yield Ask("aggregator.tell", {client: {"slot": name} for client in cohort.clients})
        present, sponsor, late = latecomers(replies)
        if not late:
            return
        shown = yield Ask("aggregator.show", {sponsor: {"slot": name}})
        if sponsor in shown:
            base = {"slot": name, "base": shown[sponsor]["base"], "version": np.array(present)}
            yield Ask("aggregator.catch_up", dict.fromkeys(late, base))

    @step
    def tell(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Reply the version of the base."""
        return state, {"version": np.array(version_of(state, text_in(payload, "slot")))}

    @step
    def show(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Reply the base, for members that lack it."""
        return state, {"base": base_of(state, text_in(payload, "slot"))}

    @step
    def share(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Reply the weighted, clipped update as field elements, with the version of its base."""
        slot = text_in(payload, "slot")
        encoded = encoded_update(state, slot, FixedPoint(self.clip, self.bits), integer_in(payload, "weight"))
        return state, {"update": encoded, "version": np.array(version_of(state, slot))}

    @step
    def receive(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Add the mean to the base; a client with another base goes back to its own and waits."""
        slot = text_in(payload, "slot")
        base = base_of(state, slot)
        if version_of(state, slot) != integer_in(payload, "base_version"):
            return state.replace(**{slot: base.copy()}), {}
        new = moved(base, payload["total"], FixedPoint(self.clip, self.bits), integer_in(payload, "weight"))
        return rebased(state, slot, new, payload["version"]), _base_if_asked(payload, new)

    @step
    def keep(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Go back to the base: there was no mean."""
        slot = text_in(payload, "slot")
        base = base_of(state, slot)
        return state.replace(**{slot: base.copy()}), _base_if_asked(payload, base)

    @step
    def catch_up(self, context: object, state: ClientState, payload: Arrays) -> tuple[ClientState, Arrays]:
        """Take over the present base."""
        slot = text_in(payload, "slot")
        return caught_up(state, slot, payload["base"], payload["version"]), {}


def _base_if_asked(payload: Arrays, base: np.ndarray) -> Arrays:
    return {"base": base} if payload["send_base"] else {}


def _sum(updates: Mapping[ClientId, Arrays]) -> np.ndarray:
    """The field sum of the clients' updates, which must be of one shape."""
    total: np.ndarray | None = None
    for client, reply in updates.items():
        update = reply.get("update")
        if update is None or (total is not None and update.shape != total.shape):
            found = "nothing" if update is None else f"shape {update.shape}"
            raise ProtocolError(f"client {client!r} sent {found} as its update; leave it out of the cohort")
        try:
            checked = PrimeField.checked(update)
        except FieldRangeError as error:
            raise ProtocolError(f"the update of client {client!r} is no array of field elements: {error}") from error
        total = checked if total is None else PrimeField.add(total, checked)
    if total is None:
        raise ProtocolError("a sum of no updates")
    return total
