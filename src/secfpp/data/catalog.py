"""Data sets by name. A module of this package or of `secfpp.data.collections` offers those in its ``DATASETS``."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass
from typing import TYPE_CHECKING, Any

from secfpp.data.federated import FederatedDataset
from secfpp.errors import ConfigError
from secfpp.plugins import offered

if TYPE_CHECKING:
    from secfpp.data.collection import Collection

GROUP = "secfpp.datasets"
"""The entry point group in which other packages offer theirs."""


PACKAGES = ("secfpp.data", "secfpp.data.collections")
"""Whose modules are looked at for ``DATASETS``."""


@dataclass(frozen=True)
class DatasetSpec:
    """How to make a federated data set.

    Attributes:
        name: by which a config names it.
        description: one line for ``secfpp list datasets``.
        settings: a dataclass, whose fields are the other keys of the table ``[data]``.
        load: the data set of an instance of `settings` and a seed; the same for the same.
        survey: the images of an instance of `settings` before they are dealt and read, where they lie on a disk.
    """

    name: str
    description: str
    settings: type[Any]
    load: Callable[[Any, int], FederatedDataset]
    survey: Callable[[Any], Collection] | None = None


def datasets() -> dict[str, DatasetSpec]:
    """All data sets by name: those of this package, and what others offer as entry points of group `GROUP`.

    Raises:
        ConfigError: an entry point that cannot be used; names the package and what it should be.
    """
    found = {row.name: row for row in _own()}
    for place, row in offered(GROUP, "data set"):
        if not isinstance(row, DatasetSpec) or not is_dataclass(row.settings):
            raise ConfigError(f"{place} should be a secfpp.DatasetSpec, whose settings are a dataclass, not {row!r}")
        if row.name in found:
            raise ConfigError(f"{place} is called {row.name!r}, as another data set is: rename it there")
        found[row.name] = row
    return found


def _own() -> Iterator[DatasetSpec]:
    for place in PACKAGES:
        package = importlib.import_module(place)
        for module in pkgutil.iter_modules(package.__path__, f"{place}."):
            yield from getattr(importlib.import_module(module.name), "DATASETS", ())
