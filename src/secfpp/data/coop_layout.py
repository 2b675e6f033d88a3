"""Collections as CoOp lays them out: a folder of images, and a JSON file that splits them.

The file is ``{"train" | "val" | "test": [[path, number, name], ...]}`` with paths relative to the images (Zhou et al.,
Learning to Prompt for Vision-Language Models, 2022, and its public split files). Where it is missing, the images are
listed from the collection's own files, and split anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secfpp.data.catalog import DatasetSpec
from secfpp.data.collection import Collection, CollectionSettings, Listed, collected, dataset_of
from secfpp.data.holdings import SPELLINGS, Picture
from secfpp.data.rules import raise_all
from secfpp.errors import DataError
from secfpp.image_names import is_image_name


@dataclass(frozen=True)
class CoopLayout:
    """Where a collection's files are.

    Attributes:
        name: of the data set.
        title: what it is, for lists.
        folder: below the root.
        images: the folder of images in it.
        split: the JSON file.
        unsplit: lists the images in the folder without that file; the name of the data set is their domain.
        template: a hand-written prompt.
    """

    name: str
    title: str
    folder: str
    images: str
    split: str
    unsplit: Callable[[Path, str], list[Listed]]
    template: str = "a photo of a {}"

    def read(self, settings: CollectionSettings) -> Collection:
        """The collection.

        Raises:
            ConfigError, DataError: it is not there, or not as it should be.
        """
        folder = settings.folder(self.folder)
        if not (folder / self.images).is_dir():
            raise DataError(f"{folder / self.images}: no such folder: the images of {self.name} lie there")
        file = folder / self.split
        listed = (
            split_entries(file, folder / self.images, self.name) if file.is_file() else self.unsplit(folder, self.name)
        )
        if not listed:
            raise DataError(f"{file if file.is_file() else folder / self.images}: no image in it")
        how = self.split if file.is_file() else f"made here, as there is no {self.split}"
        return collected(self.name, listed, self.template, {"split": how})

    def dataset(self) -> DatasetSpec:
        """Its row in the list of data sets."""
        return dataset_of(self.name, f"{self.title}, in {self.folder}/ below data_root", CollectionSettings, self.read)


def split_entries(file: Path, images: Path, domain: str) -> list[Listed]:
    """The entries of a split file, in its order.

    Raises:
        DataError: not such a file; names each entry that is wrong.
    """
    table = read_json(file)
    problems: list[str] = []
    found: list[Listed] = []
    for part, entries in table.items():
        if part not in ("train", "val", "test") or not isinstance(entries, list):
            problems.append(f"{file}: {part!r}: should be lists under train, val and test")
            continue
        for at, entry in enumerate(entries):
            place = f"{file}, {part} {at} (from 0)"
            match entry:
                case [str(path), int(number), str(name)] if name.strip() and not isinstance(number, bool):
                    found.append(Listed(place, Picture(images / path, name, SPELLINGS[part]), number, domain))
                case _:
                    problems.append(f"{place}: {entry!r}: should be [path, number, name]")
    raise_all(problems)
    return found


def class_folders(
    images: Path, domain: str, left_out: tuple[str, ...] = (), renamed: Mapping[str, str] | None = None
) -> list[Listed]:
    """Images in folders by class, numbered in the order of the folders' names.

    Args:
        images: the folder of class folders.
        domain: that all are of.
        left_out: folders that do not count.
        renamed: folder -> the name of its class, where that is another.

    Raises:
        DataError: a folder that holds no image.
    """
    folders = sorted(path for path in images.iterdir() if path.is_dir() and not path.name.startswith("."))
    found: list[Listed] = []
    problems: list[str] = []
    for number, folder in enumerate(path for path in folders if path.name not in left_out):
        files = sorted(path for path in folder.iterdir() if path.is_file() and is_image_name(path.name))
        if not files:
            problems.append(f"{folder}: no image: complete the collection, or remove the folder")
        name = (renamed or {}).get(folder.name, folder.name)
        found += [Listed(str(folder), Picture(path, name), number, domain) for path in files]
    raise_all(problems)
    return found


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        DataError: no such file, or something else in it.
    """
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: not JSON, or damaged ({error}): get it again") from error
    if not isinstance(table, dict):
        raise DataError(f"{file}: not an object of JSON but {type(table).__name__}: get it again")
    return table
