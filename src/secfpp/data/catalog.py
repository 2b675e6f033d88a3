"""Data sets by name: one row each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from typing import Any

from secfpp.data.cards import CardSettings, load_cards
from secfpp.data.digits import DigitSettings, load_digits
from secfpp.data.federated import FederatedDataset
from secfpp.data.folders import FolderSettings, load_folder
from secfpp.data.icons import IconSettings, load_icons
from secfpp.data.tables import TableSettings, load_table
from secfpp.errors import ConfigError
from secfpp.plugins import offered

GROUP = "secfpp.datasets"
"""The entry point group in which other packages offer theirs."""


@dataclass(frozen=True)
class DatasetSpec:
    """How to make a federated data set.

    Attributes:
        name: by which a config names it.
        description: one line for ``secfpp list datasets``.
        settings: a dataclass, whose fields are the other keys of the table ``[data]``.
        load: the data set of an instance of `settings` and a seed; the same for the same.
    """

    name: str
    description: str
    settings: type[Any]
    load: Callable[[Any, int], FederatedDataset]


_ROWS = (
    DatasetSpec(
        "icons",
        "functional icons in six styles, rendered from icon fonts (ships with SecFPP)",
        IconSettings,
        load_icons,
    ),
    DatasetSpec(
        "digits",
        "handwritten digits of two collections, out of installed packages (secfpp[digits])",
        DigitSettings,
        load_digits,
    ),
    DatasetSpec(
        "cards",
        "playing cards of six real decks, as Debian's gnome-cards-data installs them (secfpp[cards])",
        CardSettings,
        load_cards,
    ),
    DatasetSpec("folder", "your own images, in folders by client and class", FolderSettings, load_folder),
    DatasetSpec("table", "your own images, in a table by client and class (CSV, Parquet)", TableSettings, load_table),
)


def datasets() -> dict[str, DatasetSpec]:
    """All data sets by name: those of this package, and what others offer as entry points of group `GROUP`.

    Raises:
        ConfigError: an entry point that cannot be used; names the package and what it should be.
    """
    found = {row.name: row for row in _ROWS}
    for place, row in offered(GROUP, "data set"):
        if not isinstance(row, DatasetSpec) or not is_dataclass(row.settings):
            raise ConfigError(f"{place} should be a secfpp.DatasetSpec, whose settings are a dataclass, not {row!r}")
        if row.name in found:
            raise ConfigError(f"{place} is called {row.name!r}, as another data set is: rename it there")
        found[row.name] = row
    return found
