"""DomainNet (Peng et al., 2019): six domains; its ten classes as FedBN uses them, or all."""

from __future__ import annotations

from dataclasses import dataclass

from secfpp.data.collection import Collection, dataset_of
from secfpp.data.domain_lists import DomainSettings, chosen, listed_by_files
from secfpp.errors import DataError, Problem

DOMAINS = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")
TEN = ("bird", "feather", "headphones", "ice_cream", "teapot", "tiger", "whale", "windmill", "wine_glass", "zebra")


@dataclass(frozen=True, kw_only=True)
class DomainNetSettings(DomainSettings):
    """Settings of DomainNet; the other settings are those of `DomainSettings`.

    Attributes:
        domains: that are used.
        classes: that are used, in the order in which they are numbered; all if empty.
        validation: share of each class's training images for validation.
    """

    domains: tuple[str, ...] = DOMAINS
    classes: tuple[str, ...] = TEN
    validation: float = 0.1

    def problems(self) -> list[Problem]:
        """All values that cannot work."""
        strange = [domain for domain in self.domains if domain not in DOMAINS]
        return super().problems() + [Problem("data.domains", each, f"of {', '.join(DOMAINS)}") for each in strange]


def read(settings: DomainNetSettings) -> Collection:
    """The images of the domains and classes that are wanted.

    Raises:
        ConfigError, DataError: the collection is not there or not as it should be, or a class is in no domain.
    """
    folder = settings.folder("DomainNet", "domainnet")
    entries = {}
    for domain in settings.domains:
        if (own := listed_by_files(folder, domain)) is None:
            raise DataError(f"{folder}: no {domain}_train.pkl or {domain}_train.txt: put the lists of images there")
        entries[domain] = own
    return chosen("domainnet", folder, entries, settings)


DATASETS = (
    dataset_of("domainnet", "six domains, 10 classes or all, in DomainNet/ below data_root", DomainNetSettings, read),
)
