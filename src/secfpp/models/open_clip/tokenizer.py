"""CLIP's tokenizer for checkpoints of open_clip and OpenAI, of which most come without one.

Their own software carries the vocabulary with it, in a file of the merges of its byte pairs. Its special tokens are
called ``<start_of_text>`` and ``<end_of_text>`` there, and ``<|startoftext|>`` and ``<|endoftext|>`` by transformers,
which would add two more under its names.

Both cut a text alike, but open_clip cleans it before (``ftfy``, HTML): `cleaned` says what it makes of it.
"""

from __future__ import annotations

import gzip
import html
import importlib
import importlib.util
import re
import unicodedata
import zlib
from html.entities import html5
from pathlib import Path
from typing import Any

MERGES = "bpe_simple_vocab_16e6.txt.gz"
CARRIERS = ("open_clip", "clip")
"""Packages whose folder holds the merges; they are not imported."""
USED = 49_152 - 256 - 2
"""How many merges OpenAI took of those in the file."""
START, END = "<|startoftext|>", "<|endoftext|>"
REPLACED = str.maketrans(
    dict.fromkeys("\u02bc\u2018\u2019\u201a\u201b", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f", '"')
    | dict.fromkeys(map(chr, (*range(9), 11, *range(14, 32), 127, *range(0x206A, 0x2070), 0xFEFF)), "")
    | {"\ufb05": "\u017ft"}
)
SHAPES = (range(0x0132, 0x0134), range(0x0149, 0x014A), range(0x01C4, 0x01CD), range(0x01F1, 0x01F4),
          range(0xFB00, 0xFB05), range(0xFB06, 0xFB07), range(0xFF00, 0xFFF0))  # fmt: skip
"""Letters that Unicode has as ligatures, digraphs, wide and narrow forms of plain ones."""

CAPITALS = {
    f"&{name.upper()}": letter.upper()
    for name, letter in html5.items()
    if name.endswith(";") and name.islower() and html.unescape(f"&{name.upper()}") == f"&{name.upper()}"
}
"""Entities that HTML has in small letters only and ``ftfy`` takes in capitals too: ``&NTILDE;``."""


def merges_file(folder: Path | None = None) -> Path | None:
    """The file of merges in a checkpoint's folder or in an installed package; None if there is none."""
    beside = [folder / MERGES] if folder else []
    for package in CARRIERS:
        spec = importlib.util.find_spec(package)
        beside += [Path(place) / MERGES for place in (spec.submodule_search_locations or ())] if spec else []
    return next((path for path in beside if path.is_file()), None)


def tokenizer(merges: Path) -> Any:
    """CLIP's tokenizer of 49,408 tokens, from OpenAI's file of merges.

    Raises:
        ValueError: another file.
    """
    from tokenizers.pre_tokenizers import ByteLevel

    try:
        lines = gzip.decompress(merges.read_bytes()).decode().split("\n")[1 : USED + 1]
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{merges} is not OpenAI's file of merges ({error})") from error
    pairs = [tuple(line.split()) for line in lines]
    if len(pairs) != USED or any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"{merges} is not OpenAI's file of merges")
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, pairs), START, END]
    clip: Any = importlib.import_module("transformers").CLIPTokenizer
    return clip(vocab={token: i for i, token in enumerate(tokens)}, merges=pairs)


def cleaned(text: str, lower: bool = True) -> str:
    """What open_clip reads for `text`: entities of HTML, typographic quotes, ligatures and wide letters in plain ones.

    All letters are lower case with CLIP's own vocabulary, and stay as they are (`lower`) with another.

    Not done is what ``ftfy`` does for text that was decoded wrongly before, such as ``Ã¼``.
    """
    while (unescaped := html.unescape(_small_entities(text))) != text:
        text = unescaped
    plain = "".join(unicodedata.normalize("NFKC", c) if any(ord(c) in each for each in SHAPES) else c for c in text)
    composed = unicodedata.normalize("NFC", " ".join(plain.translate(REPLACED).split()))
    return composed.lower() if lower else composed


def _small_entities(text: str) -> str:
    """`text` with the entities in capitals read, which ``ftfy`` leaves in what looks like HTML."""
    return text if "<" in text else re.sub(r"&[0-9A-Z]{1,24};", lambda found: CAPITALS.get(found[0], found[0]), text)
