"""What a round of each method takes beside one of `promptfl`, in the clear, on the icon benchmark.

    OMP_NUM_THREADS=1 python benchmarks/methods/rounds.py [--rounds 2] [--repeats 3] [--methods fedotp,fedtpg]

All methods have their default settings but for servers that see everything, and the same 30 clients. Seconds are a
round's, of all clients and the server, without evaluation, the least over the repeats, which go over all methods in
turn. The last line is the sum over all methods that train, over as many rounds of `promptfl`.
"""

from __future__ import annotations

import argparse
from dataclasses import fields

from secfpp.algorithms.base import FederatedAlgorithm, methods
from secfpp.data.icons import IconSettings, load_icons
from secfpp.models.backbone import load_backbone
from secfpp.runtime.trainer import train
from secfpp.secure.clustering.plain_agreement import PlainAgreement
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.polls.plain_poll import PlainPoll

CLEAR = {"aggregator": PlainMean, "poll": PlainPoll, "clusterer": PlainAgreement}
REFERENCE = "promptfl"


def in_the_clear(kind: type[FederatedAlgorithm]) -> FederatedAlgorithm:
    """The method with its defaults, of which no part hides anything."""
    known, method = {field.name for field in fields(kind)}, kind()
    hidden = {part for part in CLEAR if part in known and getattr(getattr(method, part), "needs_keys", False)}
    return kind(**{part: CLEAR[part]() for part in hidden})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--methods", help="names, separated by commas; default: all that train prompts")
    given = parser.parse_args()
    trains = [n for n, kind in methods().items() if kind.local_update is not FederatedAlgorithm.local_update]
    names = given.methods.split(",") if given.methods else sorted(trains)
    names = [REFERENCE, *(name for name in names if name != REFERENCE)]
    dataset, backbone = load_icons(IconSettings(), 0), load_backbone("mini")

    def seconds(name: str) -> float:
        result = train(dataset, backbone, in_the_clear(methods()[name]), method=name, seed=0, rounds=given.rounds)
        return result.seconds / result.rounds

    seconds(REFERENCE)  # fills caches
    found = {name: float("inf") for name in names}
    for _ in range(given.repeats):
        for name in names:
            found[name] = min(found[name], seconds(name))
    reference = found[REFERENCE]
    print(f"{'method':<18}{'s a round':>10}{'times':>8}")
    for name, spent in found.items():
        print(f"{name:<18}{spent:>10.3f}{spent / reference:>8.2f}")
    print(f"all {len(found)}: {sum(found.values()) / (len(found) * reference):.2f} times {len(found)} of {REFERENCE}")


if __name__ == "__main__":
    main()
