"""What a tokenizer makes of class names, and what to write instead of those that it cannot read.

A small vocabulary lacks characters. What stands for them is another token, often the one that ends a text, or nothing:
a name with such a character would be read as another one.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from secfpp.errors import Problem

APART = "add a word to each that says what is meant, such as 'crane bird' and 'crane machine'"
"""How to tell two classes of one name apart; ImageNet has two called crane, and two called maillot."""


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as class names need it.

    Attributes:
        model: the model's name, for messages.
        tokenizer: of Hugging Face, with an end token.
        lower: whether the model was trained on lower-case texts only, so that all are read so.
        spaced: whether a word within a text has other tokens than one at its start, so that a name, which stands behind
            a context, is read with a space before it.
    """

    model: str
    tokenizer: Any
    lower: bool = False
    spaced: bool = False
    _known: dict[str, bool] = field(default_factory=dict, repr=False, compare=False)

    def ids(self, text: str) -> list[int]:
        """The tokens of `text`, without start and end."""
        read = text.lower() if self.lower else text
        return list(self.tokenizer(read, add_special_tokens=False)["input_ids"])

    def name_ids(self, name: str) -> list[int]:
        """The tokens of a class name behind a context."""
        return self.ids(f" {name}" if self.spaced else name)

    def lacking(self, text: str) -> list[str]:
        """The characters of `text` that the vocabulary has no token for, each once, in their order."""
        return [character for character in dict.fromkeys(_composed(text)) if not self._has(character)]

    def unreadable(self, text: str) -> str:
        """Why `text` cannot be read, and what to write instead; empty if it can be."""
        if lacking := self.lacking(text):
            shown = ", ".join(map(repr, lacking))
            spelled = self._spelled(text)
            instead = f"write {spelled!r}" if spelled else "write it in letters that it has"
            return (
                f"the vocabulary of the model {self.model!r} lacks {shown}: {instead}, or take a model that has it, "
                "such as openai/clip-vit-base-patch16"
            )
        if not self._special().isdisjoint(self.ids(text)):
            return "it holds what the tokenizer writes for the start or end of a text: leave that out"
        return ""

    def problems(self, names: Sequence[str], room: int, n_ctx: int) -> list[Problem]:
        """What is wrong with class `names` that have `room` tokens each behind `n_ctx` context vectors; all of it."""
        problems: list[Problem] = []
        seen: dict[tuple[int, ...], int] = {}
        for at, name in enumerate(names):
            row = tuple(self.name_ids(name))
            first = seen.setdefault(row, at)
            if not name.strip():
                problems.append(Problem("class name", name, "a name with at least one letter or digit"))
            elif reason := self.unreadable(name):
                problems.append(Problem("class name", name, reason))
            elif len(row) > room:
                allowed = f"{len(row)} tokens, but beside {n_ctx} context vectors there is room for {room}: shorten it"
                problems.append(Problem("class name", name, allowed))
            elif names[first] == name and first < at:
                problems.append(Problem("class name", name, f"is given twice, {_places(first, at)}: {APART}"))
            elif first < at:
                allowed = f"the model cannot tell it from {names[first]!r}, {_places(first, at)}: {APART}"
                problems.append(Problem("class name", name, allowed))
        return problems

    def _has(self, character: str) -> bool:
        if character not in self._known:
            ids = self.ids(character)
            self._known[character] = character.isspace() or (bool(ids) and self._special().isdisjoint(ids))
        return self._known[character]

    def _special(self) -> set[int]:
        """Tokens that stand for no text."""
        return {self.tokenizer.bos_token_id, self.tokenizer.eos_token_id, self.tokenizer.unk_token_id}

    def _spelled(self, text: str) -> str:
        """`text` with each character that is lacking as its letter without marks, or else as a space."""
        spelled = "".join(
            character if self._has(character) else self._alike(character) for character in _composed(text)
        )
        return " ".join(spelled.split())

    def _alike(self, character: str) -> str:
        parts = unicodedata.normalize("NFKD", character.casefold() if character == "ß" else character)
        return "".join(part for part in parts if self._has(part)) or " "


def repeated(names: Sequence[str]) -> Iterator[str]:
    """Of each name that is given again, what was given where, and how to tell both apart."""
    first: dict[str, int] = {}
    for at, name in enumerate(names):
        if first.setdefault(name, at) < at:
            yield f"the class {name!r} is given twice, {_places(first[name], at)}: {APART}"


def _places(first: int, second: int) -> str:
    return f"at positions {first} and {second} (counted from 0)"


def _composed(text: str) -> str:
    """`text` with letters and their marks as one character where there is one, as tokenizers read it."""
    return unicodedata.normalize("NFC", text)
