"""Glyphs of the icon fonts that the package QtAwesome carries, read with Pillow (no Qt needed).

Six designers drew the same things independently: that is what makes an honest train/test split
possible. A glyph is named ``font/name``; `base` is its name without weight or fill variant.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from secfpp.errors import DataError

RASTER = 64
"""Side of a glyph's raster in pixels."""

FONTS = {
    "mdi6": ("mdi", "materialdesignicons6-webfont-6.9.96.ttf", "materialdesignicons6-webfont-charmap-6.9.96.json"),
    "fa6s": ("fa", "fontawesome6-solid-webfont-6.7.2.ttf", "fontawesome6-solid-webfont-charmap-6.7.2.json"),
    "fa6r": ("fa", "fontawesome6-regular-webfont-6.7.2.ttf", "fontawesome6-regular-webfont-charmap-6.7.2.json"),
    "fa5s": ("fa", "fontawesome5-solid-webfont-5.15.4.ttf", "fontawesome5-solid-webfont-charmap-5.15.4.json"),
    "ph": ("ph", "phosphor-1.3.0.ttf", "phosphor-charmap-1.3.0.json"),
    "ri": ("ri", "remixicon-2.5.0.ttf", "remixicon-charmap-2.5.0.json"),
    "ei": ("ei", "elusiveicons-webfont-2.0.ttf", "elusiveicons-webfont-charmap-2.0.json"),
    "msc": ("msc", "codicon-0.0.36.ttf", "codicon-charmap-0.0.36.json"),
}
"""font -> (designer, font file, character map)."""

_VARIANT = {
    "ph": r"-(thin|light|bold|fill|duotone)$",
    "ri": r"-(line|fill)$",
    "mdi6": r"-outline$",
    "ei": r"-alt$",
}


@dataclass(frozen=True, order=True)
class Glyph:
    """One drawing of one font."""

    font: str
    name: str

    @property
    def designer(self) -> str:
        """Who drew it; several fonts can share a designer."""
        return FONTS[self.font][0]

    @property
    def base(self) -> str:
        """Name without its weight or fill variant, e.g. ``house`` for ``house-bold``."""
        return re.sub(_VARIANT[self.font], "", self.name) if self.font in _VARIANT else self.name

    def __str__(self) -> str:
        return f"{self.font}/{self.name}"


def font_folder() -> Path:
    """Where QtAwesome keeps its fonts.

    Raises:
        DataError: the package or a font file is missing.
    """
    spec = find_spec("qtawesome")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("the icon fonts are missing: pip install QtAwesome")
    folder = Path(next(iter(spec.submodule_search_locations))) / "fonts"
    missing = [name for font in FONTS.values() for name in font[1:] if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"icon font file {missing[0]} is not in {folder}: this benchmark is defined on the fonts of "
            "QtAwesome 1.4.2; pip install QtAwesome==1.4.2"
        )
    return folder


@cache
def _charmap(font: str) -> dict[str, int]:
    codes = json.loads((font_folder() / FONTS[font][2]).read_text(encoding="utf-8"))
    return {name: int(code, 16) if isinstance(code, str) else int(code) for name, code in codes.items()}


@cache
def all_glyphs() -> tuple[Glyph, ...]:
    """Every glyph of every font, sorted."""
    return tuple(Glyph(font, name) for font in sorted(FONTS) for name in sorted(_charmap(font)))


def rasterise(glyphs: Iterable[Glyph]) -> np.ndarray:
    """Masks of glyphs, uint8 [n, RASTER, RASTER], centred, longest side 60 px; blank if undrawable."""
    fonts: dict[str, ImageFont.FreeTypeFont] = {}
    rasters = [_raster(glyph, fonts) for glyph in glyphs]
    return np.stack(rasters) if rasters else np.zeros((0, RASTER, RASTER), np.uint8)


def _raster(glyph: Glyph, fonts: dict[str, ImageFont.FreeTypeFont]) -> np.ndarray:
    if glyph.font not in fonts:
        fonts[glyph.font] = ImageFont.truetype(str(font_folder() / FONTS[glyph.font][1]), 96)
    try:
        code = _charmap(glyph.font)[glyph.name]
    except KeyError:
        raise DataError(f"glyph {glyph} is not in its font: pip install QtAwesome==1.4.2") from None
    canvas = Image.new("L", (256, 256))
    ImageDraw.Draw(canvas).text((64, 64), chr(code), font=fonts[glyph.font], fill=255)
    mask = np.zeros((RASTER, RASTER), np.uint8)
    box = canvas.getbbox()
    if box is None:
        return mask
    drawing = canvas.crop(box)
    scale = 60 / max(drawing.size)
    width, height = (max(1, round(side * scale)) for side in drawing.size)
    top, left = (RASTER - height) // 2, (RASTER - width) // 2
    mask[top : top + height, left : left + width] = np.asarray(
        drawing.resize((width, height), Image.Resampling.LANCZOS)
    )
    return mask


def signatures(masks: np.ndarray) -> np.ndarray:
    """Unit vectors [n, 1024] whose inner product is the correlation of two rasters at half size."""
    half = masks.reshape(len(masks), RASTER // 2, 2, RASTER // 2, 2).mean((2, 4), dtype=np.float32)
    flat = half.reshape(len(masks), -1)
    flat = flat - flat.mean(1, keepdims=True)
    unit: np.ndarray = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    return unit


@cache
def concepts() -> dict[str, tuple[str, ...]]:
    """Concept -> the glyph names that draw it, preferred first."""
    return {concept: tuple(names.split(",")) for concept, names in read_table("concepts.tsv")}


def concept_glyphs(concept: str) -> list[Glyph]:
    """All glyphs that draw a concept: of each designer those under its first name in use."""
    return [glyph for names in _by_designer().values() for glyph in _first_match(names, concepts()[concept])]


@cache
def _by_designer() -> dict[str, dict[str, list[Glyph]]]:
    table: dict[str, dict[str, list[Glyph]]] = {}
    for glyph in all_glyphs():
        base = re.sub(r"-[1-5]$", "", glyph.base) if glyph.font == "ri" else glyph.base
        table.setdefault(glyph.designer, {}).setdefault(base, []).append(glyph)
    return table


def _first_match(table: dict[str, list[Glyph]], names: Sequence[str]) -> list[Glyph]:
    return next((table[name] for name in names if name in table), [])


def read_table(name: str) -> list[list[str]]:
    """Rows of a tab-separated table that ships with the package, without its header."""
    text = files("secfpp.data").joinpath("assets", name).read_text(encoding="utf-8")
    return [line.split("\t") for line in text.splitlines()[1:] if line and not line.startswith("#")]
