"""How often a search finds the true groups of the icon benchmark, and how many groups it finds.

    python benchmarks/cost/search.py [--seeds 20] [--draws 5] [--rho 0.4] [--label-shift 0] [--restarts R] ...
    python benchmarks/cost/search.py --clusterer kmeans

The search in the clear, which gives the partition of the one on shares: of `PlainAgreement` by class residuals, or of
`PlainKMeans` by mean features. Each seed is a data set and a partition of it; draws are rounds, which differ in the
seed points. Prints how many partitions have an adjusted Rand index (ARI) of 0.9, and how many of 1. `--help` lists
all settings.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable

import numpy as np

from secfpp.algorithms.residuals import feature_descriptor
from secfpp.algorithms.secfpp import SecFPP
from secfpp.data.federated import FederatedDataset
from secfpp.data.icons import IconSettings, load_icons
from secfpp.experiment.results.statistics import adjusted_rand_index
from secfpp.models.backbone import Backbone, load_backbone
from secfpp.protocol.cohort import Cohort
from secfpp.runtime.contexts import make_contexts
from secfpp.runtime.in_process import InProcessDriver
from secfpp.secure.clustering.plain_agreement import PlainAgreement
from secfpp.secure.clustering.plain_kmeans import PlainKMeans
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.polls.plain_poll import PlainPoll

SETTINGS = ("restarts", "finalists", "iterations", "k_max")
Search = Callable[[int], np.ndarray]
"""From the number of a round to clusters of the clients."""


def by_agreement(data: FederatedDataset, backbone: Backbone, seed: int, **settings: int) -> tuple[list[int], Search]:
    """True groups of the clients, and the search by class residuals, which follow from everybody's sums."""
    algorithm = SecFPP(clusterer=PlainAgreement(**settings), aggregator=PlainMean(), poll=PlainPoll())
    contexts = make_contexts(data, backbone, algorithm, seed)
    states = {name: algorithm.client_state(context) for name, context in contexts.items()}
    driver = InProcessDriver(algorithm, contexts, states)
    driver.run(algorithm.share_everybody(Cohort(dict.fromkeys(contexts, 1), 0, seed)))
    clusterer, known = PlainAgreement(**settings), [driver.states[name] for name in contexts]
    points = np.stack([clusterer.described(state["descriptor"]) for state in known])
    spread = float(known[0]["descriptor.spread"])
    groups = [context.group for context in contexts.values()]
    return groups, lambda round_: clusterer.partition(points, spread, seed, round_)


def by_features(data: FederatedDataset, backbone: Backbone, seed: int, **settings: int) -> tuple[list[int], Search]:
    """True groups of the clients, and the search by mean features."""
    clusterer = PlainKMeans(**settings)
    contexts = make_contexts(data, backbone, SecFPP(), seed).values()
    points = np.stack([clusterer.described(feature_descriptor(context), seed) for context in contexts])
    return [context.group for context in contexts], lambda round_: clusterer.partition(points, seed, round_)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = PlainAgreement()
    parser.add_argument("--clusterer", choices=("agreement", "kmeans"), default="agreement")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first seed; default: %(default)s")
    parser.add_argument("--draws", type=int, default=5)
    for name in SETTINGS:
        parser.add_argument(f"--{name}", type=int, default=getattr(default, name), help="default: %(default)s")
    parser.add_argument("--pull", type=int, default=PlainKMeans().pull, help="of k-means; default: %(default)s")
    parser.add_argument("--shots", type=int, default=IconSettings().shots)
    parser.add_argument("--rho", type=float, default=IconSettings().rho)
    parser.add_argument("--label-shift", type=float, default=IconSettings().label_shift)
    given = parser.parse_args()
    settings = {name: getattr(given, name) for name in SETTINGS}
    prepare = by_agreement
    if given.clusterer == "kmeans":
        prepare, settings = by_features, settings | {"pull": given.pull}
    backbone = load_backbone("mini")
    found, exact, groups = 0, 0, Counter[int]()
    for number in range(given.seeds):
        seed = given.first + number
        icons = IconSettings(rho=given.rho, shots=given.shots, label_shift=given.label_shift)
        true, search = prepare(load_icons(icons, seed), backbone, seed, **settings)
        for draw in range(given.draws):
            labels = search(1 + draw).tolist()
            index = adjusted_rand_index(true, labels)
            found, exact = found + (index >= 0.9), exact + (index == 1)
            groups[len(set(labels))] += 1
        print(
            f"{number + 1} seeds: {found} of {(number + 1) * given.draws} with an ARI of 0.9, {exact} of 1; "
            f"groups {dict(sorted(groups.items()))}",
            flush=True,
        )


if __name__ == "__main__":
    main()
