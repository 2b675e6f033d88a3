"""FLARE's marks on methods, with types: what may be called from afar, and what runs at the start and the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from nvflare.collab import collab

F = TypeVar("F", bound=Callable[..., object])


def publish(method: F) -> F:
    """May be called by the other parties of the job."""
    return cast(F, collab.publish(method))


def init(method: F) -> F:
    """Is called before anything else."""
    return cast(F, collab.init(method))


def final(method: F) -> F:
    """Is called at the end, however that comes."""
    return cast(F, collab.final(method))


def main(method: F) -> F:
    """What the server does."""
    return cast(F, collab.main(method))
