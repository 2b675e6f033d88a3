"""Changes of what several senders sealed for one recipient, in a message to it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from secfpp.secure.envelopes import ENVELOPES, packed, unpacked
from support.secure_runs import names


def repack(
    message: dict[str, np.ndarray], change: Callable[[dict[str, np.ndarray]], object], name: str = ENVELOPES
) -> None:
    """Change what a message holds under `name`, if it does, by sender: ``c00`` and so on."""
    if name in message:
        senders = names(len(message[f"sizes.{name}"]))
        found = {sender: array.copy() for sender, array in unpacked(name, message, senders, "test").items()}
        change(found)
        message.update(packed(name, found, senders))
