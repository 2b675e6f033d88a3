"""Oxford-IIIT Pets: cats and dogs of 37 breeds (Parkhi et al., 2012)."""

from __future__ import annotations

from pathlib import Path

from secfpp.data.collection import Listed
from secfpp.data.coop_layout import CoopLayout
from secfpp.data.holdings import Part, Picture
from secfpp.data.rules import raise_all
from secfpp.errors import DataError

LISTS: dict[str, Part] = {"trainval.txt": "train", "test.txt": "test"}


def unsplit(folder: Path, domain: str) -> list[Listed]:
    """The images of the two lists, lines ``Abyssinian_100 1 1 1``: the file and the number of its breed from 1.

    Validation is left to be split off the first list.

    Raises:
        DataError: a list that is missing, or a line that is no such line.
    """
    found: list[Listed] = []
    problems: list[str] = []
    for name, part in LISTS.items():
        file = folder / "annotations" / name
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{file}: cannot be read ({error}); it lists the images") from error
        for at, line in enumerate(lines, 1):
            if not line.strip() or line.startswith("#"):
                continue
            match line.split():
                case [stem, number, _, _] if number.isdecimal() and "_" in stem:
                    breed = stem.rpartition("_")[0].lower()
                    picture = Picture(folder / "images" / f"{stem}.jpg", breed, part)
                    found.append(Listed(f"{file}, line {at}", picture, int(number), domain))
                case _:
                    problems.append(f"{file}, line {at}: {line!r}: should be an image and three numbers")
    raise_all(problems)
    return found


LAYOUT = CoopLayout(
    "oxford_pets",
    "cats and dogs of 37 breeds",
    "oxford_pets",
    "images",
    "split_zhou_OxfordPets.json",
    unsplit,
)
DATASETS = (LAYOUT.dataset(),)
