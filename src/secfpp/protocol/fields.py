"""Reading single values from messages of parties that may send anything."""

from __future__ import annotations

import json
from typing import Any

from secfpp.errors import ProtocolError
from secfpp.protocol.program import Arrays


def text_in(payload: Arrays, name: str) -> str:
    """The string `name` of a message.

    Raises:
        ProtocolError: there is none.
    """
    value = payload.get(name)
    if value is None or value.shape != () or value.dtype.kind != "U":
        raise ProtocolError(f"a message without the text {name!r}: the parties do not run the same protocol")
    return str(value.item())


def integer_in(payload: Arrays, name: str) -> int:
    """The integer `name` of a message, not negative.

    Raises:
        ProtocolError: there is none.
    """
    value = payload.get(name)
    if value is None or value.shape != () or value.dtype.kind not in "iu" or value < 0:
        raise ProtocolError(f"a message without the number {name!r}: the parties do not run the same protocol")
    return int(value)


def parsed(text: str) -> Any:
    """What a JSON text of somebody else says.

    Raises:
        ValueError: nothing.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
