"""Describable Textures: 47 classes of textures (Cimpoi et al., 2014)."""

from __future__ import annotations

from pathlib import Path

from secfpp.data.collection import Listed
from secfpp.data.coop_layout import CoopLayout, class_folders


def unsplit(folder: Path, domain: str) -> list[Listed]:
    """All images, by the folders of their classes."""
    return class_folders(folder / "images", domain)


LAYOUT = CoopLayout(
    "dtd",
    "textures of 47 classes",
    "dtd",
    "images",
    "split_zhou_DescribableTextures.json",
    unsplit,
    "a photo of a texture that is {}",
)
DATASETS = (LAYOUT.dataset(),)
