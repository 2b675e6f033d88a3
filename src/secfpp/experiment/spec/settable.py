"""Problems of a method's settings, under the keys by which a config and the command line set them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from secfpp.errors import ConfigError, Problem
from secfpp.experiment.spec.schema import dotted, mentioned, setting_names

if TYPE_CHECKING:
    from secfpp.experiment.spec.config import ExperimentConfig


def as_set(error: ConfigError, config: ExperimentConfig, label: str) -> ConfigError:
    """What a method says of its own settings, said of those of ``[method]`` or a variant; others keep their keys.

    Args:
        error: names fields of the method, e.g. ``clusterer.restarts``.
        config: of the experiment.
        label: of the method that raised it.
    """
    algorithm = config.choose([label])[label]
    names = setting_names(algorithm)
    place, hint = _place(config, label)

    def placed(problem: Problem) -> Problem:
        allowed = mentioned(problem.allowed, place, names)
        if problem.key.partition(".")[0] not in names:
            return Problem(problem.key, problem.value, allowed)
        return Problem(f"{place}.{problem.key}", problem.value, allowed + hint)

    return ConfigError(list(map(placed, error.problems))) if error.problems else error


def _place(config: ExperimentConfig, label: str) -> tuple[str, str]:
    """The table that sets a method, and what to do if there is none yet."""
    if label in config.variants:
        return dotted("variants", label), ""
    if label == config.method.name:
        return "method", ""
    own = dotted("variants", f"{label}+mine")
    return own, f'; {label} has its usual settings here: make a variant, {own}.base = "{label}", and set it there'
