"""The checks of a computation on shares; see `secfpp.crypto.checks`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from secfpp.crypto.field import Elements
from secfpp.errors import TamperError

CHECKED = 1
"""Number of the exchange in which checks are answered."""


def blame(clients: Sequence[str], responders: Sequence[str], degree: Elements, zero: Elements, step: str) -> None:
    """Judge the opened checks.

    Args:
        clients: who dealt.
        responders: the holders that answered.
        degree: [responders, clients], without that responder's share.
        zero: [clients].
        step: for the error.

    Raises:
        TamperError: names who dealt something else than it should, or which holder answered wrongly about everything;
            nobody if one share is off, which may be its dealer's doing or its holder's, or if nothing fits.
    """
    if not degree.any() and not zero.any():
        return
    if degree.all():
        raise TamperError(None, step, "no check fits: the holders were told different things, or several cheat")
    fitting = degree == 0  # a wrong share fits where its holder is left out
    suspects = {
        client: [r for r, fits in zip(responders, fitting[:, i], strict=True) if fits]
        for i, client in enumerate(clients)
        if not fitting[:, i].all()
    }
    for client, left_out in suspects.items():
        if not left_out:
            raise TamperError(client, step, "its shares are not of one polynomial of degree T")
    for client, (holder, *_) in suspects.items():
        if len(suspects) == len(clients):
            raise TamperError(holder, step, "it answered wrongly about the shares of everybody")
        raise TamperError(None, step, f"the share that {client!r} dealt to {holder!r} is wrong: one of the two cheats")
    for i in np.flatnonzero(zero).tolist():
        raise TamperError(clients[i], step, "what it shared is out of range: its input, or permutations that it dealt")
