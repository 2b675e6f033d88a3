"""Differential privacy of one image for what clients share, as a part of a method: how much, and where it is spent.

Everybody's class sums and each group's are one release each, a vector to which an image adds at most 1 in L2 norm.
What both cost together is the `Privacy.epsilon`; everything else that a client says is named by `not_covered`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from secfpp.algorithms.privacy import EXPOSURE
from secfpp.algorithms.privacy import Privacy as Privacy
from secfpp.privacy.calibration import least_noise
from secfpp.privacy.events import Composed, Event, Skellam


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
            found.append(Skellam(covers=covers, unit=privacy.hides, l1=math.sqrt(size) * l2, l2=l2, variance=variance))
        return tuple(found)

    def together(multiplier: float) -> Event:
        return Composed(covers="class sums", unit=privacy.hides, events=releases(multiplier))

    events = releases(least_noise(together, privacy.epsilon, privacy.delta, 1).multiplier)
    sums, scatter, exposure = (math.sqrt(share / sum(everybody)) for share in everybody)
    sums /= math.hypot(1, privacy.count)
    alone = 1 / math.hypot(privacy.bound, privacy.count)
    # an image moves the exposure by a third at most, where it is the only one of its class
    factors = [(sums, privacy.count * sums, scatter, 3 * exposure), (alone, privacy.count * alone)]
    return tuple(Release(event, step, *of) for event, of in zip(events, factors, strict=False))


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
