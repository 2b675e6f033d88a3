"""Measuring what clients predict with, of some clients at a time, so that memory is bounded however many there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from secfpp.algorithms.base import FederatedAlgorithm
from secfpp.algorithms.training import ClientContext
from secfpp.data.federated import Split
from secfpp.models.scoring import VISUAL_PARTS, Visual
from secfpp.paging import paged
from secfpp.protocol.program import ClientId, ClientState
from secfpp.runtime.checkpoint import TrainingState
from secfpp.runtime.evaluation import Example, examples, measure, neighbours, seeing, validation_accuracy
from secfpp.runtime.learned import predicting
from secfpp.shelf import Rows

_PART = 256  # clients looked at side by side


def validated(
    algorithm: FederatedAlgorithm,
    contexts: Sequence[ClientContext],
    states: Mapping[ClientId, ClientState],
    prompts: np.ndarray,
) -> np.ndarray:
    """`validation_accuracy` of what clients predict with, of some clients at a time."""
    accuracies = []
    for part in paged(_parts(len(contexts), _PART), every=1):
        texts, visual = predicting(algorithm, contexts[part], states, prompts[part])
        accuracies.append(validation_accuracy(contexts[part], texts, algorithm.predictor, visual))
    return np.concatenate(accuracies)


class Judged(NamedTuple):
    """What k clients predict with, judged.

    Attributes:
        metrics: see `secfpp.runtime.evaluation.measure`.
        validation: `validation_accuracy`, float64 [k].
        visual: what stands beside their prompts, if anything and all clients are judged.
    """

    metrics: dict[str, np.ndarray]
    validation: np.ndarray
    visual: Visual | None


def judged(
    algorithm: FederatedAlgorithm,
    contexts: Sequence[ClientContext],
    states: Mapping[ClientId, ClientState],
    prompts: np.ndarray,
    test: Mapping[str, Split],
    places: Sequence[int] | None = None,
) -> Judged:
    """Measure what clients predict with, of some clients at a time.

    Args:
        algorithm: the method with its settings.
        contexts: of all clients.
        states: theirs.
        prompts: theirs, see `prompts_of`.
        test: domain -> test images.
        places: of the k clients among all; all of them by default.
    """
    chosen = np.arange(len(contexts)) if places is None else np.asarray(places)
    predictor, theirs, found = algorithm.predictor, neighbours(contexts), []
    seen = seeing(contexts[0].backbone, test, predictor)
    shown = _Visuals(len(chosen)) if places is None else None
    for part in paged(_parts(len(chosen), len(chosen) if predictor.patches else _PART), every=1):
        some = chosen[part]
        own = [contexts[i] for i in some]
        texts, visual = predicting(algorithm, own, states, prompts[some])
        beside = [theirs[i] for i in some] if theirs else []
        metrics = measure(own, texts, test, predictor, visual, seen=seen, theirs=beside)
        found.append((metrics, validation_accuracy(own, texts, predictor, visual)))
        if shown is not None and visual is not None:
            shown.add(visual)
    return Judged(
        {name: np.concatenate([metrics[name] for metrics, _ in found]) for name in found[0][0]},
        np.concatenate([validation for _, validation in found]),
        shown.all() if shown is not None else None,
    )


class _Visuals:
    """What stands beside prompts of `count` clients, some of them at a time; of very many clients on disk."""

    def __init__(self, count: int) -> None:
        self._rows = {name: Rows(count) for name in VISUAL_PARTS}
        self._remembering: list[Visual] = []

    def add(self, visual: Visual) -> None:
        if visual.memory is not None:  # its rows are as many as the longest has
            self._remembering.append(visual)
            return
        for name, rows in self._rows.items():
            rows.add(getattr(visual, name).cpu().numpy())

    def all(self) -> Visual | None:
        if self._remembering:
            return Visual.stacked(self._remembering)
        parts = [rows.array for rows in self._rows.values()]
        return Visual(*map(torch.from_numpy, parts)) if len(parts[0]) else None


def selected(
    algorithm: FederatedAlgorithm,
    contexts: Sequence[ClientContext],
    state: TrainingState,
    prompts: np.ndarray,
    test: Mapping[str, Split],
    last: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Metrics of the prompts that clients chose, with ``_selected`` behind their names.

    Where a client chose the last ones, `prompts`, it has the metrics `last`.
    """
    others = np.flatnonzero((state.chosen != prompts).reshape(len(prompts), -1).any(1))
    found = {name: values.copy() for name, values in last.items() if not name.endswith("_no_prior")}
    if len(others):
        metrics = judged(algorithm, contexts, state.clients, state.chosen, test, others.tolist()).metrics
        for name, values in found.items():
            values[others] = metrics[name]
    return {f"{name}_selected": values for name, values in found.items()}


def first_examples(
    algorithm: FederatedAlgorithm,
    contexts: Sequence[ClientContext],
    states: Mapping[ClientId, ClientState],
    prompts: np.ndarray,
    test: Mapping[str, Split],
) -> tuple[Example, ...]:
    """`examples` by the first client of each domain."""
    first: dict[str, int] = {}
    for i, context in enumerate(contexts):
        first.setdefault(context.data.domain, i)
    places = list(first.values())
    own = [contexts[i] for i in places]
    texts, visual = predicting(algorithm, own, states, prompts[places])
    return examples(own, texts, test, algorithm.predictor, visual)


def _parts(count: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]
