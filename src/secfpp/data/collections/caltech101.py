"""Caltech101: objects of a hundred classes (Fei-Fei, Fergus and Perona, 2004), without background and easy faces."""

from __future__ import annotations

from pathlib import Path

from secfpp.data.collection import Listed
from secfpp.data.coop_layout import CoopLayout, class_folders

IMAGES = "101_ObjectCategories"
LEFT_OUT = ("BACKGROUND_Google", "Faces_easy")
RENAMED = {"airplanes": "airplane", "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike"}


def unsplit(folder: Path, domain: str) -> list[Listed]:
    """All images, by the folders of their classes."""
    return class_folders(folder / IMAGES, domain, LEFT_OUT, RENAMED)


LAYOUT = CoopLayout(
    "caltech101", "objects of 100 classes", "caltech-101", IMAGES, "split_zhou_Caltech101.json", unsplit
)
DATASETS = (LAYOUT.dataset(),)
