"""Time and bytes of one secure mean, all parties in one process, beside the plain mean of the same updates.

Each repeat is a round of its own: fresh session keys, every offer verified by everybody, fresh shares. A second mean in
the same round needs no key agreement; it averages another slot. All messages pass through the wire format.

Run: python benchmarks/micro/secure_mean.py --clients 30 --numbers 8192
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

import numpy as np

from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientState, Program
from secfpp.runtime.costs import Costs
from secfpp.runtime.in_process import InProcessDriver
from secfpp.secure.means.aggregator import Aggregator
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.secure.means.updates import with_base
from secfpp.secure.session import Party, Session, parties_in_memory, with_keys

R = TypeVar("R")
PLAIN, KEYS, FIRST, SECOND = "plain mean", "key agreement", "secure mean, first of a round", "second of the round"


@dataclass(frozen=True)
class Method:
    """What the steps are found on."""

    session: ClassVar[Session] = Session()
    aggregator: Aggregator = field(default_factory=PlainMean)


@dataclass(frozen=True)
class Context:
    """What the steps get of a client."""

    party: Party


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=30)
    parser.add_argument("--numbers", type=int, default=8192)
    parser.add_argument("--threshold", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    least = arguments.threshold + 2
    names = [f"client-{i:03d}" for i in range(arguments.clients)]
    contexts = {name: Context(party) for name, party in parties_in_memory(names).items()}
    rng = np.random.default_rng(0)
    base = rng.normal(size=arguments.numbers).astype(np.float32)
    state = with_base(with_base(ClientState(), "p", base), "q", base)
    updates = {name: base + (0.01 * rng.normal(size=base.size)).astype(np.float32) for name in names}
    states = {name: state.replace(p=update, q=update) for name, update in updates.items()}
    plain, secure = PlainMean(min_responders=least), SecureMean(threshold=arguments.threshold, min_responders=least)
    seconds: dict[str, list[float]] = {}
    costs: dict[str, Costs] = {}

    def timed(way: str, driver: InProcessDriver, program: Program[R]) -> R:
        before, begin = driver.costs.copy(), time.perf_counter()
        result = driver.run(program)
        seconds.setdefault(way, []).append(time.perf_counter() - begin)
        costs[way] = driver.costs.since(before)
        return result

    for number in range(arguments.repeats):
        cohort = Cohort({name: 1 + i for i, name in enumerate(names)}, number, 0)
        clear = InProcessDriver(Method(plain), contexts, states, round_=number)
        timed(PLAIN, clear, plain.mean(cohort, "p"))
        clear.run(plain.mean(cohort, "q"))
        blind = InProcessDriver(Method(secure), contexts, states, round_=number)
        keyed = timed(KEYS, blind, with_keys(cohort))
        timed(FIRST, blind, secure.mean(keyed, "p"))
        timed(SECOND, blind, secure.mean(keyed, "q"))
        for name in names:
            one, two = clear.states[name].arrays, blind.states[name].arrays
            assert all(np.array_equal(one[key], two[key]) for key in one)

    print(f"{arguments.clients} clients, {arguments.numbers} float32 each, threshold {arguments.threshold}, ", end="")
    print(f"best of {arguments.repeats}; the results are equal bit for bit")
    print(f"{'':<32}{'seconds':>9}{'exchanges':>11}{'kB up':>9}{'kB down':>9}  of a client, on average")
    for way, times in seconds.items():
        spent = costs[way]
        up, down = (total / len(names) / 1e3 for total in (spent.client_up, spent.client_down))
        print(f"{way:<32}{min(times):>9.4f}{spent.exchanges:>11}{up:>9.1f}{down:>9.1f}")
    whole = min(map(sum, zip(seconds[KEYS], seconds[FIRST], strict=True)))
    print(f"keys and first mean: {whole:.3f} s, {whole / min(seconds[PLAIN]):.0f} times the plain mean")


if __name__ == "__main__":
    main()
