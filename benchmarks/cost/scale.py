"""One grouping of many clients, of whom a sample is searched: what comes out, how long it takes, bytes and memory.

    OMP_NUM_THREADS=1 python benchmarks/cost/scale.py --clients 1000
    OMP_NUM_THREADS=1 python benchmarks/cost/scale.py --clients 1000 --clear

All clients and the server run in one process, and every message passes through the wire format. Clients are made up:
descriptors of class residuals, whole numbers of variance 1, to which members of a group add what they have in common,
of variance `--strength` squared. Long-lived keys are made before the clock starts.

ARI is the adjusted Rand index of the groups found and the true ones. Seconds are of the clock and of the processor, of
all parties together; memory is the peak of the whole process. With `--check` the partition is compared with that of
the same search in the clear, and the script fails if they differ. The last line has all figures.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import dataclass, field, fields

import numpy as np

from secfpp.experiment.results.statistics import adjusted_rand_index
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import ClientState
from secfpp.runtime.in_process import InProcessDriver
from secfpp.secure.clustering.clusterer import Clusterer
from secfpp.secure.clustering.plain_agreement import Agreement, PlainAgreement
from secfpp.secure.clustering.sampling import least_seen
from secfpp.secure.clustering.secure_agreement import SecureAgreement
from secfpp.secure.session import Party, Session, parties_in_memory

SETTINGS = ("k_max", "restarts", "finalists", "iterations", "sample")


@dataclass(frozen=True)
class Context:
    """What the steps of a client need."""

    party: Party | None = None


@dataclass(frozen=True)
class OnlyClustering:
    """An algorithm that does nothing else."""

    clusterer: Clusterer
    session: Session = field(default_factory=Session)


def made_up(clients: int, groups: int, strength: float, dimensions: int, seed: int) -> dict[str, ClientState]:
    """The state of each client; its true group is its number modulo the groups."""
    rng = np.random.default_rng(seed)
    centres = strength * rng.normal(size=(groups, dimensions))
    spread = np.array((1 + strength**2 + 1 / 12) * dimensions**0.5)  # of products, rounding included
    return {
        f"client-{number:05d}": ClientState(
            {"d": centres[number % groups] + rng.normal(size=dimensions).astype(np.float32), "d.spread": spread}
        )
        for number in range(clients)
    }


def grouped(
    clusterer: Agreement, states: dict[str, ClientState], seed: int
) -> tuple[Assignment, InProcessDriver, float]:
    """The groups, the driver that knows what they cost, and seconds of the processor."""
    names = sorted(states)
    parties = parties_in_memory(names) if isinstance(clusterer, SecureAgreement) else {}
    contexts = {name: Context(parties.get(name)) for name in names}
    driver = InProcessDriver(OnlyClustering(clusterer), contexts, states)
    clock, processor = time.perf_counter(), time.process_time()
    found = driver.run(clusterer.assign(Cohort(dict.fromkeys(names, 1), 1, seed), "d", None))
    used = time.process_time() - processor
    print(f"{time.perf_counter() - clock:.1f} s, {used:.1f} s of the processor", flush=True)
    return found, driver, used


def sent(driver: InProcessDriver, holders: int) -> tuple[int, int, int]:
    """Most bytes that a holder of shares sends, that another client sends, and that such a one gets."""
    up, down = driver.costs.up, driver.costs.down
    others = sorted(up, key=up.__getitem__)[: max(0, len(up) - holders)]
    sends, gets = (max((of[client] for client in others), default=0) for of in (up, down))
    return max(up.values()), sends, gets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = SecureAgreement()
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--clear", action="store_true", help="by a server that sees the descriptors; else on shares")
    parser.add_argument("--check", action="store_true", help="compare with the partition in the clear")
    parser.add_argument("--groups", type=int, default=6, help="true groups, of equal size; default: %(default)s")
    parser.add_argument("--strength", type=float, default=0.3, help="default: %(default)s")
    parser.add_argument("--dimensions", type=int, default=576, help="of a descriptor; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0)
    for name in SETTINGS:
        parser.add_argument(f"--{name}", type=int, default=getattr(default, name), help="default: %(default)s")
    given = parser.parse_args()
    secure = SecureAgreement(**{name: getattr(given, name) for name in SETTINGS})
    plain = PlainAgreement(**{each.name: getattr(secure, each.name) for each in fields(Agreement)})
    states = made_up(given.clients, given.groups, given.strength, given.dimensions, given.seed)
    clusterer = plain if given.clear else secure
    clusterer.prepare(given.clients, given.dimensions, given.seed)
    started = time.perf_counter()
    found, driver, processor = grouped(clusterer, states, given.seed)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    if given.check and found != grouped(plain, states, given.seed)[0]:
        raise SystemExit("the partition in the clear is another one")
    searched, fewest = clusterer.searched(given.clients), clusterer.min_cluster_size
    if searched < given.clients:
        seen = least_seen(given.clients, searched, fewest)
        print(f"{searched} clients are searched: groups of fewer than {seen} can be missed, {seen / given.clients:.1%}")
    true = [number % given.groups for number in range(given.clients)]
    index = adjusted_rand_index(true, list(found.cluster_of.values()))
    holder, sends, gets = sent(driver, secure.committee)
    print(
        f"N = {given.clients}, K = {found.k}, ARI {index:.3f}, {seconds:.1f} s, {processor:.1f} s of the processor, "
        f"{holder / 1e6:.1f} MB a holder sends, {sends / 1e3:.1f} kB another client sends and {gets / 1e3:.1f} gets, "
        f"{peak} MiB at the peak"
    )


if __name__ == "__main__":
    main()
