"""Playing cards of real decks: the vector drawings that Debian's package gnome-cards-data installs.

A source is a deck, a class a rank or a suit. The drawings belong to their authors and come under licenses of their own
(GPL and LGPL); they are read where they are installed, and none is included here. Of each rank two suits are for
training, one for validation and one for the test (of each suit seven, three and three ranks), the same ones in every
deck, so that no card is on two sides and near-copies of a card in another deck are not either. Pictures of one card
differ by how it lies: turned, scaled, shifted, lit.
"""

from __future__ import annotations

import importlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from secfpp.data.catalog import DatasetSpec
from secfpp.data.federated import FederatedDataset
from secfpp.data.sources import SourceSettings, share_out
from secfpp.errors import DataError, MissingExtraError, Problem
from secfpp.seeding import Seed, derive

RANKS = ("ace", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "jack", "queen", "king")
SUITS = ("clubs", "diamonds", "hearts", "spades")
SIDE = 48
"""Side in pixels of the pictures."""
CARD = 96
"""Height in pixels at which a deck's cards are drawn, about."""
TABLE = 160
"""Side in pixels of the table on which a card is turned."""
ROWS = 5  # the fifth holds jokers and a back
PACKAGE = "gnome-cards-data"


@dataclass(frozen=True)
class Side:
    """What cards are told apart by: the classes, what else a card has, and how many of these each part gets."""

    classes: tuple[str, ...]
    others: str
    cards: dict[str, int]


SIDES = {
    "rank": Side(RANKS, "suits", {"train": 2, "validation": 1, "test": 1}),
    "suit": Side(SUITS, "ranks", {"train": 7, "validation": 3, "test": 3}),
}


@dataclass(frozen=True, kw_only=True)
class CardSettings(SourceSettings):
    """Settings of the playing cards.

    Attributes:
        root: the folder with the decks, NAME.svgz or NAME.svg.
        decks: the sources; names of files without their ending.
        label: what the classes are, ``rank`` (13) or ``suit`` (4).
    """

    root: str = "/usr/share/aisleriot/cards"
    decks: tuple[str, ...] = ("anglo_poker", "paris", "neoclassical", "ornamental", "swiss-xvii", "tango")
    label: str = "rank"

    def problems(self) -> list[Problem]:
        """All values that cannot work."""
        found = super().problems()
        if not self.decks or len(set(self.decks)) < len(self.decks):
            found.append(Problem("data.decks", self.decks, "name at least one deck, none twice"))
        if self.label not in SIDES:
            found.append(Problem("data.label", self.label, f"one of {', '.join(SIDES)}"))
        return found


def load_cards(settings: CardSettings, seed: int) -> FederatedDataset:
    """The federated data set of one seed.

    Raises:
        MissingExtraError: the package that draws them is not installed.
        DataError: the decks are not installed, lack one that is named, or are not laid out as decks are.
    """
    files = _files(Path(settings.root).expanduser(), settings.decks)
    side = SIDES[settings.label]
    others = np.tile(np.arange(sum(side.cards.values())), (len(side.classes), 1))
    dealt = np.split(
        derive(seed, "cards", side.others).numpy().permuted(others, axis=1),
        np.cumsum([*side.cards.values()])[:-1],
        axis=1,
    )
    pictures = {}
    for deck, file in files.items():
        cards = read_deck(file)
        if settings.label == "suit":
            cards = cards.swapaxes(0, 1)
        pictures[deck] = {
            part: _lying(cards, chosen, shots, derive(seed, "cards", deck, part))
            for (part, shots), chosen in zip(settings.images.items(), dealt, strict=True)
        }
    facts = {f"cards per {settings.label} and deck": dict(side.cards)}
    return share_out("cards", side.classes, pictures, settings, seed, facts)


def _files(root: Path, decks: tuple[str, ...]) -> dict[str, Path]:
    known = {path.stem: path for path in sorted(root.glob("*.svg*")) if path.suffix in (".svg", ".svgz")}
    if not known:
        raise DataError(f"{root}: no decks of cards there: apt install {PACKAGE}, or set data.root to where they lie")
    if missing := [deck for deck in decks if deck not in known]:
        raise DataError(f"{root}: no deck {missing[0]!r}; data.decks can name {', '.join(known)}")
    return {deck: known[deck] for deck in decks}


def read_deck(file: Path) -> np.ndarray:
    """The cards of a deck, uint8 [4, 13, height, width, 4] with opacity: suits by ranks.

    A deck is one drawing of five rows of thirteen cards: clubs, diamonds, hearts, spades, others.

    Raises:
        MissingExtraError: the package that draws them is not installed.
        DataError: no such drawing; names the file.
    """
    drawn = rasterise(file, len(RANKS) * round(CARD / 1.4))
    height, width = drawn.shape[0] // ROWS, drawn.shape[1] // len(RANKS)
    cut = drawn[: height * ROWS, : width * len(RANKS)]
    cards = cut.reshape(ROWS, height, len(RANKS), width, 4).swapaxes(1, 2)[: len(SUITS)]
    if not 1.25 < height / max(width, 1) < 1.9 or cards[..., 3].max((2, 3)).min() == 0:
        raise DataError(f"{file}: not five rows of thirteen cards: name another deck in data.decks")
    return cards


def rasterise(file: Path, width: int) -> np.ndarray:
    """An SVG drawing, gzipped or not, as uint8 [height, width, 4].

    Raises:
        MissingExtraError: the package that draws them is not installed.
        DataError: not such a drawing; names the file.
    """
    try:
        resvg = importlib.import_module("resvg_py")
    except ImportError as error:
        raise MissingExtraError("the data set 'cards'", "cards") from error
    try:
        png = resvg.svg_to_bytes(svg_path=str(file), width=width, skip_system_fonts=True)
    except ValueError as error:
        raise DataError(f"{file}: cannot be drawn: {error}; name another deck in data.decks") from error
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGBA"))


def _lying(cards: np.ndarray, others: np.ndarray, shots: int, seed: Seed) -> np.ndarray:
    """Pictures uint8 [n_classes * shots, SIDE, SIDE, 3], class by class; its `others` [n_classes, k] take turns."""
    rng = seed.numpy()
    chosen = [(others[label, i % others.shape[1]], label) for label in range(len(others)) for i in range(shots)]
    return np.stack([_picture(cards[other, label], rng) for other, label in chosen])


def _picture(card: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A card on a table: at most 8 degrees turned, 80 to 100 % of the picture's height, in some light."""
    ground = tuple(rng.integers(40, 160, 3).tolist())
    table = Image.new("RGBA", (TABLE, TABLE), ground)
    table.alpha_composite(Image.fromarray(card), ((TABLE - card.shape[1]) // 2, (TABLE - card.shape[0]) // 2))
    turned = table.rotate(rng.uniform(-8, 8), Image.Resampling.BICUBIC, fillcolor=ground)
    side = card.shape[0] / rng.uniform(0.8, 1.0)
    x, y = TABLE / 2 + rng.uniform(-0.04, 0.04, 2) * side
    box = (x - side / 2, y - side / 2, x + side / 2, y + side / 2)
    small = turned.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS, box=box)
    lit = np.asarray(small, dtype=np.float64) * rng.uniform(0.75, 1.1) + rng.normal(0, 4, (SIDE, SIDE, 1))
    return np.round(lit.clip(0, 255)).astype(np.uint8)


DATASETS = (
    DatasetSpec(
        "cards",
        "playing cards of six real decks, as Debian's gnome-cards-data installs them (secfpp[cards])",
        CardSettings,
        load_cards,
    ),
)
