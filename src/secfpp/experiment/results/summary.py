"""From the results of runs to files: summary, lines per round and cost, personal prompts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from secfpp.experiment.results.explained import decision
from secfpp.experiment.results.privacy_figures import privacy
from secfpp.experiment.results.refused import refusals
from secfpp.experiment.results.security_costs import security
from secfpp.experiment.results.significance import detectable, paired_p
from secfpp.experiment.results.statistics import adjusted_rand_index, can_be_judged, purity, t_bounds, t_interval
from secfpp.images import SIZE
from secfpp.models.novelty import Novelty
from secfpp.models.prompt_file import ClientPrompt
from secfpp.paging import paged

if TYPE_CHECKING:
    from secfpp.data.federated import ClientData, FederatedDataset, Split
    from secfpp.grey_depth import GreyWindow
    from secfpp.models.backbone import Backbone, BackboneSpec
    from secfpp.runtime.learned import Learned
    from secfpp.runtime.trainer import RunResult

Row = Mapping[str, Any]


def summarize(
    dataset: str,
    backbone: str,
    rounds: int,
    results: Sequence[RunResult],
    algorithms: Mapping[str, object | None] | None = None,
    participation: float = 1.0,
) -> dict[str, Any]:
    """The content of ``summary.json``.

    Args:
        dataset: name of the data set.
        backbone: name of the backbone.
        rounds: rounds of each run.
        results: one per method and seed, in the order methods are to be listed.
        algorithms: label -> the method with its settings, which knows what it reveals; null where it is not here.
        participation: share of the clients that take part in a round.

    Returns:
        ``{"dataset", "backbone", "seeds", "rounds", "methods", "differences"}``. Each method has, per
        metric in percent, ``mean`` over clients and seeds, ``ci95`` (a ``[low, high]`` t interval over
        seeds, null for one seed), ``worst`` (the lowest client, averaged over seeds) and ``per_seed``;
        ``clusters`` (null without; its ``ari`` and ``purity`` are means over the seeds with several clusters,
        ``judged`` of them, and null where there are none, or where all clients, or no two of them, have a domain in
        common; ``decisions`` says for every seed how many groups are used and why); ``seconds`` and ``bytes`` (per
        client) as means over seeds; ``security``, ``privacy`` and ``refusals``, see `security_costs.security`,
        `privacy_figures.privacy` and `refused.refusals` beside this module.
    """
    known = algorithms or {}
    methods = {name: [r for r in results if r.method == name] for name in dict.fromkeys(r.method for r in results)}
    return {
        "dataset": dataset,
        "backbone": backbone,
        "seeds": sorted({result.seed for result in results}),
        "rounds": rounds,
        "methods": {
            name: {
                **_method(runs),
                "security": security(runs, known.get(name), participation),
                "privacy": privacy(runs),
                "refusals": refusals(runs),
            }
            for name, runs in methods.items()
        },
        "differences": differences(results),
    }


def differences(results: Sequence[RunResult]) -> list[dict[str, Any]]:
    """Paired differences ``method - against`` in percentage points, over the seeds both have.

    Each has ``metric``, ``mean``, ``ci95`` (a t interval over seeds), ``lower95`` and ``upper95`` (one-sided 95 %
    bounds, by which non-inferiority is judged), ``p`` (two-sided, of a paired t test, for this pair alone),
    ``detectable`` (what so few seeds can see, see `significance.detectable`), ``seeds`` and ``per_seed``; null for what
    one seed cannot tell.
    Pairing by seed takes out what the seed does to both alike (data, conventions, start).
    """
    methods = list(dict.fromkeys(result.method for result in results))
    cells = {(result.method, result.seed): result for result in results}
    found = []
    for second, first in combinations(methods, 2):
        seeds = sorted({seed for method, seed in cells if method == first and (second, seed) in cells})
        pair = [cells[method, seed] for method in (first, second) for seed in seeds]
        for metric in _metrics(pair) if pair else ():
            gaps = [_mean(cells[first, seed], metric) - _mean(cells[second, seed], metric) for seed in seeds]
            lower, upper = t_bounds(gaps) or (None, None)
            tested = {"lower95": lower, "upper95": upper, "p": paired_p(gaps), "detectable": detectable(gaps)}
            names = {"method": first, "against": second, "metric": metric}
            found.append({**names, **_over_seeds(gaps), **tested, "seeds": seeds})
    return found


def metrics_lines(results: Sequence[RunResult]) -> str:
    """``metrics.jsonl``: one line per method, seed, client and round."""
    return _lines({"method": r.method, "seed": r.seed, **row} for r in results for row in r.rows)


def costs_lines(results: Sequence[RunResult]) -> str:
    """``costs.jsonl``: one line per method and seed; bytes are per client, of the whole run."""
    return _lines(
        {
            "method": r.method,
            "seed": r.seed,
            "rounds": r.rounds,
            "exchanges": r.costs.exchanges,
            "messages": r.costs.messages,
            "seconds": r.seconds,
            "seconds_by_component": dict(r.costs.seconds),
            "bytes_up": dict(sorted(r.costs.up.items())),
            "bytes_down": dict(sorted(r.costs.down.items())),
        }
        for r in results
    )


def novelties(dataset: FederatedDataset, backbone: Backbone) -> dict[str, Novelty]:
    """What each client's images are like, by its name, for those of whose images that can be said."""
    found = {client.name: novelty_of(client, backbone) for client in paged(dataset.clients)}
    return {name: known for name, known in found.items() if known is not None}


def novelty_of(client: ClientData, backbone: Backbone) -> Novelty | None:
    """What the images of one client are like, if that can be said."""
    return Novelty.of(*(_features(backbone, split) for split in (client.train, client.validation)))


def client_prompts(
    result: RunResult,
    backbone: BackboneSpec,
    classes: Sequence[str],
    image_size: int = SIZE,
    known: Mapping[str, Novelty] | None = None,
    grey_window: GreyWindow | None = None,
) -> dict[str, ClientPrompt]:
    """What each client predicts with, by its name.

    Args:
        result: of the run.
        backbone: the model of the run.
        classes: names of the classes.
        image_size: side in pixels of the images it was trained on.
        known: what the clients' images are like, see `novelties`.
        grey_window: which of their grey values of more than 8 bits were black and white.
    """
    return dict(_each_prompt(result, backbone, classes, image_size, known, grey_window))


def _each_prompt(
    result: RunResult,
    backbone: BackboneSpec,
    classes: Sequence[str],
    image_size: int,
    known: Mapping[str, Novelty] | None,
    grey_window: GreyWindow | None,
) -> Iterator[tuple[str, ClientPrompt]]:
    """`client_prompts`, one after the other."""
    for i, client in enumerate(result.clients):
        yield (
            client,
            client_prompt(
                result,
                i,
                backbone,
                (known or {}).get(client),
                classes=tuple(classes),
                client=client,
                domain=result.domains[i],
                method=result.method,
                seed=result.seed,
                rounds=result.rounds,
                image_size=image_size,
                grey_window=grey_window,
            ),
        )


def client_prompt(
    learned: Learned | RunResult, i: int, backbone: BackboneSpec, known: Novelty | None, **about: Any
) -> ClientPrompt:
    """What the client at position `i` predicts with.

    Args:
        learned: of several clients, or of one.
        i: which.
        backbone: the model of the run.
        known: what the client's images are like, if that can be said.
        about: the other fields of `ClientPrompt`, which say whose it is and where from.
    """

    def own(array: np.ndarray | None) -> np.ndarray | None:
        return None if array is None else array[i]

    def remembered(array: np.ndarray | None) -> np.ndarray | None:
        """The client's own rows of a memory, which others may have more of."""
        if array is None or learned.visual_memory is None or learned.visual_bias is None:
            return own(array)
        rows: np.ndarray = array[i][:, np.isfinite(learned.visual_bias[i]).all(0)]
        return rows

    return ClientPrompt(
        prompt=learned.prompts[i],
        domain_prompt=own(learned.domain_prompts),
        familiar=own(learned.familiar),
        visual_weights=remembered(learned.visual_weights),
        visual_bias=remembered(learned.visual_bias),
        text_weight=own(learned.text_weight),
        visual_memory=remembered(learned.visual_memory),
        log_prior=own(learned.log_priors),
        backbone=backbone.name,
        backbone_digest=backbone.digest,
        trust=1.0 if learned.familiar is None else learned.trust,
        pool=None if learned.domain_prompts is None else learned.pool,
        image_mean=known.mean if known else None,
        image_spread=known.spread if known else None,
        novelty_threshold=known.threshold if known else None,
        **about,
    )


def prompt_files(
    result: RunResult,
    backbone: BackboneSpec,
    classes: Sequence[str],
    image_size: int = SIZE,
    known: Mapping[str, Novelty] | None = None,
    grey_window: GreyWindow | None = None,
) -> Iterator[tuple[str, bytes]]:
    """The files of `client_prompts`, one after the other: relative path and content."""
    folder = f"prompts/{_path_part(result.method)}/{result.seed}"
    prompts = _each_prompt(result, backbone, classes, image_size, known, grey_window)
    return ((f"{folder}/{_path_part(client)}.safetensors", prompt.to_bytes()) for client, prompt in prompts)


def _features(backbone: Backbone, split: Split) -> np.ndarray:
    if not len(split):
        return np.empty((0, backbone.spec.projection), np.float32)
    features: np.ndarray = backbone.features(split.images).cpu().numpy()
    return features


def clusters_of(run: RunResult) -> tuple[list[str], list[int]] | None:
    """True groups and clusters of the clients that are in a cluster (-1: in none); None of a method without any."""
    if run.assignment is None:
        return None
    pairs = [(d, c) for d, c in zip(run.true_groups, run.assignment, strict=True) if c >= 0]
    return [domain for domain, _ in pairs], [cluster for _, cluster in pairs]


def per_client(count: Mapping[str, int], run: RunResult) -> float:
    """What clients of `run` sent or received, by their names, as a mean over all of them."""
    return sum(count.values()) / len(run.clients)


def _method(runs: Sequence[RunResult]) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    for name in _metrics(runs):
        worst = float(np.mean([np.nanmin(run.metrics[name]) for run in runs]))
        entry[name] = {**_over_seeds([_mean(run, name) for run in runs]), "worst": worst}
    entry["clusters"] = _clusters(runs)
    entry["newcomers"] = _newcomers(runs)
    entry["seconds"] = float(np.mean([run.seconds for run in runs]))
    entry["bytes"] = {
        "client_up": float(np.mean([per_client(run.costs.up, run) for run in runs])),
        "client_down": float(np.mean([per_client(run.costs.down, run) for run in runs])),
    }
    entry["exchanges"] = float(np.mean([run.costs.exchanges for run in runs]))
    entry["messages"] = float(np.mean([run.costs.messages for run in runs]))
    parts = sorted({part for run in runs for part in run.costs.seconds})
    entry["seconds_by_component"] = {p: float(np.mean([run.costs.seconds.get(p, 0.0) for run in runs])) for p in parts}
    entry["seeds"] = [run.seed for run in runs]
    return entry


def _newcomers(runs: Sequence[RunResult]) -> dict[str, Any] | None:
    """Accuracies of clients that came after training; None if there were none."""
    late = [run for run in runs if run.newcomers]
    if not late:
        return None
    names = [name for name in late[0].newcomer_metrics if not name.endswith("_no_prior")]
    return {
        "clients": float(np.mean([len(run.newcomers) for run in late])),
        **{name: _over_seeds([float(np.nanmean(run.newcomer_metrics[name])) for run in late]) for name in names},
    }


def _clusters(runs: Sequence[RunResult]) -> dict[str, Any] | None:
    """Clusters and their agreement with the true groups."""
    found = [pair for run in runs if (pair := clusters_of(run))]
    if not found:
        return None
    counts = [len(set(clusters)) for _, clusters in found]
    judged = [(domains, clusters) for domains, clusters in found if can_be_judged(domains, clusters)]
    return {
        "k": counts[0] if len(set(counts)) == 1 else float(np.mean(counts)),
        "ari": float(np.mean([adjusted_rand_index(*pair) for pair in judged])) if judged else None,
        "purity": float(np.mean([purity(*pair) for pair in judged])) if judged else None,
        "judged": len(judged),
        "sizes": [[clusters.count(c) for c in sorted(set(clusters))] for _, clusters in found],
        "decisions": [decision(run) for run in runs],
    }


def _over_seeds(values: Sequence[float]) -> dict[str, Any]:
    interval = t_interval(values)
    return {"mean": float(np.mean(values)), "ci95": interval and list(interval), "per_seed": list(values)}


def _metrics(runs: Sequence[RunResult]) -> list[str]:
    """Names of the metrics that mean something in every one of `runs` (not so: other domains, of one domain)."""
    return [
        name
        for name in runs[0].metrics
        if all(name in run.metrics and np.isfinite(run.metrics[name]).any() for run in runs)
    ]


def _mean(run: RunResult, metric: str) -> float:
    return float(np.nanmean(run.metrics[metric]))


def _path_part(name: str) -> str:
    return quote(name, safe=" +=,@").replace("..", "%2E%2E")


def _lines(rows: Iterable[Row]) -> str:
    return "".join(json.dumps(_finite(row), allow_nan=False) + "\n" for row in rows)


def _finite(value: Any) -> Any:
    """`value` with null for what JSON cannot say: NaN (a loss where nothing was trained) and infinities."""
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
