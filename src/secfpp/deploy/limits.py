"""What a site allows: the table ``[limits]`` of its ``site.toml``, and what of a run it refuses."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from secfpp.algorithms.base import FederatedAlgorithm
from secfpp.deploy.agreed import Agreed
from secfpp.errors import ConfigError, Problem
from secfpp.experiment.spec.schema import dump

TABLE = "limits"
FILE = "site.toml"
_PARTS = ("aggregator", "clusterer", "poll")
_VERIFIED = ("clusterer", "poll")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What the officer who answers for a site's data allows.

    Attributes:
        methods: names of the methods that may be run.
        fewest_sites: sites that take part in a round, at least.
        smallest_group: sites of which an average is made, at least.
        least_colluding: other sites that may join the server without learning more than it, at least; T.
        largest_weight: share of an average that one site has, at most.
        most_rounds: rounds of a run, at most.
        in_the_clear: whether the server may see this site's own averages, descriptions or answers.
        active_security: whether groups and polls must be verified by their holders, ``security = "active"``.
        class_sums: whether sums of image features, class by class, may go into averages with others.
        fewest_holders: sites that must have images of a class before its sums are shared.
        epsilon: the most that all runs at this site may cost together under differential privacy, of which every run
            must then be; None asks for none.
        average_metrics: whether this site's accuracies may go into a mean with others', which the server is told.
        tell_metrics: whether the server is told this site's own accuracies and numbers of images for validation and
            test.
    """

    methods: tuple[str, ...] = ("secfpp",)
    fewest_sites: Annotated[int, Ge(2)] = 4
    smallest_group: Annotated[int, Ge(2)] = 4
    least_colluding: Annotated[int, Ge(1)] = 1
    largest_weight: Annotated[float, Gt(0), Le(1)] = 0.5
    most_rounds: Annotated[int, Ge(1)] = 100
    in_the_clear: bool = False
    active_security: bool = False
    class_sums: bool = True
    fewest_holders: Annotated[int, Ge(2)] = 3
    epsilon: Annotated[float, Gt(0)] | None = None
    average_metrics: bool = False
    tell_metrics: bool = False

    def __post_init__(self) -> None:
        if self.epsilon is not None and not math.isfinite(self.epsilon):
            raise ConfigError([Problem("epsilon", self.epsilon, 'a finite number, or "none"')])

    def problems(self, agreed: Agreed, sites: int, text: str = "") -> list[Problem]:
        """Everything of a run that is not allowed: the key and value in ``agreed.toml``, and which line forbids it.

        Args:
            agreed: the run.
            sites: how many are in its roster.
            text: the content of ``site.toml``, for the numbers of its lines.
        """
        return [
            Problem(key, value, self._said(text, name, rule)) for name, key, value, rule in self._found(agreed, sites)
        ]

    def _said(self, text: str, name: str, rule: str) -> str:
        line, value = line_of(text, TABLE, name), json.dumps(dump(getattr(self, name)))
        where = f"{FILE} line {line}: {name} = {value}" if line else f"{FILE} does not say {name}, so {value} holds"
        return f"{rule} ({where})"

    def _found(self, agreed: Agreed, sites: int) -> Iterator[tuple[str, str, Any, str]]:
        """Limit, the key that it forbids, the value asked for, and the rule."""
        method = agreed.algorithm
        if method.name not in self.methods:
            yield "methods", "method.name", method.name, f"one of {', '.join(self.methods) or 'none'}"
        if agreed.rounds > self.most_rounds:
            yield "most_rounds", "rounds", agreed.rounds, f"at most {self.most_rounds}"
        if (fewest := min(agreed.fewest, sites)) < self.fewest_sites:
            key = "fewest" if agreed.fewest < self.fewest_sites else "sites in the roster"
            yield "fewest_sites", key, fewest, f"at least {self.fewest_sites}"
        if agreed.figures != "none" and not self.average_metrics:
            yield "average_metrics", "figures", agreed.figures, "none"
        aggregator = getattr(method, "aggregator", None)
        if aggregator is not None:
            if aggregator.min_responders < self.smallest_group:
                key, least = "method.aggregator.min_responders", aggregator.min_responders
                yield "smallest_group", key, least, f"at least {self.smallest_group}"
            if aggregator.most_weight > self.largest_weight:
                key, most = "method.aggregator.most_weight", aggregator.most_weight
                yield "largest_weight", key, most, f"at most {self.largest_weight:g}"
        yield from self._seen(agreed, sites)
        yield from self._shared(method)
        yield from self._privacy(method)

    def _seen(self, agreed: Agreed, sites: int) -> Iterator[tuple[str, str, Any, str]]:
        if agreed.algorithm.told and not self.in_the_clear:
            method = agreed.algorithm
            yield "in_the_clear", "method.name", method.name, f"one that does not tell the server {method.told}"
        for name in _PARTS:
            part = getattr(agreed.algorithm, name, None)
            if part is None or part.kind in ("one", "random"):  # nothing is asked of sites
                continue
            revealed = getattr(part, "reveal", None)
            if not self.in_the_clear and not part.needs_keys:
                yield "in_the_clear", f"method.{name}.kind", part.kind, "one that computes on shares"
            elif not self.in_the_clear and revealed not in (None, "partition"):
                yield "in_the_clear", f"method.{name}.reveal", revealed, "partition: nothing else is opened"
            if self.active_security and name in _VERIFIED and (security := getattr(part, "security", None)) != "active":
                key, asked = ("security", security) if security is not None else ("kind", part.kind)
                yield "active_security", f"method.{name}.{key}", asked, 'one on shares with security = "active"'
            if part.needs_keys and (least := _colluding(part, agreed.fewest, sites)) < self.least_colluding:
                key = f"method.{name}.threshold"
                yield "least_colluding", key, part.threshold, f"settings with T = {self.least_colluding}, not {least}"

    def _shared(self, method: FederatedAlgorithm) -> Iterator[tuple[str, str, Any, str]]:
        if not method.class_means.shared:
            return
        if not self.class_sums:
            yield "class_sums", "method.class_means.levels", method.class_means.levels, "own or none"
        elif method.class_means.min_holders < self.fewest_holders:
            key, least = "method.class_means.min_holders", method.class_means.min_holders
            yield "fewest_holders", key, least, f"at least {self.fewest_holders}"

    def _privacy(self, method: FederatedAlgorithm) -> Iterator[tuple[str, str, Any, str]]:
        if self.epsilon is None:
            return
        settings = getattr(method, "privacy", None)
        if method.privacy_terms is None or settings is None:
            asked = settings.mechanism if settings is not None else None
            yield "epsilon", "method.privacy.mechanism", asked, "one under differential privacy"
        elif settings.epsilon > self.epsilon:
            yield "epsilon", "method.privacy.epsilon", settings.epsilon, f"at most {self.epsilon:g}"


def line_of(text: str, table: str, key: str) -> int:
    """The number of the line of a TOML text, from 1, on which a key of a table stands; 0 if none is found."""
    key, inside = rf"""["']?{re.escape(key)}["']?\s*=""", False
    elsewhere = re.compile(rf"\s*{re.escape(table)}\s*(\.\s*{key}|=\s*{{.*\b{key})")  # at the top of the file
    for number, line in enumerate(text.splitlines(), 1):
        if head := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
            inside = head[1].strip("\"'") == table
        elif re.match(rf"\s*{key}", line) if inside else elsewhere.match(line):
            return number
    return 0


def _colluding(part: Any, fewest: int, sites: int) -> int:
    """The least T of a part on shares, for any number of sites that a round may have; large if it is never used."""
    found = []
    for n in range(fewest, max(fewest, sites) + 1):
        if hasattr(part, "is_one") and part.is_one(n):
            continue  # too few to be grouped
        try:
            found.append(int(part.protection(n)["threshold"]))
        except ConfigError:  # too few for the part: it refuses by itself
            continue
    return min(found, default=1 << 30)
