"""How well a membership attack works: rates with intervals over clients, and the least epsilon that it proves.

Images of one client share its prompt and its partners, so intervals come from drawing clients, not images, anew.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from secfpp.attacks.membership import auc
from secfpp.seeding import Seed

DRAWS = 1000
LEAST_BEYOND = 10
"""Fewest images outside that must lie beyond a false positive rate for it to be read off."""


@dataclass(frozen=True)
class Scores:
    """What an attack says of images, the more the likelier it takes them for members.

    Attributes:
        values: float64 [n].
        inside: which are members, bool [n].
        clients: whose each is, a number per client and seed, int64 [n].

    Raises:
        ValueError: arrays of other lengths, values that are no numbers, or nobody inside or outside.
    """

    values: np.ndarray
    inside: np.ndarray
    clients: np.ndarray

    def __post_init__(self) -> None:
        if not len(self.values) == len(self.inside) == len(self.clients):
            raise ValueError(f"{len(self.values)} values, {len(self.inside)} memberships, {len(self.clients)} clients")
        if np.isnan(self.values).any():
            raise ValueError(f"{int(np.isnan(self.values).sum())} of {len(self.values)} scores are no numbers")
        if not 0 < self.inside.sum() < len(self.inside):
            raise ValueError(
                f"{int(self.inside.sum())} of {len(self.inside)} images are members: both kinds are needed"
            )

    @property
    def auc(self) -> float:
        """Probability that a member has more than another image, ties counting half."""
        return auc(self.values, self.inside)

    def tpr(self, fpr: float) -> float | None:
        """Share of members above the threshold that at most a share `fpr` of the others passes.

        None where fewer than `LEAST_BEYOND` of the others would be beyond it.
        """
        return None if fpr * (~self.inside).sum() < LEAST_BEYOND else _tpr(self.values, self.inside, fpr)

    def roc(self) -> tuple[np.ndarray, np.ndarray]:
        """False and true positive rates of every threshold from high to low, each float64 [thresholds + 1] from 0."""
        order = np.argsort(-self.values, kind="stable")
        last = np.flatnonzero(np.append(np.diff(self.values[order]) != 0, True))
        hits = self.inside[order].cumsum()[last]
        misses = last + 1 - hits
        return np.append(0.0, misses / misses[-1]), np.append(0.0, hits / hits[-1])

    def of_clients(self) -> dict[int, Scores]:
        """The scores of each client that has images of both kinds."""
        found = {}
        for client in np.unique(self.clients).tolist():
            own = self.clients == client
            if 0 < self.inside[own].sum() < own.sum():
                found[client] = Scores(self.values[own], self.inside[own], self.clients[own])
        return found


def auc_interval(scores: Scores, seed: Seed, confidence: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the AUC over clients (Efron and Tibshirani, 1993, ch. 13)."""
    return _percentiles(_auc_draws(scores, seed), confidence)


def auc_gain_interval(scores: Scores, control: Scores, seed: Seed, confidence: float = 0.95) -> tuple[float, float]:
    """The same of how much larger the AUC is than that of a control on the same images, clients drawn alike."""
    return _percentiles(_auc_draws(scores, seed) - _auc_draws(control, seed), confidence)


def _auc_draws(scores: Scores, seed: Seed) -> np.ndarray:
    clients, whose = np.unique(scores.clients, return_inverse=True)
    wins = np.empty((len(clients), len(clients)))  # [member's client, other's client]
    members, others = (np.array([(whose[kind] == c).sum() for c in range(len(clients))]) for kind in _kinds(scores))
    inside = scores.values[scores.inside]
    for client in range(len(clients)):
        outside = np.sort(scores.values[~scores.inside & (whose == client)])
        won = (np.searchsorted(outside, inside, "left") + np.searchsorted(outside, inside, "right")) / 2
        wins[:, client] = np.bincount(whose[scores.inside], won, len(clients))
    draws = seed.numpy().multinomial(len(clients), np.full(len(clients), 1 / len(clients)), DRAWS)
    pairs = (draws @ members) * (draws @ others)
    values: np.ndarray = np.einsum("di,ij,dj->d", draws, wins, draws, optimize=True)[pairs > 0] / pairs[pairs > 0]
    return values


def mean_interval(values: np.ndarray, seed: Seed, confidence: float = 0.95) -> tuple[float, float]:
    """The same of a mean over clients of one figure each, float64 [clients]."""
    draws = seed.numpy().integers(len(values), size=(DRAWS, len(values)))
    return _percentiles(values[draws].mean(1), confidence)


def tpr_interval(scores: Scores, fpr: float, seed: Seed, confidence: float = 0.95) -> tuple[float, float] | None:
    """The same of `Scores.tpr`; None where that is."""
    if scores.tpr(fpr) is None:
        return None
    clients, whose = np.unique(scores.clients, return_inverse=True)
    of = [np.flatnonzero(whose == client) for client in range(len(clients))]
    rng, found = seed.numpy(), []
    for _ in range(DRAWS // 4):
        drawn = np.concatenate([of[client] for client in rng.integers(len(clients), size=len(clients))])
        if 0 < scores.inside[drawn].sum() < len(drawn):
            found.append(_tpr(scores.values[drawn], scores.inside[drawn], fpr))
    return _percentiles(np.array(found), confidence)


@dataclass(frozen=True)
class Worst:
    """The client that an attack tells most of.

    Attributes:
        client: its number.
        auc: over its own images.
        chance: what the largest of all clients' would stay below in 95 of 100 cases if nothing could be told.
    """

    client: int
    auc: float
    chance: float


def worst_client(scores: Scores) -> Worst | None:
    """The client with the largest AUC of its own; None where none has images of both kinds."""
    from scipy.stats import norm

    found = scores.of_clients()
    if not found:
        return None
    values = {client: own.auc for client, own in found.items()}
    worst = max(values, key=lambda client: (values[client], -client))
    z = float(norm.ppf(0.95 ** (1 / len(found))))
    chance = max(0.5 + z * _spread(own) for own in found.values())
    return Worst(worst, values[worst], min(1.0, chance))


def epsilon_lower_bound(scores: Scores, delta: float, seed: Seed, confidence: float = 0.95) -> float:
    """The least epsilon of (epsilon, delta) differential privacy under which the attack could be as good, at least 0.

    Any attack on such a mechanism has TPR <= e^epsilon FPR + delta, and the same of misses (Kairouz, Oh, Viswanath,
    2015; Nasr et al., 2021). The threshold is chosen on one half of the images; on the other half the rates are
    bounded as Clopper and Pearson (1934) do. Images count as independent trials.

    Args:
        scores: of the attack.
        delta: of the claim.
        seed: deals images into halves.
        confidence: that the true epsilon is not below.
    """
    if not 0 <= delta < 1:
        raise ValueError(f"delta = {delta}: a probability below 1")
    halves = seed.numpy().permutation(len(scores.values)) % 2 == 0
    choose, judge = ((scores.values[part], scores.inside[part]) for part in (halves, ~halves))
    if any(not 0 < inside.sum() < len(inside) for _, inside in (choose, judge)):
        return 0.0
    alpha = (1 - confidence) / 2
    thresholds = np.unique(np.quantile(choose[0], np.linspace(0, 1, 101)))
    tests = [(threshold, guess) for threshold in thresholds.tolist() for guess in (True, False)]
    threshold, guess = max(tests, key=lambda test: _least(*choose, test[0], test[1], delta, alpha))
    return max(0.0, _least(*judge, threshold, guess, delta, alpha))


def _least(values: np.ndarray, inside: np.ndarray, threshold: float, guess: bool, delta: float, alpha: float) -> float:
    """What guessing that images from `threshold` on are members (or that those below are none) proves of epsilon."""
    from scipy.stats import beta

    guessed = (values >= threshold) == guess
    right, wrong = guessed[inside == guess], guessed[inside != guess]
    hits, alarms = int(right.sum()), int(wrong.sum())
    sure = float(beta.ppf(alpha, hits, len(right) - hits + 1)) if hits else 0.0
    most = float(beta.ppf(1 - alpha, alarms + 1, len(wrong) - alarms)) if alarms < len(wrong) else 1.0
    return math.log((sure - delta) / most) if sure > delta else -math.inf


def _tpr(values: np.ndarray, inside: np.ndarray, fpr: float) -> float:
    outside = np.sort(values[~inside])[::-1]
    return float((values[inside] > outside[int(fpr * len(outside))]).mean())


def _spread(scores: Scores) -> float:
    """Standard deviation of an AUC that tells nothing (Mann and Whitney, 1947)."""
    members, others = (int(kind.sum()) for kind in _kinds(scores))
    return math.sqrt((members + others + 1) / (12 * members * others))


def _kinds(scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    return scores.inside, ~scores.inside


def _percentiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
