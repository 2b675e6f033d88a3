"""Tables on top of one another: a config file, the files that it extends, and ``key=value`` overrides."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from secfpp.errors import ConfigError, Problem
from secfpp.experiment.spec.schema import Table

_AFRESH = ("kind", "name")
"""Keys whose change starts their table afresh."""


def read_table(path: Path, published: Callable[[Path], Table | None], above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The table of a file, on top of those of the files that it extends.

    Args:
        path: the file.
        published: gives the published figures that lie beside a file, if any do; those of the file itself, or else
            of the nearest one below it, become ``[published]``.
        above: the files that extend this one.

    Raises:
        ConfigError: no such file, not TOML, or files that extend each other.
    """
    table = read_toml(path)
    if "published" not in table and (figures := published(path)) is not None:
        table["published"] = figures
    if "extends" not in table:
        return table
    base, seen = table.pop("extends"), (*above, path.resolve())
    if not isinstance(base, str):
        raise ConfigError([Problem("extends", base, 'the path of a TOML file beside this one, e.g. "icons.toml"')])
    if (path.parent / base).resolve() in seen:
        raise ConfigError([Problem("extends", base, f"leads back to {path.name}: a file cannot extend itself")])
    below = read_table(path.parent / base, published, seen)
    if "published" in table:
        below.pop("published", None)
    return merge(below, table)


def read_toml(path: Path) -> dict[str, Any]:
    """What stands in one file.

    Raises:
        ConfigError: it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"cannot read the config {str(path)!r}: {error.strerror}; give the path of a TOML file"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from error


def overridden(table: Table, overrides: Sequence[str]) -> dict[str, Any]:
    """`table` with ``key=value`` `overrides` on top, in whatever order a ``kind`` and its settings stand."""
    changes: dict[str, Any] = {}
    for override in overrides:
        changes = merge(changes, parse_override(override), partial=True)
    return merge(table, changes)


def parse_override(text: str) -> dict[str, Any]:
    """``a.b=c`` as a nested table; `c` is a TOML value, or a string if it is not one."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError([Problem("--set", text, "should be key=value, e.g. --set method.training.lr=0.002")])
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        quoted = value.strip().replace("\\", "\\\\").replace('"', '\\"')
        try:
            return tomllib.loads(f'{key} = "{quoted}"')
        except tomllib.TOMLDecodeError as error:
            raise ConfigError([Problem("--set", text, f"is not key=value in TOML: {error}")]) from error


def merge(base: Table, changes: Table, *, partial: bool = False) -> dict[str, Any]:
    """`base` with `changes` on top, table by table.

    A change of ``kind`` or ``name`` starts that table afresh, since the other keys belong to what
    was chosen before; ``seed`` replaces ``seeds`` and the other way round.

    Args:
        base: a whole table, in which a kind that is not given is the default, and so another one than any given.
        changes: what to put on top.
        partial: `base` is only changes too, to which a kind can still be added.
    """
    if any(word in changes and changes[word] != base.get(word, changes[word] if partial else None) for word in _AFRESH):
        return dict(changes)
    merged = dict(base)
    for one, other in (("seed", "seeds"), ("seeds", "seed")):
        if one in changes:
            merged.pop(other, None)
    for key, value in changes.items():
        old: Any = merged.get(key)
        if isinstance(old, str) and isinstance(value, Mapping):
            old = {"kind": old}
        if partial and isinstance(old, Mapping) and isinstance(value, str) and value != "none":
            value = {"kind": value}
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        merged[key] = merge(old, value, partial=partial) if both else value
    return merged
