"""Every error that SecFPP raises on purpose; a message says what happened, where, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class SecFPPError(Exception):
    """Root of all errors of this package."""


@dataclass(frozen=True)
class Problem:
    """One bad value: its dotted `key`, the `value` as given, and what is `allowed` instead."""

    key: str
    value: object
    allowed: str

    def __str__(self) -> str:
        return f"{self.key} = {self.value!r}: {self.allowed}"


class ConfigError(SecFPPError, ValueError):
    """Settings that cannot work; lists every problem found, not the first one only."""

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems = () if isinstance(problems, str) else tuple(problems)
        super().__init__(problems if isinstance(problems, str) else "\n".join(map(str, self.problems)))


class DataError(SecFPPError):
    """Data that cannot be used; names the file, line or record, and the remedy.

    Attributes:
        findings: every single thing that is wrong, where the text names the first few only.
    """

    def __init__(self, text: str, findings: Sequence[str] = ()) -> None:
        self.findings = tuple(findings) or (text,)
        super().__init__(text)


class DiskFullError(SecFPPError):
    """A disk has no room for a file; names the folder and the bytes that are missing."""


class NotFittedError(SecFPPError, ValueError, AttributeError):
    """Something that is learned was asked for before training; an AttributeError too, so that ``hasattr`` works."""


class FieldRangeError(SecFPPError, ValueError):
    """A number that does not fit the field or its codec; names value, bound and remedy."""


class ProtocolError(SecFPPError):
    """A party or message did not follow the protocol.

    Attributes:
        party: whose message it is, if that can be told.
        reason: what others are told, see `secfpp.protocol.refusals`.
    """

    reason: ClassVar[str] = "protocol"
    party: str | None = None


class ReplyError(ProtocolError):
    """A client replied what no honest one does."""

    reason = "malformed"

    def __init__(self, party: str, what: str) -> None:
        self.party = party
        super().__init__(f"client {party!r} {what}; leave it out of the cohort")


class WireError(ProtocolError):
    """Bytes that are not a valid message of this wire version."""

    reason = "malformed"


class TamperError(ProtocolError):
    """A message that its sender did not send so, here and now; `party` is that sender, None if it cannot be named."""

    reason = "tampering"

    def __init__(self, party: str | None, step: str, found: str) -> None:
        self.party, self.step = party, step
        sender = "" if party is None else f", from {party!r}"
        super().__init__(f"step {step!r}{sender}: {found}")


class DropoutError(ProtocolError):
    """Too few clients answered a step."""

    reason = "too few"

    def __init__(self, step: str, needed: int, got: int, missing: Sequence[str]) -> None:
        self.step, self.needed, self.got, self.missing = step, needed, got, tuple(missing)
        super().__init__(
            f"step {step!r}: {got} clients answered, at least {needed} are needed; "
            f"missing: {', '.join(self.missing) or 'none'}. Run the round again when they are back."
        )


class ClientError(SecFPPError):
    """A client's step failed; raised from the cause."""

    def __init__(self, client: str, round_: int, step: str, cause: BaseException) -> None:
        self.client, self.round, self.step = client, round_, step
        super().__init__(f"client {client!r}, round {round_}, step {step!r}: {type(cause).__name__}: {cause}")


class PrivacyError(SecFPPError):
    """A differential privacy guarantee that cannot be given or kept."""


class UnsupportedMechanism(PrivacyError):  # noqa: N818
    """A release that no valid accountant covers; names the event and the remedy."""


class BudgetExceeded(PrivacyError):  # noqa: N818
    """A release that would have cost more than the budget; it was stopped before it was made.

    Attributes:
        who: the client whose data it touches.
        spent: epsilon of all that was released so far.
        asked: epsilon with the release.
        budget: the most that is allowed.
        delta: the delta of all three.
    """

    def __init__(self, who: str, spent: float, asked: float, budget: float, delta: float) -> None:
        self.who, self.spent, self.asked, self.budget, self.delta = who, spent, asked, budget, delta
        super().__init__(
            f"privacy budget of {who!r}: epsilon {spent:.4g} is spent, with this release it would be {asked:.4g}, the "
            f"budget is {budget:.4g} (delta {delta:g}). Nothing was released. Stop here with what is trained, raise "
            "the budget, or plan more noise or fewer releases with: secfpp privacy calibrate"
        )


class MissingExtraError(SecFPPError, ImportError):
    """An optional dependency is not installed; names the pip command that installs it."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional dependency: pip install 'secfpp[{extra}]'")


class LeakyProtocolWarning(UserWarning):
    """Something was asked for that gives away more than it has to; says what, to whom, and what does not."""


class DataWarning(UserWarning):
    """Data were read in a way that was not stated, or not all of them; says how, and how to state it."""


class CacheWarning(RuntimeWarning):
    """Something cannot be kept where it should be, which costs time or memory only; says why, and what helps."""


class NoiseWarning(UserWarning):
    """The noise of differential privacy will be much longer than what it hides; says with what it would not be."""


class MemoryWarning(UserWarning):
    """What is about to run takes much memory; says how much, and how much is free."""
