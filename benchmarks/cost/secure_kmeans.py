"""Time and traffic of clustering on shares, the work of all parties added up, beside the same clustering in the clear.

All clients and the server run in one process, every message passes through the wire format, and the holders are 16 of
whom 2 may collude (the defaults). Exact comparisons and hidden assignments unless an option says otherwise:

    OMP_NUM_THREADS=1 python benchmarks/cost/secure_kmeans.py
    OMP_NUM_THREADS=1 python benchmarks/cost/secure_kmeans.py --shape default-30 --threshold high --repeats 3

Seconds are processor time. Shapes are K, restarts R, iterations I and clients N. A comparison is one sign of a
difference that some iteration needs: N for each pair of clusters of each run in each iteration, where runs that start
from the same two clients share theirs in the first one. MB are those that a holder sends, of those holders that
answer openings. Exact comparisons find the partition of the clear, or the script fails.

Shapes named `agreement` are groups by agreement, of descriptors of 576 numbers; the other ones are k-means.
`--compare-bits` and `--reveal` are of k-means only.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import ClientState
from secfpp.runtime.in_process import InProcessDriver
from secfpp.secure.clustering.clusterer import Clusterer
from secfpp.secure.clustering.cost import AgreementCost, ClusteringCost
from secfpp.secure.clustering.on_shares import OnShares
from secfpp.secure.clustering.plain_agreement import Agreement, PlainAgreement
from secfpp.secure.clustering.plain_kmeans import KMeans, PlainKMeans
from secfpp.secure.clustering.search_cost import SearchCost
from secfpp.secure.clustering.searching import Searching
from secfpp.secure.clustering.secure_agreement import SecureAgreement
from secfpp.secure.clustering.secure_kmeans import SecureKMeans
from secfpp.secure.session import Party, Session, parties_in_memory

SEED, DIMENSION = 0, 576
SHAPES: dict[str, tuple[int, dict[str, int]]] = {
    "k6-24": (24, {"k": 6, "restarts": 1, "iterations": 5}),
    "k8-100": (100, {"k": 8, "restarts": 1, "iterations": 5}),
    "default-30": (30, {}),
    "agreement-20": (20, {}),
    "agreement-30": (30, {}),
    "agreement-100": (100, {"restarts": 64}),
}


@dataclass(frozen=True)
class Context:
    """What the steps of a client need."""

    party: Party


@dataclass(frozen=True)
class OnlyClustering:
    """An algorithm that does nothing else."""

    clusterer: Clusterer
    session: Session = field(default_factory=Session)


@dataclass(frozen=True)
class Measured:
    """What one run took, `sent` in bytes of a holder that answers openings."""

    seconds: float
    exchanges: int
    sent: float
    partition: Assignment


def measure(clusterer: Searching, parties: dict[str, Party], responders: int) -> Measured:
    rng = np.random.default_rng(SEED)
    groups = clusterer.k or 4
    centres, noise = rng.normal(size=(groups, DIMENSION)), 1.0
    if not clusterer.by_agreement:
        centres, noise = centres / 30, 1 / 60
    names = sorted(parties)
    states = {
        name: ClientState(
            {"d": 0.7 * centres[i % groups] + noise * rng.normal(size=DIMENSION), "d.spread": np.array(DIMENSION**0.5)}
        )
        for i, name in enumerate(names)
    }
    contexts = {name: Context(parties[name]) for name in names}
    driver = InProcessDriver(OnlyClustering(clusterer), contexts, states, force_wire=True)
    started = time.process_time()
    partition = driver.run(clusterer.assign(Cohort(dict.fromkeys(names, 1), 0, SEED), "d", None))
    seconds = time.process_time() - started
    busiest = sorted(driver.costs.up.values())[-responders:]  # those who answer openings send most
    return Measured(seconds, driver.costs.exchanges, sum(busiest) / responders, partition)


def best(clusterer: Searching, n: int, repeats: int, responders: int = 1) -> Measured:
    """The fastest of several runs, each with fresh keys."""
    runs = [
        measure(clusterer, parties_in_memory(f"client-{i:03d}" for i in range(n)), responders) for _ in range(repeats)
    ]
    return min(runs, key=lambda run: run.seconds)


def pair(shape: str, given: argparse.Namespace) -> tuple[OnShares, Searching, SearchCost]:
    """The clusterer of a shape on shares and in the clear, and what it costs."""
    n, settings = SHAPES[shape]
    smallest = 7 if given.threshold == "high" else 4  # T + 2
    common: dict[str, Any] = {"threshold": given.threshold, "security": given.security}
    common |= {"min_cluster_size": smallest, **settings}
    if shape.startswith("agreement"):
        secure = SecureAgreement(**common)
        return secure, _plain(secure, Agreement, PlainAgreement), AgreementCost(secure, n, DIMENSION, SEED)
    k_means = SecureKMeans(compare_bits=given.compare_bits, reveal=given.reveal, **common)
    return k_means, _plain(k_means, KMeans, PlainKMeans), ClusteringCost(k_means, n, SEED)


def _plain(secure: Searching, common: type[Any], plain: type[Searching]) -> Searching:
    return plain(**{each.name: getattr(secure, each.name) for each in fields(common)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, action="append", help="one or more of the shapes; default: all")
    parser.add_argument("--threshold", choices=("standard", "high"), default="standard")
    parser.add_argument("--security", choices=("passive", "active"), default="passive")
    parser.add_argument("--compare-bits", type=int, choices=(0, 20, 24), default=0, help="0 is exact")
    parser.add_argument("--reveal", choices=("partition", "assignments"), default="partition")
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    threads, bits = os.environ.get("OMP_NUM_THREADS", "all"), arguments.compare_bits or "all"
    print("exact" if bits == "all" else f"{bits} bits compared", end=", ")
    print(f"threshold {arguments.threshold}, security {arguments.security}, reveal {arguments.reveal}")
    print(f"numpy {np.__version__}, threads of BLAS: {threads}, best of {arguments.repeats}")
    columns = ("shape", 14), ("N", 4), ("K", 5), ("R", 4), ("I", 3), ("T", 3), ("seconds", 9), ("exchanges", 11)
    columns += ("MB/holder", 11), ("comparisons", 13), ("ms each", 9), ("in the clear, s", 17), ("ratio", 8)
    print("".join(f"{title:>{width}}" if i else f"{title:<{width}}" for i, (title, width) in enumerate(columns)))
    for name in arguments.shape or SHAPES:
        n = SHAPES[name][0]
        secure, plain, cost = pair(name, arguments)
        if not cost.opened:
            print(f"{name:<14}{n:>4}  {secure.k} clusters of {secure.min_cluster_size} do not fit")
            continue
        found = best(secure, n, arguments.repeats, cost.responders)
        clear = best(plain, n, max(3, arguments.repeats))
        if not arguments.compare_bits and found.partition != clear.partition:
            raise SystemExit(f"{name}: the partitions differ")
        compared, tried = cost.comparisons, list(cost.search.seeds)
        ks = f"{tried[0]}-{tried[-1]}" if len(tried) > 1 else f"{tried[0]}"
        print(
            f"{name:<14}{n:>4}{ks:>5}{secure.restarts:>4}{secure.iterations:>3}{cost.threshold:>3}"
            f"{found.seconds:>9.2f}{found.exchanges:>11}{found.sent / 1e6:>11.2f}{compared:>13}"
            f"{1e3 * found.seconds / compared:>9.3f}{clear.seconds:>17.4f}{found.seconds / clear.seconds:>8.0f}"
        )


if __name__ == "__main__":
    main()
