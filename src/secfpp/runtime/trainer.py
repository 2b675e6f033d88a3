"""Train one method on one seed: rounds, metrics, costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from secfpp.algorithms.base import FederatedAlgorithm
from secfpp.algorithms.training import ClientContext
from secfpp.data.federated import FederatedDataset
from secfpp.errors import ConfigError, Problem
from secfpp.models.backbone import Backbone
from secfpp.models.pools import Pool
from secfpp.paging import paged
from secfpp.privacy.ledger import RunLedger
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.refusals import Refusal, left_out
from secfpp.protocol.transcript import Transcript
from secfpp.runtime.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from secfpp.runtime.contexts import dataset_digest, make_contexts
from secfpp.runtime.costs import Costs
from secfpp.runtime.driver import SimulatingDriver
from secfpp.runtime.engine import Engine, Simulation
from secfpp.runtime.evaluation import Example
from secfpp.runtime.in_process import Dropouts, InProcessDriver
from secfpp.runtime.judging import first_examples, judged, selected, validated
from secfpp.runtime.learned import learned, prompts_of
from secfpp.runtime.privacy import figures, ledger_of
from secfpp.runtime.shared_arrays import SharedArrays
from secfpp.runtime.spoiled_rounds import colluding, run_round
from secfpp.seeding import derive

CHUNK = 32
"""Clients trained in one pass; part of what makes results repeatable to the bit."""


@dataclass(frozen=True)
class RoundRecord:
    """What a progress display shows after a round.

    Attributes:
        round: the round, from 1.
        rounds: how many there will be.
        loss: mean training loss over clients (nan if nobody trained).
        seconds: since training began.
        metrics: mean over clients, in percent, e.g. ``validation``.
    """

    round: int
    rounds: int
    loss: float
    seconds: float
    metrics: Mapping[str, float] | None = None


@dataclass(frozen=True)
class RunResult:
    """One method on one seed.

    Attributes:
        method: its label.
        seed: the seed.
        rounds: rounds of training (0 for untrained floors).
        clients: their names, sorted; all per-client arrays follow this order.
        domains: each client's true domain.
        metrics: name -> accuracy of each client, float64 [n_clients] in percent, of the last round; names in
            ``_selected`` are of the round that each client chose on its own validation images.
        rows: JSON-ready, one per client and round.
        assignment: each client's cluster, if the method has clusters (-1: in none).
        descriptors: what clients were clustered by, float [n_clients, d], if the method has clusters.
        costs: bytes, messages, exchanges, seconds by component.
        seconds: of training, without evaluation.
        prompts: personal prompts, float32 [n_clients, n_ctx, text_dim].
        domain_prompts: domain prompts of the same shape, if the method predicts on two levels.
        familiar: each client's familiar classes, bool [n_clients, n_cls], used with domain prompts that no pool joins.
        trust: weight of the personal prompt among them.
        pool: how personal and domain prompts are joined, if not by `secfpp.models.scoring.redistributed`.
        visual_weights: what clients predict with beside their prompts, see `secfpp.models.scoring.Visual`: float32
            [n_clients, levels, n_cls, projection], if the method has such.
        visual_bias: float32 [n_clients, levels, n_cls], with it.
        text_weight: float32 [n_clients, levels], with it.
        visual_memory: float32 [n_clients, levels, rows, n_cls], if the method remembers images.
        log_priors: each client's smoothed class log-prior, float32 [n_clients, n_cls], if the method predicts with it.
        examples: a few test images as the prompts classify them.
        groups: each client's true group, which a grouping should find; none where these are the domains.
        newcomers: clients that came after training, sorted; all arrays above are of the others.
        newcomer_metrics: as `metrics`, float64 [n_newcomers].
        newcomer_assignment: the newcomers' clusters, if the method has clusters.
        why: what the groups were decided by, JSON-ready, see `secfpp.algorithms.base.FederatedAlgorithm.explain`.
        refusals: what parties refused of what others sent, see `secfpp.protocol.refusals`.
        colluding: how many clients may be lying together, so that more of them leave a client out.
        privacy: what was released under differential privacy, see `secfpp.runtime.privacy.figures`; empty if nothing.
    """

    method: str
    seed: int
    rounds: int
    clients: tuple[str, ...]
    domains: tuple[str, ...]
    metrics: Mapping[str, np.ndarray]
    rows: tuple[Mapping[str, object], ...]
    assignment: tuple[int, ...] | None
    descriptors: np.ndarray | None
    costs: Costs
    seconds: float
    prompts: np.ndarray
    domain_prompts: np.ndarray | None = None
    familiar: np.ndarray | None = None
    trust: float = 1.0
    pool: Pool | None = None
    visual_weights: np.ndarray | None = None
    visual_bias: np.ndarray | None = None
    text_weight: np.ndarray | None = None
    visual_memory: np.ndarray | None = None
    log_priors: np.ndarray | None = None
    examples: tuple[Example, ...] = ()
    groups: tuple[str, ...] = ()
    newcomers: tuple[str, ...] = ()
    newcomer_metrics: Mapping[str, np.ndarray] = field(default_factory=dict)
    newcomer_assignment: tuple[int, ...] | None = None
    why: Mapping[str, Any] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()
    colluding: int = 0
    privacy: Mapping[str, Any] = field(default_factory=dict)

    @property
    def true_groups(self) -> tuple[str, ...]:
        """What a grouping should find, for each client."""
        return self.groups or self.domains


def train(
    dataset: FederatedDataset,
    backbone: Backbone,
    algorithm: FederatedAlgorithm,
    *,
    method: str,
    seed: int,
    rounds: int,
    on_round: Callable[[RoundRecord], None] | None = None,
    on_exchange: Callable[[int, int, Sequence[str]], None] | None = None,
    force_wire: bool = False,
    dropouts: Dropouts | None = None,
    transcript: Transcript | None = None,
    checkpoint: Path | None = None,
    participation: float = 1.0,
    chunk: int = CHUNK,
    engine: Engine | None = None,
) -> RunResult:
    """Train `algorithm` on `dataset` and measure it; the same arguments give the same result.

    A client whose messages no honest one sends, or which more clients refuse than may be lying together, is left out
    of the rounds after; a round that it spoils is lost.

    What a method releases under differential privacy is charged to the ledger of the data before it leaves, see
    `secfpp.runtime.privacy.ledger_of`.

    Args:
        dataset: the clients and the test images.
        backbone: the frozen model.
        algorithm: the method with its settings.
        method: its label in results.
        seed: of everything random in training.
        rounds: of training; floors ignore it.
        on_round: called after each round.
        on_exchange: called before each exchange with the round, the exchange's number in it, from 1, and the
            components that ask.
        force_wire: see `InProcessDriver`.
        dropouts: see `InProcessDriver`.
        transcript: where to record every message.
        checkpoint: file to go on from if it exists, and to save to after every round. A run that was killed and
            goes on ends with the bits of an uninterrupted one.
        participation: share of the clients that take part in a round, see `participants`. The others keep their
            state, are not asked, and are evaluated all the same; their ``loss`` in `RunResult.rows` is None.
        chunk: clients trained in one pass.
        engine: where the clients are, if not in this process; without `dropouts` then.

    Raises:
        ConfigError: settings that this data or model refuse.
        DataError: a checkpoint that is damaged or belongs to another run.
        SecFPPError: what clients or protocol raise.
    """
    if rounds < 1:
        raise ConfigError([Problem("rounds", rounds, "at least 1")])
    if not 0 < participation <= 1:
        raise ConfigError([Problem("participation", participation, "a share of the clients, above 0 and at most 1")])
    algorithm = algorithm.for_rounds(rounds)
    if algorithm.trained:
        algorithm.require(per_round(len(dataset.clients), participation))
    if engine:
        engine.require(algorithm)
    terms = algorithm.privacy_terms
    ledger = ledger_of(dataset, terms) if terms else None
    charged = RunLedger(ledger, f"{method}, seed {seed}") if ledger else None
    contexts = make_contexts(dataset, backbone, algorithm, seed, charged)
    late = frozenset(client.name for client in dataset.newcomers)
    ordered = [context for name, context in contexts.items() if name not in late]
    run = _identity(dataset, backbone, algorithm, method, seed, rounds, participation)
    state = (load_checkpoint(checkpoint, run) if checkpoint else None) or _start(algorithm, contexts, ordered)
    driver: SimulatingDriver
    if engine:
        simulation = Simulation(algorithm, dataset, backbone.spec.digest, seed, chunk)
        driver = engine.driver(simulation, state.clients, transcript)
    else:
        driver = InProcessDriver(
            algorithm,
            contexts,
            state.clients,
            force_wire=force_wire,
            dropouts=dropouts,
            chunk=chunk,
            transcript=transcript,
            tolerant=True,
        )
    driver.costs, driver.refusals = state.costs, state.refusals
    weights = {context.client: len(context.data.train) for context in ordered}
    planned, last = algorithm.planned(rounds), None
    for number in range(state.round + 1, planned + 1):
        started = time.perf_counter()
        driver.round_ = number
        if on_exchange:
            driver.on_exchange = partial(on_exchange, number)
        present = weights.keys() - left_out(state.refusals, colluding(algorithm))
        cohort = Cohort(weights, number, seed, planned, participation < 1).subset(
            participants(present, participation, seed, number)
        )
        state.server = run_round(algorithm, driver, state.server, cohort, algorithm.round(state.server, cohort))
        state.clients, state.round = driver.states, number
        state.seconds += time.perf_counter() - started
        prompts = prompts_of(algorithm, ordered, state.clients)
        if number == planned and not late:
            last = judged(algorithm, ordered, state.clients, prompts, dataset.test)
        accuracy = last.validation if last else validated(algorithm, ordered, state.clients, prompts)
        _choose(state, prompts, accuracy)
        losses = [
            float(own["loss"]) if name in cohort.weights and "loss" in own else None
            for name, own in state.clients.items()
            if name not in late
        ]
        state.rows += [
            {"method": method, "seed": seed, "round": number, "client": c.client, "domain": c.data.domain}
            | {"loss": loss, "validation": None if np.isnan(value) else round(float(value), 4)}
            for c, loss, value in zip(ordered, losses, accuracy, strict=True)
        ]
        if checkpoint:
            save_checkpoint(checkpoint, state, run)
        if on_round:
            known = [loss for loss in losses if loss is not None]
            mean_loss = float(np.mean(known)) if known else float("nan")
            on_round(
                RoundRecord(number, planned, mean_loss, state.seconds, {"validation": float(np.nanmean(accuracy))})
            )
    newcomers = [contexts[name] for name in sorted(late)]
    if newcomers:
        _join(algorithm, driver, state, contexts, planned, seed, late)
    prompts = prompts_of(algorithm, ordered, state.clients)
    if last is None:
        last = judged(algorithm, ordered, state.clients, prompts, dataset.test)
    metrics = last.metrics
    if planned:
        metrics = metrics | selected(algorithm, ordered, state, prompts, dataset.test, last.metrics)
    clusters = state.server.assignment.cluster_of if state.server.assignment else None
    states = [state.clients[context.client] for context in ordered]
    described = clusters is not None and all("descriptor" in own for own in states)
    found = learned(algorithm, ordered, prompts, last.visual)
    return RunResult(
        method=method,
        seed=seed,
        rounds=planned,
        clients=tuple(weights),
        domains=tuple(c.data.domain for c in ordered),
        groups=tuple(c.data.true_group for c in ordered) if any(c.data.group for c in ordered) else (),
        metrics=metrics,
        rows=tuple(state.rows),
        assignment=tuple(clusters.get(name, -1) for name in weights) if clusters is not None else None,
        descriptors=np.stack([own["descriptor"] for own in states]) if described else None,
        costs=driver.costs,
        seconds=state.seconds,
        prompts=found.prompts,
        domain_prompts=found.domain_prompts,
        familiar=found.familiar,
        trust=found.trust,
        pool=found.pool,
        visual_weights=found.visual_weights,
        visual_bias=found.visual_bias,
        text_weight=found.text_weight,
        visual_memory=found.visual_memory,
        log_priors=found.log_priors,
        examples=first_examples(algorithm, ordered, state.clients, prompts, dataset.test),
        newcomers=tuple(c.client for c in newcomers),
        newcomer_metrics=_measured(algorithm, newcomers, state, dataset) if newcomers else {},
        newcomer_assignment=tuple(clusters.get(c.client, -1) for c in newcomers) if clusters and newcomers else None,
        refusals=tuple(state.refusals),
        colluding=colluding(algorithm),
        privacy=figures(algorithm, state.clients, ledger),
        why=_explained(algorithm, ordered, state, last.validation),
    )


def _start(
    algorithm: FederatedAlgorithm, contexts: Mapping[str, ClientContext], ordered: Sequence[ClientContext]
) -> TrainingState:
    shared = SharedArrays(len(contexts))
    clients = {name: shared.of(algorithm.client_state(context)) for name, context in paged(contexts.items())}
    prompts = prompts_of(algorithm, ordered, clients)
    return TrainingState(algorithm.server_state(), clients, prompts, np.full(len(prompts), -np.inf))


def _join(
    algorithm: FederatedAlgorithm,
    driver: SimulatingDriver,
    state: TrainingState,
    contexts: Mapping[str, ClientContext],
    planned: int,
    seed: int,
    newcomers: frozenset[str],
) -> None:
    """Let newcomers join, in a round of their own after the last."""
    driver.round_ = planned + 1
    cohort = Cohort({name: len(c.data.train) for name, c in contexts.items()}, planned + 1, seed, planned)
    joining = algorithm.join(state.server, cohort, newcomers)
    state.server = run_round(algorithm, driver, state.server, cohort, joining)
    state.clients = driver.states


def _explained(
    algorithm: FederatedAlgorithm,
    contexts: Sequence[ClientContext],
    state: TrainingState,
    validation: np.ndarray,
) -> dict[str, Any]:
    """What the method's decisions rest on, with the validation accuracy that all of it gives each client."""
    why = algorithm.explain(contexts, [state.clients[context.client] for context in contexts], state.server)
    if not (rows := why.get("clients")):
        return why
    for row, value in zip(rows, validation, strict=False):
        row["levels"]["method"] = None if np.isnan(value) else float(value)
    return why


def _measured(
    algorithm: FederatedAlgorithm, contexts: Sequence[ClientContext], state: TrainingState, dataset: FederatedDataset
) -> dict[str, np.ndarray]:
    """The metrics of clients as they are now."""
    prompts = prompts_of(algorithm, contexts, state.clients)
    found = judged(algorithm, contexts, state.clients, prompts, dataset.test).metrics
    return {name: own for name, own in found.items() if not name.startswith("neighbour")}  # not all clients are here


def per_round(clients: int, participation: float) -> int:
    """How many of `clients` take part in a round."""
    return max(1, round(participation * clients))


def participants(clients: Iterable[str], participation: float, seed: int, round_: int) -> list[str]:
    """The clients that take part in a round, sorted: the nearest whole number to the share, at least one.

    Which ones depends on seed and round alone, so that every method is trained by the same clients. A method
    that needs a smallest number of clients at a time (`SecFPP`: that of its clusterer) says so when it gets fewer.
    """
    names = sorted(clients)
    count = per_round(len(names), participation)
    order = derive(seed, round_, "participation").numpy().permutation(len(names))
    return sorted(names[i] for i in order[:count])


def _identity(
    dataset: FederatedDataset,
    backbone: Backbone,
    algorithm: FederatedAlgorithm,
    method: str,
    seed: int,
    rounds: int,
    participation: float,
) -> str:
    """A name for everything that a run's results depend on."""
    parts = (method, seed, rounds, participation, algorithm, backbone.spec.digest, dataset_digest(dataset))
    return sha256(repr(parts).encode()).hexdigest()


def _choose(state: TrainingState, prompts: np.ndarray, accuracy: np.ndarray) -> None:
    """Take over the prompts of clients whose accuracy [n_clients] is at least as good as before, or unknown."""
    better = ~(accuracy < state.best)
    state.chosen[better] = prompts[better]
    state.best = np.where(np.isnan(accuracy), state.best, np.maximum(state.best, accuracy))
