"""The audit of a config: each target is run on halves of its clients' images, attacked, and what came of it kept.

The unit of work is one target on one seed: its scores are kept in ``parts/TARGET/SEED.safetensors``. While one is
worked on, the shadow prompts of each finished client lie in ``shadows/``. A stopped audit goes on from both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from secfpp.errors import ConfigError, DataError, Problem
from secfpp.experiment.audit.rows import Part, inversion_rows, property_rows, rows, theft_rows
from secfpp.experiment.audit.work import Pace, Tell, attack_target, victims_of
from secfpp.experiment.results.run_directory import RunDirectory, git_revision, path_part, versions
from secfpp.experiment.run.training import load_dataset
from secfpp.experiment.spec.config import ExperimentConfig, to_toml
from secfpp.experiment.spec.plan import Cell, Plan
from secfpp.experiment.spec.variants import KNOWN
from secfpp.models.devices import computed_on
from secfpp.storage import read_record, write_record

if TYPE_CHECKING:
    from secfpp.algorithms.base import FederatedAlgorithm

FORMAT = "secfpp-audit-1"
UNPROTECTED = ("promptfl", "coop_local")
"""Targets on which attacks have to work, or what they find on others means nothing."""
QUICK_SHADOWS, QUICK_VICTIMS = 16, 5


@dataclass(frozen=True)
class Audit:
    """What is attacked, and how hard.

    Attributes:
        targets: labels of methods and variants.
        shadows: shadow prompts of each client and target, an even number; authors advise 64 or more.
        victims: clients that are attacked, at least so many, whole true groups; 0 for all.
        shadow_dtype: number type in which shadow prompts are trained.
        differencing: whether to run each target a second time, with clients away in turn, and attack that too.
    """

    targets: tuple[str, ...]
    shadows: int = 64
    victims: int = 0
    shadow_dtype: str = "bfloat16"
    differencing: bool = True

    def __post_init__(self) -> None:
        problems = []
        if self.shadows < 4 or self.shadows % 2:
            allowed = "an even number from 4 on, so that every image is in half of them"
            problems.append(Problem("--shadows", self.shadows, allowed))
        if self.victims < 0:
            problems.append(Problem("--victims", self.victims, "a number of clients, or 0 for all"))
        if self.shadow_dtype not in ("float32", "bfloat16"):
            problems.append(Problem("--shadow-dtype", self.shadow_dtype, "float32 or bfloat16"))
        if not self.targets:
            problems.append(Problem("--targets", "", "at least one method"))
        if problems:
            raise ConfigError(problems)

    @property
    def quick(self) -> Audit:
        """The same with fewer shadow prompts and clients, and one run of each target."""
        return replace(self, shadows=min(self.shadows, QUICK_SHADOWS), victims=QUICK_VICTIMS, differencing=False)


def default_targets(config: ExperimentConfig) -> tuple[str, ...]:
    """The unprotected ones, the config's method, and that with a server that sees everything, if there is such."""
    name = config.method.name
    twin = f"{name}+clear"
    return tuple(dict.fromkeys((*UNPROTECTED, *([twin] if twin in {*KNOWN, *config.variants} else []), name)))


def run_audit(config: ExperimentConfig, audit: Audit, directory: RunDirectory, tell: Tell) -> dict[str, Any]:
    """Make an audit, or go on with it; returns the content of ``audit.json``.

    Args:
        config: of the experiment; its seeds are the audit's.
        audit: what is attacked.
        directory: where results go.
        tell: told what is being done.

    Raises:
        ConfigError: unknown targets, ones that learn nothing, or settings that model or data refuse.
        DataError: data that cannot be used, clients with too few images, or parts that belong to another audit.
        DiskFullError: there is no room for what is to be kept.
    """
    from secfpp.attacks.game import Game
    from secfpp.models.backbone import load_backbone

    chosen = _trained(config, audit)
    if config.participation < 1 or config.held_out:
        allowed = "1 and no clients held out: an audit follows every client through every round"
        raise ConfigError([Problem("participation", config.participation, allowed)])
    model = config.backbone
    pace = Pace(0)
    tell(f"loading the model {model.name!r}", pace)
    backbone = load_backbone(
        model.name, device=model.device, threads=model.threads, dtype=model.dtype, compile=model.compile
    )
    fast = load_backbone(model.name, device=model.device, dtype=audit.shadow_dtype, compile=model.compile)
    plan = Plan.of(config, chosen, backbone.spec.digest)
    tell(f"loading the data set {config.data.name!r}", pace)
    first = Game.deal(load_dataset(config, config.seeds[0]), config.seeds[0])
    names = victims_of(first, audit.victims)
    pace.cells = len(config.seeds) * len(chosen)
    pace.total = pace.cells * len(names)
    parts: dict[Cell, Part] = {}
    for cell in plan.cells:  # before anything changes
        if (found := _read(directory.path, cell, _identity(plan, cell, audit))) is not None:
            parts[cell], pace.done = found, pace.done + len(names)
    directory.start(to_toml(config), {"audit": {**asdict(audit), "seeds": list(config.seeds)}})
    for seed in config.seeds:
        cells = [cell for cell in plan.cells if cell.seed == seed and cell not in parts]
        if not cells:
            continue
        game = first if seed == config.seeds[0] else Game.deal(load_dataset(config, seed), seed)
        for cell in cells:
            part = attack_target(
                config, cell, chosen[cell.method], game, (backbone, fast), audit, directory.path, pace, tell
            )
            write_record(
                part_file(directory.path, cell),
                part.arrays(),
                {"format": FORMAT, **part.about(), "identity": _identity(plan, cell, audit)},
            )
            parts[cell] = part
            write_summary(config, audit, chosen, parts, plan, directory, pace)
    tell("comparing", pace)
    summary = write_summary(config, audit, chosen, parts, plan, directory, pace)
    for left_over in (directory.path / "shadows").glob("*.safetensors"):
        left_over.unlink()
    directory.mark("finished")
    return summary


def write_summary(
    config: ExperimentConfig,
    audit: Audit,
    chosen: Mapping[str, FederatedAlgorithm],
    parts: Mapping[Cell, Part],
    plan: Plan,
    directory: RunDirectory,
    pace: Pace,
) -> dict[str, Any]:
    """Write ``audit.json`` and ``audit.html`` from what there is."""
    from secfpp.experiment.audit.page import render_audit

    model = config.backbone
    clients = max((part.clients for part in parts.values()), default=0)
    summary = {
        "format": FORMAT,
        "of": "audit",
        "dataset": config.data.name,
        "backbone": model.name,
        "rounds": config.rounds,
        "seeds": list(config.seeds),
        **asdict(audit),
        "targets": list(chosen),
        "clients": clients,
        "missing": [str(cell) for cell in plan.cells if cell not in parts],
        "rows": rows(parts, chosen),
        "thefts": theft_rows(parts, chosen),
        "inversions": inversion_rows(parts, chosen),
        "properties": property_rows(parts, chosen),
        "full_seconds": full_seconds(pace, audit, len(chosen), clients),
        "versions": versions() | computed_on(model.device, model.dtype, model.compile),
        "git": git_revision(),
    }
    directory.write_json("audit.json", summary)
    directory.write("audit.html", render_audit(summary))
    return summary


def full_seconds(pace: Pace, audit: Audit, targets: int, clients: int) -> float | None:
    """What an audit of all clients with 64 shadow prompts would take a seed, from this session's pace."""
    if not pace.fresh or not pace.attacked:
        return None
    client = pace.seconds / pace.fresh * 64 / audit.shadows + pace.attacking / pace.attacked
    return targets * (clients * client + pace.running / pace.runs)


def _trained(config: ExperimentConfig, audit: Audit) -> dict[str, FederatedAlgorithm]:
    chosen = config.choose(audit.targets)
    idle = [label for label, algorithm in chosen.items() if not algorithm.planned(config.rounds)]
    problems = [Problem("--targets", label, "trains nothing, so that there is nothing to attack") for label in idle]
    for label, algorithm in chosen.items():
        if (privacy := getattr(algorithm, "privacy", None)) is not None and privacy.central:
            allowed = (
                f"of another privacy.mechanism than {privacy.mechanism}: no shadows are trained under its noise yet"
            )
            problems.append(Problem("--targets", label, allowed))
        if algorithm.predictor.patches:
            allowed = "a method that sees an image as one feature: shadows are trained on these, not on patches"
            problems.append(Problem("--targets", label, allowed))
    if problems:
        raise ConfigError(problems)
    return chosen


def _identity(plan: Plan, cell: Cell, audit: Audit) -> dict[str, Any]:
    table = {name: value for name, value in asdict(audit).items() if name != "targets"}
    return {**plan.identity(cell), **table}


def part_file(folder: Path, cell: Cell) -> Path:
    """Where it is kept what attacks said of a target on a seed."""
    return folder / "parts" / path_part(cell.method) / f"{cell.seed}.safetensors"


def _read(folder: Path, cell: Cell, identity: Mapping[str, Any]) -> Part | None:
    path = part_file(folder, cell)
    if not path.exists():
        return None
    try:
        arrays, about = read_record(path, FORMAT)
        part, found = Part.of(arrays, about), about["identity"]
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error}): delete it to attack this target again") from error
    if found != identity:
        raise DataError(f"{path} is of an audit with other settings: choose another --out, or start over with --force")
    return part


__all__: Sequence[str] = ("Audit", "Pace", "Tell", "default_targets", "run_audit", "victims_of")
