"""The points of a sweep, the comparisons that train them, and what each is called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from itertools import product
from typing import Any

from secfpp.errors import ConfigError, Problem
from secfpp.experiment.results.run_directory import path_part
from secfpp.experiment.spec.config import ExperimentConfig, parse_config
from secfpp.experiment.spec.layers import merge
from secfpp.experiment.spec.schema import dotted, one_of, setting_names
from secfpp.experiment.sweep.axes import KEYS, Axis, Skip, Table, applied, read_axes, read_skips

ALONE = "all"
"""The directory of a sweep over settings of methods alone, which is one comparison."""


@dataclass(frozen=True)
class Point:
    """One combination of values.

    Attributes:
        at: axis -> label, for every axis.
        place: the directory of the comparison that trains it, inside ``points``.
        labels: method as asked for -> what it is called in that comparison.
    """

    at: Mapping[str, str]
    place: str
    labels: Mapping[str, str]

    def __str__(self) -> str:
        return ", ".join(f"{name}={label}" for name, label in self.at.items())


@dataclass(frozen=True)
class Place:
    """One comparison, which trains all points that differ in settings of methods only.

    Attributes:
        at: axis -> label, for the axes that tell comparisons apart.
        folder: its directory's name inside ``points``.
        config: its settings, with a variant for each value of a method's setting.
        labels: what it trains.
    """

    at: Mapping[str, str]
    folder: str
    config: ExperimentConfig
    labels: tuple[str, ...]

    def __str__(self) -> str:
        return ", ".join(f"{name}={label}" for name, label in self.at.items())


@dataclass(frozen=True)
class Sweep:
    """What a sweep trains and compares.

    Attributes:
        table: the config that says so, complete but for defaults: the same sweep again.
        axes: in order; the last moves fastest.
        methods: as asked for.
        algorithms: method as asked for -> the method that it is a variant of, or itself.
        reference: the one of them that the others are compared with.
        seeds: of every comparison.
        points: all combinations that are not left out.
        places: the comparisons.
    """

    table: Table
    axes: tuple[Axis, ...]
    methods: tuple[str, ...]
    algorithms: Mapping[str, str]
    reference: str
    seeds: tuple[int, ...]
    points: tuple[Point, ...]
    places: tuple[Place, ...]


def plan_sweep(
    table: Table,
    over: Sequence[str] = (),
    *,
    skip: Sequence[str] = (),
    methods: Sequence[str] = (),
    seeds: Sequence[int] = (),
    against: str = "",
) -> Sweep:
    """The sweep of a config and of what a command line adds.

    Args:
        table: the config, as `load_table` gives it.
        over: axes, see `axes.read_axes`.
        skip: combinations to leave out, see `axes.read_skips`.
        methods: instead of the config's ``sweep.methods``, or else of all methods and variants.
        seeds: instead of the config's.
        against: instead of the config's ``sweep.against``, or else of its ``[method]``.

    Raises:
        ConfigError: everything that cannot be; a bad value names its axis.
    """
    base = parse_config(table)
    problems: list[Problem] = []
    own = table.get("sweep", {})
    if not isinstance(own, Mapping):
        raise ConfigError([Problem("sweep", own, "should be a table, e.g. [sweep.over] with a list for each setting")])
    problems += [Problem(f"sweep.{dotted(key)}", own[key], one_of(key, KEYS, "key")) for key in own if key not in KEYS]
    axes = read_axes(own.get("over", {}), over, problems)
    skips = read_skips(own.get("skip", []), skip, axes, problems)
    labels = tuple(methods) or _labels(own.get("methods", []), problems) or base.labels()
    reference = against or own.get("against") or (base.method.name if base.method.name in labels else labels[0])
    if reference not in labels:
        problems.append(Problem("--against", reference, f"one of the methods compared: {', '.join(labels)}"))
    if not axes and not problems:
        problems.append(
            Problem("--over", None, "name at least one setting and its values, e.g. --over data.alpha=0.1,1.0")
        )
    if problems:
        raise ConfigError(problems)
    _require_takers(base, labels, axes)
    numbers = tuple(seeds) or base.seeds
    kept = [at for at in _combinations(axes) if not any(skipped.covers(at) for skipped in skips)]
    if not kept:
        raise ConfigError([Problem("--skip", ",".join(skip) or own.get("skip"), "leaves nothing to train: skip less")])
    chosen = base.choose(labels)
    points = tuple(
        Point(
            at, _folder(_of_place(at, axes)), {label: _variant(label, chosen[label], axes, at)[0] for label in labels}
        )
        for at in kept
    )
    return Sweep(
        _stated(table, axes, skips, labels, str(reference), numbers),
        axes,
        labels,
        {label: algorithm.name for label, algorithm in chosen.items()},
        str(reference),
        numbers,
        points,
        _places(table, chosen, axes, kept, numbers),
    )


def where(failing: Sequence[Mapping[str, str]], everywhere: Sequence[Mapping[str, str]]) -> str:
    """What the `failing` ones among combinations have in common, e.g. ``benchmark=cards``; or else all of them."""
    common = {name: label for name, label in failing[0].items() if all(at[name] == label for at in failing)}
    telling = {name: label for name, label in common.items() if any(at[name] != label for at in everywhere)}
    if sum(telling.items() <= at.items() for at in everywhere) == len(failing):
        return in_words(telling or common)
    return "; ".join(map(in_words, failing))


def in_words(at: Mapping[str, str]) -> str:
    """A combination, as ``--skip`` takes it."""
    return ",".join(f"{name}={label}" for name, label in at.items())


def _labels(given: object, problems: list[Problem]) -> tuple[str, ...]:
    if isinstance(given, list) and all(isinstance(label, str) for label in given) and len(set(given)) == len(given):
        return tuple(given)
    problems.append(Problem("sweep.methods", given, "should be a list that names each method once"))
    return ()


def _require_takers(base: ExperimentConfig, labels: Sequence[str], axes: Sequence[Axis]) -> None:
    """Raise unless every axis of methods is a setting of one of them; and unless all methods are known."""
    chosen = base.choose(labels).values()
    idle = [axis for axis in axes if axis.of_method and not any(_takes(algorithm, axis) for algorithm in chosen)]
    if idle:
        allowed = f"none of the methods has this setting: {', '.join(labels)}"
        raise ConfigError([Problem("--over", axis.name, allowed) for axis in idle])


def _takes(algorithm: object, axis: Axis) -> bool:
    """Whether a method has what an axis of methods changes."""
    return all(_has(algorithm, choice.changes["method"]) for choice in axis.choices)


def _has(settings: object, changes: Table) -> bool:
    """Whether a dataclass has every field that a table sets, those of its components too."""
    for name, value in changes.items():
        if name == "kind":
            return True  # another component, whose settings are its own
        if name not in setting_names(settings):
            return False
        if isinstance(value, Mapping) and is_dataclass(inner := getattr(settings, name)) and not _has(inner, value):
            return False
    return True


def _variant(label: str, algorithm: object, axes: Sequence[Axis], at: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """What a method is called with the choices `at`, and which of its settings they change."""
    name, table = label, dict[str, Any]()
    for axis in axes:
        if axis.of_method and _takes(algorithm, axis):
            name += f"@{axis.name.removeprefix('method.')}={at[axis.name]}".replace(" ", "-")
            table = merge(table, axis.choice(at[axis.name]).changes["method"])
    return name, table


def _combinations(axes: Sequence[Axis]) -> Iterator[dict[str, str]]:
    for labels in product(*(axis.labels for axis in axes)):
        yield dict(zip((axis.name for axis in axes), labels, strict=True))


def _of_place(at: Mapping[str, str], axes: Sequence[Axis]) -> dict[str, str]:
    """The part of a combination that tells comparisons apart."""
    return {axis.name: at[axis.name] for axis in axes if not axis.of_method}


def _folder(at: Mapping[str, str]) -> str:
    return path_part(in_words(at)) or ALONE


def _places(
    table: Table,
    chosen: Mapping[str, object],
    axes: Sequence[Axis],
    kept: Sequence[Mapping[str, str]],
    seeds: Sequence[int],
) -> tuple[Place, ...]:
    """The comparisons of the combinations that are `kept`.

    Raises:
        ConfigError: settings that cannot be, each with the values that make them.
    """
    shared = {key: value for key, value in table.items() if key not in ("sweep", "seed", "seeds")}
    places, failing = [], dict[str, list[dict[str, str]]]()
    found = {_folder(at): at for at in (_of_place(at, axes) for at in kept)}
    for folder, at in found.items():
        variants: dict[str, Any] = {}
        for combination in kept:
            if _of_place(combination, axes) == at:
                for label, algorithm in chosen.items():
                    name, changes = _variant(label, algorithm, axes, combination)
                    variants[name] = {"base": label, **changes}
        made = {name: variant for name, variant in variants.items() if name not in chosen}
        try:
            full = applied(shared, axes, at)
            config = parse_config({**full, "seeds": list(seeds), "variants": {**table.get("variants", {}), **made}})
        except ConfigError as error:
            for line in str(error).splitlines():
                failing.setdefault(line, []).append(at)
        else:
            places.append(Place(at, folder, config, tuple(variants)))
    if failing:
        raise ConfigError("\n".join(_told(where(of, list(found.values())), line) for line, of in failing.items()))
    return tuple(places)


def _told(place: str, line: str) -> str:
    return f"{place}: {line}" if place else line


def _stated(
    table: Table,
    axes: Sequence[Axis],
    skips: Sequence[Skip],
    labels: Sequence[str],
    reference: str,
    seeds: Sequence[int],
) -> dict[str, Any]:
    """The config of the same sweep without options."""
    over = {
        axis.name: {c.label: c.changes for c in axis.choices} if axis.named else [c.value for c in axis.choices]
        for axis in axes
    }
    sweep = {"methods": list(labels), "against": reference, "skip": [dict(s.at) for s in skips], "over": over}
    rest = {key: value for key, value in table.items() if key not in ("seed", "seeds", "sweep")}
    return {"seeds": list(seeds), **rest, "sweep": sweep}
