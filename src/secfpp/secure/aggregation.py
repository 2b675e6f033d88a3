"""Averaging an array of client states over a cohort.

What is averaged is each client's clipped update against a common base, in fixed point, so that every way of
computing the sum, in the clear or on shares, gives the same bits.

For a `slot`, a client keeps ``slot`` (its own value, trained locally), ``slot.base`` (the common value it
started from) and ``slot.version`` (0-d counter that names the base; absent means 0). Equal versions mean equal
bases: the mean of round r makes version ``2 r + 2`` or, if that is not above the last one, the next number.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.fixed_point import FixedPoint
from secfpp.errors import ConfigError, FieldRangeError, Problem, ProtocolError
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.fields import integer_in, text_in
from secfpp.protocol.program import Arrays, Ask, ClientId, ClientState, Program, step
from secfpp.settings import check_types


class Aggregator(ABC):
    """A way to average; a field named ``aggregator`` of an algorithm, which gives its steps their name."""

    kind: ClassVar[str]
    needs_keys: ClassVar[bool] = False
    min_responders: int
    """Fewer updates than this give no mean."""

    @abstractmethod
    def mean(self, cohort: Cohort, slot: str) -> Program[tuple[ClientId, ...]]:
        """Average the updates of `slot` and make base plus mean the clients' new value and base.

        Returns:
            The clients whose updates are in the mean, sorted; empty if there was no mean and everybody
            went back to its base.
        """

    @abstractmethod
    def refresh(self, cohort: Cohort, slot: str) -> Program[None]:
        """Give those of the cohort that missed a mean the present base, so that what they train next counts."""

    def require(self, clients: int) -> None:
        """Refuse a number of clients, in a round, of whom no mean could be made.

        Raises:
            ConfigError: fewer than `min_responders`.
        """
        if clients < self.min_responders:
            allowed = f"at most the {clients} clients of a round"
            raise ConfigError([Problem("aggregator.min_responders", self.min_responders, allowed)])


def latecomers(replies: Mapping[ClientId, Arrays]) -> tuple[int, ClientId, list[ClientId]]:
    """The present version among replies that tell theirs, the first client that has it, and those who do not."""
    versions = {client: version_in(replies, client) for client in replies}
    present = max(versions.values(), default=0)
    late = [client for client, version in versions.items() if version < present]
    return present, min((client for client in versions if client not in late), default=""), late


def with_base(state: ClientState, slot: str, base: np.ndarray, round_: int = 0) -> ClientState:
    """A state whose `slot` starts anew from the common `base` in round `round_` (e.g. after a new partition).

    The version, ``2 round_ + 1``, is above that of earlier rounds and below that of this round's mean.
    """
    version = np.array(2 * round_ + 1, np.int64)
    return state.replace(**{slot: base.copy(), f"{slot}.base": base.copy(), f"{slot}.version": version})


def clipped(update: np.ndarray, norm: float) -> np.ndarray:
    """`update`, shortened to L2 norm `norm` if it is longer; no element ends up beyond `norm`.

    Raises:
        FieldRangeError: an update that is not finite.
    """
    if not np.isfinite(update).all():
        raise FieldRangeError("the update is not finite: training diverged, lower the learning rate")
    length = float(np.linalg.norm(update))
    return update if length <= norm else np.clip(update * (norm / length), -norm, norm)


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


def check_codec(clip: float, bits: int) -> None:
    """Refuse settings of the fixed-point encoding that cannot work.

    Raises:
        ConfigError: they cannot.
    """
    try:
        FixedPoint(clip, bits)
    except FieldRangeError as error:
        raise ConfigError([Problem("aggregator.clip, bits", (clip, bits), str(error))]) from error


def encoded_update(state: ClientState, slot: str, codec: FixedPoint, weight: int) -> Elements:
    """The weighted update of `slot`, clipped to the codec's bound, as field elements of the slot's shape.

    Raises:
        FieldRangeError: the update is not finite.
        ProtocolError: the slot has no base.
    """
    base = base_of(state, slot).astype(np.float64)
    return codec.encode(clipped(state[slot].astype(np.float64) - base, codec.bound), weight)


def moved(base: np.ndarray, total: Elements, codec: FixedPoint, weight: int) -> np.ndarray:
    """`base` plus the mean that is encoded in `total`, the sum of updates of this total weight."""
    new: np.ndarray = (base.astype(np.float64) + codec.decode(total, weight)).astype(base.dtype)
    return new


def next_version(present: int, round_: int) -> int:
    """The version that the mean of a round makes of the present one."""
    return max(present + 1, 2 * round_ + 2)


def caught_up(state: ClientState, slot: str, base: np.ndarray, version: np.ndarray) -> ClientState:
    """The state of a late client with the present base.

    Raises:
        ProtocolError: a base of another shape or type than its own.
    """
    own = base_of(state, slot)
    if base.shape != own.shape or base.dtype != own.dtype:
        raise ProtocolError(
            f"{slot!r}: the present base is {base.dtype} {base.shape}, this client's {own.dtype} {own.shape}"
        )
    return rebased(state, slot, base, version)


def base_of(state: ClientState, slot: str) -> np.ndarray:
    """The common base of `slot`.

    Raises:
        ProtocolError: there is none.
    """
    if f"{slot}.base" not in state or slot not in state:
        raise ProtocolError(f"no common base for {slot!r}: set it and {slot}.base, e.g. with with_base, before a mean")
    return state[f"{slot}.base"]


def version_of(state: ClientState, slot: str) -> int:
    """The version of the base of `slot`."""
    return int(state[f"{slot}.version"]) if f"{slot}.version" in state else 0


def rebased(state: ClientState, slot: str, base: np.ndarray, version: np.ndarray) -> ClientState:
    """The state whose `slot` starts anew from `base`."""
    return state.replace(**{slot: base.copy(), f"{slot}.base": base, f"{slot}.version": version})


def _base_if_asked(payload: Arrays, base: np.ndarray) -> Arrays:
    return {"base": base} if payload["send_base"] else {}


def version_in(replies: Mapping[ClientId, Arrays], client: ClientId) -> int:
    """The version of the base that a client replied.

    Raises:
        ProtocolError: it sent none.
    """
    version = replies[client].get("version")
    if version is None or version.shape != () or version.dtype.kind != "i" or version < 0:
        raise ProtocolError(f"client {client!r} sent an update without a version; leave it out of the cohort")
    return int(version)


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
