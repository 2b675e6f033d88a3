"""Stealing what a client predicts with: by asking it about images, or from all that its server saw.

How much was stolen is how often thief and client predict the same class of images that neither was asked about nor
trained on. Vectors say little of it: quite different prompts predict the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from secfpp.algorithms.training import ClientContext
from secfpp.attacks.observed import Observed, averaged_rounds, averaged_slot
from secfpp.attacks.shadows import CHUNK, MOST
from secfpp.attacks.views import uploads
from secfpp.data.federated import Split
from secfpp.runtime.evaluation import class_features, client_logits
from secfpp.seeding import Seed

QUERIES = (36, 288)
"""Images that a thief asks about; fewer where there are not twice as many test images."""
STEPS, RATE = 200, 0.02


@dataclass(frozen=True)
class Theft:
    """What a thief has of one client.

    Attributes:
        adversary: ``querier`` or ``server``.
        seen: what it had.
        exposed: whether that is one client's own, in the clear.
        agreement: share of images of which thief and client predict the same class.
        untouched: the same of the public start prompt instead of the thief's.
        distance: of the thief's prompt from the client's, as a share of how far that is from the start; None where it
            never moved.
    """

    adversary: str
    seen: str
    exposed: bool
    agreement: float
    untouched: float
    distance: float | None


def thefts(run: Observed, clients: Sequence[str], test: Mapping[str, Split], seed: Seed) -> dict[str, list[Theft]]:
    """Every theft from each client, by its name.

    Args:
        run: a finished run.
        clients: from whom.
        test: domain -> images of it, one half to ask about, the other to measure on.
        seed: deals the halves.
    """
    found: dict[str, list[Theft]] = {client: [] for client in clients}
    asked, judged = {}, {}
    for client in clients:
        split = test[run.contexts[client].data.domain]
        order, half = seed.numpy().permutation(len(split)), len(split) // 2
        features = run.contexts[client].backbone.features(split.images)
        asked[client], judged[client] = features[order[:half]], features[order[half:]]
    for count in sorted({min(queries, min(map(len, asked.values()))) for queries in QUERIES}):
        size = CHUNK.get(run.contexts[clients[0]].backbone.device.type, MOST)
        for at in range(0, len(clients), size):
            some = clients[at : at + size]
            contexts = [run.contexts[client] for client in some]
            images = torch.stack([asked[client][:count] for client in some])
            answers = torch.stack([predicted(run, c, x).softmax(-1) for c, x in zip(some, images, strict=True)])
            prompts, bias = _distilled(contexts, images, answers)
            for place, client in enumerate(some):
                logits = _of_prompt(contexts[place], prompts[place], judged[client]) + bias[place]
                seen = ("querier", f"{count} predictions", True)
                found[client].append(_judged(run, client, judged[client], logits, seen, prompts[place]))
    for client in clients:
        guess = servers_prompt(run, client)
        if guess is not None:
            prompt, sealed = torch.tensor(guess[0]), guess[1]
            logits = _of_prompt(run.contexts[client], prompt, judged[client])
            seen = ("server", "all uploads", not sealed)
            found[client].append(_judged(run, client, judged[client], logits, seen, prompt))
    return found


def servers_prompt(run: Observed, client: str) -> tuple[np.ndarray, bool] | None:
    """A server's guess at a client's prompt, float32 [n_ctx, text_dim].

    Of open uploads it makes the averages itself, and the last one is its guess. To the public start it adds the mean of
    what it reads from sealed ones.

    Returns:
        The guess and whether it is from sealed bytes; None if nothing was uploaded.
    """
    read, rounds = uploads(run, client), averaged_rounds(run, client)
    if not read or not rounds:
        return None
    start = run.contexts[client].start
    if read[-1].sealed:
        return (start + np.mean([upload.update for upload in read], axis=0)).astype(np.float32), True
    return run.states[rounds[-1]][client][f"{averaged_slot(run)}.base"], False


def predicted(run: Observed, client: str, images: Tensor) -> Tensor:
    """Log-scores of all that a client predicts with after the run, float [n, n_cls], its class prior in them."""
    context, algorithm, state = run.contexts[client], run.algorithm, run.states[-1][client]
    texts = class_features([context], algorithm.prompts(state)[None])
    logits = client_logits([context], texts, images, algorithm.predictor, algorithm.visual(context, state, texts))[0]
    if not algorithm.class_prior:
        return logits
    return logits + torch.from_numpy(context.log_prior(algorithm.prior_smoothing)).to(logits.device)


def _distilled(contexts: Sequence[ClientContext], images: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
    """A prompt [k, n_ctx, text_dim] and a bias for each class [k, n_cls] that answer like each client.

    Args:
        contexts: the k clients, of which the model, the class names and the public start are known.
        images: float [k, n, projection].
        answers: probabilities float [k, n, n_cls].
    """
    backbone, tokens = contexts[0].backbone, contexts[0].tokens
    prompts = torch.from_numpy(np.stack([c.start for c in contexts])).to(backbone.device).requires_grad_()
    bias = torch.zeros(len(contexts), answers.shape[-1], device=backbone.device, requires_grad=True)
    optimiser = torch.optim.Adam([prompts, bias], lr=RATE)
    for _ in range(STEPS):
        texts = backbone.class_features(prompts, tokens)
        logits = backbone.logit_scale * images @ texts.transpose(-1, -2) + bias[:, None]
        loss = F.cross_entropy(logits.transpose(1, 2), answers.transpose(1, 2), reduction="none").mean(1).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    return prompts.detach(), bias.detach()


def _of_prompt(context: ClientContext, prompt: Tensor, images: Tensor) -> Tensor:
    """Logits of a prompt alone, float [n, n_cls]."""
    with torch.no_grad():
        texts = context.backbone.class_features(prompt[None].to(images.device), context.tokens)[0]
    return context.backbone.logit_scale * images @ texts.T


def _judged(
    run: Observed, client: str, images: Tensor, logits: Tensor, seen: tuple[str, str, bool], prompt: Tensor
) -> Theft:
    context = run.contexts[client]
    truth = predicted(run, client, images).argmax(-1)
    plain = _of_prompt(context, torch.from_numpy(context.start), images).argmax(-1)
    own = run.algorithm.personal_prompt(run.states[-1][client])
    moved = float(np.linalg.norm(own - context.start))
    apart = float(np.linalg.norm(prompt.cpu().numpy() - own))
    agreement, untouched = (float((guess == truth).float().mean()) for guess in (logits.argmax(-1), plain))
    return Theft(*seen, agreement, untouched, apart / moved if moved else None)
