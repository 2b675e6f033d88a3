"""Means that a server learns, or only the clients: Flower's SecAgg and SecAgg+ beside `SecureMean`, the same updates.

Flower's side is its own: `SecAggWorkflow` or `SecAggPlusWorkflow` with `FedAvg` at the server, `secaggplus_mod` around
clients that return their updates, every message through its protobuf. Its transport would besides cut messages into
objects, hash them and post them by HTTP: left out. All clients stay. In SecAgg all are neighbours, in SecAgg+ some.
Masks come from numpy's Mersenne Twister with seeds of 32 bits; the server learns the sum. Flower multiplies an update
by the client's examples over `max_weight` before it rounds, so clients with a hundredth of `max_weight` lose two
digits; here every client has one example and `max_weight` is 1, so no digit is lost to weights.

Ours runs through the driver: signed session keys, every message through the wire format, an inclusion that holders
confirm, and a sum that only the participants decode. It is measured twice: with `bounded = false`, which is what
Flower does (it clips where a client runs it, and proves nothing), and by default, where all prove on shares that they
clipped. Neither side sends a model.

"In memory" is without serialising and parsing: theirs is timed and taken off, ours hands over copies. "Arithmetic" is
what is left without keys, shares of keys, envelopes, messages and proofs: rounding, sharing or masking, adding,
decoding or unmasking. Seconds are processor time.

Run: python benchmarks/peers/flower_mean.py --clients 24 --numbers 8192
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field

import flwr
import numpy as np
from flower_secagg import TARGET, flower, flower_arithmetic

from secfpp.crypto.field import PrimeField
from secfpp.crypto.fixed_point import FixedPoint
from secfpp.crypto.randomness import Stream
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientState
from secfpp.runtime.in_process import InProcessDriver
from secfpp.secure.means.client import code_for
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.secure.means.updates import with_base
from secfpp.secure.session import Party, Session, parties_in_memory
from secfpp.seeding import SystemEntropy

CLIP, THRESHOLD, HOLDERS = 2.5, 2, 16


@dataclass(frozen=True)
class Averaging:
    """An algorithm that does nothing else."""

    aggregator: SecureMean
    session: Session = field(default_factory=Session)


@dataclass(frozen=True)
class Context:
    """What the steps of a client need."""

    party: Party


def ours(updates: np.ndarray, bounded: bool, wire: bool) -> tuple[np.ndarray, float]:
    """The mean of `updates` [clients, n] by all parties, with proofs, the wire format or without, and its seconds."""
    names = [f"client-{i:03d}" for i in range(len(updates))]
    contexts = {name: Context(party) for name, party in parties_in_memory(names).items()}
    base = np.zeros(updates.shape[1])
    states = {
        name: with_base(ClientState(), "p", base).replace(p=update) for name, update in zip(names, updates, strict=True)
    }
    mean = SecureMean(clip=CLIP, threshold=THRESHOLD, bounded=bounded)
    driver = InProcessDriver(Averaging(mean), contexts, states, force_wire=wire)
    started = time.process_time()
    driver.run(mean.mean(Cohort(dict.fromkeys(names, 1), 0, 0), "p"))
    return driver.states[names[0]]["p"], time.process_time() - started


def our_arithmetic(updates: np.ndarray) -> tuple[np.ndarray, float]:
    """The mean of `updates` [clients, n] without keys, envelopes and messages, and its seconds."""
    code, codec = code_for(HOLDERS, THRESHOLD), FixedPoint(CLIP, 24)
    started = time.process_time()
    length = -(-updates.shape[1] // code.blocks)
    total = np.zeros((HOLDERS, length), np.uint64)
    for update in updates:
        blocks = np.zeros((code.blocks, length), np.uint64)
        blocks.reshape(-1)[: update.size] = codec.encode(update, 1)
        total = PrimeField.add(total, code.encode(blocks, Stream.fresh(SystemEntropy())))
    for _ in updates:  # every participant decodes
        found = code.decode(dict(enumerate(total)))
    mean = codec.decode(found.reshape(-1)[: updates.shape[1]], len(updates))
    return mean, time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--numbers", type=int, default=8192)
    parser.add_argument("--neighbours", type=int, default=9, help="of SecAgg+, oneself counted; odd")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    some = arguments.neighbours
    if some % 2 == 0 or not 3 <= some <= arguments.clients:
        parser.error(f"--neighbours {some}: an odd number from 3 to --clients ({arguments.clients})")
    updates = 0.01 * np.random.default_rng(0).normal(size=(arguments.clients, arguments.numbers))
    expected = updates.mean(0)
    seconds: dict[str, list[float]] = {}
    error: dict[str, float] = {}

    def take(way: str, means: tuple[np.ndarray, ...], times: tuple[float, ...], step: float) -> None:
        for mean in means:
            error[way] = max(error.get(way, 0.0), float(np.abs(mean - expected).max()))
        assert error[way] <= step, f"{way}: off by {error[way]:.1e}, more than a step of rounding, {step:.1e}"
        seconds[way] = [min(pair) for pair in zip(times, seconds.get(way, times), strict=True)]

    for _ in range(arguments.repeats):
        for way, shares in (("Flower SecAgg", None), (f"Flower SecAgg+, {some} shares", some)):
            mean, whole, carrying = flower(updates, CLIP, shares)
            same, bare = flower_arithmetic(updates, CLIP, shares)
            take(way, (mean, same), (whole, whole - carrying, bare), 2 * CLIP / TARGET)
        for way, bounded in (("SecureMean with proofs", True), ("SecureMean", False)):
            mean, whole = ours(updates, bounded, wire=True)
            equal, inside = ours(updates, bounded, wire=False)
            same, bare = our_arithmetic(updates)
            take(way, (mean, equal, same), (whole, inside, bare), 2.0**-24)
    print(f"flwr {flwr.__version__}, {arguments.clients} clients, {arguments.numbers} floats each, ", end="")
    print(f"{HOLDERS} holders and T = {THRESHOLD} in SecureMean, ", end="")
    print(f"seconds of all parties added up, best of {arguments.repeats}")
    titles = ("whole, s", "in memory, s", "arithmetic, s")
    print(f"{'':<28}", *(f"{title:>14}{'ratio':>8}" for title in titles), f"{'largest error':>15}", sep="")
    for way, times in seconds.items():
        cells = (f"{took:>14.4f}{took / own:>7.1f}x" for took, own in zip(times, seconds["SecureMean"], strict=True))
        print(f"{way:<28}", *cells, f"{error[way]:>15.1e}", sep="")


if __name__ == "__main__":
    main()
