"""Accuracies of personal prompts, as a simulator measures them (outside the protocol)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

from secfpp.algorithms.base import log_priors
from secfpp.algorithms.training import ClientContext
from secfpp.algorithms.visual import AT_ONCE, by_images
from secfpp.data.federated import Split
from secfpp.models.backbone import Backbone
from secfpp.models.pools import look
from secfpp.models.scoring import Predictor, Visual, class_accuracies, familiar_classes, level_logits, redistributed

_CHUNK = 8  # clients scored at once, which bounds memory


@dataclass(frozen=True)
class Example:
    """One test image as a client's prompt classifies it, without any prior.

    Attributes:
        domain: whose test images it is from.
        client: whose prompt was used.
        image: index of the image in the domain's test split.
        label: its true class.
        predicted: the class with the highest score.
        probability: of that class, 0..1.
    """

    domain: str
    client: str
    image: int
    label: int
    predicted: int
    probability: float


def example_classes(n_classes: int, columns: int = 8) -> list[int]:
    """At most `columns` classes, spread over the list."""
    return sorted({round(index) for index in np.linspace(0, n_classes - 1, min(columns, n_classes))})


def example_images(split: Split, n_classes: int) -> list[int | None]:
    """Index of the first image of each of `example_classes`; None where a class has none."""
    first = [np.flatnonzero(split.labels == label)[:1] for label in example_classes(n_classes)]
    return [int(found[0]) if len(found) else None for found in first]


def examples(
    contexts: Sequence[ClientContext],
    texts: Tensor,
    test: Mapping[str, Split],
    predictor: Predictor,
    visual: Visual | None = None,
) -> tuple[Example, ...]:
    """Predictions for `example_images` of each domain, by the domain's first client.

    Args:
        contexts: the clients.
        texts: as in `measure`.
        test: domain -> test images.
        predictor: how they predict.
        visual: what they have beside their prompts.
    """
    found: list[Example] = []
    for domain, split in test.items():
        i = next((i for i, context in enumerate(contexts) if context.data.domain == domain), None)
        chosen = [n for n in example_images(split, len(contexts[0].tokens.names)) if n is not None]
        if i is None or not chosen:
            continue
        backbone = contexts[i].backbone
        one = slice(i, i + 1)
        images = look(backbone, split.images[chosen], predictor.patches)
        scores = client_logits([contexts[i]], texts[one], images, predictor, visual and visual[one])[0]
        best, predicted = scores.softmax(1).max(1)
        found += [
            Example(domain, contexts[i].client, number, int(split.labels[number]), int(guess), float(value))
            for number, guess, value in zip(chosen, predicted, best, strict=True)
        ]
    return tuple(found)


def class_features(contexts: Sequence[ClientContext], prompts: np.ndarray) -> Tensor:
    """Class features [n_clients, levels, n_cls, projection] of prompts, equal ones encoded once.

    Args:
        contexts: the clients.
        prompts: float32 [n_clients, n_ctx, text_dim]; or [n_clients, levels, n_ctx, text_dim], each client's personal
            and domain prompt for a predictor on two levels.
    """
    levels = prompts[:, None] if prompts.ndim == 3 else prompts
    unique, inverse = np.unique(levels.reshape(-1, levels[0, 0].size), axis=0, return_inverse=True)
    backbone, tokens = contexts[0].backbone, contexts[0].tokens
    stack = torch.from_numpy(unique.reshape(-1, *levels.shape[2:])).to(backbone.device)
    with torch.no_grad():
        encoded = torch.cat([backbone.class_features(part, tokens) for part in stack.split(_CHUNK)])
    return encoded[torch.from_numpy(inverse.reshape(levels.shape[:2])).to(backbone.device)]


def client_logits(
    contexts: Sequence[ClientContext],
    texts: Tensor,
    images: Tensor,
    predictor: Predictor,
    visual: Visual | None = None,
) -> Tensor:
    """Logits of what each client predicts with, without any prior, float [k, n, n_cls].

    Args:
        contexts: the k clients.
        texts: their `class_features`, [k, levels, n_cls, projection].
        images: features [n, projection], or what `secfpp.models.pools.look` sees for a predictor with patches; without
            a pool also features of each client's own images [k, 1, n, projection].
        predictor: how they predict.
        visual: what they have beside their prompts.
    """
    levels = level_logits(images, texts, contexts[0].backbone.logit_scale, visual, predictor.pool)
    if levels.shape[1] == 1:
        return levels[:, 0]
    familiar = np.stack([familiar_classes(context.histogram, predictor.familiar_share) for context in contexts])
    return redistributed(levels[:, 1], levels[:, 0], torch.from_numpy(familiar).to(texts.device), predictor.trust)


def measure(
    contexts: Sequence[ClientContext],
    texts: Tensor,
    test: Mapping[str, Split],
    predictor: Predictor,
    visual: Visual | None = None,
    *,
    seen: Callable[[str], Tensor] | None = None,
    theirs: Sequence[np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """Test accuracies of every client, each float64 [n_clients] in percent.

    With a_i(D, c) the accuracy of client i on class c of domain D, d its own domain and h_i its training
    histogram: `own` = sum_c h_i(c) a_i(d, c), `own_domain` = mean_c a_i(d, c), `other_domains` = mean
    over other domains and c. Where no two clients of a domain have a class in common (see `neighbours`), `neighbour` =
    mean of a_i(d, c) over the classes of the other clients of d, as in DP-FPL (arXiv 2501.13904). With a class prior
    the log-prior of the declared target shifts the logits: the client's own for `own`, a uniform one (no shift)
    elsewhere. Keys ending in ``_no_prior`` have it off everywhere.

    Args:
        contexts: the clients.
        texts: `class_features` of their prompts.
        test: domain -> test images.
        predictor: how they predict.
        visual: what they have beside their prompts.
        seen: see `seeing`, where it is called for one part of the clients after the other.
        theirs: `neighbours` of these clients among all, likewise.
    """
    backbone, seen = contexts[0].backbone, seen or seeing(contexts[0].backbone, test, predictor)
    n_classes = len(contexts[0].tokens.names)
    mine: list[np.ndarray] = [np.empty(0)] * len(contexts)
    shifted: list[np.ndarray] = [np.empty(0)] * len(contexts)
    others: list[list[np.ndarray]] = [[] for _ in contexts]
    sharers = _alike(texts, visual)
    for domain, split in test.items():
        images = seen(domain)
        labels = torch.from_numpy(split.labels).to(backbone.device)
        for start in range(0, len(sharers), _CHUNK):
            chunk = sharers[start : start + _CHUNK]
            first = torch.tensor([clients[0] for clients in chunk], device=texts.device)
            scorers = [contexts[clients[0]] for clients in chunk]
            logits = client_logits(scorers, texts[first], images, predictor, visual and visual[first])
            plain = class_accuracies(logits, labels, n_classes).double().cpu().numpy()
            for row, i in ((row, i) for row, clients in enumerate(chunk) for i in clients):
                if contexts[i].data.domain != domain:
                    others[i].append(plain[row])
                    continue
                mine[i] = plain[row]
                prior = torch.from_numpy(contexts[i].log_prior(predictor.smoothing)).to(backbone.device)
                with_prior = class_accuracies((logits[row] + prior)[None], labels, n_classes)
                shifted[i] = with_prior[0].double().cpu().numpy()
    own = [_weighted(a, c.histogram) for a, c in zip(shifted if predictor.class_prior else mine, contexts, strict=True)]
    own_plain = [_weighted(a, c.histogram) for a, c in zip(mine, contexts, strict=True)]
    own_domain = [float(np.nanmean(a)) for a in mine]
    other = [float(np.nanmean(np.stack(a))) if a else np.nan for a in others]
    figures = {
        "own": own,
        "own_domain": own_domain,
        "other_domains": other,
        "own_no_prior": own_plain,
        "own_domain_no_prior": own_domain,
        "other_domains_no_prior": other,
    }
    if theirs := neighbours(contexts) if theirs is None else theirs:
        figures["neighbour"] = [_mean_over(a, of) for a, of in zip(mine, theirs, strict=True)]
        figures["neighbour_no_prior"] = figures["neighbour"]
    return {name: 100 * np.array(values, dtype=np.float64) for name, values in figures.items()}


def seeing(backbone: Backbone, test: Mapping[str, Split], predictor: Predictor) -> Callable[[str], Tensor]:
    """The test images of a domain as `predictor` sees them; of one domain at a time where it sees patches."""
    return lru_cache(maxsize=1 if predictor.patches else None)(
        lambda domain: look(backbone, test[domain].images, predictor.patches)
    )


def _alike(texts: Tensor, visual: Visual | None) -> list[list[int]]:
    """Positions of clients, those together that score every image alike: by one equal prompt and nothing beside it."""
    if visual is not None or texts.shape[1] > 1:
        return [[i] for i in range(len(texts))]
    found: dict[bytes, list[int]] = {}
    for i, own in enumerate(texts.cpu().numpy()):
        found.setdefault(sha256(own.tobytes()).digest(), []).append(i)
    return list(found.values())


def neighbours(contexts: Sequence[ClientContext]) -> list[np.ndarray]:
    """For each client the classes that others of its domain train on, bool [n_cls].

    Empty where two clients of a domain have a class in common, or no domain has two clients: they then have no
    neighbours in this sense.
    """
    held = np.stack([context.histogram > 0 for context in contexts])
    domains = np.array([context.data.domain for context in contexts])
    together = np.stack([held[domains == domain].sum(0) for domain in domains])
    if together.max() > 1 or len(set(domains)) == len(domains):
        return []
    return list((together > 0) & ~held)


def validation_accuracy(
    contexts: Sequence[ClientContext], texts: Tensor, predictor: Predictor, visual: Visual | None = None
) -> np.ndarray:
    """Each client's accuracy on its own validation images, float64 [n_clients] in percent; private to it."""
    accuracies = np.full(len(contexts), np.nan)
    for images, clients in by_images(contexts).items():
        at_once = 1 if predictor.pool else max(1, AT_ONCE // (images * texts.shape[2]))
        for some in torch.tensor(clients, device=texts.device).split(at_once):
            own = [contexts[i] for i in some.tolist()]
            seen = torch.stack([c.validation_looks if predictor.patches else c.validation_features for c in own])
            seen = seen[0] if predictor.pool else seen[:, None]  # beside the levels of each client
            logits = client_logits(own, texts[some], seen, predictor, visual and visual[some])
            if predictor.class_prior:
                logits = logits + log_priors(own, predictor.smoothing)[:, None]
            labels = np.stack([context.data.validation.labels for context in own])
            accuracies[some.cpu().numpy()] = 100 * (logits.argmax(2).cpu().numpy() == labels).mean(1)
    return accuracies


def _mean_over(accuracies: np.ndarray, classes: np.ndarray) -> float:
    """Mean accuracy over some classes, those that have test images; nan where there are none."""
    known = accuracies[classes & ~np.isnan(accuracies)]
    return float(known.mean()) if len(known) else float("nan")


def _weighted(accuracies: np.ndarray, histogram: np.ndarray) -> float:
    """Mean accuracy under the histogram, over the classes that have test images."""
    weights = np.where(np.isnan(accuracies), 0, histogram)
    return float(np.nansum(weights * accuracies) / weights.sum()) if weights.sum() else float("nan")
