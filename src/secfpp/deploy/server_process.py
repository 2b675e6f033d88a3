"""The server of a deployed run: opens it at the sites, runs the rounds, keeps a checkpoint, and says what it was told.

It needs no data, no model and no keys.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from secfpp.algorithms.base import FederatedAlgorithm, ServerState
from secfpp.algorithms.figures import mean_figures
from secfpp.deploy.agreed import Agreed
from secfpp.deploy.names import AGREED, RESULTS
from secfpp.deploy.results import Served, write_results
from secfpp.errors import ConfigError, DropoutError, ProtocolError
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientId
from secfpp.protocol.refusals import left_out
from secfpp.protocol.transcript import Transcript
from secfpp.runtime.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from secfpp.runtime.envelope import Reply
from secfpp.runtime.remote import RemoteDriver, Transport
from secfpp.runtime.spoiled_rounds import colluding, run_round
from secfpp.secure.means.aggregator import Aggregator
from secfpp.secure.means.updates import next_version

_log = logging.getLogger(__name__)
CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True)
class Progress:
    """What a display shows after a round.

    Attributes:
        round: the round, from 1.
        rounds: how many there will be.
        sites: who took part.
        seconds: since the run began here, in all.
        lost: why the round came to nothing, if it did.
    """

    round: int
    rounds: int
    sites: tuple[ClientId, ...]
    seconds: float
    lost: str = ""


def run_at_sites(
    transport: Transport,
    agreed: Agreed,
    folder: Path,
    *,
    resume: bool = False,
    on_round: Callable[[Progress], None] | None = None,
    transcript: Transcript | None = None,
) -> Served:
    """Run a method at the sites of `transport`, to its last round.

    A site that does not answer is left aside until the next round; one that is back takes part again, and first gets
    the means that it missed. A round that too few finish is lost, for a group or for all. A server that was killed goes
    on after its last committed round, with the bits of a run that was not interrupted.

    Args:
        transport: to the sites.
        agreed: what is run.
        folder: for the checkpoint.
        resume: go on from the checkpoint there.
        on_round: called after each round.
        transcript: where to record the protocol's messages.

    Raises:
        ConfigError: a checkpoint is there and `resume` is not set.
        DataError: a damaged checkpoint, or one of another run.
        DropoutError: fewer sites than `Agreed.fewest` are left.
    """
    algorithm, path = agreed.algorithm, folder / CHECKPOINT
    if path.exists() and not resume:
        raise ConfigError(f"{path} is of a run that has begun: go on with it by --resume, or choose another --out")
    state = load_checkpoint(path, agreed.digest) or TrainingState(
        algorithm.server_state(), {}, np.empty(0), np.empty(0)
    )
    driver = RemoteDriver(algorithm, transport, deadline=agreed.deadline, transcript=transcript)
    driver.costs, driver.refusals = state.costs, state.refusals
    about = {"run": agreed.run, "digest": agreed.digest, "agreed": agreed.table}
    hall = _Hall(driver)
    hall.missed = {str(client) for row in state.rows[-1:] for client in _listed(row["missed"])}
    driver.failures = [_failure(row["round"], one) for row in state.rows for one in _listed(row.get("failures"))]
    algorithm.prepare(len(transport.sites), len(agreed.classes), agreed.seed)
    hall.enter(driver.open(about, state.round), state.round)
    planned = algorithm.planned(agreed.rounds)
    for number in range(state.round + 1, planned + 1):
        started = time.perf_counter()
        driver.round_ = number
        present = {
            client: weight
            for client, weight in hall.weights.items()
            if client not in driver.aside and client not in left_out(state.refusals, colluding(algorithm))
        }
        if len(present) < agreed.fewest:
            absent = sorted(driver.clients - present.keys())
            raise DropoutError(f"round {number}", agreed.fewest, len(present), absent)
        cohort = Cohort(present, number, agreed.seed, planned, sampled=not hall.missed.isdisjoint(present))
        lost = ""
        try:
            state.server = run_round(algorithm, driver, state.server, cohort, algorithm.round(state.server, cohort))
            lost = not_averaged(algorithm, state.server, cohort)
        except ProtocolError as error:
            lost = str(error)
        if lost:
            lost += f"; no answer from {', '.join(sorted(driver.aside))}" * bool(driver.aside)
            _log.warning("round %d is lost: %s", number, lost)
        failed = [one for round_, *one in driver.failures if round_ == number]
        hall.missed = set(driver.clients.difference(present)) | driver.aside | {client for client, *_ in failed}
        state.rows.append({"round": number, "lost": lost, "missed": sorted(hall.missed), "failures": failed})
        hall.enter(driver.commit(about), number)
        state.round = number
        state.seconds += time.perf_counter() - started
        save_checkpoint(path, state, agreed.digest)
        if on_round:
            on_round(Progress(number, planned, tuple(present), state.seconds, lost))
    figures = _mean_figures(driver, hall, agreed, planned + 1) if agreed.figures == "mean" else {}
    found = state.server.assignment
    return Served(
        agreed,
        state.round,
        dict(hall.weights),
        None if found is None else found.cluster_of,
        driver.costs,
        state.seconds,
        tuple(driver.seconds),
        tuple(driver.refusals),
        tuple(driver.failures),
        hall.refused,
        {int(str(row["round"])): str(row["lost"]) for row in state.rows if row["lost"]},
        driver.close(),
        figures,
        tuple(sorted(hall.missed & hall.weights.keys())),
    )


def _mean_figures(driver: RemoteDriver, hall: _Hall, agreed: Agreed, number: int) -> dict[str, Any]:
    """What sites measure of themselves on average, in a round of its own; nothing if too few take part."""
    driver.round_ = number
    present = [client for client in hall.weights if client not in driver.aside]
    cohort = Cohort(dict.fromkeys(present, 1), number, agreed.seed)
    try:
        aggregator: Aggregator = agreed.algorithm.aggregator  # type: ignore[attr-defined]
        members, figures = driver.run(mean_figures(aggregator, cohort))
    except ProtocolError as error:
        _log.warning("there is no mean of figures: %s", error)
        return {}
    return {"sites": list(members), **figures} if figures else {}


def not_averaged(algorithm: FederatedAlgorithm, state: ServerState, cohort: Cohort) -> str:
    """Whose prompts a round should have averaged and did not, in words; empty if there is nobody.

    Args:
        algorithm: the method.
        state: after the round.
        cohort: who took part.
    """
    slot, rounds = getattr(algorithm, "averaged", ""), getattr(algorithm, "domain_rounds", lambda planned: planned)
    if not slot or cohort.round > rounds(cohort.rounds):
        return ""
    made = {key for key, base in state.bases.items() if base.version >= next_version(0, cohort.round)}
    of = state.assignment.cluster_of if state.assignment else {}
    without = [name for name in cohort.clients if made.isdisjoint((slot, f"{slot}-{of.get(name, 0)}"))]
    return f"prompts of {', '.join(without)} were not averaged" if without else ""


def serve(transport: Transport, folder: Path) -> int:
    """Run what was agreed in `folder`, or go on with it; results are files there.

    Returns:
        The exit status: 0, or 1 if too few sites took part or a round was lost.

    Raises:
        SecFPPError: as `run_at_sites`, and for an agreed file that is none.
    """
    agreed = Agreed.load(folder / AGREED)
    try:
        served = run_at_sites(transport, agreed, folder, resume=True, on_round=_told)
    except DropoutError as error:
        _log.error("%s", error)
        return 1
    write_results(folder / RESULTS, served)
    return 1 if served.lost else 0


def _told(done: Progress) -> None:
    ended = f"lost ({done.lost})" if done.lost else f"done by {len(done.sites)} sites"
    _log.info("round %d of %d %s, %.1f s", done.round, done.rounds, ended, done.seconds)


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _failure(round_: object, told: Sequence[object]) -> tuple[int, ClientId, str, str]:
    client, step, kind = map(str, told)
    return int(str(round_)), client, step, kind


class _Hall:
    """Who has come in, who will not, and who has missed something that others got."""

    def __init__(self, driver: RemoteDriver) -> None:
        self.driver = driver
        self.weights: dict[ClientId, int] = {}
        self.refused: dict[ClientId, str] = {}
        self.missed: set[ClientId] = set()

    def enter(self, replies: Mapping[ClientId, Reply], round_: int) -> None:
        """Take note of what sites answered to the opening after `round_` rounds."""
        for client, reply in sorted(replies.items()):
            weight = reply.about.get("weight") if isinstance(reply.about, Mapping) else None
            if not reply.refused and type(weight) is int and weight > 0:
                self.weights[client] = weight
                self.refused.pop(client, None)
                if reply.about.get("round") != round_:
                    self.missed.add(client)
                continue
            told = f": {reply.about}" if reply.about else ""
            self.refused[client] = f"{reply.refused or 'malformed'}{told}"[:1000]
            _log.warning("%s does not take part: %s", client, self.refused[client])
