from __future__ import annotations

import json
from pathlib import Path

import pytest

from secfpp.errors import ConfigError
from secfpp.models import checkpoint
from secfpp.models.checkpoint import load_checkpoint
from support.tiny_clip import TinyClip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return TinyClip(layers=1).save(tmp_path / "tiny")


def edit(path: Path, **changes: object) -> None:
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps(content))


def test_a_checkpoint_is_frozen_and_its_processor_needs_pillow_only(folder: Path) -> None:
    loaded = load_checkpoint(str(folder))
    assert not loaded.model.training
    assert not any(weight.requires_grad for weight in loaded.model.parameters())
    assert type(loaded.images).__name__.endswith("Pil")
    layout = loaded.family.layout(loaded)
    assert layout.start == (layout.end - 1,)
    assert not layout.read_at_largest


def test_both_end_token_conventions_are_told_apart(tmp_path: Path) -> None:
    legacy = load_checkpoint(str(TinyClip(legacy_end=True).save(tmp_path)))
    assert legacy.family.layout(legacy).read_at_largest


def test_mini_is_the_embedded_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "MINI", folder)
    assert load_checkpoint("mini").digest() == load_checkpoint(str(folder)).digest()
    monkeypatch.setattr(checkpoint, "MINI", folder / "gone")
    with pytest.raises(ConfigError, match="install secfpp again"):
        load_checkpoint("mini")


@pytest.mark.parametrize("name", ["/no/such/folder", "./nothing", "a/b/c", ""])
def test_a_path_that_is_no_directory_is_refused(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"no such directory|no config.json"):
        load_checkpoint(name)


def test_a_hub_name_that_is_not_cached_says_what_to_do_offline() -> None:
    with pytest.raises(ConfigError, match=r"'openai/no-such-clip'.*HF_HUB_OFFLINE.*hf download openai/no-such-clip"):
        load_checkpoint("openai/no-such-clip")


def test_a_directory_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no config.json"):
        load_checkpoint(str(tmp_path))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("flava", r"model_type is 'flava'; only .clip.*can be read"),
        ("siglip2", "images of any shape.*siglip2-base-patch16-224"),
        ("owlvit", "boxes in an image"),
        ("xclip", "reads videos"),
        ("clipseg", "give openai/clip-vit-base-patch16"),
    ],
)
def test_another_kind_of_model_is_refused(folder: Path, kind: str, words: str) -> None:
    edit(folder / "config.json", model_type=kind)
    with pytest.raises(ConfigError, match=words):
        load_checkpoint(str(folder))


def test_a_missing_image_processor_is_refused(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ConfigError, match=str(folder)):
        load_checkpoint(str(folder))


def test_a_cut_weights_file_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="cannot be read"):
        load_checkpoint(str(folder))


def test_a_tokenizer_and_a_model_that_disagree_on_the_end_are_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 7
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"reads features at token 7.*tokenizer ends texts with"):
        load_checkpoint(str(folder))


def test_digest_depends_on_the_weights(folder: Path, tmp_path: Path) -> None:
    other = TinyClip(layers=1, seed=5).save(tmp_path / "other")
    assert load_checkpoint(str(folder)).digest() != load_checkpoint(str(other)).digest()
