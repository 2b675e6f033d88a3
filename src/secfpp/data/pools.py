"""Two fixed pools of glyphs that never meet, and splits of one of them by independent drawing.

The downstream pool (a table that ships with the package, made by ``tools/make_icon_pool.py``) serves the
embedded benchmark; everything that resembles none of it may be used for pre-training.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha256

import numpy as np

from secfpp.data.conventions import label_options
from secfpp.data.glyphs import Glyph, all_glyphs, rasterise, read_table, signatures
from secfpp.errors import ConfigError, Problem
from secfpp.seeding import Seed, derive

Drawings = tuple[tuple[Glyph, ...], ...]
"""Independent drawings, each a tuple of near-duplicate glyphs."""

SAME_DRAWING = 0.8
"""Rasters that correlate above this count as one drawing and stay on one side of every split."""


@cache
def downstream_pool() -> dict[str, Drawings]:
    """Concept -> its independent drawings."""
    pool: dict[str, dict[int, list[Glyph]]] = {}
    for concept, drawing, name in read_table("downstream_pool.tsv"):
        font, _, glyph = name.partition("/")
        pool.setdefault(concept, {}).setdefault(int(drawing), []).append(Glyph(font, glyph))
    return {concept: tuple(tuple(glyphs) for glyphs in drawings.values()) for concept, drawings in pool.items()}


def pool_digest() -> str:
    """SHA-256 of the downstream pool; the embedded model's card names the one it was kept away from."""
    names = sorted(str(glyph) for drawings in downstream_pool().values() for glyphs in drawings for glyph in glyphs)
    return sha256("\n".join(names).encode()).hexdigest()


def pretraining_pool() -> tuple[list[Glyph], np.ndarray]:
    """Glyphs that pre-training may use, and their masks uint8 [n, 64, 64].

    None of them is in the downstream pool, correlates above `SAME_DRAWING` with a glyph there, or is blank.
    """
    held = sorted({glyph for drawings in downstream_pool().values() for glyphs in drawings for glyph in glyphs})
    others = sorted(set(all_glyphs()) - set(held))
    masks = rasterise(others)
    nearest = (signatures(masks) @ signatures(rasterise(held)).T).max(1)
    keep = (nearest <= SAME_DRAWING) & (masks.max((1, 2)) > 0)
    return [glyph for glyph, ok in zip(others, keep, strict=True) if ok], masks[keep]


@dataclass(frozen=True)
class DrawingSplit:
    """Concept -> the drawings of each part; no part shares a drawing with another."""

    train: dict[str, Drawings]
    validation: dict[str, Drawings]
    test: dict[str, Drawings]


def split_by_drawing(seed: Seed) -> DrawingSplit:
    """About 30 % of each concept's independent drawings for test, 20 % for validation, at least one each."""
    return _split(downstream_pool(), dict.fromkeys(downstream_pool(), ()), seed)


def split_by_designer(designer: str, seed: Seed) -> DrawingSplit:
    """All drawings of one designer for test, the others' for training and validation.

    A drawing that this designer shares with another, and a concept for which a part would stay
    empty, are left out.
    """
    rest, test = {}, {}
    for concept, drawings in downstream_pool().items():
        owners = [{glyph.designer for glyph in drawing} for drawing in drawings]
        rest[concept] = tuple(d for d, who in zip(drawings, owners, strict=True) if designer not in who)
        test[concept] = tuple(d for d, who in zip(drawings, owners, strict=True) if who == {designer})
    usable = [concept for concept in rest if len(rest[concept]) >= 2 and test[concept]]
    if not usable:
        raise ConfigError([Problem("data.designer", designer, f"one of {', '.join(downstream_designers())}")])
    return _split({c: rest[c] for c in usable}, {c: test[c] for c in usable}, seed)


def _split(pool: dict[str, Drawings], test: dict[str, Drawings], seed: Seed) -> DrawingSplit:
    parts = DrawingSplit({}, {}, {})
    for concept, drawings in pool.items():
        order = derive(seed, "drawings", concept).numpy().permutation(len(drawings))
        shuffled = [drawings[i] for i in order]
        n_test = 0 if test[concept] else max(1, round(0.3 * len(shuffled)))
        n_validation = max(1, round(0.2 * len(shuffled)))
        parts.test[concept] = test[concept] or tuple(shuffled[:n_test])
        parts.validation[concept] = tuple(shuffled[n_test : n_test + n_validation])
        parts.train[concept] = tuple(shuffled[n_test + n_validation :])
    return parts


def downstream_designers() -> tuple[str, ...]:
    """Designers with drawings in the downstream pool."""
    return tuple(sorted({g.designer for drawings in downstream_pool().values() for d in drawings for g in d}))


@cache
def labels() -> dict[str, tuple[str, ...]]:
    """Label -> concepts of the downstream pool that may draw it."""
    pool = downstream_pool()
    return {label: tuple(c for c in options if c in pool) for label, options in label_options().items()}
