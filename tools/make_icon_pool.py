"""Make ``src/secfpp/data/assets/downstream_pool.tsv``: the drawings that only the benchmark may use.

Usage: python tools/make_icon_pool.py [--check]

Designers `DOWNSTREAM` give their drawings of every benchmark concept to the downstream pool. Inside a
concept, drawings whose rasters correlate above `secfpp.data.pools.SAME_DRAWING` are one connected
component, numbered in the table; a concept with fewer than three components is dropped. Drawings of
two concepts that look the same (one glyph drawing both, or nearly so) are removed from both.
Pre-training may use every other glyph that resembles none of these (`secfpp.data.pools.pretraining_pool`).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from secfpp.data.conventions import label_options
from secfpp.data.glyphs import Glyph, concept_glyphs, rasterise, signatures
from secfpp.data.pools import SAME_DRAWING

DOWNSTREAM = ("ph", "ri", "ei", "msc")
TARGET = Path(__file__).parents[1] / "src/secfpp/data/assets/downstream_pool.tsv"


def make_pool() -> str:
    """The table's text."""
    wanted = sorted({concept for options in label_options().values() for concept in options})
    found: dict[str, list[Glyph]] = {
        concept: sorted({g for g in concept_glyphs(concept) if g.designer in DOWNSTREAM}) for concept in wanted
    }
    owners = [(concept, glyph) for concept in wanted for glyph in found[concept]]
    masks = rasterise(glyph for _, glyph in owners)
    alike = signatures(masks) @ signatures(masks).T > SAME_DRAWING
    concept_of = np.array([wanted.index(concept) for concept, _ in owners])
    across = alike & (concept_of[:, None] != concept_of[None])
    usable = ~across.any(1) & (masks.max((1, 2)) > 0)
    rows = ["concept\tdrawing\tglyph"]
    for index, concept in enumerate(wanted):
        members = np.flatnonzero(usable & (concept_of == index))
        count, drawing = connected_components(csr_matrix(alike[np.ix_(members, members)]), directed=False)
        if count < 3:
            print(f"dropped {concept}: {count} independent drawings", file=sys.stderr)
            continue
        rows += [
            f"{concept}\t{d}\t{owners[i][1]}" for d, i in sorted(zip(drawing.tolist(), members.tolist(), strict=True))
        ]
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare with the shipped table")
    text = make_pool()
    if parser.parse_args().check:
        sys.exit(0 if TARGET.read_text(encoding="utf-8") == text else f"{TARGET} differs from a fresh one")
    TARGET.write_text(text, encoding="utf-8")
    print(f"{TARGET}: {text.count(chr(10)) - 1} glyphs")
