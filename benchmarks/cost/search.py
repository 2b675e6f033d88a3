"""How often the default search finds the true domains of the icon benchmark, and how many groups it finds.

    python benchmarks/cost/search.py [--seeds 20] [--draws 5] [--shots 32] [--rho 0.4] [--restarts R] ...

The search of `PlainKMeans`, which gives the partition of `SecureKMeans`. Each seed is a data set and a partition of it;
draws are rounds, which differ in the seed points. Prints how many partitions have an adjusted Rand index (ARI) of 0.9,
and how many of 1. `--help` lists the settings of the search.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np

from secfpp.algorithms.secfpp import SecFPP, feature_descriptor
from secfpp.data.icons import IconSettings, load_icons
from secfpp.experiment.statistics import adjusted_rand_index
from secfpp.models.backbone import load_backbone
from secfpp.runtime.contexts import make_contexts
from secfpp.secure.clustering.plain_kmeans import PlainKMeans

SETTINGS = ("restarts", "finalists", "iterations", "pull")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = PlainKMeans()
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="the first seed; default: %(default)s")
    parser.add_argument("--draws", type=int, default=5)
    for name in SETTINGS:
        parser.add_argument(f"--{name}", type=int, default=getattr(default, name), help="default: %(default)s")
    parser.add_argument("--shots", type=int, default=IconSettings().shots)
    parser.add_argument("--rho", type=float, default=IconSettings().rho)
    given = parser.parse_args()
    clusterer = PlainKMeans(**{name: getattr(given, name) for name in SETTINGS})
    backbone = load_backbone("mini")
    proof = SecFPP().common_rounds
    found, exact, groups, first = 0, 0, Counter[int](), 0
    for number in range(given.seeds):
        seed = given.first + number
        data = load_icons(IconSettings(rho=given.rho, shots=given.shots), seed)
        contexts = make_contexts(data, backbone, SecFPP(), seed).values()
        points = np.stack([clusterer.described(feature_descriptor(c), seed) for c in contexts])
        domains = [context.domain for context in contexts]
        for draw in range(given.draws):
            labels = clusterer.partition(points, seed, proof + draw).tolist()
            index = adjusted_rand_index(domains, labels)
            found, exact, first = found + (index >= 0.9), exact + (index == 1), first + (index >= 0.9 and not draw)
            groups[len(set(labels))] += 1
        print(
            f"{number + 1} seeds: {found} of {(number + 1) * given.draws} with an ARI of 0.9, {exact} of 1; in the "
            f"default's round {first} with 0.9; groups {dict(sorted(groups.items()))}",
            flush=True,
        )


if __name__ == "__main__":
    main()
