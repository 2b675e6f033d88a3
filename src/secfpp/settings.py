"""Settings are frozen dataclasses; their annotations say which values they take."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from secfpp.errors import ConfigError, Problem


def check_types(settings: Any, part: str = "") -> None:
    """Refuse values of another type than the annotation, or others than a `Literal` lists.

    Looks at numbers, truth values and literals only; for the ``__post_init__`` of settings.

    Args:
        settings: a dataclass instance.
        part: what its fields are called after in errors, ``part.field``.

    Raises:
        ConfigError: names all that do not fit.
    """
    problems = [
        Problem(f"{part}.{name}" if part else name, getattr(settings, name), _said(hint))
        for name, hint in _hints(settings.__class__).items()
        if not _fits(getattr(settings, name), hint)
    ]
    if problems:
        raise ConfigError(problems)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _fits(value: object, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return any(type(value) is type(choice) and value == choice for choice in get_args(hint))
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, Integral) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, Real) and not isinstance(value, bool)
    return value is None if hint is type(None) else True


def _said(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(repr(choice) for choice in get_args(hint))
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_said(option) for option in get_args(hint))
    return {int: "a whole number", float: "a number", bool: "True or False", type(None): "None"}.get(hint, str(hint))
