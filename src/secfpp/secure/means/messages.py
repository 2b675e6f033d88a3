"""What a client reads in a message of a secure mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from secfpp.errors import ProtocolError
from secfpp.protocol.fields import parsed
from secfpp.protocol.program import Arrays, ClientId
from secfpp.secure.key_lists import ascending


def attempt_in(payload: Arrays) -> int:
    """The attempt that a message is of.

    Raises:
        ProtocolError: it names none.
    """
    attempt = payload.get("attempt")
    if attempt is None or attempt.shape != () or attempt.dtype.kind != "i":
        raise ProtocolError("a message of the secure mean without the number of its attempt")
    return int(attempt)


def names_of(payload: Arrays, key: str, allowed: Sequence[ClientId], step: str) -> tuple[ClientId, ...]:
    """Clients that a message names, a sorted part of `allowed`.

    Raises:
        ProtocolError: they are not that.
    """
    try:
        names = tuple(map(str, parsed(payload[key].item())))
    except (ValueError, TypeError, KeyError) as error:
        raise ProtocolError(f"step {step!r}: a list of {key} that cannot be read") from error
    if not ascending(names) or not set(names) <= set(allowed):
        raise ProtocolError(f"step {step!r}: {key} that are not clients of this run, each once, sorted")
    return names


def envelopes_of(payload: Arrays, key: str, count: int, step: str) -> np.ndarray:
    """Sealed messages, uint8 [count, bytes].

    Raises:
        ProtocolError: there are others.
    """
    array = payload.get(key)
    if array is None or array.dtype != np.uint8 or array.ndim != 2 or len(array) != count:
        raise ProtocolError(f"step {step!r}: {count} envelopes are announced, the message has others")
    return array
