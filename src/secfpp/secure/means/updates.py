"""Updates of an array of client states, and the common base that they start from.

What is averaged is each client's clipped update against a common base, in fixed point, so that every way of
computing the sum, in the clear or on shares, gives the same bits.

For a `slot`, a client keeps ``slot`` (its own value, trained locally), ``slot.base`` (the common value it
started from) and ``slot.version`` (0-d counter that names the base; absent means 0). Equal versions mean equal
bases: the mean of round r makes version ``2 r + 2`` or, if that is not above the last one, the next number.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from secfpp.crypto.field import Elements
from secfpp.crypto.fixed_point import FixedPoint
from secfpp.errors import FieldRangeError, ProtocolError
from secfpp.protocol.program import Arrays, ClientId, ClientState


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


def version_in(replies: Mapping[ClientId, Arrays], client: ClientId) -> int:
    """The version of the base that a client replied.

    Raises:
        ProtocolError: it sent none.
    """
    version = replies[client].get("version")
    if version is None or version.shape != () or version.dtype.kind != "i" or version < 0:
        raise ProtocolError(f"client {client!r} sent an update without a version; leave it out of the cohort")
    return int(version)
