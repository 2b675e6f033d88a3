"""Attacks on a finished run: what its directory holds is attacked, nothing is trained anew.

The unit of work is one method on one seed; what was said of it is kept in ``parts/METHOD/SEED.safetensors``, so that an
attack that was stopped goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError

from secfpp.errors import ConfigError, DataError, Problem
from secfpp.experiment.audit.make import FORMAT, part_file
from secfpp.experiment.audit.rows import REFUTED, Key, Part, pooled, property_rows, rows
from secfpp.experiment.audit.work import claim_of
from secfpp.experiment.results.cells import FinishedCell
from secfpp.experiment.results.run_directory import RunDirectory, git_revision, versions
from secfpp.experiment.run.result_files import known_algorithm, read_cells, stored_plan
from secfpp.experiment.run.training import load_dataset
from secfpp.experiment.spec.config import load_config
from secfpp.experiment.spec.plan import Cell, Plan
from secfpp.experiment.spec.schema import one_of
from secfpp.models.devices import computed_on
from secfpp.seeding import derive
from secfpp.storage import read_record, write_record

if TYPE_CHECKING:
    from secfpp.algorithms.base import FederatedAlgorithm
    from secfpp.data.federated import FederatedDataset
    from secfpp.models.backbone import Backbone

CONTROL = "start prompt for "
"""How the adversary is called who makes the same attack on the public start prompt."""


def attack_run(
    directory: RunDirectory,
    labels: Sequence[str],
    seeds: Sequence[int],
    tell: Callable[[str], None],
    *,
    again: bool = False,
) -> dict[str, Any]:
    """Attack what a finished run left, or go on with that; returns the content of ``audit.json``.

    Args:
        directory: of the run.
        labels: methods; all that were trained if empty.
        seeds: of the run; all if empty.
        tell: told what is being done.
        again: attack also what was attacked before.

    Raises:
        ConfigError: methods or seeds that the run has not, or that were not trained.
        DataError: the run is not finished, a file cannot be read, model or data are not those of the run, or all
            clients have too few images.
    """
    from secfpp.attacks.finished import LEAST_PAIRS
    from secfpp.models.backbone import load_backbone
    from secfpp.runtime.contexts import dataset_digest

    plan = stored_plan(directory)
    chosen, cells = _chosen(plan, labels, seeds)
    config = load_config(directory.path / "config.toml")
    tell("reading the results")
    finished = read_cells(directory, plan, cells)
    if missing := [str(cell) for cell in cells if cell not in finished]:
        raise DataError(
            f"{directory.path}: not finished: {'; '.join(missing)}. Go on with the run first, or name what is finished "
            "with --methods or --seeds"
        )
    parts, model = dict[Cell, Part](), config.backbone
    tell(f"loading the model {model.name!r}")
    backbone = load_backbone(
        model.name, device=model.device, threads=model.threads, dtype=model.dtype, compile=model.compile
    )
    if backbone.spec.digest != plan.settings["backbone"]["digest"]:
        raise DataError(f"the model {model.name!r} is not the one of the run: give back the one it was trained with")
    for seed in sorted({cell.seed for cell in cells}):
        of_seed = [cell for cell in cells if cell.seed == seed]
        found = (
            {} if again else {cell: _read(directory.path, cell, _identity(plan, cell, finished)) for cell in of_seed}
        )
        parts |= {cell: part for cell, part in found.items() if part is not None}
        if all(cell in parts for cell in of_seed):
            continue
        tell(f"loading the data set {config.data.name!r}, seed {seed}")
        dataset = load_dataset(config, seed)
        if any(finished[cell].data != dataset_digest(dataset) for cell in of_seed):
            raise DataError(f"seed {seed}: the data are not those of the run: give them back as they were")
        for cell in (cell for cell in of_seed if cell not in parts):
            tell(f"{cell}: attacking")
            part = attacked(finished[cell], chosen[cell.method], dataset, backbone)
            if not part.names:
                raise DataError(
                    f"{cell}: no client has {LEAST_PAIRS} training images each with a test image of its class: "
                    "more test images are needed"
                )
            identity = _identity(plan, cell, finished)
            about = {"format": FORMAT, **part.about(), "identity": identity}
            write_record(part_file(directory.path, cell), part.arrays(), about)
            parts[cell] = part
    summary = {
        "format": FORMAT,
        "of": "run",
        "dataset": config.data.name,
        "backbone": model.name,
        "rounds": config.rounds,
        "seeds": sorted({cell.seed for cell in cells}),
        "targets": list(chosen),
        "clients": max(part.clients for part in parts.values()),
        "left_out": {str(cell): part.clients - len(part.names) for cell, part in parts.items()},
        "missing": [],
        "rows": run_rows({cell: parts[cell] for cell in cells}, chosen),
        "thefts": [],
        "inversions": [],
        "properties": property_rows(parts, chosen),
        "versions": versions() | computed_on(model.device, model.dtype, model.compile),
        "git": git_revision(),
    }
    write_pages(directory, summary)
    return summary


def write_pages(directory: RunDirectory, summary: Mapping[str, Any]) -> None:
    """Write ``audit.json`` and ``audit.html``."""
    from secfpp.experiment.audit.page import render_audit

    directory.write_json("audit.json", summary)
    directory.write("audit.html", render_audit(summary))


def attacked(
    finished: FinishedCell, algorithm: FederatedAlgorithm, dataset: FederatedDataset, backbone: Backbone
) -> Part:
    """What all attacks say of one method on one seed; of no client if all have too few images."""
    from secfpp.attacks.finished import Left
    from secfpp.runtime.contexts import make_contexts

    result = finished.result
    contexts = make_contexts(dataset, backbone, algorithm, result.seed)
    left = Left(result, algorithm, {name: contexts[name] for name in result.clients}, dataset.test)
    names, inside = list[str](), list[np.ndarray]()
    scores: dict[Key, list[np.ndarray]] = {}
    whose: dict[Key, list[int]] = {}
    for client, members, told in left.scored(result.seed):
        for one in told:
            for adversary, values in ((one.adversary, one.scores), (CONTROL + one.adversary, one.control)):
                key = Key(one.attack, adversary, one.seen)
                scores.setdefault(key, []).append(values)
                whose.setdefault(key, []).append(len(names))
        names.append(client)
        inside.append(members)
    return Part(
        tuple(names),
        inside,
        scores,
        whose,
        dict.fromkeys(scores, False),
        len(result.clients),
        [],
        claim_of(result.privacy) if result.privacy else None,
        properties=[asdict(one) for one in left.properties()],
    )


def run_rows(parts: Mapping[Cell, Part], chosen: Mapping[str, FederatedAlgorithm]) -> list[dict[str, Any]]:
    """Rows of `secfpp.experiment.audit.rows.rows` with their ``control`` and how much better the attack is: ``gain``.

    Members are told where the attack is better than the same one on the start prompt, and than chance.
    """
    from secfpp.attacks.statistics import auc_gain_interval

    every = {(row["target"], *(row[name] for name in Key._fields)): row for row in rows(parts, chosen)}
    found = []
    for (target, *words), row in every.items():
        key = Key(*words)
        control = key._replace(adversary=CONTROL + key.adversary)
        if (other := every.get((target, *control))) is None:
            continue
        of = {cell.seed: part for cell, part in parts.items() if cell.method == target}
        gains = auc_gain_interval(pooled(key, of)[0], pooled(control, of)[0], derive(0, target, *key))
        tells = gains[0] > 0 and row["auc_ci95"][0] > 0.5
        row["control"] = {name: other[name] for name in ("auc", "auc_ci95")}
        row |= {"gain": row["auc"] - other["auc"], "gain_ci95": list(gains), "reference": None}
        if row["verdict"] != REFUTED:
            row["verdict"] = "tells members" if tells else "nothing found"
        found.append(row)
    return found


def _chosen(
    plan: Plan, labels: Sequence[str], seeds: Sequence[int]
) -> tuple[dict[str, FederatedAlgorithm], list[Cell]]:
    """The methods that are attacked, and their cells."""
    known = {label: known_algorithm(table) for label, table in plan.methods.items()}
    problems = [
        Problem("--methods", label, one_of(label, known, "method of this run"))
        for label in labels
        if label not in known
    ]
    have = sorted({seed for of in plan.seeds.values() for seed in of})
    allowed = f"one of this run's: {', '.join(map(str, have))}"
    problems += [Problem("--seeds", seed, allowed) for seed in seeds if seed not in have]
    if problems:
        raise ConfigError(problems)
    chosen = {}
    for label in labels or known:
        algorithm = known[label]
        if algorithm is None:
            raise DataError(f"{label}: this installation has no such method: attack it with the one that trained it")
        if algorithm.trained:
            chosen[label] = algorithm
        elif labels:
            problems.append(Problem("--methods", label, "trains nothing, so that there is nothing to attack"))
    if problems or not chosen:
        raise ConfigError(problems or [Problem("--methods", ", ".join(known), "one that trains something, at least")])
    cells = [cell for cell in plan.cells if cell.method in chosen and (not seeds or cell.seed in seeds)]
    if not cells:
        raise ConfigError([Problem("--seeds", ", ".join(map(str, seeds)), "of no method that is attacked")])
    return chosen, cells


def _identity(plan: Plan, cell: Cell, finished: Mapping[Cell, FinishedCell]) -> dict[str, Any]:
    of = finished[cell]
    return {**plan.identity(cell), "of": "run", "data": of.data, "seconds": of.result.seconds}


def _read(folder: Path, cell: Cell, identity: Mapping[str, Any]) -> Part | None:
    """What was said before of this very result; None if nothing that can be read."""
    path = part_file(folder, cell)
    if not path.exists():
        return None
    try:
        arrays, about = read_record(path, FORMAT)
        return Part.of(arrays, about) if about["identity"] == identity else None
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return None
