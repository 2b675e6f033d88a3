"""Experiment configs: TOML files into frozen dataclasses and back.

A file has top-level ``seed`` (or ``seeds``), ``rounds`` and ``participation`` (the share of clients that
takes part in a round), ``held_out`` (the share of each group's clients that join after training), and the
tables ``[data]``, ``[backbone]``, ``[method]`` and ``[variants."name"]``. ``name`` in ``[data]`` and
``[method]`` chooses the data set and the algorithm; their other keys are those of its settings
dataclass. A variant has ``base``, a method or another variant, and the settings that differ from it
(`secfpp.experiment.spec.variants` has some that every config knows); a base that is the method of
``[method]`` has that table's settings. A file may begin with ``extends``, the path of another one
whose tables it changes. ``[published]`` has figures that others published of the experiment, with which a report
compares; it is usually the file ``figures/NAME.toml`` beside the config (`secfpp.experiment.spec.published`), and one
that extends a config keeps its figures. A table ``[sweep]`` is for ``secfpp sweep`` alone:
all others leave it unread.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tomli_w
from annotated_types import Ge, Gt, Le, Len, Lt

from secfpp.errors import ConfigError, Problem
from secfpp.experiment.spec.layers import overridden, read_table
from secfpp.experiment.spec.published import Published, figures_beside, parse_published
from secfpp.experiment.spec.schema import Table, build, check, dotted, dump, one_of, setting_names
from secfpp.experiment.spec.variants import KNOWN, root

if TYPE_CHECKING:
    from secfpp.algorithms.base import FederatedAlgorithm
    from secfpp.data.catalog import DatasetSpec

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+=,@-]*")
_TOP = (
    "seed",
    "seeds",
    "rounds",
    "participation",
    "held_out",
    "data",
    "backbone",
    "method",
    "variants",
    "published",
    "sweep",
)


@dataclass(frozen=True)
class Catalog:
    """What a config can name: algorithm classes and data sets."""

    methods: Mapping[str, type[FederatedAlgorithm]]
    datasets: Mapping[str, DatasetSpec]

    @staticmethod
    def installed() -> Catalog:
        """Everything this installation offers."""
        from secfpp.algorithms.base import methods
        from secfpp.data.catalog import datasets

        return Catalog(methods(), datasets())


@dataclass(frozen=True)
class BackboneSettings:
    """Which frozen model, and how it computes.

    Attributes:
        name, device, threads, dtype, compile: see `secfpp.models.backbone.load_backbone`.
        chunk: clients trained in one pass; like threads it moves last bits of results.
    """

    name: str = "mini"
    device: str = "auto"
    threads: Annotated[int, Ge(1)] | None = None
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    chunk: Annotated[int, Ge(1)] = 32
    compile: bool = False

    @property
    def deterministic(self) -> BackboneSettings:
        """The same model as each site of a deployed run computes: one client at a time, on one thread."""
        return replace(self, threads=1, chunk=1)


@dataclass(frozen=True)
class DataChoice:
    """A data set by name, with its settings."""

    name: str
    settings: Any


@dataclass(frozen=True)
class MethodChoice:
    """An algorithm by name, with its hyper-parameters."""

    name: str
    algorithm: FederatedAlgorithm


@dataclass(frozen=True)
class ExperimentConfig:
    """One experiment: seeds, rounds, data, backbone, the method to run, and named variants."""

    seeds: tuple[int, ...]
    rounds: int
    data: DataChoice
    backbone: BackboneSettings
    method: MethodChoice
    variants: Mapping[str, MethodChoice] = field(default_factory=dict)
    participation: float = 1.0
    held_out: float = 0.0
    published: Published | None = None

    def labels(self, catalog: Catalog | None = None) -> tuple[str, ...]:
        """What a comparison has if not told otherwise: untrained methods, others, ``[method]``, its variants."""
        known = (catalog or Catalog.installed()).methods
        trained = {name: getattr(method, "trained", True) for name, method in known.items()}
        ordered = sorted(known, key=lambda name: (name == self.method.name, trained[name], name))
        return (*ordered, *self.variants)

    def choose(self, labels: Sequence[str], catalog: Catalog | None = None) -> dict[str, FederatedAlgorithm]:
        """The algorithm of each label: a variant, the configured method, or a method or usual variant as it comes.

        Raises:
            ConfigError: unknown labels, all of them, each with the nearest known one.
        """
        known = (catalog or Catalog.installed()).methods
        problems: list[Problem] = []
        chosen: dict[str, FederatedAlgorithm] = {}
        usual = _Variants({}, self.method, catalog or Catalog.installed(), problems)
        for label in labels:
            built: FederatedAlgorithm | None = None
            if label in self.variants:
                built = self.variants[label].algorithm
            elif label == self.method.name:
                built = self.method.algorithm
            elif label in known:
                built = build(known[label], {}, dotted("methods", label), problems)
            elif label in usual.tables:
                choice = usual.resolve(label)
                built = choice.algorithm if choice else None
            else:
                everything = {*known, *self.variants, *usual.tables}
                problems.append(Problem("methods", label, one_of(label, everything, "method")))
            if built is not None:
                chosen[label] = built
        if problems:
            raise ConfigError(problems)
        return chosen


def load_config(path: Path, overrides: Sequence[str] = (), catalog: Catalog | None = None) -> ExperimentConfig:
    """Read a TOML file, apply ``key=value`` `overrides`, and check everything.

    Raises:
        ConfigError: no such file, not TOML, or bad values (all of them).
    """
    catalog = catalog or Catalog.installed()
    return parse_config(load_table(path, overrides, catalog), catalog)


def load_table(path: Path, overrides: Sequence[str] = (), catalog: Catalog | None = None) -> dict[str, Any]:
    """The table of a TOML file, with those of the files that it extends below and `overrides` on top; not checked.

    Raises:
        ConfigError: no such file, or not TOML.
    """
    methods = (catalog or Catalog.installed()).methods
    return overridden(read_table(path, lambda file: figures_beside(file, methods)), overrides)


def parse_config(table: Table, catalog: Catalog | None = None) -> ExperimentConfig:
    """An experiment from a table as TOML gives it; what is left out has its default.

    Raises:
        ConfigError: every unknown key and bad value, with dotted keys.
    """
    catalog = catalog or Catalog.installed()
    problems: list[Problem] = []
    seeds = _seeds(table, problems)
    rounds = check(Annotated[int, Ge(1)], table.get("rounds", 20), "rounds", problems)
    share = check(Annotated[float, Gt(0), Le(1)], table.get("participation", 1.0), "participation", problems)
    held_out = check(Annotated[float, Ge(0), Lt(1)], table.get("held_out", 0.0), "held_out", problems)
    backbone = build(BackboneSettings, table.get("backbone", {}), "backbone", problems)
    data = _named(table, "data", "icons", {name: spec.settings for name, spec in catalog.datasets.items()}, problems)
    method = _named(table, "method", "secfpp", catalog.methods, problems)
    variants = _Variants(table.get("variants", {}), method and MethodChoice(*method), catalog, problems).all()
    tables = {"method": method and method[1], "data": data and data[1], "backbone": backbone}
    published = parse_published(table.get("published", "none"), catalog.methods, problems)
    strays = [Problem(dotted(key), table[key], _at_home(key, tables)) for key in table if key not in _TOP]
    if strays or problems or data is None or method is None:
        raise ConfigError(strays + problems)
    return ExperimentConfig(
        seeds, rounds, DataChoice(*data), backbone, MethodChoice(*method), variants, share, held_out, published
    )


def to_table(config: ExperimentConfig) -> dict[str, Any]:
    """The complete table of `config`: nothing left to defaults, ``parse_config`` gives an equal object."""
    return {
        "seeds": list(config.seeds),
        "rounds": config.rounds,
        "participation": config.participation,
        "held_out": config.held_out,
        "data": {"name": config.data.name, **dump(config.data.settings)},
        "backbone": dump(config.backbone),
        "method": {"name": config.method.name, **dump(config.method.algorithm)},
        "variants": {label: {"base": v.name, **dump(v.algorithm)} for label, v in config.variants.items()},
        **({} if config.published is None else {"published": dump(config.published)}),
    }


def to_toml(config: ExperimentConfig) -> str:
    """`to_table` as TOML text."""
    return tomli_w.dumps(to_table(config))


def _at_home(key: str, tables: Mapping[str, object]) -> str:
    """What to say of a key that stands at the top: of which table it is, or the nearest one."""
    homes = [f"{name}.{key}" for name, settings in tables.items() if key in setting_names(settings)]
    return f"unknown key; did you mean {homes[0]}?" if homes else one_of(key, _TOP, "key")


def _seeds(table: Table, problems: list[Problem]) -> tuple[int, ...]:
    if "seed" in table and "seeds" in table:
        problems.append(Problem("seed", table["seed"], "give either seed or seeds, not both"))
    if "seeds" not in table:
        return (check(Annotated[int, Ge(0)], table.get("seed", 0), "seed", problems),)
    seeds = check(Annotated[tuple[Annotated[int, Ge(0)], ...], Len(1)], table["seeds"], "seeds", problems)
    if seeds is not None and len(set(seeds)) < len(seeds):
        problems.append(Problem("seeds", table["seeds"], "should name each seed once"))
    return seeds or ()


def _named(
    table: Table, key: str, default: str, known: Mapping[str, type], problems: list[Problem]
) -> tuple[str, Any] | None:
    """``(name, settings)`` of the table `key`, whose ``name`` is one of `known`."""
    given = table.get(key, {})
    if not isinstance(given, Mapping):
        problems.append(Problem(key, given, f"should be a table, e.g. [{key}] with name = {default!r}"))
        return None
    values = dict(given)
    name = values.pop("name", default)
    if name not in known:
        problems.append(Problem(f"{key}.name", name, one_of(name, known, "data set" if key == "data" else "method")))
        return None
    settings = build(known[name], values, key, problems)
    return None if settings is None else (name, settings)


class _Variants:
    """Resolves variants, each after its base: those of a config, and the usual ones, which it may define anew."""

    def __init__(self, tables: object, method: MethodChoice | None, catalog: Catalog, problems: list[Problem]) -> None:
        if not isinstance(tables, Mapping):
            problems.append(Problem("variants", tables, 'should hold tables, e.g. [variants."secfpp+oracle"]'))
            tables = {}
        usual = {label: v.table for label, v in KNOWN.items() if root(label) in catalog.methods}
        self.own, self.tables = tuple(tables), {**usual, **tables}
        self.method, self.catalog, self.problems = method, catalog, problems
        self.done: dict[str, MethodChoice | None] = {}

    def all(self) -> dict[str, MethodChoice]:
        resolved = {label: self.resolve(label) for label in self.own}
        return {label: choice for label, choice in resolved.items() if choice is not None}

    def resolve(self, label: str) -> MethodChoice | None:
        if label not in self.done:
            self.done[label] = None  # what a base that leads back here finds
            self.done[label] = self._resolve(label, dotted("variants", label))
        return self.done[label]

    def _resolve(self, label: str, key: str) -> MethodChoice | None:
        base = self._base(label)
        if base is None:
            self.problems.append(Problem(key, self.tables[label], "should be a table with base, a method or variant"))
            return None
        if label in self.catalog.methods or not _LABEL.fullmatch(label):
            self.problems.append(
                Problem(key, label, "choose another name: letters, digits and _.+=,@- , not a method's")
            )
            return None
        chain = [label]
        while (above := self._base(chain[-1])) in self.tables:
            chain.append(str(above))
            if above in chain[:-1]:
                self.problems.append(Problem(f"{key}.base", base, f"leads back to itself: {' -> '.join(chain)}"))
                return None
        start: MethodChoice | None
        if base in self.tables:
            start = self.resolve(base)
        elif self.method is not None and base == self.method.name:
            start = self.method
        elif base in self.catalog.methods:
            built = build(self.catalog.methods[base], {}, key, self.problems)
            start = built and MethodChoice(base, built)
        else:
            known = {*self.catalog.methods, *self.tables}
            self.problems.append(Problem(f"{key}.base", base, one_of(base, known, "method or variant")))
            return None
        if start is None:
            return None
        changes = {name: value for name, value in self.tables[label].items() if name != "base"}
        algorithm = build(type(start.algorithm), changes, key, self.problems, start.algorithm)
        return algorithm and MethodChoice(start.name, algorithm)

    def _base(self, label: str) -> str | None:
        table = self.tables.get(label)
        base = table.get("base") if isinstance(table, Mapping) else None
        return base if isinstance(base, str) else None
