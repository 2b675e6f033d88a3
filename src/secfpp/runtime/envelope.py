"""What the server and a site send each other between processes: the messages of one exchange in one envelope.

Envelopes are messages of the wire format themselves, and as strictly parsed; they hold a protocol's messages as bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from secfpp.errors import ProtocolError, WireError
from secfpp.protocol import wire
from secfpp.protocol.fields import integer_in, parsed, text_in
from secfpp.protocol.program import Arrays

Kind = Literal["open", "ask", "last", "commit", "close"]
REASONS = ("malformed", "closed", "old", "disagrees", "forbidden", "ahead", "failed")
"""Why a site refuses a whole request; its own log says more."""


@dataclass(frozen=True)
class Part:
    """One protocol message: `label` of the ask and its `step`; `data` in the wire format.

    In a reply `step` is ``done``, or the kind of exception that the step ended with: its text stays at the site.
    """

    label: str
    step: str
    data: bytes = b""


@dataclass(frozen=True)
class Request:
    """What the server wants of a site.

    Attributes:
        kind: ``open`` a run, with `about` to say what it is; ``ask`` for steps; for the ``last`` ones of a round, which
            is committed with them; ``commit`` a round; ``close`` the run.
        attempt: number of the run's opening, by which requests of an earlier one are told.
        round: the round; when opening, the last one that the server has committed.
        seq: rises with every request of an attempt; one that is repeated gets the reply that it had.
        parts: of ``ask`` and ``last``.
        about: JSON-ready.
    """

    kind: Kind
    attempt: int
    round: int
    seq: int
    parts: tuple[Part, ...] = ()
    about: Any = None

    def encode(self) -> bytes:
        """Its bytes."""
        numbers = {"attempt": self.attempt, "round": self.round, "seq": self.seq}
        return _packed({"kind": self.kind, "about": self.about, **numbers}, self.parts)

    @classmethod
    def decode(cls, data: bytes) -> Request:
        """What `encode` encoded.

        Raises:
            ProtocolError: anything else.
        """
        head, numbers, parts = _unpacked(data, ("attempt", "round", "seq"))
        if head["kind"] not in get_args(Kind):
            raise WireError(f"a request of the kind {head['kind']!r}: install the same release of secfpp everywhere")
        attempt, round_, seq = numbers
        return cls(head["kind"], attempt, round_, seq, parts, head["about"])


@dataclass(frozen=True)
class Reply:
    """What a site answers.

    Attributes:
        seq: of the request; 0 if that could not be read.
        refused: one of `REASONS`, empty if the request was carried out.
        parts: one for each of the request's.
        about: JSON-ready.
    """

    seq: int
    refused: str = ""
    parts: tuple[Part, ...] = ()
    about: Any = None

    def encode(self) -> bytes:
        """Its bytes."""
        return _packed({"refused": self.refused, "about": self.about, "seq": self.seq}, self.parts)

    @classmethod
    def decode(cls, data: bytes) -> Reply:
        """What `encode` encoded.

        Raises:
            ProtocolError: anything else.
        """
        head, (seq,), parts = _unpacked(data, ("seq",))
        if head["refused"] not in ("", *REASONS):
            raise WireError("a reply that refuses for no known reason")
        return cls(seq, head["refused"], parts, head["about"])


def _packed(head: dict[str, Any], parts: Sequence[Part]) -> bytes:
    arrays: dict[str, np.ndarray] = {
        name: np.array(value) for name, value in head.items() if name not in ("about", "kind", "refused")
    }
    words = {name: head[name] for name in ("kind", "refused", "about") if name in head}
    arrays["head"] = np.array(json.dumps({**words, "parts": [[part.label, part.step] for part in parts]}))
    arrays["sizes"] = np.array([len(part.data) for part in parts], np.int64)
    arrays["data"] = np.frombuffer(b"".join(part.data for part in parts), np.uint8)
    return bytes(wire.encode(arrays))


def _unpacked(data: bytes, numbers: Sequence[str]) -> tuple[dict[str, Any], list[int], tuple[Part, ...]]:
    arrays = wire.decode(data)
    try:
        head = parsed(text_in(arrays, "head"))
        names = [(str(label), str(step)) for label, step in head["parts"]]
        head = {"about": head["about"], **{name: str(head[name]) for name in ("kind", "refused") if name in head}}
        found = [integer_in(arrays, name) for name in numbers]
        parts = tuple(Part(*name, raw) for name, raw in zip(names, _cut(arrays), strict=True))
    except ProtocolError:
        raise
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise WireError("an envelope that cannot be read") from error
    missing = {"attempt": "kind"}.get(numbers[0], "refused")
    if missing not in head:
        raise WireError(f"an envelope without {missing!r}")
    return head, found, parts


def _cut(arrays: Arrays) -> list[bytes]:
    sizes, data = arrays["sizes"], arrays["data"]
    good = sizes.ndim == data.ndim == 1 and sizes.dtype == np.int64 and data.dtype == np.uint8
    if not good or (sizes < 0).any() or sizes.sum() != len(data):
        raise WireError("an envelope whose parts do not fill it")
    ends = np.cumsum(sizes)
    return [data[end - size : end].tobytes() for end, size in zip(ends.tolist(), sizes.tolist(), strict=True)]
