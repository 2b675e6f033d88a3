"""Signs of secret integers: SecFPP's comparisons beside MPyC's, with as many parties and as many colluders.

Integers of the width that clustering 24 clients needs are put in by all parties, compared with 0, and the signs made
public. MPyC runs its own processes on this machine, one for each party, which talk over local sockets, and computes on
whole arrays. Ours runs through the driver: keys, checks, envelopes and the wire format included. Seconds are
processor time of all parties, so that the number of cores does not matter, and on both sides those of the best of some
repeats in the same processes. Masks hide to within 2^-30 in MPyC (its
default) and 2^-61 in ours.

Run: OMP_NUM_THREADS=1 python benchmarks/peers/mpyc_comparisons.py --parties 16 --each 20
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from secfpp.crypto.arithmetic import Computation, Future, Pool, Shared, opened, side_by_side
from secfpp.crypto.comparison import Comparator
from secfpp.crypto.field import Elements, PrimeField
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientState
from secfpp.runtime.in_process import InProcessDriver
from secfpp.secure.circuits.component import Circuit
from secfpp.secure.circuits.plan import Plan
from secfpp.secure.clustering.kmeans import score_bound
from secfpp.secure.session import Joined, Party, Session, parties_in_memory

THRESHOLD, LIMIT = 2, 5
BOUND = score_bound(24, 127, 1)


@dataclass(frozen=True)
class Context:
    """What the steps of a client need."""

    party: Party


@dataclass(frozen=True)
class Signs(Circuit[Elements]):
    """Public signs of secret integers, `each` from every client; all inputs are valid."""

    component: ClassVar[str] = "signs"

    each: int

    def run(self, inputs: Shared, pool: Pool) -> Computation[Elements]:
        """The circuit: 1 where an integer of `inputs` [clients, each] is negative."""
        x = inputs.reshape(-1)
        drawn = yield from Comparator.plan(BOUND, THRESHOLD, LIMIT, 1).prepare(x.shape[0], pool)
        masks = Future(drawn.expand(pool))
        _, negative = yield from side_by_side(masks.run(), drawn.negative(x, masks, pool))
        (public,) = yield from opened([negative])
        return public

    def planned(self, facts: Mapping[str, Any]) -> Plan:
        """See `Circuit.planned`."""
        return _plan(self, len(facts["clients"]))

    def shared_by(self, joined: Joined, state: ClientState) -> Elements:
        """See `Circuit.shared_by`."""
        return PrimeField.lift(state["x"])


@dataclass(frozen=True)
class OnlySigns:
    """An algorithm that does nothing else."""

    signs: Signs
    session: Session = field(default_factory=Session)


@lru_cache  # as all that is computed on shares does where clients share a process
def _plan(signs: Signs, parties: int) -> Plan:
    return Plan.of(
        signs.run, _nothing, clients=parties, width=signs.each, holders=parties, threshold=THRESHOLD, limit=LIMIT
    )


def _nothing(inputs: Shared) -> Shared:
    return Shared(np.zeros((inputs.shape[0], 1), np.uint64), 2)


def ours(parties: int, each: int) -> tuple[float, float, int]:
    """Seconds of waiting and of work, and bytes sent, of all parties."""
    names = [f"party-{i:02d}" for i in range(parties)]
    contexts = {name: Context(party) for name, party in parties_in_memory(names).items()}
    values = np.random.default_rng(0).integers(-BOUND, BOUND, (parties, each))
    states = {name: ClientState({"x": x}) for name, x in zip(names, values, strict=True)}
    signs = Signs(each)
    driver = InProcessDriver(OnlySigns(signs), contexts, states, force_wire=True)
    wall, work = time.perf_counter(), time.process_time()
    public, _ = driver.run(signs.compute(Cohort(dict.fromkeys(names, 1), 0, 0), lambda cohort: {}))
    wall, work = time.perf_counter() - wall, time.process_time() - work
    assert np.array_equal(public.astype(int), (values < 0).reshape(-1))
    return wall, work, driver.costs.client_up


def mpyc(parties: int, each: int, width: int, repeats: int) -> tuple[float, float, int]:
    """The same of MPyC, of the repeat with the least work."""
    script = Path(__file__).with_name("mpyc_party.py")
    command = [
        sys.executable,
        str(script),
        str(width),
        str(each),
        str(repeats),
        f"-M{parties}",
        f"-T{THRESHOLD}",
        "--no-log",
    ]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=1800)
    found = json.loads(told.stdout.strip().splitlines()[-1])
    assert all(one["right"] for one in found)
    best = min(found, key=lambda one: one["seconds"])
    return best["wall"], best["seconds"], best["sent"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parties", type=int, default=16, help="12 to 16")
    parser.add_argument("--each", type=int, default=20, help="integers of every party")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    parties, each, repeats = arguments.parties, arguments.each, arguments.repeats
    width, count = BOUND.bit_length() + 1, parties * each
    print(f"mpyc {version('mpyc')}, {count} signs of {width}-bit integers, {parties} parties, T = {THRESHOLD}")
    print(f"{'of one sign, all parties':<26}{'work, ms':>10}{'kB sent':>9}{'waiting for all, s':>20}")
    own_runs = [ours(parties, each) for _ in range(repeats)]
    results = {"MPyC": mpyc(parties, each, width, repeats), "SecFPP": min(own_runs, key=lambda run: run[1])}
    for name, (wall, work, sent) in results.items():
        print(f"{name:<26}{1e3 * work / count:>10.3f}{sent / count / 1e3:>9.2f}{wall:>20.2f}")
    theirs, own = results["MPyC"], results["SecFPP"]
    print(f"ratio: {theirs[1] / own[1]:.1f} in work, {theirs[2] / own[2]:.1f} in bytes")


if __name__ == "__main__":
    main()
