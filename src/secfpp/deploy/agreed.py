"""What all parties of a run agree on before anything is trained: one TOML file, the same everywhere.

The server's copy is worth nothing to a site: each has its own, and refuses a run whose digest is another.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from annotated_types import Ge, Gt

from secfpp.algorithms.base import FederatedAlgorithm, methods
from secfpp.crypto.roster import Roster
from secfpp.errors import ConfigError, DataError, Problem
from secfpp.experiment.spec.plan import differences
from secfpp.experiment.spec.schema import build, check, dump, one_of
from secfpp.grey_depth import GreyWindow, window_problems
from secfpp.images import SIZE
from secfpp.protocol import wire
from secfpp.secure.session import PROTOCOL_VERSION
from secfpp.storage import atomic_write

_KEYS = (
    *("run", "roster", "seed", "rounds", "fewest", "deadline", "template", "classes", "image_size", "grey_window"),
    *("figures", "backbone", "method"),
)


@dataclass(frozen=True)
class Agreed:
    """One run as it is agreed on.

    Attributes:
        run: its name, which is that of the roster.
        roster: fingerprint of the roster.
        seed: public seed of everything random that is not secret.
        rounds: of training.
        fewest: sites with which a round is run at least.
        deadline: seconds that a site has for an answer.
        template: the hand-written prompt that training starts from, with ``{}`` for the class at its end.
        classes: all class names, in order.
        backbone: name of the model.
        backbone_digest: hash of its content.
        algorithm: the method with all its settings, as a run of so many rounds uses it.
        image_size: side in pixels at which all sites read their images.
        figures: ``mean``: sites' own accuracies are averaged after training, and the server is told the mean; ``none``.
        grey_window: which grey values of more than 8 bits are black and white at all sites; None leaves it to each.

    Raises:
        ConfigError: values that cannot work, all of them.
    """

    run: str
    roster: str
    seed: int
    rounds: int
    fewest: int
    deadline: float
    template: str
    classes: tuple[str, ...]
    backbone: str
    backbone_digest: str
    algorithm: FederatedAlgorithm
    image_size: int = SIZE
    grey_window: GreyWindow | None = None
    figures: Literal["none", "mean"] = "none"

    def __post_init__(self) -> None:
        object.__setattr__(self, "algorithm", self.algorithm.for_rounds(self.rounds))
        problems = window_problems(self.grey_window, "grey_window")
        if len(set(self.classes)) < max(2, len(self.classes)):
            problems.append(Problem("classes", list(self.classes), "two names or more, each once"))
        if not self.template.endswith("{}"):
            problems.append(Problem("template", self.template, "text that ends with {} for the class name"))
        if not self.algorithm.trained:
            problems.append(Problem("method.name", self.algorithm.name, "a method that trains"))
        if hasattr(self.algorithm, "clusterer") and self.algorithm.clusterer.kind == "oracle":
            problems.append(
                Problem("method.clusterer", "oracle", "another one: nobody knows true groups in a deployment")
            )
        privacy = getattr(self.algorithm, "privacy", None)
        if privacy is not None and privacy.mechanism == "published":
            allowed = "another one: sites would agree to an epsilon that is far below the true one"
            problems.append(Problem("method.privacy.mechanism", privacy.mechanism, allowed))
        if self.figures == "mean" and not hasattr(self.algorithm, "aggregator"):
            problems.append(Problem("figures", "mean", f"none: {self.algorithm.name} averages nothing"))
        if self.figures == "mean" and self.algorithm.privacy_terms is not None:
            problems.append(
                Problem("figures", "mean", "none: a mean of accuracies has no noise, and no epsilon covers it")
            )
        if problems:
            raise ConfigError(problems)
        self.algorithm.require(self.fewest)

    @cached_property
    def table(self) -> dict[str, Any]:
        """All of it, defaults written out, as TOML can say it."""
        return {
            "run": self.run,
            "roster": self.roster,
            "seed": self.seed,
            "rounds": self.rounds,
            "fewest": self.fewest,
            "deadline": float(self.deadline),
            "template": self.template,
            "classes": list(self.classes),
            "image_size": self.image_size,
            "grey_window": "none" if self.grey_window is None else [float(value) for value in self.grey_window],
            "figures": self.figures,
            "backbone": {"name": self.backbone, "digest": self.backbone_digest},
            "method": {"name": self.algorithm.name, **dump(self.algorithm)},
        }

    @cached_property
    def digest(self) -> str:
        """A name for all of it and for the versions of protocol and wire format, SHA-256 in hexadecimal."""
        told = [PROTOCOL_VERSION, wire.VERSION, self.table]
        return sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def differences(self, table: Mapping[str, Any]) -> list[str]:
        """Dotted keys in which the `table` of another one differs from this one's."""
        return sorted(differences(self.table, table))

    def require_roster(self, roster: Roster) -> None:
        """Refuse another roster than the agreed one.

        Raises:
            ConfigError: it is another.
        """
        if (roster.run, roster.fingerprint) != (self.run, self.roster):
            allowed = (
                f"{roster.fingerprint}, that of version {roster.version} for the run {roster.run!r}, or get the other"
            )
            raise ConfigError([Problem("roster", self.roster, allowed)])

    def save(self, path: Path) -> None:
        """Write the file.

        Raises:
            DataError: it cannot be written.
        """
        try:
            atomic_write(path, tomli_w.dumps(self.table).encode())
        except OSError as error:
            raise DataError(f"{path} cannot be written: {error.strerror}. Choose another file") from error

    @classmethod
    def load(cls, path: Path) -> Agreed:
        """What `save` wrote, or what was written by hand; settings of the method that are left out have their defaults.

        Raises:
            DataError: no such file.
            ConfigError: no TOML, or values that cannot work, all of them.
        """
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}. Give the file that all parties agreed on") from error
        except ValueError as error:
            raise ConfigError(f"{path}: not valid TOML: {error}") from error
        return cls.parse(table)

    @classmethod
    def parse(cls, table: Mapping[str, Any]) -> Agreed:
        """An agreed run from its table.

        Raises:
            ConfigError: unknown or missing keys and values that cannot work, all of them.
        """
        problems = [Problem(key, table[key], one_of(key, _KEYS, "key")) for key in table if key not in _KEYS]
        optional = {"fewest": 2, "deadline": 60.0, "template": "a photo of a {}"}
        optional |= {"image_size": SIZE, "grey_window": "none", "figures": "none"}
        given = {**optional, **table}
        problems += [Problem(key, None, "is required and was not given") for key in _KEYS if key not in given]
        kinds: dict[str, Any] = {
            "run": str,
            "roster": str,
            "seed": Annotated[int, Ge(0)],
            "rounds": Annotated[int, Ge(1)],
            "fewest": Annotated[int, Ge(2)],
            "deadline": Annotated[float, Gt(0)],
            "template": str,
            "classes": tuple[str, ...],
            "image_size": Annotated[int, Ge(8)],
            "grey_window": tuple[float, float] | None,
            "figures": Literal["none", "mean"],
        }
        values = {key: check(kind, given[key], key, problems) for key, kind in kinds.items() if key in given}
        backbone = given.get("backbone")
        if not (isinstance(backbone, Mapping) and all(isinstance(backbone.get(k), str) for k in ("name", "digest"))):
            problems.append(Problem("backbone", backbone, "a table with name and digest, as secfpp doctor prints them"))
        algorithm = _method(given.get("method"), problems)
        if problems or algorithm is None or not isinstance(backbone, Mapping):
            raise ConfigError(problems)
        return cls(**values, backbone=backbone["name"], backbone_digest=backbone["digest"], algorithm=algorithm)


def _method(table: object, problems: list[Problem]) -> FederatedAlgorithm | None:
    if not isinstance(table, Mapping) or table.get("name") not in methods():
        name = table.get("name") if isinstance(table, Mapping) else table
        problems.append(Problem("method.name", name, one_of(name, methods(), "method")))
        return None
    built: FederatedAlgorithm | None = build(
        methods()[table["name"]], {key: value for key, value in table.items() if key != "name"}, "method", problems
    )
    return built
