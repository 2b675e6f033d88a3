"""What secure rounds add to a training: keys and averages on shares beside averages in the clear, without clustering.

    OMP_WAIT_POLICY=passive python benchmarks/cost/rounds.py [--repeats 4] [--rounds 20]

`secfpp` with the true domains as groups (30 clients in six) is trained both ways, in turns. Seconds are those of the
training's parts as any report counts them: keys and averages of all parties added up, messages included. Their
difference is given in percent of the clear training that was run beside it.
"""

from __future__ import annotations

import argparse

import numpy as np

from secfpp.algorithms.secfpp import SecFPP
from secfpp.data.icons import IconSettings, load_icons
from secfpp.models.backbone import load_backbone
from secfpp.runtime.trainer import train
from secfpp.secure.clustering.clusterer import OracleClusters
from secfpp.secure.means.aggregator import Aggregator
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.secure_mean import SecureMean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    dataset, backbone = load_icons(IconSettings(), 0), load_backbone("mini")

    def measured(aggregator: Aggregator) -> tuple[float, float]:
        """Seconds of keys and averages, and of everything."""
        method = SecFPP(clusterer=OracleClusters(), aggregator=aggregator)
        spent = train(dataset, backbone, method, method="secfpp", seed=0, rounds=given.rounds).costs.seconds
        return spent.get("session", 0.0) + spent["aggregator"], sum(spent.values())

    measured(SecureMean())  # fills caches
    print(f"{'secure, s':>10}{'clear, s':>10}{'training in the clear, s':>26}{'added':>9}")
    added = []
    for _ in range(given.repeats):
        (clear, training), (secure, _) = measured(PlainMean()), measured(SecureMean())
        added.append(100 * (secure - clear) / training)
        print(f"{secure:>10.2f}{clear:>10.2f}{training:>26.1f}{added[-1]:>7.1f} %", flush=True)
    print(f"median {np.median(added):.1f} %")


if __name__ == "__main__":
    main()
