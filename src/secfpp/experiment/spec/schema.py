"""Plain frozen dataclasses from nested tables and back, naming every bad value at once.

A *component* is a field whose type is a dataclass or an abstract base class; a tuple of dataclasses is a list of
tables. An abstract one is chosen by ``kind`` among its concrete subclasses, each of which has a class variable
``kind``; where nothing else is set, the kind alone stands for it.
All other values are *leaves*, checked by pydantic in strict mode (a string is never a number).
None, which TOML lacks, is written ``"none"``.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import json
import pkgutil
import re
from abc import ABC
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
from pydantic import TypeAdapter, ValidationError

from secfpp.errors import ConfigError, Problem

Table = Mapping[str, Any]


def dotted(*parts: str) -> str:
    """A dotted key as TOML writes it: ``dotted("variants", "a+b", "lr")`` is ``variants."a+b".lr``."""
    bare = (part if part.replace("_", "").replace("-", "").isalnum() else json.dumps(part) for part in parts if part)
    return ".".join(bare)


def flat(table: Table, *above: str) -> dict[str, Any]:
    """The values of nested tables by dotted keys; `above` are the keys of the tables that `table` is in."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        place = (*above, name)
        found |= flat(value, *place) if isinstance(value, Mapping) else {dotted(*place): value}
    return found


def one_of(value: object, known: Iterable[str], what: str) -> str:
    """Text for a `Problem`: `value` is no known `what`; the nearest name, and all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"unknown {what}{hint} Known: {', '.join(names) or 'none'}"


def kinds(declared: type) -> dict[str, type]:
    """The concrete classes in a component's package that it can be, by the ``kind`` that each names itself."""
    module = declared.__module__
    package = importlib.import_module(module.rpartition(".")[0] or module)
    for found in pkgutil.iter_modules(getattr(package, "__path__", ())):
        importlib.import_module(f"{package.__name__}.{found.name}")
    return _concrete(declared)


def _concrete(declared: type) -> dict[str, type]:
    own = vars(declared).get("kind")
    found = {own: declared} if own is not None and not inspect.isabstract(declared) else {}
    subclasses: list[type] = declared.__subclasses__()
    for subclass in subclasses:
        found.update(_concrete(subclass))
    return found


def build(declared: type, table: object, key: str, problems: list[Problem], start: object = None) -> Any:
    """Make a `declared` (or the subclass that ``kind`` names) from `table`.

    Args:
        declared: a dataclass, or an abstract base class of dataclasses.
        table: values by field name; those left out come from `start`, else from the class. Of a class chosen by
            ``kind`` its name alone will do.
        key: dotted key of the table, for messages.
        problems: where every bad value is added.
        start: an instance whose values hold where the table says nothing, if of the chosen class.

    Returns:
        The instance, or None when a problem was found.
    """
    if isinstance(table, str) and kinds(declared):
        table = {"kind": table}
    if not isinstance(table, Mapping):
        problems.append(Problem(key, table, _table_wanted(declared, key)))
        return None
    values = dict(table)
    cls = _choose(declared, values, key, problems, start)
    if cls is None:
        return None
    hints = get_type_hints(cls, include_extras=True)
    fields = {field.name: field for field in _settings(cls)}
    given: dict[str, Any] = {}
    bad: list[Problem] = []
    for name in values:
        if name not in fields:
            home = _inside(name, key, fields, start) or _of_another_kind(name, key, declared, cls)
            bad.append(Problem(f"{key}.{dotted(name)}", values[name], home or one_of(name, fields, "key")))
    for name, field in fields.items():
        default = getattr(start, name) if type(start) is cls else _default(field)
        if name in values:
            before = len(bad)
            value = _value(hints[name], values[name], f"{key}.{name}", bad, default)
            if len(bad) == before:
                given[name] = value
                continue
        if default is not dataclasses.MISSING:
            given[name] = default
        elif name not in values:
            bad.append(Problem(f"{key}.{name}", None, "is required and was not given"))
    instance = _construct(cls, given, table, key, bad)
    problems.extend(bad)
    return None if bad else instance


def _inside(name: str, key: str, fields: Mapping[str, dataclasses.Field[Any]], start: object) -> str:
    """The component of which an unknown key is a setting, as a question; empty if there is none."""
    parts = {part: getattr(start, part, None) or _default(field) for part, field in fields.items()}
    homes = [part for part, of in parts.items() if name in setting_names(of)]
    return f"unknown key; did you mean {key}.{homes[0]}.{name}?" if homes else ""


def _of_another_kind(name: str, key: str, declared: type, cls: type) -> str:
    """What to say of a setting that `cls` lacks and other kinds of `declared` have; empty if none has."""
    homes = [kind for kind, other in kinds(declared).items() if name in {field.name for field in _settings(other)}]
    if not homes:
        return ""
    wanted = " or ".join(f'{key}.kind = "{kind}"' for kind in sorted(homes))
    return f"the kind {vars(cls).get('kind')} has no such setting: leave it out, or set {wanted} beside it"


def _table_wanted(declared: type, key: str) -> str:
    """What to give for a component, in Python and in TOML."""
    options = kinds(declared)
    example = f'{{"kind": {json.dumps(min(options))}}}, or the kind alone' if options else None
    if example is None:
        example = f"{{{json.dumps(_settings(declared)[0].name)}: ...}}"
    return f"should be a table of settings: {example}; in TOML [{key}]"


def setting_names(settings: object) -> set[str]:
    """The names of the fields of a dataclass instance; none of anything else."""
    if not dataclasses.is_dataclass(settings) or isinstance(settings, type):
        return set()
    return {field.name for field in _settings(type(settings))}


def _settings(cls: type) -> list[dataclasses.Field[Any]]:
    """The fields of a dataclass that can be given."""
    return [field for field in dataclasses.fields(cls) if field.init]


def dump(value: object) -> Any:
    """The table (or TOML value) from which `build` makes an equal `value`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        chosen: Any = type(value)
        kind = {"kind": chosen.kind} if hasattr(chosen, "kind") else {}
        return kind | {field.name: dump(getattr(value, field.name)) for field in _settings(chosen)}
    if isinstance(value, Mapping):
        return {str(name): dump(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [dump(item) for item in value]
    if value is None:
        return "none"
    return str(value) if isinstance(value, Path) else value


def check(hint: Any, value: object, key: str, problems: list[Problem]) -> Any:
    """`value` as the type `hint` (strictly), or None after adding to `problems`."""
    if value == "none" and NoneType in get_args(hint):
        return None
    try:
        return _adapter(hint).validate_json(json.dumps(value, default=plain), strict=True)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            # Positions inside a value (of a list, say) are named; branches of a union type are not.
            place = "".join(f"[{part}]" for part in detail["loc"] if isinstance(part, int))
            message = detail["msg"].removeprefix("Input ").removeprefix("Value error, ")
            problem = Problem(f"{key}{place}", detail["input"], message)
            if problem not in problems:
                problems.append(problem)
        return None


def plain(value: object) -> object:
    """What JSON takes instead of a number of NumPy, which is as good as Python's, or of a path."""
    return value.item() if isinstance(value, np.generic) else str(value)


@lru_cache(maxsize=256)
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint)


def _choose(declared: type, values: dict[str, Any], key: str, problems: list[Problem], start: object) -> type | None:
    """The class of a component; takes ``kind`` out of `values`."""
    options = kinds(declared)
    if options and "kind" in values:
        kind = values.pop("kind")
        if kind not in options:
            problems.append(Problem(f"{key}.kind", kind, one_of(kind, options, "kind")))
            return None
        return options[kind]
    if isinstance(start, declared):
        return type(start)
    if inspect.isabstract(declared):
        problems.append(Problem(f"{key}.kind", None, f"is required; one of: {', '.join(sorted(options)) or 'none'}"))
        return None
    return declared


def _value(hint: Any, value: object, key: str, problems: list[Problem], default: object) -> Any:
    each = get_args(hint)[0] if get_origin(hint) is tuple and get_args(hint)[1:] == (...,) else None
    if dataclasses.is_dataclass(each) and isinstance(each, type):
        if not isinstance(value, (list, tuple)):
            problems.append(Problem(key, value, f"should be a list of tables; in TOML [[{key}]]"))
            return None
        return tuple(build(each, table, f"{key}[{i}]", problems) for i, table in enumerate(value))
    inner = [part for part in get_args(hint) if part is not NoneType] if NoneType in get_args(hint) else [hint]
    component = inner[0] if len(inner) == 1 and isinstance(inner[0], type) else None
    if component is None or not (dataclasses.is_dataclass(component) or ABC in component.__mro__):
        return check(hint, value, key, problems)
    if value == "none" and len(get_args(hint)) > 1:
        return None
    return build(component, value, key, problems, default)


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _construct(cls: type, given: dict[str, Any], table: object, key: str, problems: list[Problem]) -> Any:
    """Call `cls`, so that its own checks add to `problems` too (once per key)."""
    if any(field.name not in given and _default(field) is dataclasses.MISSING for field in _settings(cls)):
        return None
    known = {problem.key for problem in problems}
    try:
        return cls(**given)
    except ConfigError as error:
        names = {field.name for field in dataclasses.fields(cls)}
        own = [Problem(_placed(p.key, key), p.value, mentioned(p.allowed, key, names)) for p in error.problems]
        problems.extend(p for p in own or [Problem(key, table, str(error))] if p.key not in known)
    except (ValueError, TypeError) as error:
        problems.append(Problem(key, table, str(error)))
    return None


def mentioned(text: str, table: str, names: Iterable[str]) -> str:
    """`text` with the whole key of every setting that it mentions as a part of another, e.g. ``clusterer.k``.

    Args:
        text: about the settings of a table.
        table: dotted key of the table.
        names: fields of the class that it was made into.
    """
    above, _, last = table.rpartition(".")
    wholes = {name: f"{table}.{name}" for name in names} | ({last: table} if above else {})
    word = "|".join(map(re.escape, wholes))
    return re.sub(rf"(?<![\w.])({word})(?=\.[a-z_])", lambda found: wholes[found[1]], text)


def _placed(own: str, table: str) -> str:
    """The key that a class gave its problem (``lr``, ``training.lr``), inside the table that it was made from."""
    name = own.removeprefix(f"{table}.").removeprefix(f"{table.rpartition('.')[2]}.")
    return f"{table}.{name}"
