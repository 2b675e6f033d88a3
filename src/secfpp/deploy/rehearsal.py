"""A run at home before anybody travels: sites of a simulated data set on this machine, and what came of it.

A site computes alone what it would compute beside others, so the end is compared with a simulation in one process, bit
by bit.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from secfpp.crypto.roster import Roster
from secfpp.deploy.agreed import Agreed
from secfpp.deploy.agreeing import agreed_from, pixels_of
from secfpp.deploy.children import ChildrenTransport
from secfpp.deploy.names import AGREED, RESULTS
from secfpp.deploy.results import SUMMARY, write_results
from secfpp.deploy.server_process import Progress, run_at_sites
from secfpp.deploy.site_file import SiteData
from secfpp.deploy.site_folder import ROSTER, SiteFolder
from secfpp.errors import ConfigError, MissingExtraError, Problem
from secfpp.experiment.run.training import load_dataset
from secfpp.experiment.spec.config import ExperimentConfig
from secfpp.experiment.spec.schema import dump
from secfpp.models.backbone import load_backbone
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientId, ClientState
from secfpp.runtime.costs import Costs
from secfpp.runtime.in_process import Dropouts, InProcessDriver
from secfpp.runtime.spoiled_rounds import run_round
from secfpp.secure.session import parties_in_memory

Told = Callable[[str], None]


@dataclass(frozen=True)
class Rehearsal:
    """Sites that are ready, and what they agreed to.

    Attributes:
        root: folder of all of it.
        agreed: the run.
        sites: client to its site.
    """

    root: Path
    agreed: Agreed
    sites: Mapping[ClientId, SiteFolder]

    @property
    def roster(self) -> Path:
        """The roster's file."""
        return self.root / ROSTER

    @property
    def results(self) -> Path:
        """Where the server's results go."""
        return self.root / RESULTS


@dataclass(frozen=True)
class Played:
    """What a rehearsal came to.

    Attributes:
        seconds: of all rounds, at the sites.
        simulated: of all rounds, in one process.
        exchanges: of the protocol.
        median: seconds of an exchange.
        differ: slots of sites' states that are not those of the simulation, as ``SITE: SLOT``.
        costs_differ: whether messages or bytes are other ones.
        summary: what the server knows at the end.
    """

    seconds: float
    simulated: float
    exchanges: int
    median: float
    differ: tuple[str, ...]
    costs_differ: bool
    summary: Mapping[str, Any]


def prepare(root: Path, config: ExperimentConfig, count: int, method: str = "", deadline: float = 60.0) -> Rehearsal:
    """Make `count` sites with their keys and roster, each with one client's images, which agree to the config's run.

    Args:
        root: a folder, empty or not there yet.
        config: method, rounds, model and data.
        count: sites; the data set's first clients.
        method: label of a method or variant; the config's own by default.
        deadline: seconds that a site has for an answer.

    Raises:
        ConfigError: a folder that is not empty, a number of sites that data or method do not have, or settings that no
            deployed run can have.
    """
    if root.exists() and any(root.iterdir()):
        raise ConfigError([Problem("--out", str(root), "an empty folder, or one that is not there yet")])
    (seed,) = config.seeds if len(config.seeds) == 1 else (config.seeds[0],)
    backbone = load_backbone(config.backbone.name, device=config.backbone.device)
    dataset = load_dataset(config, seed)
    names = [client.name for client in dataset.clients][:count]
    if len(names) < max(count, 2):
        allowed = f"2 to {len(dataset.clients)}, the clients of the data set {config.data.name!r}"
        raise ConfigError([Problem("--sites", count, allowed)])
    data = SiteData(dataset=config.data.name, settings=dump(config.data.settings))
    sites = {name: SiteFolder.create(root / "sites" / name, name, data, config.backbone.name) for name in names}
    roster = Roster("rehearsal", 1, {name: site.identity.public for name, site in sites.items()})
    about = (replace(config, seeds=(seed,)), roster, dataset.classes, dataset.template, backbone.spec.digest)
    agreed = agreed_from(*about, method=method, deadline=deadline, **pixels_of(dataset))
    roster.save(root / ROSTER)
    agreed.save(root / AGREED)
    for site in sites.values():
        site.know(dataset, backbone, agreed)
        site.agree(agreed, roster)
    return Rehearsal(root, agreed, sites)


def play(rehearsal: Rehearsal, engine: str, told: Told) -> Played:
    """Run it on an engine, and in this process, and compare.

    Args:
        rehearsal: a prepared one.
        engine: one of `ENGINES`, see `require_engine`.
        told: given a line for each thing that happens.

    Raises:
        SecFPPError: the run failed.
    """
    states, costs, simulated = simulate(rehearsal)
    told(f"in one process: {simulated:.1f} s")
    ENGINES[engine](rehearsal, told)
    summary: dict[str, Any] = json.loads((rehearsal.results / SUMMARY).read_bytes())
    exchanges = summary["exchange_seconds"]
    return Played(
        summary["seconds"],
        simulated,
        summary["costs"]["exchanges"],
        statistics.median(exchanges) if exchanges else float("nan"),
        differing(rehearsal, states),
        _counted(costs.as_dict()) != _counted(summary["costs"]),
        summary,
    )


def simulate(
    rehearsal: Rehearsal, dropouts: Dropouts | None = None
) -> tuple[dict[ClientId, ClientState], Costs, float]:
    """The same run in this process, one client at a time: states, costs, seconds; for `dropouts` see the driver."""
    agreed = rehearsal.agreed
    algorithm = agreed.algorithm
    parties = parties_in_memory(rehearsal.sites)
    contexts = {
        name: replace(site.context(agreed), party=parties[name]) for name, site in sorted(rehearsal.sites.items())
    }
    driver = InProcessDriver(
        algorithm,
        contexts,
        {name: algorithm.client_state(context) for name, context in contexts.items()},
        chunk=1,
        tolerant=True,
        dropouts=dropouts,
    )
    state, planned, started = algorithm.server_state(), algorithm.planned(agreed.rounds), time.perf_counter()
    weights = {name: context.weight for name, context in contexts.items()}
    for number in range(1, planned + 1):
        driver.round_ = number
        cohort = Cohort(weights, number, agreed.seed, planned)
        state = run_round(algorithm, driver, state, cohort, algorithm.round(state, cohort))
    return driver.states, driver.costs, time.perf_counter() - started


def differing(rehearsal: Rehearsal, states: Mapping[ClientId, ClientState]) -> tuple[str, ...]:
    """Slots of the sites' last states that are not those of `states`."""
    agreed = rehearsal.agreed
    found: list[str] = []
    for name, site in sorted(rehearsal.sites.items()):
        kept = site.store(agreed).load(agreed.algorithm.planned(agreed.rounds))
        here, there = states[name].arrays, kept[1].arrays if kept else {}
        found += [
            f"{name}: {slot}"
            for slot in sorted(here.keys() | there.keys())
            if slot not in here or slot not in there or _bits(here[slot]) != _bits(there[slot])
        ]
    return tuple(found)


def in_processes(rehearsal: Rehearsal, told: Told) -> None:
    """Each site in a process of its own, without an engine."""
    with ChildrenTransport({name: site.path for name, site in rehearsal.sites.items()}) as transport:
        served = run_at_sites(
            transport, rehearsal.agreed, rehearsal.root / "server", resume=True, on_round=lambda done: told(_said(done))
        )
    write_results(rehearsal.results, served)


def on_flare(rehearsal: Rehearsal, told: Told) -> None:
    """A real NVIDIA FLARE system on loopback: provisioned, bound, started, and ended."""
    from secfpp.deploy.flare.rehearsal import run_on_flare

    run_on_flare(rehearsal.root, rehearsal.sites, rehearsal.agreed, told)


def on_flower(rehearsal: Rehearsal, told: Told) -> None:
    """A real Flower system on loopback; some five seconds an exchange."""
    from secfpp.deploy.flower.rehearsal import run_on_flower

    run_on_flower(rehearsal.root, rehearsal.sites, rehearsal.agreed, told)


ENGINES: dict[str, Callable[[Rehearsal, Told], None]] = {
    "processes": in_processes,
    "flare": on_flare,
    "flower": on_flower,
}
_PACKAGES = {"flare": "nvflare", "flower": "flwr"}


def require_engine(name: str) -> None:
    """Refuse an engine that cannot be used here.

    Raises:
        ConfigError: no such engine.
        MissingExtraError: it is not installed.
    """
    if name not in ENGINES:
        raise ConfigError([Problem("--engine", name, f"one of {', '.join(ENGINES)}")])
    if name in _PACKAGES and find_spec(_PACKAGES[name]) is None:
        raise MissingExtraError(f"--engine {name}", name)


def _said(done: Progress) -> str:
    ended = f"lost: {done.lost}" if done.lost else f"{done.seconds:.1f} s"
    return f"round {done.round} of {done.rounds}: {ended}"


def _counted(costs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in costs.items() if name != "seconds"}


def _bits(array: np.ndarray) -> tuple[Any, ...]:
    return array.dtype.str, array.shape, array.tobytes()
