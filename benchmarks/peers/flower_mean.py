"""Means that a server learns, or only the clients: Flower's SecAgg and SecAgg+ beside `SecureMean`, the same updates.

Flower's side calls the public functions of its protocol in the order of its workflow, in one process and without its
messages: two key pairs per client, Shamir shares of two secrets, encrypted for each neighbour, pairwise and own
masks, the sum modulo 2^32, and unmasking from the shares. All clients stay. Its masks come from numpy's Mersenne
Twister with seeds of 32 bits; its server learns the sum. In SecAgg all clients are neighbours, in SecAgg+ some.

Ours runs through the driver: signed session keys, every message through the wire format, an inclusion that holders
confirm, and a sum that only the participants decode. It is measured twice: with `bounded = false`, which is what
Flower does (it clips where a client runs it, and proves nothing), and by default, where all prove on shares that they
clipped. "Arithmetic" is what is left without keys, envelopes, messages and proofs: rounding, sharing or masking,
adding, decoding or unmasking. Seconds are processor time.

Run: python benchmarks/peers/flower_mean.py --clients 24 --numbers 8192
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass, field

import flwr
import numpy as np
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import decrypt, encrypt, generate_shared_key
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import dequantize, quantize
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen, share_keys_plaintext_concat
from flwr.supercore.primitives.asymmetric import generate_key_pairs, private_key_to_bytes

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

CLIP, TARGET, MODULUS = 2.5, 1 << 22, 1 << 32
THRESHOLD, HOLDERS = 2, 16


@dataclass(frozen=True)
class Averaging:
    """An algorithm that does nothing else."""

    aggregator: SecureMean
    session: Session = field(default_factory=Session)


@dataclass(frozen=True)
class Context:
    """What the steps of a client need."""

    party: Party


def flower(updates: np.ndarray, shares: int) -> tuple[np.ndarray, float, float]:
    """The mean of `updates` [clients, n] with so many neighbours, oneself counted; seconds in all and of arithmetic."""
    clients = range(len(updates))
    shape, half = [updates[0].shape], shares // 2
    around = {i: sorted({(i + step) % len(updates) for step in range(-half, half + 1)}) for i in clients}
    threshold = max(2, len(around[0]) // 2 + 1)
    started = time.process_time()
    masking = [generate_key_pairs() for _ in clients]
    sealing = [generate_key_pairs() for _ in clients]
    seeds = [os.urandom(32) for _ in clients]
    received: dict[int, dict[int, bytes]] = {i: {} for i in clients}
    keys: dict[tuple[int, int], bytes] = {}
    for i in clients:
        seed_shares = create_shares(seeds[i], threshold, len(around[i]))
        key_shares = create_shares(private_key_to_bytes(masking[i][0]), threshold, len(around[i]))
        for seed_share, key_share, j in zip(seed_shares, key_shares, around[i], strict=True):
            received[j][i] = seed_share
            if j != i:
                keys[i, j] = generate_shared_key(sealing[i][0], sealing[j][1])
                envelope = encrypt(keys[i, j], share_keys_plaintext_concat(i, j, seed_share, key_share))
                decrypt(keys[i, j], envelope)
    pads = {(i, j): generate_shared_key(masking[i][0], masking[j][1]) for i in clients for j in around[i] if i != j}
    keyed = time.process_time()
    total = None
    for i in clients:
        vector = quantize([updates[i]], CLIP, TARGET)
        vector = parameters_addition(vector, pseudo_rand_gen(seeds[i], MODULUS, shape))
        for j in around[i]:
            if j != i:
                pad = pseudo_rand_gen(pads[i, j], MODULUS, shape)
                vector = (parameters_addition if i > j else parameters_subtraction)(vector, pad)
        vector = parameters_mod(vector, MODULUS)
        total = vector if total is None else parameters_addition(total, vector)
    assert total is not None
    added = time.process_time()
    found = [combine_shares([received[j][i] for j in around[i]][:threshold]) for i in clients]
    combined = time.process_time()
    for seed in found:
        total = parameters_subtraction(total, pseudo_rand_gen(seed, MODULUS, shape))
    # Every update is shifted by the range, which dequantising takes off once.
    (mean,) = dequantize(parameters_mod(total, MODULUS), CLIP, TARGET)
    mean = (mean - (len(updates) - 1) * CLIP) / len(updates)
    ended = time.process_time()
    return mean, ended - started, (added - keyed) + (ended - combined)


def ours(updates: np.ndarray, bounded: bool) -> tuple[np.ndarray, float]:
    """The mean of `updates` [clients, n] by all parties, with proofs or without, and its seconds."""
    names = [f"client-{i:03d}" for i in range(len(updates))]
    contexts = {name: Context(party) for name, party in parties_in_memory(names).items()}
    base = np.zeros(updates.shape[1])
    states = {
        name: with_base(ClientState(), "p", base).replace(p=update) for name, update in zip(names, updates, strict=True)
    }
    mean = SecureMean(clip=CLIP, threshold=THRESHOLD, bounded=bounded)
    driver = InProcessDriver(Averaging(mean), contexts, states, force_wire=True)
    started = time.process_time()
    driver.run(mean.mean(Cohort(dict.fromkeys(names, 1), 0, 0), "p"))
    return driver.states[names[0]]["p"], time.process_time() - started


def arithmetic(updates: np.ndarray) -> tuple[np.ndarray, float]:
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
    rng = np.random.default_rng(0)
    updates = 0.01 * rng.normal(size=(arguments.clients, arguments.numbers))
    expected = updates.mean(0)
    everybody, some = arguments.clients, arguments.neighbours
    whole: dict[str, float] = {}
    bare: dict[str, float] = {}
    error: dict[str, float] = {}
    for _ in range(arguments.repeats):
        for title, shares in (("Flower SecAgg", everybody), (f"Flower SecAgg+, {some} shares", some)):
            mean, seconds, part = flower(updates, shares)
            whole[title] = min(seconds, whole.get(title, seconds))
            bare[title] = min(part, bare.get(title, part))
            error[title] = float(np.abs(mean - expected).max())
        for title, bounded in (("SecureMean with proofs", True), ("SecureMean", False)):
            mean, seconds = ours(updates, bounded)
            same, part = arithmetic(updates)
            assert np.allclose(mean, same, atol=1e-6)
            whole[title], bare[title] = min(seconds, whole.get(title, seconds)), min(part, bare.get(title, part))
            error[title] = float(np.abs(mean - expected).max())
    print(f"flwr {flwr.__version__}, {arguments.clients} clients, {arguments.numbers} floats each, ", end="")
    print(f"{HOLDERS} holders and T = {THRESHOLD} in SecureMean, ", end="")
    print(f"seconds of all parties added up, best of {arguments.repeats}")
    print(f"{'':<32}{'whole, s':>10}{'ratio':>8}{'arithmetic, s':>15}{'ratio':>8}{'largest error':>15}")
    for way in whole:
        print(f"{way:<32}{whole[way]:>10.3f}{whole[way] / whole[title]:>7.1f}x", end="")
        print(f"{bare[way]:>15.4f}{bare[way] / bare[title]:>7.1f}x{error[way]:>15.1e}")


if __name__ == "__main__":
    main()
