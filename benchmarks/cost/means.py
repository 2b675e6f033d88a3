"""What a secure mean costs each client, side by side for cohorts of several sizes: processor time, bytes, memory.

    OMP_NUM_THREADS=1 python benchmarks/cost/means.py
    OMP_NUM_THREADS=1 python benchmarks/cost/means.py --clients 100 1000 4000 --repeats 3 --alone

All parties run in one process, a fresh one for each size and repeat; sizes take turns, and seconds are the best of the
repeats. Everything is in them: keys, committee, shares, proofs, sums, every message through the wire format. The mean
equals the plain mean of the same updates in every bit, or the script fails.

Clients that share a process find a signature good once for all of them. With `--alone` each checks all that it is
shown, as it does on a machine of its own. Memory is what the process took beyond what it had when it began to average.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from secfpp.crypto import channel, roster
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientState
from secfpp.runtime.in_process import InProcessDriver
from secfpp.secure.means.aggregator import Aggregator
from secfpp.secure.means.cost import MeanCost
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.secure.means.updates import with_base
from secfpp.secure.session import Party, Session, parties_in_memory

SLOT, MIB = "p", 1 << 20


@dataclass(frozen=True)
class Method:
    """What the steps are found on."""

    session: ClassVar[Session] = Session()
    aggregator: Aggregator = field(default_factory=PlainMean)


@dataclass(frozen=True)
class Context:
    """What the steps get of a client."""

    party: Party


def measure(clients: int, numbers: int, bounded: bool) -> dict[str, Any]:
    """One mean in this process."""
    names = [f"client-{i:05d}" for i in range(clients)]
    contexts = {name: Context(party) for name, party in parties_in_memory(names).items()}
    rng = np.random.default_rng(0)
    base = rng.normal(size=numbers).astype(np.float32)
    start = with_base(ClientState(), SLOT, base)
    updates = (0.01 * rng.normal(size=(clients, numbers))).astype(np.float32)
    states = {name: start.replace(p=base + update) for name, update in zip(names, updates, strict=True)}
    secure, plain = SecureMean(bounded=bounded), PlainMean(min_responders=4)
    cohort = Cohort({name: 1 + i % 7 for i, name in enumerate(names)}, 0, 0)
    driver = InProcessDriver(Method(secure), contexts, states)
    before, started = _peak(), time.process_time()
    members = driver.run(secure.mean(cohort, SLOT)).members
    seconds, peak = time.process_time() - started, _peak()
    clear = InProcessDriver(Method(plain), contexts, states)
    clear.run(plain.mean(cohort, SLOT))
    if len(members) != clients or any(
        driver.states[name][SLOT].tobytes() != clear.states[name][SLOT].tobytes() for name in names
    ):
        raise SystemExit(f"{clients} clients: this is not the mean in the clear")
    cost, sent = MeanCost(clients, numbers, secure), driver.costs.up
    holders = sorted(sent, key=lambda name: sent[name])[-cost.holders :]
    other = min(sent, key=lambda name: sent[name])
    return {
        "seconds": seconds,
        "exchanges": driver.costs.exchanges,
        "sent": sent[other],
        "received": driver.costs.down[other],
        "holder_sent": max(sent[name] for name in holders),
        "holder_received": max(driver.costs.down[name] for name in holders),
        "memory": peak - before,
    }


def _peak() -> float:
    """Largest resident memory of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB


def in_a_fresh_process(clients: int, given: argparse.Namespace) -> dict[str, Any]:
    """`measure` there."""
    words = [sys.executable, __file__, "--one", "--clients", str(clients), "--numbers", str(given.numbers)]
    words += ["--alone"] * given.alone + ["--unbounded"] * given.unbounded
    told = subprocess.run(words, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(told.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--numbers", type=int, default=8192, help="that are averaged; default: %(default)s")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="every client checks every signature that it is shown")
    parser.add_argument("--unbounded", action="store_true", help="no proofs that updates are clipped")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        channel.verify = roster.verify.__wrapped__  # type: ignore[attr-defined, assignment]
    if given.one:
        print(json.dumps(measure(given.clients[0], given.numbers, not given.unbounded)))
        return
    best: dict[int, dict[str, Any]] = {}
    for repeat in range(given.repeats):
        for clients in given.clients:
            found = in_a_fresh_process(clients, given)
            print(f"repeat {repeat + 1}: {clients} clients, {found['seconds']:.2f} s", file=sys.stderr, flush=True)
            if clients not in best or found["seconds"] < best[clients]["seconds"]:
                best[clients] = found
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{given.numbers} numbers, threads of BLAS: {threads}, best of {given.repeats} in turn", end="")
    print(", every client checks signatures for itself" * given.alone, end="")
    print(", without proofs" * given.unbounded)
    print("      N  exchanges  ms/client  ratio  kB sent  kB received  holder: MB sent  MB received  MiB of memory")
    least = 1e3 * best[given.clients[0]]["seconds"] / given.clients[0]
    for clients, found in best.items():
        each = 1e3 * found["seconds"] / clients
        line = f"{clients:>7}{found['exchanges']:>11}{each:>11.2f}{each / least:>7.2f}"
        line += f"{found['sent'] / 1e3:>9.1f}{found['received'] / 1e3:>13.1f}"
        line += f"{found['holder_sent'] / 1e6:>17.2f}{found['holder_received'] / 1e6:>13.2f}"
        print(f"{line}{found['memory']:>15.0f}")


if __name__ == "__main__":
    main()
