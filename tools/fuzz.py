"""Feed damaged messages to everything that reads bytes from outside: the wire format, and the steps on shares.

    python tools/fuzz.py [--seconds 60] [--seed 0]

Whatever comes in, only errors of this package may come out. Prints how many inputs were tried and how they ended;
on a finding it prints the seed and number that repeat it, and ends with exit status 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from secfpp.errors import SecFPPError
from secfpp.protocol import wire
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import Arrays, ClientState, resolve
from secfpp.protocol.transcript import Transcript
from secfpp.runtime.in_process import InProcessDriver
from secfpp.secure.clustering.clusterer import Clusterer
from secfpp.secure.clustering.secure_kmeans import SecureKMeans
from secfpp.secure.means.aggregator import Aggregator
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.secure.means.updates import with_base
from secfpp.secure.session import Party, Session, parties_in_memory

CLIENTS = tuple(f"c{i}" for i in range(8))


@dataclass(frozen=True)
class Algorithm:
    """What the steps belong to."""

    aggregator: Aggregator = field(default_factory=SecureMean)
    clusterer: Clusterer = field(default_factory=lambda: SecureKMeans(restarts=3, finalists=2, k_max=2))
    session: ClassVar[Session] = Session()


@dataclass(frozen=True)
class Context:
    """What the steps need."""

    party: Party


def world() -> tuple[InProcessDriver, list[tuple[str, bytes]]]:
    """Clients after one clustering and one mean, and every message they got, with the step it belongs to."""
    rng = np.random.default_rng(0)
    parties = parties_in_memory(CLIENTS)
    states = {
        name: with_base(ClientState({"z": rng.normal(size=16) / 8}), "w", np.zeros(5, np.float32)) for name in CLIENTS
    }
    algorithm = Algorithm()
    transcript = Transcript(keep_contents=True)
    contexts = {name: Context(parties[name]) for name in CLIENTS}
    driver = InProcessDriver(algorithm, contexts, states, transcript=transcript)
    cohort = Cohort(dict.fromkeys(CLIENTS, 1), 1, 0)
    driver.run(algorithm.clusterer.assign(cohort, "z", None))
    driver.run(algorithm.aggregator.mean(cohort, "w"))
    asked = {(m.step, m.content) for m in transcript if m.direction == "down" and m.content is not None}
    return driver, sorted(asked)


def mutated(message: bytes, rng: np.random.Generator) -> bytes:
    """One to four changes: flipped bits, set bytes, cuts, repetitions; the checksum is made right half the time."""
    data = bytearray(message)
    for _ in range(int(rng.integers(1, 5))):
        if not data:
            break
        place, what = int(rng.integers(len(data))), int(rng.integers(5))
        if what == 0:
            data[place] ^= 1 << int(rng.integers(8))
        elif what == 1:
            data[place] = int(rng.choice([0, 1, 127, 128, 255]))
        elif what == 2:
            del data[place : place + int(rng.integers(1, 16))]
        elif what == 3:
            data[place:place] = rng.bytes(int(rng.integers(1, 16)))
        else:
            data[place:place] = data[place : place + int(rng.integers(1, 64))]
    if rng.random() < 0.5 and len(data) > 4:
        import zlib

        data[-4:] = zlib.crc32(bytes(data[:-4])).to_bytes(4, "little")
    return bytes(data)


def damaged(arrays: Arrays, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A well-formed message of which one array was left out, replaced or changed."""
    changed = dict(arrays)
    if not changed:
        return {"x": np.zeros(3)}
    name = str(rng.choice(sorted(changed)))
    what = int(rng.integers(6))
    if what == 0:
        del changed[name]
    elif what == 1:
        changed[name] = rng.integers(0, 256, int(rng.integers(0, 50))).astype(np.uint8)
    elif what == 2:
        changed[name] = np.array(int(rng.integers(-(2**62), 2**62)))
    elif what == 3:
        changed[name] = np.array("not what you think")
    elif what == 4:
        changed[name] = np.array([np.nan, np.inf])
    else:
        array = changed[name]
        if array.size and array.dtype.kind in "iu":
            flat = array.reshape(-1).copy()
            flat[int(rng.integers(flat.size))] ^= flat.dtype.type(1)
            changed[name] = flat.reshape(array.shape)
    return changed


def run(seconds: float, seed: int) -> tuple[Counter[str], str | None]:
    """Try inputs for so long; returns how they ended, and what repeats the first finding."""
    driver, samples = world()
    outcomes: Counter[str] = Counter()
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        rng = np.random.default_rng((seed, number))
        step, message = samples[int(rng.integers(len(samples)))]
        try:
            arrays = wire.decode(mutated(message, rng)) if number % 2 else damaged(wire.decode(message), rng)
            client = CLIENTS[int(rng.integers(len(CLIENTS)))]
            resolve(driver.algorithm, step).one(driver.contexts[client], driver.states[client], arrays)
            outcomes["accepted"] += 1
        except SecFPPError as error:
            outcomes[type(error).__name__] += 1
        except Exception as error:
            return outcomes, f"seed {seed}, number {number}, step {step}: {type(error).__name__}: {error}"
        number += 1
    return outcomes, None


def main() -> int:
    """Parse the command line and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    outcomes, finding = run(given.seconds, given.seed)
    print(f"{sum(outcomes.values())} inputs: " + ", ".join(f"{name} {n}" for name, n in outcomes.most_common()))
    if finding:
        print(f"FOUND {finding}")
    return 1 if finding else 0


if __name__ == "__main__":
    sys.exit(main())
