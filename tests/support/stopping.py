"""Training that stops between two rounds, as if it had been interrupted there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from secfpp.runtime.trainer import RoundRecord


class StoppedError(Exception):
    """Raised after a round, once its checkpoint is written."""


def stopped(after: int, training: Callable[[Callable[[RoundRecord], None]], object]) -> None:
    """Call `training` with an ``on_round`` that stops it after the round `after`."""

    def on_round(record: RoundRecord) -> None:
        if record.round == after:
            raise StoppedError

    with pytest.raises(StoppedError):
        training(on_round)
