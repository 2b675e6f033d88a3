"""Measuring what clients predict with, of some clients at a time, so that memory is bounded however many there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from secfpp.algorithms.base import FederatedAlgorithm
from secfpp.algorithms.training import ClientContext
from secfpp.data.federated import Split
from secfpp.models.scoring import Visual
from secfpp.protocol.program import ClientId, ClientState
from secfpp.runtime.checkpoint import TrainingState
from secfpp.runtime.evaluation import Example, examples, measure, neighbours, seeing, validation_accuracy
from secfpp.runtime.learned import predicting

_PART = 256  # clients looked at side by side


def validated(
    algorithm: FederatedAlgorithm,
    contexts: Sequence[ClientContext],
    states: Mapping[ClientId, ClientState],
    prompts: np.ndarray,
) -> np.ndarray:
    """`validation_accuracy` of what clients predict with, of some clients at a time."""
    accuracies = []
    for part in _parts(len(contexts), _PART):
        texts, visual = predicting(algorithm, contexts[part], states, prompts[part])
        accuracies.append(validation_accuracy(contexts[part], texts, algorithm.predictor, visual))
    return np.concatenate(accuracies)


class Judged(NamedTuple):
    """What k clients predict with, judged.

    Attributes:
        metrics: see `secfpp.runtime.evaluation.measure`.
        validation: `validation_accuracy`, float64 [k].
        visual: what stands beside their prompts, if anything.
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
    for part in _parts(len(chosen), len(chosen) if predictor.patches else _PART):
        some = chosen[part]
        own = [contexts[i] for i in some]
        texts, visual = predicting(algorithm, own, states, prompts[some])
        beside = [theirs[i] for i in some] if theirs else []
        metrics = measure(own, texts, test, predictor, visual, seen=seen, theirs=beside)
        found.append(Judged(metrics, validation_accuracy(own, texts, predictor, visual), visual))
    visuals = [one.visual for one in found if one.visual is not None]
    return Judged(
        {name: np.concatenate([one.metrics[name] for one in found]) for name in found[0].metrics},
        np.concatenate([one.validation for one in found]),
        Visual.stacked(visuals) if visuals else None,
    )


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
