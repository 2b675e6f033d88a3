"""A `RunResult` as named arrays and JSON, and back: what cells and saved `Personalizer`s hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, astuple
from typing import Any

import numpy as np

from secfpp.models.pools import pool_from
from secfpp.protocol.refusals import Refusal
from secfpp.runtime.costs import Costs
from secfpp.runtime.evaluation import Example
from secfpp.runtime.trainer import RunResult

_METRIC, _NEWCOMERS = "metric.", "newcomers."
_OPTIONAL = (
    "descriptors",
    "log_priors",
    "domain_prompts",
    "familiar",
    "visual_weights",
    "visual_bias",
    "text_weight",
    "visual_memory",
)


def result_record(result: RunResult) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a result, and the rest of it as JSON takes it; its method and seed are left out."""
    arrays = {f"{_METRIC}{name}": values for name, values in result.metrics.items()}
    arrays |= {f"{_NEWCOMERS}{name}": values for name, values in result.newcomer_metrics.items()}
    arrays |= {name: array for name in _OPTIONAL if (array := getattr(result, name)) is not None}
    about = {
        "rounds": result.rounds,
        "clients": list(result.clients),
        "domains": list(result.domains),
        "groups": list(result.groups),
        "metrics": list(result.metrics),
        "rows": [dict(row) for row in result.rows],
        "assignment": None if result.assignment is None else list(result.assignment),
        "costs": result.costs.as_dict(),
        "seconds": result.seconds,
        "trust": result.trust,
        "pool": result.pool.record() if result.pool else None,
        "examples": [asdict(example) for example in result.examples],
        "newcomers": list(result.newcomers),
        "newcomer_assignment": None if result.newcomer_assignment is None else list(result.newcomer_assignment),
        "why": dict(result.why),
        "refusals": [astuple(refusal) for refusal in result.refusals],
        "colluding": result.colluding,
        "privacy": dict(result.privacy),
    }
    return {**arrays, "prompts": result.prompts}, about


def result_from(method: str, seed: int, about: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> RunResult:
    """What `result_record` was given, put together and checked.

    Raises:
        KeyError, TypeError, ValueError: parts that are missing or do not fit.
    """
    clients, assignment = tuple(about["clients"]), about["assignment"]
    result = RunResult(
        method=method,
        seed=seed,
        rounds=about["rounds"],
        clients=clients,
        domains=tuple(about["domains"]),
        groups=tuple(about["groups"]),
        metrics={name: arrays[f"{_METRIC}{name}"] for name in about["metrics"]},
        rows=tuple(about["rows"]),
        assignment=_tuple(assignment),
        costs=Costs.from_dict(about["costs"]),
        seconds=about["seconds"],
        prompts=arrays["prompts"],
        **{name: arrays.get(name) for name in _OPTIONAL},
        trust=about["trust"],
        pool=pool_from(about["pool"]) if about.get("pool") else None,
        examples=tuple(Example(**example) for example in about["examples"]),
        newcomers=tuple(about["newcomers"]),
        newcomer_metrics={
            name.removeprefix(_NEWCOMERS): array for name, array in arrays.items() if name.startswith(_NEWCOMERS)
        },
        newcomer_assignment=_tuple(about["newcomer_assignment"]),
        why=about["why"],
        refusals=tuple(Refusal(*one) for one in about["refusals"]),
        colluding=about["colluding"],
        privacy=about.get("privacy", {}),
    )
    per_client = {**result.metrics, "domains": result.domains, "assignment": assignment, "prompts": result.prompts}
    per_client |= {name: arrays.get(name) for name in _OPTIONAL}
    for name, values in per_client.items():
        if values is not None and len(values) != len(clients):
            raise ValueError(f"{name}: {len(values)} entries for {len(clients)} clients")
    if not clients or result.prompts.ndim != 3 or not np.isfinite(result.prompts).all():
        raise ValueError(f"prompts of shape {result.prompts.shape} that are not all finite, or no clients")
    return result


def _tuple(values: list[int] | None) -> tuple[int, ...] | None:
    return None if values is None else tuple(values)
