"""What a run directory is to hold: one experiment's settings, and which methods on which seeds.

The plan is kept in ``run.json``. It decides what is left to do when a command is given again, and refuses to mix
results of different settings in one directory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from secfpp.errors import ConfigError, DataError, Problem
from secfpp.experiment.spec.config import ExperimentConfig, to_table
from secfpp.experiment.spec.schema import dump, flat

if TYPE_CHECKING:
    from secfpp.algorithms.base import FederatedAlgorithm

Table = Mapping[str, Any]
SHOWN = 6
"""Differing settings that a message names."""


class Cell(NamedTuple):
    """One method, by its label, on one seed: the unit that is trained, kept and skipped."""

    method: str
    seed: int

    def __str__(self) -> str:
        return f"{self.method}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """The cells of a run directory and everything their results depend on.

    Where a model computes, and on how many threads, is left out: other choices may change the last bits of results, not
    what is measured. That its blocks are compiled is named if they are.

    Attributes:
        settings: what all cells share: rounds, participation, data, backbone with its digest, ``[method]``.
        methods: label -> the method's name and all its hyper-parameters.
        seeds: label -> its seeds, rising.
    """

    settings: Table
    methods: Mapping[str, Table]
    seeds: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, config: ExperimentConfig, chosen: Mapping[str, FederatedAlgorithm], backbone_digest: str) -> Plan:
        """Every method of `chosen` on every seed of `config`."""
        table = to_table(config)
        model = config.backbone
        backbone: dict[str, Any] = {"name": model.name, "dtype": model.dtype, "digest": backbone_digest}
        backbone |= {"compile": True} if model.compile else {}
        settings = {name: table[name] for name in ("rounds", "participation", "held_out", "data", "method")}
        return cls(
            _as_json({**settings, "backbone": backbone}),
            {label: _as_json({"name": a.name, **dump(a)}) for label, a in chosen.items()},
            {label: tuple(sorted(config.seeds)) for label in chosen},
        )

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells, in the order in which results are listed: by method, then by seed."""
        return tuple(Cell(label, seed) for label, seeds in self.seeds.items() for seed in seeds)

    def identity(self, cell: Cell) -> dict[str, Any]:
        """Everything that the results of `cell` depend on, ready for JSON."""
        shared = {name: value for name, value in self.settings.items() if name != "method"}
        return {"label": cell.method, "seed": cell.seed, **shared, "method": dict(self.methods[cell.method])}

    def only(self, cells: Sequence[Cell]) -> Plan:
        """The same experiment with these cells of it alone."""
        seeds = {
            label: tuple(cell.seed for cell in self.cells if cell in cells and cell.method == label)
            for label in self.seeds
        }
        held = {label: own for label, own in seeds.items() if own}
        return Plan(self.settings, {label: self.methods[label] for label in held}, held)

    def joined(self, new: Plan) -> Plan:
        """This plan with the methods and seeds of `new` added.

        Raises:
            ConfigError: `new` has other settings, or another method under a label that is here.
        """
        found = differences(self.settings, new.settings)
        for label in self.methods.keys() & new.methods.keys():
            found |= {
                f"{label}: {key}": values
                for key, values in differences(self.methods[label], new.methods[label]).items()
            }
        if found:
            remedy = "give it back, choose another --out, or start over with --force"
            raise ConfigError(
                [
                    Problem(key, now, f"the run in that directory has {then!r}: {remedy}")
                    for key, (then, now) in list(found.items())[:SHOWN]
                ]
            )
        labels = [*self.seeds, *(label for label in new.seeds if label not in self.seeds)]
        seeds = {label: tuple(sorted({*self.seeds.get(label, ()), *new.seeds.get(label, ())})) for label in labels}
        return Plan(self.settings, {**self.methods, **new.methods}, seeds)

    def to_json(self) -> dict[str, Any]:
        """All of it as tables and lists."""
        return {
            "settings": self.settings,
            "methods": self.methods,
            "seeds": {k: list(v) for k, v in self.seeds.items()},
        }

    @classmethod
    def from_json(cls, content: Any) -> Plan:
        """What `to_json` gave.

        Raises:
            DataError: something else.
        """
        try:
            seeds = {str(label): tuple(int(seed) for seed in seeds) for label, seeds in content["seeds"].items()}
            plan = cls(dict(content["settings"]), {label: dict(content["methods"][label]) for label in seeds}, seeds)
            if missing := {"rounds", "participation", "held_out", "data", "backbone", "method"} - plan.settings.keys():
                raise KeyError(", ".join(sorted(missing)))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"it has no plan of the experiment ({type(error).__name__}: {error})") from error
        return plan


def differences(old: Table, new: Table) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ, with both values; ``"(absent)"`` for a key that one side lacks."""
    before, after = flat(old), flat(new)
    return {
        key: (before.get(key, "(absent)"), after.get(key, "(absent)"))
        for key in [*before, *(key for key in after if key not in before)]
        if key not in before or key not in after or before[key] != after[key]
    }


def _as_json(table: Table) -> dict[str, Any]:
    copied: dict[str, Any] = json.loads(json.dumps(table))
    return copied
