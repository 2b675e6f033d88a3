"""Food101: dishes of 101 classes (Bossard, Guillaumin and Van Gool, 2014)."""

from __future__ import annotations

from pathlib import Path

from secfpp.data.collection import Listed
from secfpp.data.coop_layout import CoopLayout, class_folders


def unsplit(folder: Path, domain: str) -> list[Listed]:
    """All images, by the folders of their classes; the collection's own two lists are not used, as CoOp does not."""
    return class_folders(folder / "images", domain)


LAYOUT = CoopLayout(
    "food101", "dishes of 101 classes", "food-101", "images", "split_zhou_Food101.json", unsplit, "a photo of {}"
)
DATASETS = (LAYOUT.dataset(),)
