"""With how many clients averages of prompts under client-level differential privacy are of use.

    python benchmarks/client_level.py [--members 5 20 50 200 1000] [--seeds 0 1] [--epsilons 8 4 2 1]
        [--methods secfpp+client_dp] [--floors start] [--images 50] [--measured 50] [--cells FILE]

Clients of one domain of the embedded benchmark, each with about `--images` training images and half as many for
validation, whatever their number is; 20 rounds, in ten of which prompts are averaged at most. Rows: what can be had
alone (`alone`: `coop_local+means`, or `coop_local` beside `promptfl`; `start`: the method with closed gates), without
noise (`infinite`), and by epsilon at delta 1e-5; more than 20 clients are beside `start` alone. Columns: accuracy in
percent, `own` on the client's mix of classes and `domain` on all classes alike, after the last round, means over
clients and seeds; `closed`, the share of clients whose gate is 0; `noise`, its length on an average, in clips; and how
much more `domain` has than in `start`, where nothing is shared, with its standard error over seeds.

All clients train and add noise. What makes no difference to the figures is left out: averages are made in the clear, of
the integers that the secure mean adds up; gates are chosen once, for the last average; nothing is measured between
rounds; and what a client does for itself alone is done for the first `--measured` clients, over whom means are taken.
With `--cells`, figures are kept in a file of lines, and what it has is not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import numpy as np

from secfpp.algorithms.base import ClientContext, FederatedAlgorithm, ServerState
from secfpp.algorithms.noisy_prompts import AveragesPrompts
from secfpp.algorithms.privacy import Privacy, released
from secfpp.data.federated import FederatedDataset
from secfpp.data.icons import IconSettings, load_icons
from secfpp.experiment.spec.config import parse_config
from secfpp.models.backbone import load_backbone
from secfpp.models.scoring import Visual
from secfpp.privacy.accounting import epsilon
from secfpp.privacy.ledger import VARIABLE, PrivacyLedger, RunLedger, Terms, default_path
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientId, Program
from secfpp.runtime.contexts import make_contexts
from secfpp.runtime.evaluation import class_features, measure
from secfpp.runtime.in_process import InProcessDriver
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.secure_mean import SecureMean

CLASSES, ROUNDS, CHUNK, FEW = 36, 20, 16, 20
FLOORS = ("alone", "start", "infinite")
TERMS = Terms("client", "add_remove", 1e-5, None)
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


def clients_of(
    members: int, images: int, seed: int, algorithm: FederatedAlgorithm
) -> tuple[FederatedDataset, dict[ClientId, ClientContext]]:
    """The data, and the clients with a ledger in the folder of `VARIABLE`: nothing is released to anyone."""
    data, backbone = data_of(members, images, seed), load_backbone("mini", device="cpu")
    ledger = RunLedger(PrivacyLedger.open(default_path(f"{members}-{seed}"), "simulated", TERMS), "simulated")
    return data, make_contexts(data, backbone, algorithm, seed, ledger)


def rows_of(name: str, given: argparse.Namespace, members: int) -> dict[str, FederatedAlgorithm]:
    """The methods to measure with so many clients, by the name of their row."""
    chosen: dict[str, Any] = parse_config({}).choose([name, METHODS[name]])
    base = replace(chosen[name], aggregator=InTheClear(clip=256.0, bits=16, min_responders=4))
    if name.startswith("secfpp"):
        base = replace(base, effort=1.0)
    none = replace(base, privacy=Privacy(), aggregator=PlainMean(clip=0.5, min_responders=4))
    found = {"alone": chosen[METHODS[name]], "start": base, "infinite": none}
    return {row: found[row] for row in given.floors if members <= FEW or row == "start"} | {
        f"{e:g}": replace(base, privacy=replace(base.privacy, epsilon=e)) for e in given.epsilons
    }


def later(algorithm: AveragesPrompts, clients: Iterable[ClientId]) -> Program[None]:
    """In the place of `ask_to_gate` where another average follows: a gate has no part in that."""
    yield from ()


def measured(
    contexts: Mapping[ClientId, ClientContext],
    data: FederatedDataset,
    algorithm: Any,
    few: list[ClientId],
    alone: bool = False,
    before: Callable[[InProcessDriver], None] = lambda driver: None,
) -> dict[str, float]:
    """The figures of a cell; without averages if the clients are alone, which is what closed gates come to.

    Args:
        contexts: all clients.
        data: theirs.
        algorithm: the method.
        few: whom to measure.
        alone: whether nothing is shared.
        before: called before each round.
    """
    privacy, given = getattr(algorithm, "privacy", Privacy()), len(contexts)
    rounds = algorithm.planned(ROUNDS)
    averages = algorithm.domain_rounds(rounds) if hasattr(algorithm, "domain_rounds") else rounds
    first = averages + 1 if alone and isinstance(algorithm, AveragesPrompts) else 1
    if alone:
        contexts = {name: contexts[name] for name in few}
    shown = [contexts[name] for name in few]
    states = {name: algorithm.client_state(context) for name, context in contexts.items()}
    driver, server = InProcessDriver(algorithm, contexts, states, force_wire=False, chunk=CHUNK), ServerState()
    for number in range(first, rounds + 1):
        driver.round_ = number
        before(driver)
        names = contexts if number <= averages else few
        cohort = Cohort({name: contexts[name].weight for name in names}, number, shown[0].seed, rounds)
        with patch.object(AveragesPrompts, "ask_to_gate", later) if number < averages else nullcontext():
            server = driver.run(algorithm.round(server, cohort))
    own = [driver.states[name] for name in few]
    prompts = np.stack([algorithm.prompts(state) for state in own])
    texts = class_features(shown, prompts)
    beside = [algorithm.visual(*pair, texts[i : i + 1]) for i, pair in enumerate(zip(shown, own, strict=True))]
    known = [part for part in beside if part is not None]
    accuracy = measure(shown, texts, data.test, algorithm.predictor, Visual.stacked(known) if known else None)
    spent = {event for state in driver.states.values() for event in [tuple(one for _, one in released(state))]}
    if any(epsilon(events, privacy.delta) > privacy.epsilon + 1e-6 for events in spent):
        raise SystemExit(f"more than epsilon {privacy.epsilon:g} was spent")
    noise = algorithm.noise_in_clips(given, shown[0].start.size) if privacy.of_prompts else 0.0
    closed = np.mean([np.array_equal(prompt[-1], shown[0].start) for prompt in prompts])
    values = {"own": accuracy["own"].mean(), "domain": accuracy["own_domain"].mean(), "closed": 100 * closed}
    return {key: float(value) for key, value in {**values, "noise": noise}.items()}


def fill(cells: dict[str, dict[str, float]], given: argparse.Namespace, members: int, seed: int) -> None:
    """Measure what `cells` does not have of so many clients and a seed."""
    rows = {
        f"{members} {seed} {name} {row}": (algorithm, row)
        for name in given.methods
        for row, algorithm in rows_of(name, given, members).items()
    }
    missing = {key: found for key, found in rows.items() if key not in cells}
    if not missing:
        return
    data, contexts = clients_of(members, given.images, seed, next(iter(missing.values()))[0])
    for key, (algorithm, row) in missing.items():
        cells[key] = measured(contexts, data, algorithm, sorted(contexts)[: given.measured], row in ("alone", "start"))
        if given.cells:
            with given.cells.open("a") as file:
                file.write(json.dumps({key: cells[key]}) + "\n")


def show(cells: Mapping[str, Mapping[str, float]], given: argparse.Namespace, members: int) -> None:
    """The table of so many clients, of the seeds that have all of a row and its floor."""
    names = [(name, row) for name in given.methods for row in rows_of(name, given, members)]
    print(f"\n{members} clients, seeds {' '.join(map(str, given.seeds))}")
    print(f"{'':20}{'epsilon':>9}{'own':>8}{'domain':>8}{'closed':>8}{'noise':>8}{'to start':>16}")
    for name, row in names:
        found = [cells[f"{members} {seed} {name} {row}"] for seed in given.seeds]
        values = {key: float(np.mean([cell[key] for cell in found])) for key in found[0]}
        floors = [cells.get(f"{members} {seed} {name} start", found[i]) for i, seed in enumerate(given.seeds)]
        less = [cell["domain"] - floor["domain"] for cell, floor in zip(found, floors, strict=True)]
        error = np.std(less, ddof=1) / len(less) ** 0.5 if len(less) > 1 else float("nan")
        print(
            f"{name:20}{row:>9}{values['own']:8.1f}{values['domain']:8.1f}{values['closed']:7.0f}%"
            f"{values['noise']:8.2f}{np.mean(less):+10.1f} +-{error:4.1f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", nargs="+", type=int, default=[5, 20, 50, 200, 1000])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--epsilons", nargs="+", type=float, default=[8, 4, 2, 1])
    parser.add_argument("--floors", nargs="+", default=list(FLOORS), choices=FLOORS)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--methods", nargs="+", default=["secfpp+client_dp"], choices=list(METHODS))
    parser.add_argument("--measured", type=int, default=50)
    parser.add_argument("--cells", type=Path)
    given = parser.parse_args()
    cells: dict[str, dict[str, float]] = {}
    if given.cells and given.cells.exists():
        cells = {key: cell for line in given.cells.open() for key, cell in json.loads(line).items()}
    with tempfile.TemporaryDirectory() as ledgers:
        os.environ[VARIABLE] = ledgers
        for members in given.members:
            for seed in given.seeds:
                fill(cells, given, members, seed)
            show(cells, given, members)


if __name__ == "__main__":
    main()
