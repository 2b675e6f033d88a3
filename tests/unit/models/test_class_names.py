from __future__ import annotations

import re
from typing import Any

import pytest

from secfpp.errors import ConfigError
from secfpp.models.backbone import load_backbone
from secfpp.models.class_names import Vocabulary, repeated
from support.tiny_clip import END, tiny_tokenizer


@pytest.fixture(scope="module")
def mini() -> Any:
    """The embedded model: its vocabulary has lower-case letters and digits, nothing else."""
    return load_backbone("mini", device="cpu")


@pytest.mark.parametrize(
    ("name", "lacks", "instead"),
    [
        ("t-shirt", "'-'", "write 't shirt'"),
        ("Übung", "'Ü'", "write 'Ubung'"),
        ("U\u0308bung", "'Ü'", "write 'Ubung'"),
        ("café & bar", "'é', '&'", "write 'cafe bar'"),
        ("Straße", "'ß'", "write 'Strasse'"),
        ("猫", "'猫'", "write it in letters that it has"),
        ("①", "'①'", "write '1'"),
        ("a\u200bb", r"'\\u200b'", "write 'a b'"),
    ],
)
def test_a_character_that_the_vocabulary_lacks_is_named_with_what_to_write(
    mini: Any, name: str, lacks: str, instead: str
) -> None:
    with pytest.raises(ConfigError, match=f"the vocabulary of the model 'mini' lacks {lacks}: {instead}, or take a"):
        mini.class_tokens(["cat", name], 4)
    with pytest.raises(ConfigError, match=f"initial prompt = .* lacks {lacks}"):
        mini.initial_prompt(f"an icon of {name}", 4)
    if "letters" not in instead:
        spelled = instead.removeprefix("write ").strip("'")
        assert mini.class_tokens(["cat", spelled], 4).names == ("cat", spelled)


def test_a_full_vocabulary_reads_them(mini: Any) -> None:
    every_byte = Vocabulary("tiny", tiny_tokenizer())
    assert every_byte.unreadable("t-shirt Übung 猫") == ""
    assert every_byte.unreadable(f"dog {END}").startswith("it holds what the tokenizer writes")


def test_a_character_without_any_token_is_lacking_too() -> None:
    """Without a token for unknown text, Hugging Face's tokenizers leave it out without a word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = {letter: i for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz")}
    silent = Tokenizer(models.BPE(vocab=letters, merges=[]))
    silent.pre_tokenizer = pre_tokenizers.Whitespace()
    vocabulary = Vocabulary("silent", PreTrainedTokenizerFast(tokenizer_object=silent))
    assert vocabulary.ids("t-shirt") == vocabulary.ids("t shirt")
    assert vocabulary.lacking("t-shirt") == ["-"]


def test_names_given_twice_are_shown_with_both_positions(mini: Any) -> None:
    names = ["tench", "crane", "maillot", "maillot", "crane"]
    with pytest.raises(ConfigError) as caught:
        mini.class_tokens(names, 4)
    first, second = map(str, caught.value.problems)
    assert "'maillot': is given twice, at positions 2 and 3 (counted from 0)" in first
    assert re.search(r"'crane': is given twice, at positions 1 and 4 .*'crane bird' and 'crane machine'", second)
    assert [*repeated(names)][1].startswith("the class 'crane' is given twice, at positions 1 and 4")
    assert not [*repeated(["crane bird", "crane machine"])]
    apart = ["tench", "crane bird", "maillot", "maillot tank suit", "crane machine"]
    assert len(mini.class_tokens(apart, 4).names) == 5
