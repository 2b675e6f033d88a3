"""A summary with published figures beside the made-up results of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from secfpp.experiment.results.published_figures import published_figures
from secfpp.experiment.results.summary import summarize
from secfpp.experiment.spec.plan import Plan
from secfpp.experiment.spec.published import Published, PublishedFigure
from support_experiment import fake_result

PUBLISHED = Published(
    "Somebody & Co, 2020",
    "Table 1",
    "https://example.org/paper",
    {
        "rounds": 50,
        "participation": 0.5,
        "dropout": 0.1,
        "data": {"name": "toy", "partition": "iid"},
        "backbone": {"name": "mini"},
        "method": {"training": {"lr": 0.02, "steps": 7}},
    },
    (
        PublishedFigure("pooled", "FedAll", 59.25, 40.0, note="with <tricks>"),
        PublishedFigure("grouped", "FedGroup", 70.0),
        PublishedFigure("pooled", "FedAll", 50.0, epsilon=0.1, note="as printed"),
        PublishedFigure("absent", "FedNone", 99.0),
    ),
)
LABELS = {
    "pooled": {"name": "pooled", "training": {"lr": 0.02, "steps": 5}},
    "pooled+slow": {"name": "pooled", "training": {"lr": 0.5, "steps": 5}},
    "grouped": {"name": "grouped", "rate": 3},
    "pooled+dp": {"name": "pooled", "training": {"lr": 0.02, "steps": 7}},
}
SHARED = {
    "rounds": 4,
    "participation": 1.0,
    "held_out": 0.0,
    "data": {"name": "toy", "partition": {"kind": "iid"}},
    "backbone": {"name": "mini"},
    "method": {"name": "grouped"},
}


def promise(epsilon: float | None) -> dict[str, Any]:
    """What a run under noise says of itself."""
    return {
        "unit": "record", "adjacency": "add_remove", "delta": 1e-5, "budget": None, "mechanism": ["gaussian"],
        "covers": ["prompts"], "not_covered": [], "epsilon": epsilon, "releases": 3, "clients": {}, "rounds": [],
        "data": {"epsilon": epsilon, "releases": 3, "replaces": None},
    }  # fmt: skip


def runs(labels: tuple[str, ...], seeds: tuple[int, ...] = (0, 1), epsilon: float | None = 18.7) -> list[Any]:
    """Results whose own accuracy is 60, and a point higher with each seed."""
    made = [fake_result(label, seed, 60.0 + seed, clustered=False) for label in labels for seed in seeds]
    return [replace(one, privacy=promise(epsilon)) if one.method.endswith("dp") else one for one in made]


def summary(
    labels: tuple[str, ...] = tuple(LABELS),
    planned: tuple[int, ...] = (0, 1),
    results: list[Any] | None = None,
    published: Published = PUBLISHED,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Of `results`, which of all `labels` and `planned` seeds are finished; all are if not given."""
    told = summarize("toy", "mini", 4, runs(labels, planned) if results is None else results)
    plan = Plan(
        {**SHARED, **(settings or {})}, {label: LABELS[label] for label in labels}, dict.fromkeys(labels, planned)
    )
    return {**told, "published": published_figures(published, told["methods"], plan)}
