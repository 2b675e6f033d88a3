"""Words as open_clip's own tokenizer cuts them, on OpenAI's true vocabulary."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secfpp.errors import ConfigError
from secfpp.models.checkpoint import load_checkpoint
from secfpp.models.class_names import Vocabulary
from secfpp.models.open_clip.tokenizer import MERGES, cleaned, merges_file, tokenizer
from support import open_clip_itself as itself

pytestmark = itself.needs_open_clip
PLAIN = (
    "a photo of a cat", "Golden Retriever", "t-shirt", "o'clock", "we'll", "10 euros", "rock_n_roll", "crème brûlée",
    "Übung", "naïve café!", "東京タワー", "кот", "50%", "  two   words ", "e-mail@example.org", "½ price", "5kg",
    "😀 smile",
)  # fmt: skip
UNLIKE = {
    "men\u2019s shoe": "men's shoe",
    "\u201cquoted\u201d": '"quoted"',
    "fish &amp; chips": "fish & chips",
    "fish &amp;amp; chips": "fish & chips",
    "jalape&NTILDE;o": "jalape\u00f1o",
    "o\ufb03ce \ufb02oor": "office floor",
    "\uff21\uff22\uff23 \uff11\uff12": "abc 12",
    "\u0132sselmeer": "ijsselmeer",
    "\u039f\u0394\u039f\u03a3": "\u03bf\u03b4\u03bf\u03c2",
    "a\u200b\ufeffcat": "a\u200bcat",
}
"""Texts that transformers' tokenizer reads otherwise than open_clip, and what open_clip makes of them."""


@cache
def true_tokenizer() -> Any:
    path = merges_file()
    assert path is not None
    return tokenizer(path)


def ours(text: str) -> list[int]:
    return Vocabulary("a model", true_tokenizer()).ids(text)


def theirs(text: str) -> list[int]:
    return list(itself.simple_tokenizer().encode(text))


def test_the_vocabulary_is_openais_with_its_two_special_tokens() -> None:
    assert len(true_tokenizer().get_vocab()) == len(true_tokenizer()) == 49_408
    assert true_tokenizer().bos_token_id == itself.simple_tokenizer().sot_token_id == 49_406
    assert true_tokenizer().eos_token_id == itself.simple_tokenizer().eot_token_id == 49_407
    names = {"<|startoftext|>": "<start_of_text>", "<|endoftext|>": "<end_of_text>"}
    vocabulary = {names.get(token, token): i for token, i in true_tokenizer().get_vocab().items()}
    assert vocabulary == itself.simple_tokenizer().encoder


@pytest.mark.parametrize("text", PLAIN)
def test_plain_texts_are_cut_alike(text: str) -> None:
    assert ours(text) == theirs(text) == ours(cleaned(text))


def test_texts_of_many_kinds_are_cut_alike() -> None:
    """open_clip's own class names and sentences around them."""
    shown = itself.module("zero_shot_metadata")
    texts = [template(name) for name in shown.IMAGENET_CLASSNAMES for template in shown.OPENAI_IMAGENET_TEMPLATES[:3]]
    assert [ours(text) for text in texts] == [theirs(text) for text in texts]


@pytest.mark.parametrize(("text", "plain"), UNLIKE.items())
def test_texts_that_open_clip_cleans_are_refused_with_what_it_reads(text: str, plain: str) -> None:
    assert ours(text) != theirs(text) == theirs(plain) == ours(plain)
    reason = Vocabulary("a model", true_tokenizer(), cleaned=cleaned).unreadable(text)
    assert f"reads it as {plain!r}: write that" in reason
    assert Vocabulary("a model", true_tokenizer(), cleaned=cleaned).unreadable(plain) == ""
    assert Vocabulary("a model", true_tokenizer()).unreadable(text) == ""


@settings(deadline=None, max_examples=300)
@given(
    st.text(st.characters(max_codepoint=0x024F, exclude_categories=["Cc", "Cf", "Zl", "Zp"]), max_size=3).flatmap(
        lambda odd: st.sampled_from([f"{odd}", f"cat {odd} dog", f"&{odd};", f"\u201c{odd}\u2019s\u201d"])
    )
)
def test_whatever_is_taken_is_cut_as_open_clip_cuts_it(text: str) -> None:
    """Where ftfy finds text that was decoded wrongly it guesses what was meant; such text is left as it stands here."""
    import ftfy

    mended = ftfy.fix_encoding(text) != text
    if not mended and not Vocabulary("a model", true_tokenizer(), cleaned=cleaned).unreadable(text):
        assert ours(text) == theirs(text)


def test_text_that_was_decoded_wrongly_is_not_mended() -> None:
    assert theirs("Ã¼ber") == ours("über") != ours("Ã¼ber")
    assert cleaned("Ã¼ber") == "ã¼ber"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model with OpenAI's vocabulary."""
    config = itself.model_cfg({"layers": 1}, {"vocab_size": 49_408, "width": 16, "layers": 1})
    return itself.save(itself.made(config), config, tmp_path / "model", words=False)


def test_the_merges_come_from_the_folder_or_an_installed_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = load_checkpoint(str(folder))
    shutil.copy(itself.folder() / MERGES, folder)
    monkeypatch.setattr("secfpp.models.open_clip.tokenizer.CARRIERS", ())
    assert load_checkpoint(str(folder)).digest() == installed.digest()
    assert installed.tokenizer("cat")["input_ids"] == [49_406, 2368, 49_407]
    (folder / MERGES).write_bytes(b"damaged")
    with pytest.raises(ConfigError, match="is not OpenAI's file of merges"):
        load_checkpoint(str(folder))


def test_tokenizer_files_of_hugging_face_beside_it_are_the_same(folder: Path) -> None:
    before = load_checkpoint(str(folder)).digest()
    true_tokenizer().save_pretrained(folder)
    assert load_checkpoint(str(folder)).digest() == before


def test_files_with_open_clips_names_of_special_tokens_are_refused(folder: Path) -> None:
    """transformers adds two tokens of its own names to them and begins and ends texts with those."""
    own = itself.simple_tokenizer()
    (folder / "vocab.json").write_text(json.dumps(own.encoder))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{' '.join(pair)}\n" for pair in own.bpe_ranks))
    with pytest.raises(ConfigError, match=r"calls the start of a text <start_of_text>.*put open_clip's bpe_simple"):
        load_checkpoint(str(folder))
