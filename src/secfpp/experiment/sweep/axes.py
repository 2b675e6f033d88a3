"""The axes of a sweep: settings with the values that they take in turn, and what a config's ``[sweep]`` table says.

In ``[sweep.over]`` an axis is the dotted key of a setting with a list of values, or a name with alternatives: a table
of settings for each label. An axis that changes ``method`` alone gives each method that has the setting a variant for
every value (`Axis.of_method`); any other gives a comparison of its own for every value.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from secfpp.errors import ConfigError, Problem
from secfpp.experiment.spec.layers import merge, parse_override
from secfpp.experiment.spec.schema import dotted, one_of

Table = Mapping[str, Any]
KEYS = ("over", "skip", "methods", "against")
"""What a ``[sweep]`` table can have."""
SETTINGS = ("rounds", "participation", "held_out", "data", "backbone", "method")
"""The keys of a config that an axis can change."""
_NUMBER = re.compile(r"\d+(\.\d+)?")
_TABLES = ("data", "backbone", "method")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.+-]*")


@dataclass(frozen=True)
class Choice:
    """One value of an axis.

    Attributes:
        label: names it, in files and on command lines.
        changes: the settings, as a table of the config.
        value: what the setting becomes; None for a named alternative.
    """

    label: str
    changes: Table
    value: Any = None


@dataclass(frozen=True)
class Axis:
    """A setting, by its dotted key, or a name, with its choices in order."""

    name: str
    choices: tuple[Choice, ...]

    @property
    def named(self) -> bool:
        """Whether its choices are named alternatives."""
        return all(choice.value is None for choice in self.choices)

    @property
    def of_method(self) -> bool:
        """Whether settings of methods alone change."""
        return all(set(choice.changes) == {"method"} for choice in self.choices)

    @property
    def numbers(self) -> tuple[float, ...] | None:
        """The values, or the labels of named alternatives, if all are numbers, which can be drawn along a line."""
        if self.named:
            telling = all(_NUMBER.fullmatch(label) for label in self.labels)
            return tuple(map(float, self.labels)) if telling else None
        values = tuple(choice.value for choice in self.choices)
        return values if all(isinstance(n, (int, float)) and not isinstance(n, bool) for n in values) else None

    @property
    def labels(self) -> tuple[str, ...]:
        """Of the choices, in order."""
        return tuple(choice.label for choice in self.choices)

    def choice(self, label: str) -> Choice:
        """The choice of that label."""
        return self.choices[self.labels.index(label)]


@dataclass(frozen=True)
class Skip:
    """Combinations that are left out: those that have all of these labels, by axis."""

    at: Mapping[str, str]

    def covers(self, at: Mapping[str, str]) -> bool:
        """Whether a combination is one of them."""
        return self.at.items() <= at.items()


def read_axes(table: object, over: Sequence[str], problems: list[Problem]) -> tuple[Axis, ...]:
    """The axes of ``[sweep.over]``, narrowed or extended by the command line; named ones come first.

    Args:
        table: the value of ``over`` in a config's ``[sweep]``.
        over: ``KEY=V1,V2,...`` each: values for the setting KEY, or some labels of the named axis KEY.
        problems: where every bad value is added.
    """
    found = {axis.name: axis for axis in _stored(table, problems)}
    for text in over:
        name, equals, words = (part.strip() for part in text.partition("="))
        if not equals or not name or not words:
            problems.append(Problem("--over", text, "should be KEY=V1,V2,..., e.g. --over data.alpha=0.1,0.3,1.0"))
        elif name in found and found[name].named:
            labels = [word.strip() for word in words.split(",")]
            unknown = [label for label in labels if label not in found[name].labels]
            problems += [Problem("--over", label, one_of(label, found[name].labels, name)) for label in unknown]
            if not unknown:
                found[name] = Axis(name, tuple(map(found[name].choice, dict.fromkeys(labels))))
        else:
            values = _values(name, words, text, problems)
            axis = _of_values(name, values, "--over", problems) if values else None
            found |= {name: axis} if axis else {}
    return tuple(sorted(found.values(), key=lambda axis: not axis.named))


def read_skips(listed: object, given: Sequence[str], axes: Sequence[Axis], problems: list[Problem]) -> tuple[Skip, ...]:
    """What a sweep leaves out, of ``skip`` in a config's ``[sweep]`` and of ``AXIS=LABEL[,AXIS=LABEL]`` each.

    A config's entry whose label was not asked for on the command line leaves nothing out.
    """
    known = {axis.name: axis.labels for axis in axes}
    found: list[Skip] = []
    for entry in listed if isinstance(listed, list) else [listed]:
        if not isinstance(entry, Mapping) or not entry or not all(isinstance(word, str) for word in entry.values()):
            allowed = 'a list of combinations, e.g. [{ benchmark = "cards", within = "iid" }]'
            problems.append(Problem("sweep.skip", entry, allowed))
        else:
            problems += [
                Problem("sweep.skip", name, one_of(name, known, "axis")) for name in entry if name not in known
            ]
            found.append(Skip(dict(entry)))
    for text in given:
        entry = dict(part.partition("=")[::2] for part in text.split(","))
        for name, label in entry.items():
            if name not in known:
                problems.append(Problem("--skip", text, one_of(name, known, "axis")))
            elif label not in known[name]:
                problems.append(Problem("--skip", text, one_of(label, known[name], name)))
        found.append(Skip(entry))
    return tuple(found)


def _stored(table: object, problems: list[Problem]) -> Iterator[Axis]:
    """The axes of ``[sweep.over]``; those of settings stand there by dotted keys, quoted or not."""
    if not isinstance(table, Mapping):
        problems.append(
            Problem("sweep.over", table, 'should be a table, e.g. [sweep.over] with "data.alpha" = [0.1, 1.0]')
        )
        return
    for name, entry in table.items():
        key = f"sweep.over.{dotted(name)}"
        if name in _TABLES and isinstance(entry, Mapping):
            inner: dict[str, Any] = {dotted(name, *path): values for path, values in _leaves(entry)}
            yield from _stored(inner, problems)
        elif isinstance(entry, Mapping):
            axis = _of_alternatives(name, entry, key, problems)
            if axis:
                yield axis
        elif isinstance(entry, list):
            axis = _of_values(name, entry, key, problems)
            if axis:
                yield axis
        else:
            problems.append(Problem(key, entry, "should be a list of values, or tables of settings by label"))


def _of_values(name: str, values: Sequence[Any], key: str, problems: list[Problem]) -> Axis | None:
    """The axis of the setting `name`."""
    choices = []
    for value in values:
        try:
            changes = _filled(parse_override(f"{name}=0"), value)
        except ConfigError:
            problems.append(Problem(key, name, "should be the dotted key of a setting, e.g. data.alpha"))
            return None
        choices.append(Choice(_text(value), changes, value))
    return _checked(Axis(name, tuple(choices)), key, problems)


def _of_alternatives(name: str, entry: Table, key: str, problems: list[Problem]) -> Axis | None:
    bad = [
        Problem(f"{key}.{dotted(label)}", changes, "should be a table of settings, under a label of letters and digits")
        for label, changes in entry.items()
        if not isinstance(changes, Mapping) or not changes or not _LABEL.fullmatch(label)
    ]
    if "," in name or "=" in name:
        bad.append(Problem(key, name, "should be named without commas and equals signs"))
    problems += bad
    choices = () if bad else tuple(Choice(label, changes) for label, changes in entry.items())
    return None if bad else _checked(Axis(name, choices), key, problems)


def _checked(axis: Axis, key: str, problems: list[Problem]) -> Axis | None:
    """`axis`, if it can be swept over."""
    bad = []
    tops = dict.fromkeys(top for choice in axis.choices for top in choice.changes)
    if not axis.choices or len(set(axis.labels)) < len(axis.choices):
        bad.append(Problem(key, ",".join(axis.labels), f"should name each value of {axis.name} once, and at least one"))
    if "seed" in tops or "seeds" in tops:
        bad.append(Problem(key, axis.name, "seeds are no axis: give them with --seeds"))
    elif any("name" in choice.changes.get("method", {}) for choice in axis.choices):
        bad.append(Problem(key, axis.name, "methods are no axis: give them with --methods"))
    elif unknown := [top for top in tops if top not in SETTINGS]:
        bad.append(Problem(key, axis.name, one_of(unknown[0], SETTINGS, "setting")))
    elif "method" in tops and not axis.of_method:
        bad.append(Problem(key, axis.name, "changes settings of methods and others: make two axes of it"))
    problems += bad
    return None if bad else axis


def _values(name: str, words: str, text: str, problems: list[Problem]) -> list[Any]:
    """``V1,V2,...`` as TOML values; a word that is none is a string."""
    with suppress(tomllib.TOMLDecodeError):
        return list(_leaf(tomllib.loads(f"{name} = [{words}]")))
    if any(sign in words for sign in "[]{}\"'"):
        problems.append(Problem("--over", text, 'should be values of TOML with commas between; words in quotes: "iid"'))
        return []
    return [_leaf(parse_override(f"{name}={word.strip()}")) for word in words.split(",")]


def _leaf(table: Any) -> Any:
    """The value inside a table of one key in a table of one key ..."""
    while isinstance(table, Mapping):
        (table,) = table.values()
    return table


def _filled(table: Table, value: Any) -> dict[str, Any]:
    """A table of one key in another ... with that value inside."""
    return {key: _filled(inner, value) if isinstance(inner, Mapping) else value for key, inner in table.items()}


def _leaves(table: Table) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, inner in table.items():
        if isinstance(inner, Mapping):
            yield from (((key, *path), value) for path, value in _leaves(inner))
        else:
            yield (key,), inner


def _text(value: Any) -> str:
    """A value as a label."""
    if isinstance(value, (int, float)):
        return json.dumps(value)
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return re.sub(r"[^A-Za-z0-9_.+-]+", "-", text).strip("-") or "-"


def applied(table: Table, axes: Sequence[Axis], at: Mapping[str, str]) -> dict[str, Any]:
    """A config's `table` with the choices `at` of those `axes` that change no methods.

    Raises:
        ConfigError: a later axis undoes what an earlier one set.
    """
    chosen = [(axis, axis.choice(at[axis.name]).changes) for axis in axes if not axis.of_method]
    result = dict(table)
    for _, changes in chosen:
        result = merge(result, changes)
    lost = [axis.name for axis, changes in chosen if not _holds(result, changes)]
    if lost:
        raise ConfigError(
            f"the axis {lost[0]!r} is undone by one behind it, which chooses another name or kind: put it behind that"
        )
    return result


def _holds(table: Any, changes: Any) -> bool:
    """Whether everything that `changes` sets is so in `table`."""
    if isinstance(changes, Mapping) and isinstance(table, Mapping):
        return all(key in table and _holds(table[key], value) for key, value in changes.items())
    if isinstance(table, Mapping) and isinstance(changes, str):
        return bool(table.get("kind") == changes)
    return bool(table == changes)
