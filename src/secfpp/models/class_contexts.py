"""All that a client predicts with, said by a prompt alone: a context for each single class.

Other software, CoOp's for one, scores an image by the cosine of its feature with a class feature and knows no levels,
no weights and no bias. Here the contexts behind such class features are fitted so that their scores are those of the
full predictor (distillation, G. Hinton et al., arXiv 1503.02531). That takes images, but no labels.

The full predictor is nearly linear in the feature of an image, so what it says of a few hundred images hardly binds it
elsewhere. It is therefore also asked about made-up features: a Gaussian's with the mean and covariance of the images'
own, put back to unit length. Without them the fit is good on the images and many times worse on others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from secfpp.errors import ConfigError, Problem
from secfpp.images import ImagesLike
from secfpp.models.prompt_file import ClientPrompt, Prior
from secfpp.seeding import derive

if TYPE_CHECKING:
    from secfpp.models.backbone import Backbone

STEPS = 400
RATE = 0.3
MADE_UP = 4096
"""How many features are made up."""
ROUND = 0.1
"""Share of their covariance that is the same in all directions."""


def fit_class_contexts(
    prompt: ClientPrompt,
    images: ImagesLike,
    backbone: Backbone | str | None = None,
    *,
    prior: Prior = "uniform",
    steps: int = STEPS,
    rate: float = RATE,
    class_template: str | None = None,
    made_up: int = MADE_UP,
) -> ClientPrompt:
    """A prompt with a context for each single class that predicts as `prompt` does, levels and visual part included.

    It is as private as the images: its contexts say what the client's class means say.

    Args:
        prompt: what the client predicts with.
        images: on which both shall agree, the client's own for example; labels are not needed.
        backbone: the model, or its name; by default it is loaded by the name it was trained under.
        prior: ``uniform`` keeps the class frequencies beside the contexts, as they were; ``own`` puts them into these,
            for software that knows no frequencies: better on a mix of classes like the client's, worse on others.
        steps: of Adam, on all images at once.
        rate: its first learning rate, as a share of the spread of the prompt's numbers; it falls to 0 along a cosine.
        class_template: how a class name is written behind its context, if not as in `prompt`.
        made_up: features that are made up.

    Raises:
        ConfigError: no such model, settings that cannot work, frequencies that are not there, or class names that the
            model refuses.
        DataError: images that cannot be read, or another model than the prompt was learned for.
    """
    problems = [] if steps >= 1 else [Problem("steps", steps, "at least 1")]
    problems += [] if rate > 0 else [Problem("rate", rate, "must be positive")]
    if prior not in ("own", "uniform") or (prior == "own" and prompt.log_prior is None):
        problems.append(Problem("prior", prior, "uniform, or own for a prompt with class frequencies"))
    if prompt.pool is not None and prompt.pool.patches:
        allowed = "no pool over patches of images: what is fitted here, and read elsewhere, sees an image as a whole"
        problems.append(Problem("pool", prompt.pool.kind, allowed))
    if problems:
        raise ConfigError(problems)
    model, n_classes = prompt.model(backbone), len(prompt.classes)
    template = class_template or prompt.class_template
    features = with_made_up(model.features(prompt.pixels(images)), made_up)
    alone = replace(prompt.one_level().without_visual(), class_template=template)
    if prior == "own":
        alone = replace(alone, log_prior=None)
    start = np.array(np.broadcast_to(prompt.prompt, (n_classes, *prompt.prompt.shape[-2:])))
    nothing_beside = prompt.domain_prompt is None and prompt.visual_weights is None
    if nothing_beside and prior == "uniform" and template == prompt.class_template:
        return replace(alone, prompt=start)
    shift = prompt.log_prior if prior == "own" else np.zeros(n_classes, np.float32)
    target = (prompt.logits(features, model) + torch.tensor(shift, device=model.device)).log_softmax(1)
    tokens = model.class_tokens([template.replace("{}", name) for name in prompt.classes], start.shape[1])
    contexts = distilled(
        torch.from_numpy(start).to(model.device),
        lambda contexts: model.logit_scale * features @ model.single_class_features(contexts, tokens).T,
        target,
        steps,
        rate,
    )
    return replace(alone, prompt=contexts.cpu().numpy())


def distilled(start: Tensor, logits: Callable[[Tensor], Tensor], target: Tensor, steps: int, rate: float) -> Tensor:
    """Parameters whose `logits` [n, n_cls] say what the log-probabilities `target` say, found from `start` on.

    Args:
        start: first parameters.
        logits: of parameters.
        target: float [n, n_cls].
        steps: of Adam.
        rate: as in `fit_class_contexts`.
    """
    parameters = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([parameters], lr=rate * float(start.std()))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        loss = F.kl_div(logits(parameters).log_softmax(1), target, reduction="batchmean", log_target=True)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return parameters.detach()


def with_made_up(features: Tensor, count: int = MADE_UP) -> Tensor:
    """Unit-length features [n, projection] of images and, behind them, `count` that are made up."""
    spread = features - features.mean(0)
    root = torch.linalg.qr(spread, mode="r").R * ((1 - ROUND) / len(features)) ** 0.5  # [rank, projection]
    normal = derive(0, "made-up features").numpy().standard_normal((count, sum(root.shape)), dtype=np.float32)
    along, around = torch.from_numpy(normal).to(features.device).split(list(root.shape), dim=1)
    made_up = features.mean(0) + along @ root + (ROUND * spread.square().mean()).sqrt() * around
    return torch.cat([features, F.normalize(made_up, dim=-1)])
