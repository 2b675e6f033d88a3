"""Differential privacy of one image for what clients share, as a part of a method: how much, and where it is spent.

Everybody's class sums and each group's are one release each, a vector to which an image adds at most 1 in L2 norm.
What both cost together is the `Privacy.epsilon`; everything else that a client says is named by `not_covered`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from secfpp.errors import ConfigError, Problem
from secfpp.privacy.calibration import least_noise
from secfpp.privacy.events import Composed, Event, Skellam, from_json, to_json
from secfpp.privacy.ledger import Terms
from secfpp.protocol.program import ClientState

EXPOSURE = 0.01
"""Share of the budget that the exposure takes: one number, which needs to be known to a few percent."""


@dataclass(frozen=True, kw_only=True)
class Privacy:
    """What a client's images are promised.

    Attributes:
        mechanism: ``none``; ``class_means``: class sums are shared under noise, and prompts are trained at home only.
        unit: whose presence is hidden: one training image with its label.
        epsilon: what all releases of a run cost, for each client, if they are made once.
        delta: the probability with which that need not hold; well below one over the number of images.
        epsilon_budget: the most that all runs on the data may cost together; a run ends before it costs more.
        everybody: share of the budget for everybody's class sums, and `scatter` for their scatter; the rest is for the
            group's. Shares add up as squared ratios of norm and noise do.
        scatter: see `everybody`.
        clip: length to which images' differences from everybody's class mean are shortened in a group's sums, 0..2.
        count: what an image adds to the count of its class, where its feature has length 1.
    """

    mechanism: Literal["none", "class_means"] = "none"
    unit: Literal["record"] = "record"
    epsilon: float = 8.0
    delta: float = 1e-5
    epsilon_budget: float | None = None
    everybody: float = 0.25
    scatter: float = 0.05
    clip: float = 0.8
    count: float = 0.3

    def __post_init__(self) -> None:
        problems = []
        if not 0 < self.epsilon < math.inf:
            problems.append(Problem("privacy.epsilon", self.epsilon, "a positive finite number"))
        if not 0 < self.delta < 1:
            problems.append(Problem("privacy.delta", self.delta, "above 0 and below 1"))
        if self.epsilon_budget is not None and not self.epsilon <= self.epsilon_budget < math.inf:
            allowed = f"at least privacy.epsilon = {self.epsilon:g}, which one run costs, or none"
            problems.append(Problem("privacy.epsilon_budget", self.epsilon_budget, allowed))
        if not (self.everybody > 0 and self.scatter > 0 and self.everybody + self.scatter + EXPOSURE < 1):
            allowed = f"positive shares of the budget, below {1 - EXPOSURE:g} together"
            problems.append(Problem("privacy.everybody, scatter", (self.everybody, self.scatter), allowed))
        if not 0 < self.clip <= 2:
            problems.append(Problem("privacy.clip", self.clip, "above 0 and at most 2: features have length 1"))
        if not 0 < self.count < math.inf:
            problems.append(Problem("privacy.count", self.count, "a positive finite number"))
        if problems:
            raise ConfigError(problems)

    @property
    def on(self) -> bool:
        """Whether anything is promised."""
        return self.mechanism != "none"

    @property
    def terms(self) -> Terms | None:
        """What the ledger of the data is asked to hold to."""
        return Terms(self.unit, "add_remove", self.delta, self.epsilon_budget) if self.on else None


@dataclass(frozen=True)
class Release:
    """A sum that a run releases once: a vector to which an image adds one of L2 norm 1 at most.

    Attributes:
        event: the release, for the ledger.
        step: what an encoded integer stands for.
        sums: what multiplies features in the vector.
        counts: what multiplies counts of images.
        scatter: what multiplies products of features.
        exposure: what multiplies the exposure.
    """

    event: Skellam
    step: float
    sums: float
    counts: float
    scatter: float = 0.0
    exposure: float = 0.0

    def part(self, unknown: int) -> float:
        """Variance of each member's part of the noise, in squared steps, if those of `unknown` members stay unknown."""
        return self.event.variance / unknown

    def noise(self, members: int, unknown: int) -> float:
        """Standard deviation of the noise that `members` make, in each number of the vector."""
        return self.step * math.sqrt(members * self.part(unknown))


def release_size(n_classes: int, dim: int, group: bool) -> int:
    """Numbers in a group's vector: sums and counts; in everybody's also the products and the exposure."""
    return n_classes * (dim + 1) + (0 if group else dim * (dim + 1) // 2 + 1)


@lru_cache(maxsize=64)
def planned(privacy: Privacy, n_classes: int, dim: int, step: float, groups: bool) -> tuple[Release, ...]:
    """Everybody's sum and, with `groups`, a group's: together they cost `privacy.epsilon`.

    Rounding moves each number of a client's vector by at most half a step, with the image and without it; so the
    integers of neighbours are at most ``1 / step + sqrt(size)`` apart.

    Args:
        privacy: the settings.
        n_classes: number of classes.
        dim: numbers in a feature.
        step: see `Release`.
        groups: whether groups have sums too.

    Raises:
        PrivacyError: no noise that can be made is enough.
        MissingExtraError: dp-accounting is not installed.
    """
    everybody = privacy.everybody, privacy.scatter, EXPOSURE
    parts = {"everybody's class sums": (sum(everybody), release_size(n_classes, dim, False))}
    if groups:
        parts["a group's class sums"] = 1 - sum(everybody), release_size(n_classes, dim, True)
    whole = sum(share for share, _ in parts.values())

    def releases(multiplier: float) -> tuple[Skellam, ...]:
        found = []
        for covers, (share, size) in parts.items():
            l2, variance = 1 / step + math.sqrt(size), multiplier**2 * whole / share / step**2
            found.append(Skellam(covers=covers, unit=privacy.unit, l1=math.sqrt(size) * l2, l2=l2, variance=variance))
        return tuple(found)

    def together(multiplier: float) -> Event:
        return Composed(covers="class sums", unit=privacy.unit, events=releases(multiplier))

    events = releases(least_noise(together, privacy.epsilon, privacy.delta, 1).multiplier)
    sums, scatter, exposure = (math.sqrt(share / sum(everybody)) for share in everybody)
    sums /= math.hypot(1, privacy.count)
    alone = 1 / math.hypot(privacy.clip, privacy.count)
    # an image moves the exposure by a third at most, where it is the only one of its class
    factors = [(sums, privacy.count * sums, scatter, 3 * exposure), (alone, privacy.count * alone)]
    return tuple(Release(event, step, *of) for event, of in zip(events, factors, strict=False))


def noted(state: ClientState, round_: int, event: Event) -> ClientState:
    """The state of a client that has written a release down in the ledger."""
    known = [{"round": number, "event": to_json(one)} for number, one in released(state)]
    text = json.dumps([*known, {"round": round_, "event": to_json(event)}])
    return state.replace(released=np.frombuffer(text.encode(), np.uint8))


def released(state: ClientState) -> list[tuple[int, Event]]:
    """The releases of a client in this run, with their rounds; what a killed attempt at a round made is not in it."""
    told = json.loads(state["released"].tobytes() or b"[]") if "released" in state else []
    return [(int(one["round"]), from_json(one["event"])) for one in told]


def not_covered(*, grouped: bool, polls_in_clear: bool, descriptors_in_clear: bool) -> tuple[str, ...]:
    """What clients say besides class sums, which no epsilon covers, in words.

    Args:
        grouped: whether clients are grouped.
        polls_in_clear: whether a server sees who has which class, and what each gain is.
        descriptors_in_clear: whether it sees descriptors.
    """
    found = ["classes that enough clients have", "numbers of images"]
    if grouped:
        found += ["partition", "whether groups are of use"]
    if polls_in_clear:
        found.append("answers to polls, in the clear to the server")
    if descriptors_in_clear:
        found.append("descriptors, in the clear to the server")
    return tuple(sorted(found))
