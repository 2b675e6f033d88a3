"""Published figures of the experiment that a config describes, and the settings they were made with.

They stand in ``figures/NAME.toml`` beside a config ``NAME.toml``, whose ``[published]`` they become.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Len, Lt

from secfpp.errors import ConfigError, Problem
from secfpp.experiment.spec.layers import read_toml
from secfpp.experiment.spec.schema import build, one_of

Text = Annotated[str, Len(1)]
Percent = Annotated[float, Ge(0), Le(100)]
_KEY = "published"


@dataclass(frozen=True)
class PublishedFigure:
    """Accuracies of one method, in percent.

    Attributes:
        method: the method here; a variant counts as its base.
        called: its name there.
        own: on a client's own classes.
        neighbour: on the classes of other clients.
        epsilon: as printed there, if it was made under noise.
        note: what to know of it.
    """

    method: Text
    called: Text
    own: Percent
    neighbour: Percent | None = None
    epsilon: Annotated[float, Gt(0), Lt(math.inf)] | None = None
    note: str = ""


@dataclass(frozen=True)
class Published:
    """Figures of one table of a publication.

    Attributes:
        source: the publication.
        table: which of its tables.
        url: where it can be read.
        settings: what they were made with, as tables with the keys of a config; it may have others.
        figures: one for each method, and epsilon if there are several.
    """

    source: Text
    table: Text
    url: Text
    settings: Mapping[str, Any]
    figures: tuple[PublishedFigure, ...]

    def __post_init__(self) -> None:
        named = [(figure.method, figure.epsilon) for figure in self.figures]
        problems = [
            Problem(f"figures[{i}].method", figure.method, "has a figure with the same epsilon, or none, already")
            for i, figure in enumerate(self.figures)
            if named.index((figure.method, figure.epsilon)) < i
        ]
        if not self.figures:
            problems.append(Problem("figures", [], "needs one figure at least"))
        try:
            json.dumps(self.settings, allow_nan=False)
        except ValueError:
            problems.append(Problem("settings", self.settings, "has a number that is not finite"))
        if problems:
            raise ConfigError(problems)


def parse_published(table: object, methods: Iterable[str], problems: list[Problem]) -> Published | None:
    """What ``[published]`` says; None if it is ``"none"``, or after adding to `problems`.

    Args:
        table: as TOML gives it.
        methods: those that are known.
        problems: where every bad value is added.
    """
    if table == "none":
        return None
    published: Published | None = build(Published, table, _KEY, problems)
    known = set(methods)
    for i, figure in enumerate(published.figures if published else ()):
        if figure.method not in known:
            key = f"{_KEY}.figures[{i}].method"
            problems.append(Problem(key, figure.method, one_of(figure.method, known, "method")))
    return published


def figures_beside(config: Path, methods: Iterable[str]) -> dict[str, Any] | None:
    """The table of the file that has the published figures of a config; None if there is no such file.

    Raises:
        ConfigError: it cannot be read, or has bad values (all of them).
    """
    path = config.parent / "figures" / config.name
    if not path.is_file():
        return None
    table, problems = read_toml(path), list[Problem]()
    parse_published(table, methods, problems)
    if problems:
        raise ConfigError([replace(problem, allowed=f"{problem.allowed} (in {path})") for problem in problems])
    return table
