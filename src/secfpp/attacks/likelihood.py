"""Attacks on membership by how likely prompts make an image's label, with and without shadow prompts.

A *confidence* is the log-odds of the right class, log(p / (1 - p)), under a prompt that the attacker saw. Over several
rounds, each from a base that the attacker knows, evidence adds up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

GAMMA = 2.0
"""How much more an image must have gained than another one, in RMIA; its authors' choice."""


@dataclass(frozen=True)
class Evidence:
    """Confidences on the n images of one client that an attack asks about, and on m others that nobody trained on.

    Attributes:
        observed: under what the attacker saw, float64 [rounds, n + m].
        shadows: under shadow prompts, float64 [shadows, rounds, n + m].
        inside: which of the images each shadow trained on, bool [shadows, n].
    """

    observed: np.ndarray
    shadows: np.ndarray
    inside: np.ndarray

    @property
    def images(self) -> int:
        """How many images are asked about."""
        return int(self.inside.shape[1])

    def rounds(self, chosen: slice) -> Evidence:
        """Some rounds alone."""
        return Evidence(self.observed[chosen], self.shadows[:, chosen], self.inside)


def loss(evidence: Evidence) -> np.ndarray:
    """Threshold on the loss (S. Yeom et al., arXiv 1709.01604), float64 [n]."""
    total: np.ndarray = _log_probability(evidence.observed[:, : evidence.images]).sum(0)
    return total


def lira(evidence: Evidence) -> np.ndarray:
    """Log-ratio of likelihoods under shadows with the image and without it, float64 [n].

    LiRA, online (N. Carlini et al., arXiv 2112.03570, algorithm 1): confidences are normal, with a mean for each image,
    and one variance for all images of a round, as they advise for few shadows.
    """
    observed, shadows = _asked(evidence)
    inside = evidence.inside[:, None, :]
    total = np.zeros(evidence.images)
    for sign, mask in ((1, inside), (-1, ~inside)):
        mean, spread = _normal(shadows, mask)
        total += sign * (-((observed - mean) ** 2) / (2 * spread) - np.log(spread) / 2).sum(0)
    return total


def lira_offline(evidence: Evidence) -> np.ndarray:
    """How far beyond shadows without the image its confidence is, in standard deviations, float64 [n].

    LiRA, offline (arXiv 2112.03570, section V-C): only shadows that did not train on the image.
    """
    observed, shadows = _asked(evidence)
    mean, spread = _normal(shadows, ~evidence.inside[:, None, :])
    total: np.ndarray = ((observed - mean) / np.sqrt(spread)).sum(0)
    return total


def rmia(evidence: Evidence) -> np.ndarray:
    """Share of other images that gained `GAMMA` times less than the image did, float64 [n].

    RMIA, online (S. Zarifzadeh, P. Liu, R. Shokri, arXiv 2312.03262, section 3): what an image gains is its probability
    under what was seen against its mean under shadows, half of which trained on it.
    """
    seen = _log_probability(evidence.observed)
    usual = np.log(np.exp(_log_probability(evidence.shadows)).mean(0))
    gained = (seen - usual).sum(0)
    asked, others = gained[: evidence.images], np.sort(gained[evidence.images :])
    if not len(others):
        raise ValueError("RMIA compares with images that nobody trained on: there are none, e.g. no validation images")
    share: np.ndarray = np.searchsorted(others, asked - np.log(GAMMA), "right") / len(others)
    return share


ATTACKS: Mapping[str, Callable[[Evidence], np.ndarray]] = {
    "loss": loss,
    "lira": lira,
    "lira_offline": lira_offline,
    "rmia": rmia,
}


def _asked(evidence: Evidence) -> tuple[np.ndarray, np.ndarray]:
    n = evidence.images
    return evidence.observed[:, :n], evidence.shadows[:, :, :n]


def _normal(shadows: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each round and image over the masked shadows [rounds, n], and variance of each round [rounds, 1]."""
    count = mask.sum(0)
    mean = np.where(mask, shadows, 0).sum(0) / count
    squares = np.where(mask, (shadows - mean) ** 2, 0).sum(0) / np.maximum(count - 1, 1)
    return mean, np.maximum(squares.mean(-1, keepdims=True), 1e-12)


def _log_probability(log_odds: np.ndarray) -> np.ndarray:
    found: np.ndarray = -np.logaddexp(0, -log_odds)
    return found
