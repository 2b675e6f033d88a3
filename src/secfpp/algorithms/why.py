"""Why clients are grouped as they are, as somebody sees it who knows everything: for simulations, after training.

Nothing here is part of the protocol, and most of it no party of it knows. *kappa* is the size of the effect: the
products of the members of the groups found, beyond what noise gives, as a share of the squared distances that tell
classes apart (0: groups agree with everybody; 1: they disagree about classes as much as classes differ). Its null
distribution permutes the classes of every client's residuals, which keeps their sizes and takes away what clients
have in common.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from secfpp.algorithms.base import ServerState
from secfpp.algorithms.class_sums import EXPOSURE_PRIOR, SharedSums
from secfpp.algorithms.residuals import directions, spread
from secfpp.algorithms.sharing import EVERYBODY, GROUP
from secfpp.algorithms.training import ClientContext
from secfpp.algorithms.visual import ClassMeans, all_weighed
from secfpp.models.scoring import Predictor, Visual, level_logits
from secfpp.protocol.program import ClientState
from secfpp.secure.clustering import agreement, kmeans
from secfpp.secure.clustering.sampling import RISK, drawn, least_seen
from secfpp.seeding import derive

if TYPE_CHECKING:
    from secfpp.algorithms.secfpp import SecFPP
    from secfpp.secure.clustering.plain_agreement import Agreement

PERMUTATIONS = 20
_PART = 256  # clients looked at side by side, which bounds memory


def why(
    method: SecFPP, contexts: Sequence[ClientContext], states: Sequence[ClientState], server: ServerState
) -> dict[str, Any]:
    """What the report and ``secfpp why`` show; empty for a method that does not group by class residuals."""
    everybody = None
    if method.class_means.shared:  # clients who were never in a round know nothing of it
        known = (method.shared_sums(context, state, EVERYBODY) for context, state in zip(contexts, states, strict=True))
        everybody = next((sums for sums in known if sums is not None), None)
    if method.descriptor != "class_residuals" or everybody is None or server.found is None:
        return {}
    found: dict[str, Any] = {"found": server.found.k, "used": server.assignment.k if server.assignment else 1}
    found["sample"] = _sample(method, len(server.found.cluster_of))
    if getattr(method.clusterer, "by_agreement", False):
        found |= _search(method, contexts, states, server, everybody)
    tested = [s for c, s in zip(contexts, states, strict=True) if c.client in server.found.cluster_of and "gain" in s]
    gains = [float(state["gain"]) for state in tested] if server.found.k > 1 else []
    found["test"] = _test(gains, method.min_gain, method.error) if len(gains) > 1 and method.proof else None
    found["clients"] = _clients(method, contexts, states, server)
    return {"verdict": _verdict(found) + _of_sample(found["sample"]), **found}


def _sample(method: SecFPP, clients: int) -> dict[str, Any] | None:
    """How many of so many clients were searched, and how small a group may be to be seen; None if all were."""
    searched: int = getattr(method.clusterer, "searched", int)(clients)
    if searched == clients:
        return None
    least = least_seen(clients, searched, method.clusterer.min_cluster_size)  # type: ignore[attr-defined]
    return {"searched": searched, "clients": clients, "least": least, "risk": RISK}


def _of_sample(sample: Mapping[str, Any] | None) -> str:
    if sample is None:
        return ""
    return (
        f"; of {sample['clients']} clients {sample['searched']} were searched: groups of fewer than {sample['least']} "
        f"members, {100 * sample['least'] / sample['clients']:.1f} % of all, are missed with a probability above "
        f"{100 * sample['risk']:.0f} %"
    )


def _verdict(found: Mapping[str, Any]) -> str:
    if found["found"] == 1:
        return "groups: none found; clients do not disagree about classes more than chance makes them"
    test = found["test"]
    if test is None:
        return f"{found['used']} groups, used without a proof"
    gain = f"members of a group predict each other's validation images {test['mean']:+.1f} points better than all do"
    if found["used"] > 1:
        return f"{found['used']} groups, of use: {gain} (at least {test['low']:+.1f})"
    return f"groups: of no use here; {gain} (at least {test['low']:+.1f}, {test['margin']:g} were asked for)"


def _search(
    method: SecFPP,
    contexts: Sequence[ClientContext],
    states: Sequence[ClientState],
    server: ServerState,
    everybody: SharedSums,
) -> dict[str, Any]:
    """The candidates, and kappa with its null."""
    assert server.found is not None
    clusterer: Agreement = method.clusterer  # type: ignore[assignment]
    every, seed = list(server.found.cluster_of), contexts[0].seed
    searched = set(drawn(every, clusterer.searched(len(every)), seed, 1))
    described = [s["descriptor"] for c, s in zip(contexts, states, strict=True) if c.client in searched]
    points = np.stack([clusterer.described(descriptor) for descriptor in described]).astype(np.int64)
    sigma, n = spread(everybody, method.directions), len(points)
    search = clusterer.search(n, points.shape[1], seed, 1)
    allowances = agreement.allowances(search, sigma)
    candidates, of_k = [], _objectives(search, points)
    for k, objective in of_k.items():
        noise = allowances[k] / kmeans.INERTIA_SCALE / sigma if k > 1 else 0.0
        score = objective / sigma - noise if k > 1 else 0.0
        candidates.append({"k": k, "score": score, "agreement": objective / sigma, "null": noise})
    k = server.found.k
    if k == 1 or k not in of_k:
        return {"candidates": candidates, "kappa": None, "kappa_null": []}
    scale = (n - k) * _between(method, contexts, everybody)
    null = []
    for number in range(PERMUTATIONS):
        rng = derive(seed, "kappa", number).numpy()
        shape = (n, -1, method.directions)
        permuted = np.stack([one[rng.permutation(len(one))] for one in points.reshape(shape)]).reshape(n, -1)
        null.append(_objectives(replace(search, min_size=1), permuted)[k])
    centre = float(np.mean(null))
    kappas = [(value - centre) / scale for value in (of_k[k], *null)]
    return {"candidates": candidates, "kappa": kappas[0], "kappa_null": kappas[1:]}


def _objectives(search: Any, points: np.ndarray) -> dict[int, float]:
    """The largest J of every K that has an admissible run."""
    inner = agreement.products(points)
    best: dict[int, float] = {}
    for (k, _), labels in search.finished(inner).items():
        if search.admits(np.bincount(labels, minlength=k).tolist()):
            objective = -kmeans.inertia(inner, labels) / kmeans.INERTIA_SCALE
            best[k] = max(best.get(k, -np.inf), objective)
    return dict(sorted(best.items()))


def _between(method: SecFPP, contexts: Sequence[ClientContext], everybody: SharedSums) -> float:
    """Squared distance of classes from their centre, on the scale of products of two clients' descriptors."""
    classes = everybody.classes
    known = classes.counts > 0
    means = (
        classes.sums[known]
        / classes.counts[known, None]
        @ directions(everybody, method.directions, method.class_means.shrinkage)
    )
    counts = np.stack([context.histogram for context in contexts])[:, known]
    weight = (counts / np.sqrt(counts + EXPOSURE_PRIOR)).mean(0)
    centre = classes.counts[known] @ means / classes.counts.sum()
    return float(weight**2 @ ((means - centre) ** 2).sum(1))


def _test(gains: Sequence[float], margin: float, error: float) -> dict[str, Any]:
    """The t-test that a poll decided, with the figures that it did not open; percentage points."""
    values = 100 * np.array(gains)
    mean, deviation = float(values.mean()), float(values.std(ddof=1)) / len(values) ** 0.5
    low = mean - float(stats.t.ppf(1 - error, len(values) - 1)) * deviation
    t = (mean - margin) / deviation if deviation > 0 else None
    return {"margin": margin, "error": error, "mean": mean, "low": low, "t": t, "n": len(values)}


def _clients(
    method: SecFPP, contexts: Sequence[ClientContext], states: Sequence[ClientState], server: ServerState
) -> list[dict[str, Any]]:
    """What each level gives on each client's validation images, in percent, and the gain of its group."""
    assert server.found is not None
    backbone, tokens = contexts[0].backbone, contexts[0].tokens
    with torch.no_grad():
        start = backbone.class_features(torch.from_numpy(contexts[0].start).to(backbone.device)[None], tokens)[None]
    levels: list[dict[str, float | None]] = []
    for first in range(0, len(contexts), _PART):
        part = slice(first, first + _PART)
        levels += _levels(method, contexts[part], states[part], start)
    rows = []
    for context, state, accuracies in zip(contexts, states, levels, strict=True):
        number = server.found.cluster_of.get(context.client, -1)
        gain = 100 * float(state["gain"]) if "gain" in state and server.found.k > 1 and number >= 0 else None
        rows.append({"client": context.client, "group": number, "gain": gain, "levels": accuracies})
    return rows


def _levels(
    method: SecFPP, contexts: Sequence[ClientContext], states: Sequence[ClientState], start: Tensor
) -> list[dict[str, float | None]]:
    """What the start prompt gives each client alone, and with the class means of each level that it has."""
    plain = Predictor(method.class_prior, method.prior_smoothing)
    own, shared = ClassMeans(levels="own"), method.class_means
    scorers: dict[str, dict[int, Visual]] = {"own": {}, "everybody": {}, "group": {}}
    for i, (context, state) in enumerate(zip(contexts, states, strict=True)):
        scorers["own"][i] = own.scorer(context, 1)
        everybody, group = (method.shared_sums(context, state, slot) for slot in (EVERYBODY, GROUP))
        if everybody is not None:
            of_all = everybody.classes, None, everybody.scatter
            scorers["everybody"][i] = shared.scorer(context, 1, *of_all)
            if group is not None:
                of_group = everybody.classes, group.classes, everybody.scatter
                scorers["group"][i] = shared.scorer(context, 1, *of_group)
    found = [{"start": _accuracy(context, start, plain, None)} for context in contexts]
    for name, of in scorers.items():
        if of:
            some = [contexts[i] for i in of]
            texts = start.expand(len(some), *start.shape[1:])
            visual = all_weighed(some, texts, Visual.stacked(list(of.values())), plain)
            for row, i in enumerate(of):
                found[i][name] = _accuracy(contexts[i], start, plain, visual[row : row + 1])
    return found


def _accuracy(context: ClientContext, texts: Tensor, predictor: Predictor, visual: Visual | None) -> float | None:
    """Accuracy in percent on validation images; None without any."""
    labels = context.data.validation.labels
    if not len(labels):
        return None
    logits = level_logits(context.validation_features, texts, context.backbone.logit_scale, visual)[0, 0]
    prior = torch.from_numpy(context.log_prior(predictor.smoothing)).to(logits.device) * predictor.class_prior
    return 100 * float(((logits + prior).argmax(1).cpu().numpy() == labels).mean())
