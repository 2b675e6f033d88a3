"""Office-Caltech10 (Gong et al., 2012): ten classes of things in four domains, by FedBN's lists or by folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from secfpp.data.collection import Collection, dataset_of
from secfpp.data.coop_layout import class_folders
from secfpp.data.domain_lists import DomainSettings, Entry, chosen, listed_by_files
from secfpp.errors import DataError, Problem

DOMAINS = ("amazon", "caltech", "dslr", "webcam")
TEN = (
    *("back_pack", "bike", "calculator", "headphones", "keyboard"),
    *("laptop_computer", "monitor", "mouse", "mug", "projector"),
)


@dataclass(frozen=True, kw_only=True)
class OfficeCaltechSettings(DomainSettings):
    """Settings of Office-Caltech10; the other settings are those of `DomainSettings`.

    Attributes:
        domains: that are used.
        classes: that are used, in the order in which they are numbered; all if empty.
        validation: share of each class's training images for validation.
    """

    domains: tuple[str, ...] = DOMAINS
    classes: tuple[str, ...] = TEN

    def problems(self) -> list[Problem]:
        """All values that cannot work."""
        strange = [domain for domain in self.domains if domain not in DOMAINS]
        return super().problems() + [Problem("data.domains", each, f"of {', '.join(DOMAINS)}") for each in strange]


def read(settings: OfficeCaltechSettings) -> Collection:
    """The images of the domains and classes that are wanted.

    Raises:
        ConfigError, DataError: the collection is not there or not as it should be, or a class is in no domain.
    """
    folder = settings.folder("office_caltech_10")
    entries = {domain: listed_by_files(folder, domain) for domain in settings.domains}
    listed = [domain for domain, own in entries.items() if own is not None]
    if listed and len(listed) < len(entries):
        missing = ", ".join(domain for domain in entries if domain not in listed)
        raise DataError(f"{folder}: lists of images for {', '.join(listed)}, but none for {missing}: complete them")
    return chosen(
        "office_caltech",
        folder,
        {domain: own if own is not None else _in_folders(folder / domain) for domain, own in entries.items()},
        settings,
    )


def _in_folders(folder: Path) -> Sequence[Entry]:
    """The images of a domain in folders by class."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder, and no {folder.name}_train.pkl beside it: put the images there")
    return [Entry(each.place, each.picture, None) for each in class_folders(folder, folder.name)]


DATASETS = (
    dataset_of(
        "office_caltech",
        "four domains, 10 classes, in office_caltech_10/ below data_root",
        OfficeCaltechSettings,
        read,
    ),
)
