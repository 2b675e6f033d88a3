"""Membership from class sums and from which classes are shared, as a run leaves them with server and members."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from secfpp.algorithms.class_sums import packed_size, unpacked
from secfpp.algorithms.sharing import EVERYBODY, GROUP, SharesClassSums
from secfpp.attacks.class_sums import Parts, Shared, has
from secfpp.attacks.game import Game
from secfpp.attacks.gathering import Victim
from secfpp.attacks.matched_filter import Known, in_noisy_sums, in_sums
from secfpp.attacks.membership import in_mean
from secfpp.attacks.observed import Observed
from secfpp.attacks.views import held_uploads, offered_classes, told_classes, uploads
from secfpp.models.class_means import ClassSums, Scatter

CERTAIN = 50.0
"""Log-ratio of likelihoods that stands for certainty."""


def by_classes(victim: Victim) -> tuple[np.ndarray, bool] | None:
    """Log-ratios of likelihoods, for each image in and not in, of what the server knows of who has which class.

    Counts of images that are drawn and classes that nobody else has are exact; groups and everybody are taken for
    independent.

    Returns:
        float64 [n], and whether clients told their classes in the clear; None if the method shares no class sums.
    """
    run, client = victim.run, victim.client
    if not isinstance(run.algorithm, SharesClassSums) or not run.algorithm.class_means.shared:
        return None
    labels, counts = victim.pool.images.labels, _counts(victim.game, run)
    own, size = counts[client], len(victim.pool.images)
    others_left = size - 1 - (own - 1)  # images of other classes than one's own
    again = 1 - _missed(others_left, size - 1, size // 2)  # another image of the class is drawn, if this one is not
    told = told_classes(run, client)
    if told is not None:
        ratio = np.where(told, -np.log(np.maximum(again, np.exp(-CERTAIN))), -CERTAIN)
        return ratio[labels], True
    least, ratios = run.algorithm.class_means.min_holders, np.zeros(len(own))
    group = next(group for group in run.groups if client in group)
    for slot, members in ((EVERYBODY, tuple(run.contexts)), (GROUP, group)):
        bits = offered_classes(run, client, slot)
        if bits is not None:
            holding = [
                1 - _missed(_size(counts[m]) - counts[m], _size(counts[m]), _size(counts[m]) // 2)
                for m in members
                if m != client
            ]
            with_it, without = (_at_least(holding, number) for number in (least - 1, least))
            inside, outside = with_it, again * with_it + (1 - again) * without
            ratios += np.where(bits, _log(inside) - _log(outside), _log(1 - inside) - _log(1 - outside))
    return np.clip(ratios, -CERTAIN, CERTAIN)[labels], False


@dataclass(frozen=True)
class SumRatios:
    """Log-ratios of likelihoods from class sums, float64 [n] each.

    Attributes:
        normal: images taken for normal, see `in_mean`.
        known: all images that may be in the sums being known, see `secfpp.attacks.matched_filter`.
        sealed: whether they were read from sealed bytes, or shares.
    """

    normal: np.ndarray
    known: np.ndarray
    sealed: bool


def uploaded_sums(victim: Victim, *, by_holders: bool = False) -> SumRatios | None:
    """What the server reads of a client's own class sums, or T holders of its shares; None if it sent none."""
    found = _own_sums(victim, EVERYBODY, by_holders)
    if found is None:
        return None
    sums, sealed = found
    served = offered_classes(victim.run, victim.client, EVERYBODY)
    shared, expected, known = has(sums) if served is None else served, _mean_of([victim]), Known.of([victim])
    every = np.ones(len(known.labels), bool)
    return SumRatios(_ratios(victim, sums, expected, shared), in_sums(known, sums, shared, every), sealed)


def members_sums(victim: Victim) -> SumRatios | None:
    """The same of what another member of its group is left with once it takes its own images away.

    Of everybody's sums where its group has none. None if the method shares no class sums.
    """
    run, algorithm = victim.run, victim.run.algorithm
    group = next(group for group in run.groups if victim.client in group)
    if not isinstance(algorithm, SharesClassSums) or not algorithm.class_means.shared or len(group) < 2:
        return None
    attacker = group[(group.index(victim.client) + 1) % len(group)]
    context, state = run.contexts[attacker], run.states[-1][attacker]
    everybody, shared = (algorithm.shared_sums(context, state, slot) for slot in (EVERYBODY, GROUP))
    if everybody is None:
        return None
    others = [Victim(run, victim.game, name, victim.seed, victim.shadows) for name in run.contexts if name != attacker]
    near = [other for other in others if other.client in group]
    own, known = algorithm.own_sums(context)[0], has(everybody.classes)
    rest = everybody.classes - own.only(known)
    if shared is None:
        normal = _ratios(victim, rest, _mean_of(others), known)
    else:
        number = next(i for i, members in enumerate(run.groups) if attacker in members)
        nothing = shared.classes.only(np.zeros(len(shared.classes.counts), bool))
        groups = [shared.classes if i == number else nothing for i in range(len(run.groups))]
        names = list(run.contexts)
        partition = np.array([next(i for i, m in enumerate(run.groups) if name in m) for name in names])
        parts = Parts.left_to({names.index(attacker): own}, Shared(everybody.classes, groups, partition))
        normal = _ratios(victim, ClassSums(parts.sums[1], parts.counts[1]), _mean_of(near), has(shared.classes))
    if algorithm.privacy.of_sums:
        filtered = in_noisy_sums(victim, attacker)
        return None if filtered is None else SumRatios(normal, filtered, False)
    filtered = _filtered(victim, others, rest, known)
    if shared is not None:
        of_group = has(shared.classes)
        nearer = _filtered(victim, near, shared.classes - own.only(of_group), of_group)
        filtered = np.where(of_group[victim.pool.images.labels], nearer, filtered)
    return SumRatios(normal, filtered, False)


def _filtered(victim: Victim, others: Sequence[Victim], sums: ClassSums, shared: np.ndarray) -> np.ndarray:
    known = Known.of(others)
    return in_sums(known, sums, shared, known.owners == victim.client)


def _own_sums(victim: Victim, slot: str, by_holders: bool) -> tuple[ClassSums, bool] | None:
    algorithm, reader = victim.run.algorithm, held_uploads if by_holders else uploads
    found = reader(victim.run, victim.client, slot) if isinstance(algorithm, SharesClassSums) else []
    if not found or not isinstance(algorithm, SharesClassSums):
        return None
    context = victim.pool.context
    dim = context.features.shape[1]
    n_classes = len(context.tokens.names)
    vector = np.resize(found[0].update, packed_size(n_classes, dim, slot == EVERYBODY))  # sums under noise are shorter
    read = unpacked(vector, 1, n_classes, dim, algorithm.sums_scale)
    return read.classes, found[0].sealed


def _ratios(victim: Victim, sums: ClassSums, expected: np.ndarray, known: np.ndarray) -> np.ndarray:
    """`in_mean` of each image of the victim against the sum of its class; 0 of classes that are not `known`."""
    labels, features = victim.pool.images.labels, victim.pool.features.double().cpu().numpy()
    precision, found = _precision(victim.run, victim.game), np.zeros(len(labels))
    for label in np.unique(labels):
        of = labels == label
        count = float(sums.counts[label])
        if known[label] and count < 0.5:
            found[of] = -CERTAIN
        elif known[label]:
            found[of] = in_mean(features[of], sums.sums[label] / count, max(count, 1.0), expected[label], precision)
    return found


def _mean_of(victims: Iterable[Victim]) -> np.ndarray:
    """Means of all images of each class that these clients may have trained on, float64 [n_cls, dim]."""
    some = list(victims)
    features = np.concatenate([victim.pool.features.double().cpu().numpy() for victim in some])
    labels = np.concatenate([victim.pool.images.labels for victim in some])
    sums = ClassSums.of(features, labels, len(some[0].pool.context.tokens.names))
    return sums.means(sums.centre, 1e-3)


def _precision(run: Observed, game: Game) -> np.ndarray:
    """Inverse covariance of images around the mean of their client's class, of all that may be trained on."""
    products, freedom = np.zeros(()), 0.0
    for name, pool in game.pools.items():
        features = run.contexts[name].backbone.features(pool.images).double().cpu().numpy()
        scatter = Scatter.of(
            features, pool.labels, ClassSums.of(features, pool.labels, len(run.contexts[name].tokens.names))
        )
        products, freedom = products + scatter.products, freedom + scatter.freedom
    return Scatter(products, freedom).precision(0.1)


def _counts(game: Game, run: Observed) -> dict[str, np.ndarray]:
    return {name: pool.histogram(len(run.contexts[name].tokens.names)) for name, pool in game.pools.items()}


def _size(counts: np.ndarray) -> int:
    return int(counts.sum())


def _missed(others: np.ndarray, size: int, drawn: int) -> np.ndarray:
    """Probability that `drawn` of `size` images, without replacement, are all among these `others`, float64 [n_cls]."""
    from scipy.special import gammaln

    possible = others >= drawn
    safe = np.where(possible, others, drawn)
    log = gammaln(safe + 1) - gammaln(safe - drawn + 1) - gammaln(size + 1) + gammaln(size - drawn + 1)
    found: np.ndarray = np.where(possible, np.exp(log), 0.0)
    return found


def _at_least(holding: list[np.ndarray], number: int) -> np.ndarray:
    """Probability that at least `number` of independent events with these probabilities happen, [n_cls]."""
    chances = np.zeros((len(holding) + 1, len(holding[0])))
    chances[0] = 1
    for chance in holding:
        chances[1:] = chances[1:] * (1 - chance) + chances[:-1] * chance
        chances[0] *= 1 - chance
    found: np.ndarray = chances[max(number, 0) :].sum(0)
    return found


def _log(chance: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.log(np.clip(chance, np.exp(-CERTAIN), 1))
    return found
