"""With how many clients averages of prompts under client-level differential privacy are of use.

    python benchmarks/client_level.py [--members 5 20 50 200] [--seeds 0 1] [--epsilons 8 4 2 1]
        [--methods secfpp+client_dp] [--floors start] [--images 50]

Clients of one domain of the embedded benchmark, each with about `--images` training images and half as many for
validation, whatever their number is; 20 rounds, in ten of which prompts are averaged at most. Rows: what can be had
alone (`alone`: `coop_local+means`, or `coop_local` beside `promptfl`; `start`: the method with closed gates), without
noise (`infinite`), and by epsilon at delta 1e-5. Columns: accuracy in percent, `own` on the client's mix of classes and
`domain` on all classes alike, after the last round, means over clients and seeds; `closed`, the share of clients whose
gate is 0; `noise`, its length on an average, in clips; and how much more `domain` has than in `start`, where nothing is
shared, with its standard error over seeds.

Averages are made in the clear, of the integers that the secure mean adds up: what a server must not see makes no
difference to accuracies.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import defaultdict
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, ClassVar
from unittest.mock import patch

import numpy as np

from secfpp.algorithms.base import FederatedAlgorithm
from secfpp.algorithms.privacy import Privacy
from secfpp.data.federated import FederatedDataset
from secfpp.data.icons import IconSettings, load_icons
from secfpp.experiment.config import parse_config
from secfpp.models.backbone import Backbone, load_backbone
from secfpp.privacy.ledger import VARIABLE
from secfpp.runtime.trainer import train
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.secure_mean import SecureMean

CLASSES, ROUNDS = 36, 20
FLOORS = ("alone", "start", "infinite")
GATES = "secfpp.algorithms.noisy_prompts.GATES"
METHODS = {"secfpp+client_dp": "coop_local+means", "promptfl+client_dp": "coop_local"}


@dataclass(frozen=True)
class InTheClear(PlainMean, SecureMean):
    """A secure mean's settings and rules, and a plain one's computation, which gives the same bits."""

    needs_keys: ClassVar[bool] = False


def data_of(members: int, images: int, seed: int) -> FederatedDataset:
    shots = round(images * members / CLASSES)
    settings = IconSettings(
        shots=shots, validation_shots=max(1, shots // 2), clients_per_domain=members, domains=("sketch",)
    )
    return load_icons(settings, seed)


def rows_of(name: str, floors: list[str], epsilons: list[float]) -> dict[str, FederatedAlgorithm]:
    """The methods to measure, by the name of their row."""
    chosen: dict[str, Any] = parse_config({}).choose([name, METHODS[name]])
    base = replace(chosen[name], aggregator=InTheClear(clip=256.0, bits=16, min_responders=4))
    if name.startswith("secfpp"):
        base = replace(base, effort=1.0)
    none = replace(base, privacy=Privacy(), aggregator=PlainMean(clip=0.5, min_responders=4))
    found = {"alone": chosen[METHODS[name]], "start": base, "infinite": none}
    return {row: found[row] for row in floors} | {
        f"{e:g}": replace(base, privacy=replace(base.privacy, epsilon=e)) for e in epsilons
    }


def measured(data: FederatedDataset, backbone: Backbone, algorithm: Any, seed: int) -> dict[str, float]:
    rounds = algorithm.planned(ROUNDS)
    run = train(data, backbone, algorithm, method="m", seed=seed, rounds=ROUNDS, force_wire=False)
    start = algorithm.prompt.initial(backbone, data.template, None)
    shared = run.prompts if run.domain_prompts is None else run.domain_prompts
    closed = np.mean([np.array_equal(prompt, start) for prompt in shared])
    privacy = getattr(algorithm, "privacy", Privacy())
    noise = algorithm.noise_in_clips(len(data.clients), start.size) if privacy.of_prompts else 0.0
    if run.privacy and run.privacy["epsilon"] > privacy.epsilon + 1e-6:
        raise SystemExit(f"epsilon {run.privacy['epsilon']} was spent where {privacy.epsilon} was allowed")
    figures = {"own": run.metrics["own"].mean(), "domain": run.metrics["own_domain"].mean()}
    return {**figures, "closed": 100 * closed, "noise": noise, "rounds": rounds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", nargs="+", type=int, default=[5, 20, 50, 200])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--epsilons", nargs="+", type=float, default=[8, 4, 2, 1])
    parser.add_argument("--floors", nargs="+", default=list(FLOORS), choices=FLOORS)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    given = parser.parse_args()
    backbone = load_backbone("mini", device="cpu")
    with tempfile.TemporaryDirectory() as ledgers:
        os.environ[VARIABLE] = ledgers  # charged like any run, and thrown away: nothing of it is released to anyone
        for members in given.members:
            found: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
            began = time.perf_counter()
            for seed in given.seeds:
                data = data_of(members, given.images, seed)
                for name in given.methods:
                    for row, algorithm in rows_of(name, given.floors, given.epsilons).items():
                        with patch(GATES, (0.0,)) if row == "start" else nullcontext():
                            found[name, row].append(measured(data, backbone, algorithm, seed))
            print(f"\n{members} clients, seeds {given.seeds}, {time.perf_counter() - began:.0f} s")
            print(f"{'':20}{'epsilon':>9}{'own':>8}{'domain':>8}{'closed':>8}{'noise':>8}{'to start':>16}")
            for (name, row), cells in found.items():
                values = {key: float(np.mean([cell[key] for cell in cells])) for key in cells[0]}
                beside = found.get((name, "start"), cells)
                less = [own["domain"] - floor["domain"] for own, floor in zip(cells, beside, strict=True)]
                error = np.std(less, ddof=1) / len(less) ** 0.5 if len(less) > 1 else float("nan")
                print(
                    f"{name:20}{row:>9}{values['own']:8.1f}{values['domain']:8.1f}{values['closed']:7.0f}%"
                    f"{values['noise']:8.2f}{np.mean(less):+10.1f} +-{error:4.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
