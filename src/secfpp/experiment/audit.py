"""The audit of a config: each target is run on halves of its clients' images, attacked, and what came of it kept.

The unit of work is one target on one seed: its scores are kept in ``parts/TARGET/SEED.safetensors``. While one is
worked on, the shadow prompts of each finished client lie in ``shadows/``. A stopped audit goes on from both.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError

from secfpp.errors import ConfigError, DataError, Problem
from secfpp.experiment.audit_rows import Claim, Key, Part, inversion_rows, property_rows, rows, theft_rows
from secfpp.experiment.config import ExperimentConfig, to_toml
from secfpp.experiment.plan import Cell, Plan
from secfpp.experiment.run_directory import RunDirectory, git_revision, path_part, versions
from secfpp.experiment.training import load_dataset
from secfpp.experiment.variants import KNOWN
from secfpp.seeding import derive
from secfpp.storage import read_record, write_record

if TYPE_CHECKING:
    from secfpp.algorithms.base import FederatedAlgorithm
    from secfpp.attacks.game import Game
    from secfpp.attacks.gathering import Victim
    from secfpp.models.backbone import Backbone

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
    """

    targets: tuple[str, ...]
    shadows: int = 64
    victims: int = 0
    shadow_dtype: str = "bfloat16"

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
        """The same with fewer shadow prompts and clients."""
        return replace(self, shadows=min(self.shadows, QUICK_SHADOWS), victims=QUICK_VICTIMS)


def default_targets(config: ExperimentConfig) -> tuple[str, ...]:
    """The unprotected ones, the config's method, and that with a server that sees everything, if there is such."""
    name = config.method.name
    twin = f"{name}+clear"
    return tuple(dict.fromkeys((*UNPROTECTED, *([twin] if twin in {*KNOWN, *config.variants} else []), name)))


@dataclass
class Pace:
    """How much work is done and left, and what it took: one unit is one client of one target on one seed.

    Attributes:
        total: units of this audit, in so many `cells`: targets on seeds.
        done: units that are done, those of earlier sessions counted too.
        fresh: units whose shadow prompts this session trained, and `seconds` that this took.
        runs: targets that this session ran, each on a seed, and `running`, the seconds that this took.
        attacked: units that it attacked, and `attacking`, the seconds that this took.
    """

    total: int
    cells: int = 1
    done: int = 0
    fresh: int = 0
    seconds: float = 0.0
    running: float = 0.0
    runs: int = 0
    attacking: float = 0.0
    attacked: int = 0

    def left(self) -> float | None:
        """Seconds that the rest will take, at most: some shadows may be kept; None while nothing is known."""
        if not self.fresh or not self.runs:
            return None
        attack = self.attacking / self.attacked if self.attacked else 0.0
        run = self.running / self.runs * self.cells / self.total
        return (self.seconds / self.fresh + attack + run) * (self.total - self.done)


Tell = Callable[[str, Pace], None]
"""Told what is being done, and the pace."""


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
    backbone = load_backbone(model.name, device=model.device, threads=model.threads, dtype=model.dtype)
    fast = load_backbone(model.name, device=model.device, dtype=audit.shadow_dtype)
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
            part = _attack(config, cell, chosen[cell.method], game, (backbone, fast), audit, directory.path, pace, tell)
            write_record(
                _file(directory.path, cell),
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
    from secfpp.experiment.audit_page import render_audit

    clients = max((part.clients for part in parts.values()), default=0)
    summary = {
        "format": FORMAT,
        "dataset": config.data.name,
        "backbone": config.backbone.name,
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
        "versions": versions(),
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


def victims_of(game: Game, count: int) -> list[str]:
    """At least `count` clients, whole true groups in the order of the data; all for 0."""
    found: list[str] = []
    for group in game.dataset.groups:
        if count and len(found) >= count:
            break
        found += [client.name for client in game.dataset.clients if client.true_group == group]
    return sorted(found)


def _trained(config: ExperimentConfig, audit: Audit) -> dict[str, FederatedAlgorithm]:
    chosen = config.choose(audit.targets)
    idle = [label for label, algorithm in chosen.items() if not algorithm.planned(config.rounds)]
    problems = [Problem("--targets", label, "trains nothing, so that there is nothing to attack") for label in idle]
    for label, algorithm in chosen.items():
        if (privacy := getattr(algorithm, "privacy", None)) is not None and (privacy.of_steps or privacy.central):
            allowed = (
                f"of another privacy.mechanism than {privacy.mechanism}: no shadows are trained under its noise yet"
            )
            problems.append(Problem("--targets", label, allowed))
    if problems:
        raise ConfigError(problems)
    return chosen


def _attack(
    config: ExperimentConfig,
    cell: Cell,
    algorithm: FederatedAlgorithm,
    game: Game,
    models: tuple[Backbone, Backbone],
    audit: Audit,
    folder: Path,
    pace: Pace,
    tell: Tell,
) -> Part:
    """Run a target, train its shadow prompts, and make every attack."""
    from secfpp.attacks.adversaries import all_told
    from secfpp.attacks.gathering import Shadows, Victim
    from secfpp.attacks.inversion import recovered
    from secfpp.attacks.observed import observe
    from secfpp.attacks.properties import properties
    from secfpp.attacks.stealing import thefts
    from secfpp.attacks.trilateration import by_distances

    backbone, fast = models

    def on_round(number: int, rounds: int) -> None:
        tell(f"{cell}: running, round {number}/{rounds}", pace)

    tell(f"{cell}: running", pace)
    started = time.perf_counter()
    ledger = folder / "ledgers" / path_part(cell.method) / f"{cell.seed}.jsonl"
    run = observe(
        game.dataset,
        backbone,
        algorithm,
        seed=cell.seed,
        rounds=config.rounds,
        ledger=ledger,
        on_round=on_round,
    )
    pace.running, pace.runs = pace.running + time.perf_counter() - started, pace.runs + 1
    shadows = Shadows(audit.shadows, fast, folder / "shadows")
    names = victims_of(game, audit.victims)
    victims: dict[str, Victim] = {name: Victim(run, game, name, cell.seed, shadows) for name in names}
    for number, victim in enumerate(victims.values(), 1):
        tell(f"{cell}: shadow prompts of {victim.client}, {number} of {len(victims)} clients", pace)
        started = time.perf_counter()
        if victim.prepare():
            pace.seconds, pace.fresh = pace.seconds + time.perf_counter() - started, pace.fresh + 1
        pace.done += 1
    tell(f"{cell}: attacking", pace)
    started = time.perf_counter()
    scores: dict[Key, list[np.ndarray]] = {}
    whose: dict[Key, list[int]] = {}
    exposed: dict[Key, bool] = {}
    for number, victim in enumerate(victims.values()):
        for told in all_told(victim, victims):
            key = Key(told.attack, told.adversary, told.seen)
            scores.setdefault(key, []).append(told.scores)
            whose.setdefault(key, []).append(number)
            exposed[key] = exposed.get(key, True) and told.exposed
    inside = [victim.inside for victim in victims.values()]
    stolen = thefts(run, names, game.dataset.test, derive(cell.seed, "thefts"))
    inverted = recovered(list(victims.values()))
    pace.attacking, pace.attacked = pace.attacking + time.perf_counter() - started, pace.attacked + len(names)
    return Part(
        tuple(names),
        inside,
        scores,
        whose,
        exposed,
        len(run.contexts),
        sorted(map(len, run.groups)),
        claim_of(run.privacy),
        thefts=[[asdict(theft) for theft in stolen[name]] for name in names],
        inversions=[[asdict(one) for one in inverted[name]] for name in names],
        properties=[asdict(one) for one in (*properties(run), by_distances(run, cell.seed)) if one is not None],
    )


def claim_of(privacy: Mapping[str, Any]) -> Claim | None:
    """What a run claims of one image, from `secfpp.runtime.privacy.figures`; None if that is infinite or nothing.

    An image is the change from one contribution of its client to another: with zeros between, two steps.
    """
    epsilon = privacy.get("epsilon")
    if epsilon is None:
        return None
    if privacy["unit"] == "client":
        return Claim(2 * epsilon, min(1.0, (1 + math.exp(epsilon)) * privacy["delta"]))
    return Claim(float(epsilon), float(privacy["delta"]))


def _identity(plan: Plan, cell: Cell, audit: Audit) -> dict[str, Any]:
    table = {name: value for name, value in asdict(audit).items() if name != "targets"}
    return {**plan.identity(cell), **table}


def _file(folder: Path, cell: Cell) -> Path:
    return folder / "parts" / path_part(cell.method) / f"{cell.seed}.safetensors"


def _read(folder: Path, cell: Cell, identity: Mapping[str, Any]) -> Part | None:
    path = _file(folder, cell)
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


__all__: Sequence[str] = ("Audit", "Pace", "default_targets", "run_audit", "victims_of")
