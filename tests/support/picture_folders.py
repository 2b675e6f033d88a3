"""Folders of small PNG files, as users have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"cat": (200, 40, 40), "dog": (40, 200, 40), "bird": (40, 40, 200)}


def picture(path: Path, colour: Sequence[int] = (120, 120, 120), size: tuple[int, int] = (12, 10)) -> Path:
    """Write one image of a single colour, in the format that the name asks for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, tuple(colour)).save(path)
    return path


def picture_tree(root: Path, counts: Mapping[str, int]) -> Path:
    """`counts` images in each folder below `root`; all differ: red, green or blue by class and lighter by number."""
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        base = np.array(COLOURS.get(Path(folder).name.lower(), (90, 90, 90)))
        for i in range(count):
            picture(root / folder / f"{i:03d}.png", [int(v) for v in np.minimum(255, base + i)])
    return root
