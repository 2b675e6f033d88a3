"""What a client accepts of the terms of a secure mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from secfpp.errors import ProtocolError
from secfpp.protocol.program import ClientId, ClientState
from secfpp.secure import committee
from secfpp.secure.means.client import MeanRun

if TYPE_CHECKING:
    from secfpp.secure.means.secure_mean import SecureMean


def require_acceptable(own: SecureMean, about: Mapping[str, Any], clients: Sequence[ClientId]) -> None:
    """Refuse terms of a mean that are weaker than a client's own settings.

    Args:
        own: its settings.
        about: the terms.
        clients: who takes part.

    Raises:
        ProtocolError: they are.
        FieldRangeError: weights that could overflow the sum.
    """
    problems = [
        f"{name} = {about.get(name)!r}, this client has {value}"
        for name, value in (
            ("clip", own.clip),
            ("bits", own.bits),
            ("size", committee.LARGEST),
            ("bounded", own.bounded),
        )
        if about.get(name) != value
    ]
    problems += [
        f"{name} = {about.get(name)!r}, this client insists on {least} or more"
        for name, least in (("threshold", own.threshold), ("min_responders", own.min_responders))
        if not (isinstance(about.get(name), int) and about[name] >= least)
    ]
    if len(clients) < own.min_responders:
        problems.append(f"{len(clients)} clients, this client insists on {own.min_responders} or more")
    weights = about.get("weights")
    if not isinstance(weights, list) or len(weights) != len(clients):
        problems.append("weights that are not those of the clients")
    elif set(map(type, weights)) != {int} or min(weights) < 1:
        problems.append("weights that are not integers from 1")
    if problems:
        raise ProtocolError("terms of a mean that this client does not accept: " + "; ".join(problems))
    own.codec.require_capacity(sum(about["weights"]))


def require_shared_out(share: float, run: MeanRun, images: int | None) -> None:
    """Refuse weights under which too much of the mean would be one client's.

    Args:
        share: largest one that a client may have in the mean.
        run: with terms that hold weights of all.
        images: how many training images this client has, which is its weight unless all have the same; None if it
            counts by something else.

    Raises:
        ProtocolError: they are such.
    """
    weights: list[int] = run.place.about["weights"]
    own, most, total = run.weight(run.name), max(weights), sum(weights)
    if images is not None and own > images and len(set(weights)) > 1:
        raise ProtocolError(f"a mean in which this client has weight {own}, it has {images} images")
    if most > max(share * total, 1):
        raise ProtocolError(
            f"a mean in which one client has weight {most} of {total}, more than the share of "
            f"{share:g} that this client allows (aggregator.most_weight)"
        )


def require_members(run: MeanRun, state: ClientState) -> None:
    """Refuse a mean of fewer updates than a client's own is made for: ``SLOT.least`` of its state, if it has that.

    Noise that members make together is enough only if so many do.

    Raises:
        ProtocolError: the terms allow fewer.
    """
    needed = int(state[name]) if (name := f"{run.slot}.least") in state else 0
    if run.least < needed:
        raise ProtocolError(f"a mean of {run.least} updates or more, where this client's is made for {needed} or more")
