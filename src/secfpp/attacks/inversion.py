"""What a client's images are like, from updates that it gave into means of groups of different sizes.

Shadows say how updates follow from the images that were trained on; a ridge regression on them turns what was uploaded
back into features (of the family of learned inversions, e.g. Wu et al., arXiv 2210.10880). Sought is how the mean
feature of the client's training images differs from that of all images that it may have trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from secfpp.attacks.gathering import Victim
from secfpp.attacks.views import uploads

SIZES = (1, 2, 3, 5, 10)
"""Clients whose uploads are averaged before anybody sees them."""


@dataclass(frozen=True)
class Recovered:
    """What was recovered of one client.

    Attributes:
        size: clients in the mean that was seen.
        exposed: whether the uploads were in the clear.
        cosine: of what was sought and what was found; 0 on average by chance.
    """

    size: int
    exposed: bool
    cosine: float


def recovered(victims: Sequence[Victim], sizes: Sequence[int] = SIZES) -> dict[str, list[Recovered]]:
    """What the means of each victim's uploads and those of as many others as a size needs give away, by client.

    Sizes above the number of victims are left out, and victims that uploaded nothing.
    """
    read = {victim.client: uploads(victim.run, victim.client) for victim in victims}
    giving = [victim for victim in victims if victim.averages and len(read[victim.client]) == len(victim.averages)]
    found: dict[str, list[Recovered]] = {victim.client: [] for victim in victims}
    for place, victim in enumerate(giving):
        for size in (size for size in sizes if size <= len(giving)):
            group = [giving[(place + step) % len(giving)] for step in range(size)]
            counts = np.array([read[member.client][-1].weight for member in group], dtype=np.float64)
            shares = counts / counts.sum()
            shadows = sum(s * m.updates["updates"].astype(np.float64) for s, m in zip(shares, group, strict=True))
            seen = sum(
                s * np.stack([upload.update for upload in read[m.client]]) for s, m in zip(shares, group, strict=True)
            )
            features = victim.pool.features.double().cpu().numpy()
            halves = victim.pool.halves / victim.pool.halves.sum(1, keepdims=True)
            means = halves @ features
            sought = features[victim.inside].mean(0) - means.mean(0)
            guess = inverted(np.asarray(shadows), np.asarray(seen), means)
            exposed = not read[victim.client][0].sealed
            found[victim.client].append(Recovered(size, exposed, _cosine(guess, sought)))
    return found


def inverted(shadows: np.ndarray, seen: np.ndarray, causes: np.ndarray) -> np.ndarray:
    """What caused the updates that were seen, as a difference from the mean cause, by ridge regression.

    The penalty is the mean of the kernel's diagonal: as much as the updates of one shadow have.

    Args:
        shadows: updates that followed from known causes, float64 [shadows, rounds, ...].
        seen: updates, float64 [rounds, ...].
        causes: float64 [shadows, dim].

    Returns:
        float64 [dim].
    """
    mean = shadows.mean(0)
    spread = shadows.std(axis=(0, *range(2, shadows.ndim)))
    scale = np.maximum(spread, 1e-12).reshape(-1, *[1] * (shadows.ndim - 2))
    known = ((shadows - mean) / scale).reshape(len(shadows), -1)
    asked = ((seen - mean) / scale).reshape(-1)
    kernel = known @ known.T
    penalty = np.trace(kernel) / len(kernel)
    found: np.ndarray = (known @ asked) @ np.linalg.solve(
        kernel + penalty * np.eye(len(kernel)), causes - causes.mean(0)
    )
    return found


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / lengths if lengths else 0.0
