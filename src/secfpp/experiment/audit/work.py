"""The work of an audit on one target and one seed: run it, train its shadow prompts, and make every attack."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from secfpp.experiment.audit.rows import Claim, Key, Part
from secfpp.experiment.results.run_directory import path_part
from secfpp.experiment.spec.config import ExperimentConfig
from secfpp.experiment.spec.plan import Cell
from secfpp.seeding import derive

if TYPE_CHECKING:
    from secfpp.algorithms.base import FederatedAlgorithm
    from secfpp.attacks.game import Game
    from secfpp.attacks.gathering import Victim
    from secfpp.experiment.audit.make import Audit
    from secfpp.models.backbone import Backbone


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


def victims_of(game: Game, count: int) -> list[str]:
    """At least `count` clients, whole true groups in the order of the data; all for 0."""
    found: list[str] = []
    for group in game.dataset.groups:
        if count and len(found) >= count:
            break
        found += [client.name for client in game.dataset.clients if client.true_group == group]
    return sorted(found)


def attack_target(
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
    from secfpp.attacks.adversaries import DIFFERENCE, MEMBER, Told, all_told
    from secfpp.attacks.differencing import absences, away, by_absence
    from secfpp.attacks.gathering import Shadows, Victim
    from secfpp.attacks.inversion import recovered
    from secfpp.attacks.likelihood import ATTACKS
    from secfpp.attacks.observed import observe
    from secfpp.attacks.properties import properties
    from secfpp.attacks.stealing import thefts
    from secfpp.attacks.trilateration import by_distances
    from secfpp.attacks.views import uploads

    backbone, fast = models

    doing = "running"

    def on_round(number: int, rounds: int) -> None:
        tell(f"{cell}: {doing}, round {number}/{rounds}", pace)

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

    def note(told: Told, number: int) -> None:
        key = Key(told.attack, told.adversary, told.seen)
        scores.setdefault(key, []).append(told.scores)
        whose.setdefault(key, []).append(number)
        exposed[key] = exposed.get(key, True) and told.exposed

    for number, victim in enumerate(victims.values()):
        for told in all_told(victim, victims):
            note(told, number)
    inside = [victim.inside for victim in victims.values()]
    stolen = thefts(run, names, game.dataset.test, derive(cell.seed, "thefts"))
    inverted = recovered(list(victims.values()))
    pace.attacking, pace.attacked = pace.attacking + time.perf_counter() - started, pace.attacked + len(names)
    every = list(names)
    if audit.differencing and (absent := absences(run)):
        doing, started = "running again, with clients away in turn", time.perf_counter()
        again = ledger.with_name(f"{cell.seed}-away.jsonl")
        second = observe(
            game.dataset,
            backbone,
            algorithm,
            seed=cell.seed,
            rounds=config.rounds,
            ledger=again,
            on_round=on_round,
            dropouts=away(absent),
        )
        pace.running += time.perf_counter() - started
        for name, round_ in absent.items():
            victim = Victim(second, game, name, cell.seed, shadows)
            if (difference := by_absence(victim, round_)) is not None:
                every.append(name)
                inside.append(victim.inside)
                plain = any(not upload.sealed for upload in uploads(second, name))
                for attack, made in ATTACKS.items():
                    note(Told(attack, MEMBER, DIFFERENCE, plain, made(difference)), len(every) - 1)
    return Part(
        tuple(every),
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
