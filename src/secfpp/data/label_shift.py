"""Names that go round: in triples of classes, each source calls the same things by other names.

A source's rotation of a triple is the identity or one of the two cycles, so that the names of two sources differ in
all three classes of the triple or in none.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from secfpp.errors import ConfigError, Problem
from secfpp.seeding import Seed, derive

_DRAWS = 200


def rotations(sources: Sequence[str], n_classes: int, share: float, seed: Seed) -> dict[str, np.ndarray]:
    """For each source the class whose name it gives to the things of each class, int64 [n_classes].

    Classes are put into triples at random, the same for all sources, and a share of these goes round; one or two left
    over keep their names. In each triple every rotation is had by as many sources; of many draws the one in which the
    two most alike sources differ most is taken.

    Args:
        sources: their names.
        n_classes: number of classes.
        share: of the triples, 0..1.
        seed: decides everything.

    Raises:
        ConfigError: `share` is not in 0..1, or moves too few triples to tell the sources apart.
    """
    if not 0 <= share <= 1:
        raise ConfigError([Problem("data.label_shift", share, "the share of triples that go round must be in 0..1")])
    triples = derive(seed, "triples").numpy().permutation(n_classes)[: n_classes // 3 * 3].reshape(-1, 3)
    moved = triples[: round(share * len(triples))]
    names = {source: np.arange(n_classes) for source in sources}
    if not share:
        return names
    turns = _turns(len(sources), len(moved), derive(seed, "turns"))
    if _least_difference(turns) == 0:
        raise ConfigError(
            [
                Problem(
                    "data.label_shift",
                    share,
                    f"moves {len(moved)} of {len(triples)} triples of classes, too few for {len(sources)} sources that "
                    "all differ: raise it, or set it to 0 for none",
                )
            ]
        )
    for source, own in zip(sources, turns, strict=True):
        for triple, turn in zip(moved, own, strict=True):
            names[source][triple] = np.roll(triple, turn)
    return names


def _turns(n_sources: int, n_triples: int, seed: Seed) -> np.ndarray:
    """Steps by which each source turns each triple, [n_sources, n_triples]."""
    rng = seed.numpy()
    even = np.arange(n_sources) % 3
    draws = (
        np.array([rng.permutation(even) for _ in range(n_triples)], dtype=np.int64).reshape(n_triples, n_sources).T
        for _ in range(_DRAWS)
    )
    return max(draws, key=_least_difference)


def _least_difference(turns: np.ndarray) -> int:
    """Triples in which the two most alike sources differ."""
    return min((int((a != b).sum()) for a, b in combinations(turns, 2)), default=1)
