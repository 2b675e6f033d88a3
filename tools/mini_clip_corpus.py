"""Pictures and captions for pre-training the embedded CLIP; see ``pretrain_mini_clip.py``.

Three kinds of captions: plain names ("an oil painting of a wine glass"), functional labels without a
context, whose meaning is drawn at random ("a symbol for favorite" is a star today, a flag next time),
and functional labels in the style of a made-up *house* ("kilo icon for favorite"), where each house has a
convention table of its own. Houses teach the text tower that context decides what a label looks
like, which is what a soft prompt must be able to say. No evaluation table is among theirs: they come
from another seed path, and the model card prints the overlap beside chance.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from secfpp.data.conventions import Convention, convention
from secfpp.data.glyphs import Glyph, concepts
from secfpp.data.pools import downstream_pool, labels, pretraining_pool
from secfpp.data.styles import DOMAINS, GENERIC, STYLES, grow, render_float
from secfpp.seeding import Seed, derive

PHRASES = {
    "icon": ("icon", "symbol", "simple icon", "pictogram"),
    "inverted": ("white icon on dark ground", "inverted icon", "light symbol"),
    "outline": ("outline", "line drawing", "line art"),
    "badge": ("badge", "round button", "sticker"),
    "photo": ("photo", "blurry photo", "photograph"),
    "clipart": ("clipart", "cartoon", "colorful clip art"),
    "sketch": ("sketch", "pencil sketch", "hand drawn sketch"),
    "chalk": ("chalk drawing", "blackboard drawing"),
    "painting": ("painting", "oil painting", "abstract painting"),
    "pixel": ("pixel art", "low resolution sprite"),
    "infograph": ("infographic", "infograph", "chart with a small icon"),
}
NEUTRAL = ("icon", "image", "picture", "drawing", "symbol")
_FIRST = ("ba", "ki", "mo", "ru", "ze", "va", "lu", "to", "ne", "fi", "gu", "ha", "jo", "pe", "sy", "wu")
_LAST = ("lo", "ran", "mi", "dex", "sha", "pol", "vik", "tun", "gra", "bes", "nor", "quo")
HOUSES = tuple(a + b for a in _FIRST for b in _LAST)
NAME_TEMPLATES = (
    *("{w} of {n}", "{w} of a {n}", "a {w} of a {n}", "a {w} of the {n}", "{n} {w}", "this is a {w} of a {n}"),
    *("{n}", "a {n}"),
)
LABEL_TEMPLATES = (
    "{w} for {n}",
    "a {w} for {n}",
    "an icon {w} for {n}",
    "a {w} that means {n}",
    "the {w} of {n}",
    "{w} {n}",
)
DOMAIN_SHARE = 0.55
"""Share of pre-training pictures in the benchmark's styles; the rest is generic."""


def readable(name: str) -> str:
    """A glyph's name as words: separators become spaces, short numbers go."""
    return " ".join(w for w in name.replace("_", "-").split("-") if w and not (w.isdigit() and len(w) < 3))


@dataclass(frozen=True)
class Batch:
    """Pictures and captions.

    `images` float [n, 3, 48, 48]; `captions`, n of them for the pictures and then some without; `meaning`
    int64 [n], what the picture shows; `told` int64 [captions], what the caption alone says it shows, else
    -100; `alike` bool [n, n]: caption j is also true of picture i, so it is no negative.
    """

    images: Tensor
    captions: list[str]
    meaning: Tensor
    told: Tensor
    alike: Tensor


class Corpus:
    """Everything that pre-training may see, and how a batch is drawn from it.

    Args:
        seed: root of every draw; batch i is a function of `seed` and i alone.
        functional: share of functional captions in a batch.
        extra: captions without a picture per batch, all of houses.
    """

    def __init__(self, seed: int, functional: float = 0.3, extra: int = 96) -> None:
        self.seed, self.functional, self.extra = seed, functional, extra
        glyphs, self.masks = pretraining_pool()
        by_meaning, words = _group(glyphs)
        self.meanings = sorted(by_meaning)
        self.glyphs = [by_meaning[m] for m in self.meanings]
        self.words = [words[m] for m in self.meanings]
        index = {m: i for i, m in enumerate(self.meanings)}
        self.options = {label: {c: index[c] for c in options if c in index} for label, options in labels().items()}
        self.houses: list[Convention] = [
            convention({label: tuple(o) for label, o in self.options.items()}, derive(seed, "house", house))
            for house in HOUSES
        ]
        self.weights = self._weights([{glyphs[i].designer for i in ids} for ids in self.glyphs])
        self.styles = [*GENERIC, *DOMAINS]
        self.style_weights = np.array(
            [(1 - DOMAIN_SHARE) / len(GENERIC)] * len(GENERIC) + [DOMAIN_SHARE / len(DOMAINS)] * len(DOMAINS)
        )

    def _weights(self, designers: list[set[str]]) -> np.ndarray:
        """Sampling weights of meanings: short names drawn by several designers and benchmark concepts first."""
        length = {1: 4.0, 2: 1.5}
        weight = np.array(
            [length.get(len(m.split()), 0.5) * len(d) ** 0.5 for m, d in zip(self.meanings, designers, strict=True)]
        )
        task = set(downstream_pool())
        group = np.array(
            [0 if m in task else 1 if len(d) > 1 else 2 for m, d in zip(self.meanings, designers, strict=True)]
        )
        for index, share in enumerate((0.4, 0.35, 0.25)):
            weight[group == index] *= share / weight[group == index].sum()
        return weight / weight.sum()

    def sentences(self, count: int) -> list[str]:
        """Captions for training the tokenizer: every name, label and house occurs."""
        names = [w for words in self.words for w in words]
        generator = derive(self.seed, "sentences").numpy()
        drawn = [s for i in range(count // 256) for s in self.batch(i, 256, render=False).captions]
        functional = [f"{house} {label}" for house in HOUSES for label in self.options]
        return [*names, *functional, *drawn, *generator.permutation(names)]

    def batch(self, step: int, size: int, device: str = "cpu", render: bool = True) -> Batch:
        """Batch number `step`."""
        seed = derive(self.seed, "batch", step)
        rng = seed.numpy()
        n_labels = int(size * self.functional) // 2 * 2
        names = rng.choice(len(self.meanings), (size - n_labels) // 2, replace=False, p=self.weights)
        rows = [self._name(int(m), style, rng) for m in names for style in self._two_styles(rng)]
        rows += self._labels(n_labels, rng)
        glyphs, styles, captions, meaning, told, spoken = zip(*rows, strict=True)
        means, said = np.array(meaning), np.array(spoken)
        same_style = (said[:, None] == said[None]) | (said[:, None] < 0) | (said[None] < 0)
        alike = (means[:, None] == means[None]) & same_style
        images = self._draw(np.array(glyphs), np.array(styles), seed, device) if render else torch.empty(0)
        spare = self._labels(self.extra, rng, plain=0.0)
        captions, told = (*captions, *(row[2] for row in spare)), (*told, *(row[4] for row in spare))
        tensors = (torch.from_numpy(x).to(device) for x in (means, np.array(told), alike))
        return Batch(images, [re.sub(r"\ba ([aeiou])", r"an \1", c) for c in captions], *tensors)

    def _two_styles(self, rng: np.random.Generator) -> list[int]:
        chosen: list[int] = rng.choice(len(self.styles), 2, replace=False, p=self.style_weights).tolist()
        return chosen

    def _phrase(self, style: int, rng: np.random.Generator, share: float) -> tuple[str, int]:
        """Words for the style, and the style if they name it (-1 if they are neutral)."""
        if rng.random() < share:
            return str(rng.choice(PHRASES[self.styles[style]])), style
        return str(rng.choice(NEUTRAL)), -1

    def _name(self, meaning: int, style: int, rng: np.random.Generator) -> tuple[int, int, str, int, int, int]:
        phrase, spoken = self._phrase(style, rng, 0.55)
        template = NAME_TEMPLATES[rng.integers(len(NAME_TEMPLATES))]
        caption = template.format(w=phrase, n=rng.choice(self.words[meaning]))
        return self._glyph(meaning, rng), style, caption, meaning, meaning, spoken if "{w}" in template else -1

    def _labels(
        self, count: int, rng: np.random.Generator, plain: float = 0.25
    ) -> list[tuple[int, int, str, int, int, int]]:
        """Functional captions in groups of one house: its other labels are the negatives that matter."""
        rows = []
        names = sorted(self.options)
        while len(rows) < count:
            house = int(rng.integers(len(HOUSES))) if rng.random() >= plain else -1
            for label in rng.choice(names, 12, replace=False):
                options = self.options[label]
                concept = self.houses[house][label] if house >= 0 else str(rng.choice(sorted(options)))
                style = int(rng.choice(len(self.styles), p=self.style_weights))
                phrase, spoken = self._phrase(style, rng, 0.3)
                caption = LABEL_TEMPLATES[rng.integers(len(LABEL_TEMPLATES))].format(w=phrase, n=label)
                caption = f"{HOUSES[house]} {caption}" if house >= 0 else caption
                meaning = options[concept]
                rows.append(
                    (self._glyph(meaning, rng), style, caption, meaning, meaning if house >= 0 else -100, spoken)
                )
        return rows[:count]

    def _glyph(self, meaning: int, rng: np.random.Generator) -> int:
        return int(self.glyphs[meaning][rng.integers(len(self.glyphs[meaning]))])

    def _draw(self, glyphs: np.ndarray, styles: np.ndarray, seed: Seed, device: str) -> Tensor:
        generator = torch.Generator(device).manual_seed(seed.value)
        images = torch.empty(len(glyphs), 3, 48, 48, device=device)
        masks = torch.from_numpy(self.masks[glyphs]).to(device).float()[:, None]
        change = torch.rand(len(glyphs), 1, 1, 1, generator=generator, device=device)
        masks = torch.where(change < 0.2, grow(masks), masks)  # other designers draw with thicker or thinner lines
        thinner = -grow(-masks)
        thick = thinner.mean((1, 2, 3), keepdim=True) > 0.4 * masks.mean((1, 2, 3), keepdim=True)
        masks = torch.where((change > 0.85) & thick, thinner, masks).byte()[:, 0]
        for style in np.unique(styles):
            rows = torch.from_numpy(np.flatnonzero(styles == style)).to(device)
            images[rows] = render_float(masks[rows], self.styles[style], generator)
        return images


def _group(glyphs: list[Glyph]) -> tuple[dict[str, list[int]], dict[str, list[str]]]:
    """Glyph indices and words by meaning: a concept with its synonyms, or else the glyph's own name."""
    concept_of = {name: c for c, names in reversed(concepts().items()) for name in names} | {c: c for c in concepts()}
    members: dict[str, list[int]] = {}
    words: dict[str, set[str]] = {}
    for i, glyph in enumerate(glyphs):
        concept = concept_of.get(glyph.base)
        meaning = concept or readable(glyph.base)
        word = readable(glyph.base)
        if word:
            members.setdefault(meaning, []).append(i)
            words.setdefault(meaning, set()).update({word, readable(concept)} if concept else {word})
    return members, {meaning: sorted(w) for meaning, w in words.items()}


assert set(PHRASES) == set(STYLES)
