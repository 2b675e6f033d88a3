from __future__ import annotations

import pkgutil
from dataclasses import replace
from pathlib import Path

import pytest

from secfpp.models import families as package
from secfpp.models.checkpoint import load_checkpoint
from secfpp.models.families.base import Layout, families
from secfpp.models.families.hugging_face import HuggingFaceFamily
from support.tiny_clip import TinyClip
from support.tiny_siglip import TinySiglip, save_metaclip_2, siglip_2_tokenizer

SHARED = {"base", "hugging_face"}


def test_every_module_that_is_not_shared_brings_a_family() -> None:
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)} - SHARED
    made = {type(family).__module__.rpartition(".")[2] for family in families()}
    assert modules <= made
    assert len({family.name for family in families()}) == len(families())


def test_each_checkpoint_is_taken_by_its_own_family(tmp_path: Path) -> None:
    folders = {
        "clip": TinyClip(layers=1).save(tmp_path / "a"),
        "metaclip_2": save_metaclip_2(tmp_path / "b"),
        "siglip": TinySiglip().save(tmp_path / "c"),
    }
    loaded = {name: load_checkpoint(str(folder)) for name, folder in folders.items()}
    assert {name: checkpoint.family.name for name, checkpoint in loaded.items()} == {name: name for name in folders}
    known = {family.model_type for family in families() if isinstance(family, HuggingFaceFamily)}
    assert known >= set(folders)


def test_the_embedded_model_has_the_digest_that_prompt_files_name() -> None:
    assert load_checkpoint("mini").digest().startswith("cb8c31235a9787c2")


def test_a_tokenizer_that_pads_with_another_token_makes_another_model(tmp_path: Path) -> None:
    first = load_checkpoint(str(TinySiglip().save(tmp_path / "a", siglip_2_tokenizer())))
    tokenizer = siglip_2_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    second = load_checkpoint(str(TinySiglip().save(tmp_path / "b", tokenizer)))
    assert first.family.layout(first).pad != second.family.layout(second).pad
    assert first.digest() != second.digest()


@pytest.mark.parametrize("start", [(), (7,)])
def test_names_fill_the_room_that_a_layout_leaves(start: tuple[int, ...]) -> None:
    layout = Layout(places=10, start=start, end=2, pad=1)
    name = [5] * layout.room(3)
    assert len(start) + 3 + len(name) + 1 == 10
    tokens = layout.class_tokens(("a", "b"), [name, [6]])
    assert tokens.ids.tolist() == [[*name, 2], [6, 2, *[1] * (len(name) - 1)]]
    assert tokens.end.tolist() == [len(name), 1]
    largest = replace(layout, read_at_largest=True).class_tokens(("a",), [[4, 9]])
    assert largest.end.tolist() == [1]
