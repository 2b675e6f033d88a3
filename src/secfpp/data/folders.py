"""A data set from folders of images on the user's disk.

`FolderSettings.layout` says what the levels of folders below `root` are, for example ``hospital-a/pneumonia/17.png``
with ``client/class``, or ``train/hospital-a/pneumonia/17.png`` with ``split/client/class``. Everything that can be
wrong with the folders is found before the first image is decoded.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from secfpp.data.catalog import DatasetSpec
from secfpp.data.collection import Collection, unread
from secfpp.data.federated import FederatedDataset
from secfpp.data.folder_survey import Layout, survey
from secfpp.data.own_images import OwnSettings, federated
from secfpp.errors import DataWarning, Problem
from secfpp.image_names import passed_over


@dataclass(frozen=True, kw_only=True)
class FolderSettings(OwnSettings):
    """Where the images lie and how they are shared out; the other settings are those of `OwnSettings`.

    Attributes:
        root: the top folder.
        layout: the levels of folders below it. ``client/class``: every first-level folder is a client with images of
            its own, and a domain of its own. ``domain/client/class``: clients whose domain is known.
            ``domain/class`` and ``class``: a simulation, in which the images of a domain (or all) are dealt to clients.
            A level ``split`` before the class is for folders train, val and test.
    """

    root: str
    layout: Layout = "client/class"

    def problems(self) -> list[Problem]:
        """All values that cannot work."""
        found = super().problems()
        if self.layout not in get_args(Layout):
            found.append(Problem("data.layout", self.layout, f"one of {', '.join(get_args(Layout))}"))
        if not self.root:
            found.append(Problem("data.root", self.root, "the folder with the images"))
        return found


def load_folder(source: str | os.PathLike[str] | FolderSettings, seed: int = 0) -> FederatedDataset:
    """The federated data set in a folder of images; the same for the same files, settings and seed.

    A `DataWarning` counts what else lies there, by ending.

    Args:
        source: the top folder, read with the layout ``client/class``, or settings.
        seed: of the split, and of the partition where the layout has one.

    Raises:
        ConfigError: settings that cannot work.
        DataError: folders that are not as the layout says, too few images or too many, or files that cannot be
            read; names them with the remedy.
    """
    settings = source if isinstance(source, FolderSettings) else FolderSettings(root=os.fspath(source))
    root = Path(settings.root).expanduser()
    holdings, others = survey(root, settings.layout, settings.min_classes)
    if others:
        warnings.warn(f"{root}: {passed_over(others)}", DataWarning, stacklevel=2)
    facts = {"layout": settings.layout, "files passed over": dict(others) or "none"}
    return federated(root.resolve().name, holdings, settings, seed, facts)


def survey_folder(settings: FolderSettings) -> Collection:
    """The images of a folder before they are split, dealt or read; errors as for `load_folder`."""
    root = Path(settings.root).expanduser()
    holdings, _ = survey(root, settings.layout, settings.min_classes)
    return unread(root.resolve().name, holdings)


DATASETS = (
    DatasetSpec(
        "folder",
        "your own images, in folders by client and class",
        FolderSettings,
        load_folder,
        survey_folder,
    ),
)
