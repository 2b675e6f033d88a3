"""What clients have learned: all that each predicts with, as arrays; for a simulation's clients or for one alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from secfpp.algorithms.base import FederatedAlgorithm
from secfpp.algorithms.training import ClientContext
from secfpp.models.pools import Pool
from secfpp.models.scoring import Visual, familiar_classes
from secfpp.protocol.program import ClientId, ClientState
from secfpp.runtime.evaluation import class_features


@dataclass(frozen=True, eq=False)
class Learned:
    """Arrays of k clients; those of a kind that the method does not have are None.

    Attributes:
        prompts: personal prompts, float32 [k, n_ctx, text_dim].
        domain_prompts: domain prompts of the same shape, if the method predicts on two levels.
        familiar: familiar classes, bool [k, n_cls], used with domain prompts that no pool joins.
        trust: weight of the personal prompt among them.
        pool: how personal and domain prompts are joined, if not by `secfpp.models.scoring.redistributed`.
        visual_weights: see `secfpp.models.scoring.Visual`, float32 [k, levels, n_cls or rows, projection].
        visual_bias: with them, float32 [k, levels, n_cls or rows].
        text_weight: with them, float32 [k, levels].
        visual_memory: with them, if the method has a memory, float32 [k, levels, rows, n_cls].
        log_priors: smoothed class log-priors, float32 [k, n_cls], if the method predicts with them.
    """

    prompts: np.ndarray
    domain_prompts: np.ndarray | None
    familiar: np.ndarray | None
    trust: float
    pool: Pool | None
    visual_weights: np.ndarray | None
    visual_bias: np.ndarray | None
    text_weight: np.ndarray | None
    visual_memory: np.ndarray | None
    log_priors: np.ndarray | None


def learned(
    algorithm: FederatedAlgorithm, contexts: Sequence[ClientContext], prompts: np.ndarray, visual: Visual | None
) -> Learned:
    """What clients predict with, as files and reports have it.

    Args:
        algorithm: the method with its settings.
        contexts: the k clients.
        prompts: as `prompts_of` gives them.
        visual: as `predicting` gives it.
    """
    predictor, two_levels = algorithm.predictor, prompts.shape[1] > 1
    familiar = np.stack([familiar_classes(c.histogram, predictor.familiar_share) for c in contexts])
    priors = np.stack([c.log_prior(algorithm.prior_smoothing) for c in contexts]) if algorithm.class_prior else None
    return Learned(
        prompts=prompts[:, 0],
        domain_prompts=prompts[:, 1] if two_levels else None,
        familiar=familiar if two_levels and predictor.pool is None else None,
        trust=predictor.trust,
        pool=predictor.pool,
        visual_weights=None if visual is None else visual.weights.cpu().numpy(),
        visual_bias=None if visual is None else visual.bias.cpu().numpy(),
        text_weight=None if visual is None else visual.text_weight.cpu().numpy(),
        visual_memory=None if visual is None or visual.memory is None else visual.memory.cpu().numpy(),
        log_priors=priors,
    )


def prompts_of(
    algorithm: FederatedAlgorithm, contexts: Sequence[ClientContext], states: Mapping[ClientId, ClientState]
) -> np.ndarray:
    """All prompts that clients predict with, float32 [k, levels, n_ctx, text_dim]."""
    return np.stack([algorithm.prompts(states[context.client]) for context in contexts])


def predicting(
    algorithm: FederatedAlgorithm,
    contexts: Sequence[ClientContext],
    states: Mapping[ClientId, ClientState],
    prompts: np.ndarray,
) -> tuple[Tensor, Visual | None]:
    """What clients predict with: class features of their prompts, and what stands beside them."""
    texts = class_features(contexts, prompts)
    return texts, algorithm.visuals(contexts, [states[context.client] for context in contexts], texts)
