"""What a whole run with very many light clients takes beside its training steps, in the clear, on the icon benchmark.

    OMP_NUM_THREADS=1 python benchmarks/cost/many_clients.py [--clients 1000] [--rounds 20] [--method promptfl]
        [--images 8] [--cold] [--profile FILE] [--set key=value]

The run is that of ``secfpp run``, with all that it writes: checkpoints, results, prompt files and the report page.
Pictures and their features are in the cache from a run before, with ``--cold`` they are made within the run. Training
steps are `LocalTraining.fit`, all of it and nothing else. Seconds are the process's processor time. The data have
`--images` training images a client on average, dealt evenly over clients of six styles.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from math import ceil
from pathlib import Path
from typing import Any

STYLES, LABELS = 6, 36


class Steps:
    """Processor seconds inside a function."""

    seconds = 0.0

    def within(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed."""

        def timed(*arguments: Any, **named: Any) -> Any:
            started = time.process_time()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds += time.process_time() - started

        return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--method", default="promptfl", help="name or usual variant, such as secfpp+clear")
    parser.add_argument("--images", type=int, default=8, help="training images a client, on average at least")
    parser.add_argument("--cold", action="store_true", help="with an empty cache")
    parser.add_argument("--profile", type=Path, help="file for what cProfile finds")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.cold:
            os.environ["SECFPP_CACHE"] = f"{folder}/cache"
        measured(given, Path(folder) / "run")


def measured(given: argparse.Namespace, out: Path) -> None:
    """Run it once, and print what it took."""
    from secfpp.algorithms.training import LocalTraining
    from secfpp.cli.progress import PlainProgress
    from secfpp.experiment.results.run_directory import open_run_directory
    from secfpp.experiment.run.runner import run_experiment
    from secfpp.experiment.spec.config import parse_config
    from secfpp.experiment.spec.layers import merge, parse_override
    from secfpp.runtime import trainer

    per_style = ceil(given.clients / STYLES)
    shots = ceil(per_style * given.images / LABELS)
    table: dict[str, Any] = {
        "seed": 0,
        "rounds": given.rounds,
        "data": {
            "name": "icons",
            "clients_per_domain": per_style,
            "shots": shots,
            "validation_shots": max(1, shots // 2),
            "partition": {"kind": "by_domain", "within": {"kind": "iid"}},
        },
        "backbone": {"name": "mini"},
        "method": {"name": "promptfl"},
    }
    for setting in given.settings:
        table = merge(table, parse_override(setting))
    config, steps = parse_config(table), Steps()
    LocalTraining.fit = steps.within(LocalTraining.fit)  # type: ignore[method-assign]
    parts = {name: Steps() for name in ("train", "run_round", "validated", "save_checkpoint")}
    for name, part in parts.items():
        setattr(trainer, name, part.within(getattr(trainer, name)))
    profile = cProfile.Profile(time.process_time) if given.profile else None
    before, started = time.process_time(), time.perf_counter()
    with open_run_directory(out, "compare") as directory, profile or nullcontext():
        run_experiment(config, [given.method], directory, PlainProgress()).require_success()
    spent, wall = time.process_time() - before, time.perf_counter() - started
    if profile:
        profile.dump_stats(given.profile)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    written = sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) / 1e6
    print(f"clients: {STYLES * per_style}, with {shots * LABELS / per_style:.1f} training images each")
    print(f"method and rounds: {given.method}, {given.rounds}")
    print(f"whole run: {spent:.1f} s of processor time, {wall:.1f} s by the clock")
    print(f"training steps alone: {steps.seconds:.1f} s")
    print(f"ratio: {spent / steps.seconds:.2f}")
    training, rounds, validation, checkpoints = (part.seconds for part in parts.values())
    print(f"rounds, beside training steps: {rounds - steps.seconds:.1f} s")
    print(f"after each round: {validation:.1f} s for validation, {checkpoints:.1f} s for checkpoints")
    print(f"once, within training: {training - rounds - validation - checkpoints:.1f} s, mostly on test images")
    print(f"once, around training: {spent - training:.1f} s for model, data, result files, report")
    print(f"written: {written:.0f} MB, report.html {(out / 'report.html').stat().st_size / 1e6:.1f} MB")
    print(f"peak memory: {peak:.2f} GiB")


if __name__ == "__main__":
    main()
