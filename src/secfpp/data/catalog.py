"""Data sets by name: one row each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from secfpp.data.cards import CardSettings, load_cards
from secfpp.data.digits import DigitSettings, load_digits
from secfpp.data.federated import FederatedDataset
from secfpp.data.folders import FolderSettings, load_folder
from secfpp.data.icons import IconSettings, load_icons


@dataclass(frozen=True)
class DatasetSpec:
    """How to make a federated data set: `load(settings, seed)` with an instance of `settings`."""

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
)


def datasets() -> dict[str, DatasetSpec]:
    """All data sets by name."""
    return {row.name: row for row in _ROWS}
