"""Shadow prompts: what a client would have learned from other halves of its images, trained many at a time.

Nothing here knows a method: shadows take the very steps that the run asked of the client, from a state that the
attacker knows. All shadows of a client, and of several clients, go through the frozen encoder in one pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from secfpp.algorithms.base import FederatedAlgorithm
from secfpp.algorithms.training import ClientContext
from secfpp.attacks.game import Shadow, Uncharged
from secfpp.data.federated import Split
from secfpp.models.backbone import Backbone
from secfpp.protocol.program import Arrays, ClientState, resolve

CHUNK = {"cpu": 32}
"""Prompts in one pass by device; on others as many as there are, up to `MOST`."""
MOST = 512


@dataclass(frozen=True)
class Pool:
    """What is asked about: the images of one client, as an attacker has them.

    Attributes:
        context: the client's.
        images: all of its images.
        features: of them, float32 [n, projection].
        halves: which of them each shadow trains on, bool [shadows, n].
    """

    context: ClientContext
    images: Split
    features: Tensor
    halves: np.ndarray

    @property
    def labels(self) -> Tensor:
        """Labels of the images, int64 [n]."""
        return torch.from_numpy(self.images.labels).to(self.features.device)

    def shadows(self, backbone: Backbone | None = None) -> Iterator[Shadow]:
        """The client with each half, by default with its own model."""
        context = self.context if backbone is None else replace(self.context, backbone=backbone)
        own = context.ledger
        ledger = None if own is None else Uncharged(own.ledger, own.run)
        for number, chosen in enumerate(self.halves):
            yield Shadow.of(context, self.images, self.features, chosen, number, ledger)


Steps = Sequence[tuple[str, Arrays]]
"""Names of steps, ``component.step``, with what came with each."""


def take_steps(
    algorithm: FederatedAlgorithm, contexts: Sequence[ClientContext], states: Sequence[ClientState], steps: Steps
) -> list[ClientState]:
    """The states of clients that took these steps one after the other, many clients in one pass."""
    size = CHUNK.get(contexts[0].backbone.device.type, MOST)
    found: list[ClientState] = []
    for start in range(0, len(contexts), size):
        some, now = contexts[start : start + size], list(states[start : start + size])
        for name, payload in steps:
            step = resolve(algorithm, name)
            if step.many:
                now = [state for state, _ in step.call(some, now, [payload] * len(some))]
            else:
                now = [step.one(context, state, payload)[0] for context, state in zip(some, now, strict=True)]
        found += now
    return found


def confidences(context: ClientContext, prompts: np.ndarray, features: Tensor, labels: Tensor) -> np.ndarray:
    """Log-odds of the right class of images under prompts alone, float64 [k, n].

    Args:
        context: of a client with the model and the class names.
        prompts: float [k, n_ctx, text_dim].
        features: of images, float32 [n, projection].
        labels: theirs, int64 [n].
    """
    found, backbone = [], context.backbone
    with torch.no_grad():
        for some in torch.from_numpy(prompts.astype(np.float32)).split(CHUNK.get(backbone.device.type, MOST)):
            texts = backbone.class_features(some.to(backbone.device), context.tokens)
            found.append(log_odds(backbone.logit_scale * features @ texts.transpose(-1, -2), labels))
    return np.concatenate(found)


def log_odds(logits: Tensor, labels: Tensor) -> np.ndarray:
    """Log-odds of the right class, float64 [k, n], of logits [k, n, n_cls]."""
    exact = logits.double()
    right = exact.gather(-1, labels.expand(len(exact), -1)[..., None])
    rest = exact.scatter(-1, labels.expand(len(exact), -1)[..., None], -torch.inf).logsumexp(-1)
    return (right[..., 0] - rest).cpu().numpy()
