"""Updates of an array of client states, and the common base that they start from.

What is averaged is each client's clipped update against a common base, in fixed point, so that every way of
computing the sum, in the clear or on shares, gives the same bits.

For a `slot`, a client keeps ``slot`` (its own value, trained locally), ``slot.base`` (the common value it
started from) and ``slot.version`` (0-d counter that names the base; absent means 0). Equal versions mean equal
bases: the mean of round r makes version ``2 r + 2`` or, if that is not above the last one, the next number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

import numpy as np

from secfpp.crypto.field import Elements, PrimeField
from secfpp.crypto.fixed_point import FixedPoint
from secfpp.errors import FieldRangeError, ProtocolError, ReplyError, TamperError
from secfpp.protocol.program import Arrays, ClientId, ClientState

HEAD = 16
"""Bytes before what is sealed of an update, see `head_of`."""


@dataclass(frozen=True)
class Base:
    """A common base, as the server knows it: its `version`, and the hash of its content, hexadecimal."""

    version: int
    digest: str


class Mean(NamedTuple):
    """What came of a mean.

    Attributes:
        members: the clients whose updates are in it, sorted; empty if there was none and everybody went back to its
            base.
        base: the new base, or the present one; None if nobody told one.
    """

    members: tuple[ClientId, ...]
    base: Base | None


def agreed_base(told: Mapping[ClientId, Base], colluding: int, known: Base | None = None) -> Base | None:
    """The base that the clients who tell theirs should go on from.

    That which the server knows from the last mean, if anybody has it. Else the latest one that more clients tell than
    may be lying together, or if there is none the one that most tell, of several the latest: so a few cannot pass off
    another base as the present one.
    """
    counts = Counter(told.values())
    if known in counts or not counts:
        return known
    return max(counts, key=lambda base: (min(counts[base], colluding + 1), base.version, base.digest))


def settled_base(told: Mapping[ClientId, Base], members: Collection[ClientId], colluding: int) -> Base | None:
    """The base that a mean left: what more of its members tell than may be lying together, or all of them."""
    counts = Counter(told[client] for client in members if client in told)
    base, most = counts.most_common(1)[0] if counts else (None, 0)
    return base if most > min(colluding, len(members) - 1) else None


def own_base(state: ClientState, slot: str) -> Base:
    """The base that a client has."""
    return Base(version_of(state, slot), sha256(base_of(state, slot).tobytes()).hexdigest())


def told_base(state: ClientState, slot: str) -> Arrays:
    """What a client tells of its base; see `base_in`."""
    own = own_base(state, slot)
    return {"version": np.array(own.version), "digest": np.frombuffer(bytes.fromhex(own.digest), np.uint8)}


def head_of(base: Base, size: int, terms: bytes) -> bytes:
    """What comes before shares of an update, `HEAD` bytes: a hash of what it is made from, in a run of these terms.

    All updates of a mean have to be made from one base, whatever a server says of versions: it could give others bases
    that they have nothing to add to, and see the update of one client in the sum.

    Args:
        base: that it starts from.
        size: how many numbers the slot has.
        terms: their hash.
    """
    told = f"{base.version} {base.digest} {size}".encode()
    return sha256(b"secfpp/head/1\0" + terms + told).digest()[:HEAD]


def base_in(client: ClientId, reply: Arrays) -> Base:
    """What `told_base` told.

    Raises:
        ProtocolError: it told something else.
    """
    version, digest = reply.get("version"), reply.get("digest")
    if version is None or version.shape != () or version.dtype.kind != "i" or version < 0:
        raise ReplyError(client, "sent an update without a version")
    if digest is None or digest.shape != (32,) or digest.dtype != np.uint8:
        raise ReplyError(client, "did not say which base its update is of")
    return Base(int(version), digest.tobytes().hex())


def with_base(state: ClientState, slot: str, base: np.ndarray, round_: int = 0) -> ClientState:
    """A state whose `slot` starts anew from the common `base` in round `round_` (e.g. after a new partition).

    The version, ``2 round_ + 1``, is above that of earlier rounds and below that of this round's mean.
    """
    version, nothing = np.array(2 * round_ + 1, np.int64), np.zeros(0, np.uint8)
    fresh = {slot: base.copy(), f"{slot}.base": base.copy(), f"{slot}.version": version, f"{slot}.given": nothing}
    if f"{slot}.group" in state:
        fresh[f"{slot}.group"] = nothing  # see `secfpp.secure.means.insiders`
    return state.replace(**fresh)


def marked_as_given(state: ClientState, slot: str) -> ClientState:
    """The state of a client that gives its update of `slot` into a mean, which it does once; `settled` ends it.

    Raises:
        TamperError: it gave this very update before: two means with it could be compared.
    """
    mark = np.frombuffer(sha256(state[slot].tobytes()).digest(), np.uint8)
    if f"{slot}.given" in state and np.array_equal(state[f"{slot}.given"], mark):
        found = f"the update of {slot!r} was given before, and nothing trained since"
        raise TamperError(None, "aggregator.share", found)
    return state.replace(**{f"{slot}.given": mark})


def settled(state: ClientState, slot: str) -> ClientState:
    """The state of a client that goes back to its base."""
    return state.replace(**{slot: base_of(state, slot).copy(), f"{slot}.given": np.zeros(0, np.uint8)})


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
    """`base` plus the mean that is encoded in `total`, the sum of updates of this total weight.

    Raises:
        TamperError: the mean is longer than clipped updates can make it.
    """
    new: np.ndarray = (base.astype(np.float64) + within_clip(total, codec, weight)).astype(base.dtype)
    return new


def within_clip(total: Elements, codec: FixedPoint, weight: int) -> np.ndarray:
    """The mean that `total`, a sum of updates of this total weight, encodes.

    Raises:
        TamperError: it is longer than what is clipped can be.
    """
    mean = codec.decode(total, weight)
    length, most = float(np.linalg.norm(mean)), codec.bound + mean.size**0.5 * codec.step
    if not length <= most:
        found = f"the mean has norm {length:.3g}, clipped updates have {codec.bound:g} at most: somebody did not clip"
        raise TamperError(None, "aggregator.receive", found)
    return mean


def unweighted(encoded: Elements, weight: int) -> np.ndarray:
    """The integers of which `encoded` is `weight` times, int64 of the same shape."""
    integers: np.ndarray = PrimeField.lower(encoded) // weight
    return integers


def require_clipped(encoded: Elements, codec: FixedPoint, weight: int, client: ClientId) -> None:
    """Refuse an update that is not `weight` times one of at most the codec's bound, by the rule of `SecureMean`.

    Raises:
        TamperError: it is such.
    """
    integers = unweighted(encoded, weight)
    if not np.array_equal(PrimeField.lower(encoded), integers * weight) or sum_of_squares(
        integers
    ) > codec.most_squares(integers.size):
        raise not_clipped(client, codec.bound)


def sum_of_squares(integers: np.ndarray) -> int:
    """The exact sum of squares of int64 `integers`, fewer than 2^31 of them, of magnitude below 2^62."""
    largest = int(np.abs(integers).max(initial=0))
    if largest >= 1 << 31:
        exact = integers.reshape(-1).astype(object)
        return int(exact @ exact)
    squares = integers * integers
    return (int((squares >> 31).sum()) << 31) + int((squares & ((1 << 31) - 1)).sum())


def not_clipped(client: ClientId, bound: float) -> TamperError:
    """That the update of a client is longer than clipped ones are."""
    return TamperError(
        client, "aggregator.share", f"the update of {client!r} is longer than {bound:g}: it did not clip"
    )


def next_version(present: int, round_: int) -> int:
    """The version that the mean of a round makes of the present one."""
    return max(present + 1, 2 * round_ + 2)


def caught_up(state: ClientState, slot: str, base: np.ndarray, present: Base) -> ClientState:
    """The state of a late client with the `present` base.

    Raises:
        ProtocolError: a base of another shape or type than its own.
        TamperError: it is not the present one.
    """
    own = base_of(state, slot)
    if base.shape != own.shape or base.dtype != own.dtype:
        raise ProtocolError(
            f"{slot!r}: the present base is {base.dtype} {base.shape}, this client's {own.dtype} {own.shape}"
        )
    if sha256(base.tobytes()).hexdigest() != present.digest:
        raise TamperError(None, "aggregator.catch_up", f"{slot!r}: this is not the base that others have")
    return rebased(state, slot, base, present.version)


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


def rebased(state: ClientState, slot: str, base: np.ndarray, version: int) -> ClientState:
    """The state whose `slot` starts anew from `base`."""
    return settled(state.replace(**{f"{slot}.base": base, f"{slot}.version": np.array(version)}), slot)
