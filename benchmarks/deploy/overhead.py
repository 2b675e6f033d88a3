"""What sites as processes add to a run in one process, and what equal bits everywhere cost a simulation.

    OMP_NUM_THREADS=1 python benchmarks/deploy/overhead.py [--sites 8] [--rounds 16] [--repeats 3]

The default `secfpp` with the first clients of the embedded benchmark is run in turns

* in one process, one client at a time and on one thread, as a site computes, and
* at sites, each a process of this machine, without an engine; opening and closing of the run are not counted;

bits, messages and bytes must be equal. Then a training of all clients as `secfpp run --deterministic` does it, one
client at a time, beside one of 32 clients in one pass, both on one thread. All ratios are of runs side by side; what
else the machine does is in the load, which is printed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path

from secfpp.deploy.rehearsal import Played, play, prepare, simulate
from secfpp.experiment.run.training import load_dataset
from secfpp.experiment.spec.config import ExperimentConfig, parse_config
from secfpp.models.backbone import load_backbone
from secfpp.runtime.trainer import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=16, help="secfpp uses half of them")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    config = parse_config({"rounds": given.rounds, "backbone": {"name": "mini", "device": "cpu", "threads": 1}})

    print(f"{given.sites} sites, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}")
    print(f"{'in one process, s':>18}{'at sites, s':>13}{'ratio':>7}", end="")
    print(f"{'exchanges':>11}{'median, ms':>12}{'longest, s':>12}{'load':>6}")
    ratios = []
    warmed(config, given.sites)
    for _ in range(given.repeats):
        played = at_sites(config, given.sites)
        ratios.append(played.seconds / played.simulated)
        told = f"{played.exchanges:>11}{1e3 * played.median:>12.0f}{max(played.summary['exchange_seconds']):>12.2f}"
        print(
            f"{played.simulated:>18.2f}{played.seconds:>13.2f}{ratios[-1]:>7.2f}{told}{os.getloadavg()[0]:>6.1f}",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.2f}\n")

    print(f"{'chunk 1, s':>18}{'chunk 32, s':>13}{'ratio':>7}{'load':>6}")
    ratios = []
    for _ in range(given.repeats):
        alone, together = (training(config, chunk) for chunk in (1, 32))
        ratios.append(alone / together)
        print(f"{alone:>18.2f}{together:>13.2f}{ratios[-1]:>7.2f}{os.getloadavg()[0]:>6.1f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.2f}")


def warmed(config: ExperimentConfig, sites: int) -> None:
    """Fill the caches of images and their features, which the first of two runs would fill for the second."""
    with tempfile.TemporaryDirectory() as room:
        simulate(prepare(Path(room) / "rehearsal", config, sites))
    training(config, 32)


def at_sites(config: ExperimentConfig, sites: int) -> Played:
    """One run in one process and one at sites."""
    with tempfile.TemporaryDirectory() as room:
        played = play(prepare(Path(room) / "rehearsal", config, sites), "processes", lambda line: None)
    assert not played.differ and not played.costs_differ, played
    return played


def training(config: ExperimentConfig, chunk: int) -> float:
    """Seconds of a training of all clients, without measurements."""
    dataset, backbone = load_dataset(config, 0), load_backbone("mini", device="cpu", threads=1)
    method = config.choose(["secfpp"])["secfpp"]
    spent = train(dataset, backbone, method, method="secfpp", seed=0, rounds=config.rounds, chunk=chunk).costs
    return sum(spent.seconds.values())


if __name__ == "__main__":
    main()
