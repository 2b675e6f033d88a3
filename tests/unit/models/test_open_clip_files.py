"""The files in which models of open_clip and OpenAI lie, and what is refused of them."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from secfpp.errors import ConfigError
from secfpp.models import checkpoint
from secfpp.models.backbone import load_backbone
from secfpp.models.checkpoint import load_checkpoint
from secfpp.models.foreign_checkpoints import Files
from secfpp.models.open_clip import tokenizer
from secfpp.models.open_clip.architecture import architecture, refusal
from secfpp.models.open_clip.weights import read_weights
from support import open_clip_itself as itself
from support.open_clip_itself import RESNET, model_cfg, noise

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
FORMER = "open_clip_pytorch_model.bin"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model in open_clip's files."""
    if itself.SPEC is None:
        pytest.skip("open_clip_torch is not installed: make test installs it")
    return itself.save(itself.made(model_cfg()), model_cfg(), tmp_path / "model")


def digest(path: Path) -> str:
    return load_checkpoint(str(path)).digest()


def refused(path: Path, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_checkpoint(str(path))


def edit_model(folder: Path, **changes: Any) -> None:
    content = json.loads((folder / CONFIG).read_text())
    content["model_cfg"] |= changes
    (folder / CONFIG).write_text(json.dumps(content))


def edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(folder / WEIGHTS)
    edit(weights)
    save_file(weights, folder / WEIGHTS)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("inside", [True, False])
def test_a_training_of_open_clip_is_read(prefix: str, inside: bool, folder: Path) -> None:
    """Its checkpoints hold the weights beside an optimiser's, with the prefix of a parallel model."""
    before, state = digest(folder), load_file(folder / WEIGHTS)
    weights = {prefix + name: weight for name, weight in state.items()}
    content = {"epoch": 3, "name": "run", "state_dict": weights, "optimizer": {"state": {}}} if inside else weights
    torch.save(content, folder / FORMER)
    (folder / WEIGHTS).unlink()
    assert digest(folder) == before


def test_half_precision_is_read_as_the_numbers_that_it_holds(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights.update({name: each.half() for name, each in weights.items()}))
    before = digest(folder)
    edit_weights(folder, lambda weights: weights.update({name: each.float() for name, each in weights.items()}))
    assert digest(folder) == before


class Harmful:
    """What would run code if a file that holds it were unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("ran",)


def test_a_file_that_would_run_code_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(load_file(folder / WEIGHTS) | {"extra": Harmful()}, folder / FORMER)
    (folder / WEIGHTS).unlink()
    refused(folder, "the checkpoint cannot be read")
    assert "ran" not in capsys.readouterr().out


def test_a_file_of_something_else_is_refused(folder: Path) -> None:
    torch.save({"names": ["a", "b"]}, folder / FORMER)
    (folder / WEIGHTS).unlink()
    refused(folder, "it holds no dictionary of weights")


def test_weights_that_are_missing_too_many_or_of_another_shape_are_refused(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights.update({"visual.extra": torch.ones(2)}))
    refused(folder, "hold 'visual.extra' and 0 more that config.json has no place for")
    edit_weights(folder, lambda weights: weights.pop("visual.extra"))
    edit_model(folder, embed_dim=20)
    refused(folder, r"'text_projection' are \[32, 24\], but its configuration asks for \[32, 20\]")
    edit_model(folder, embed_dim=24)
    edit_weights(folder, lambda weights: weights.pop("visual.ln_post.bias"))
    refused(folder, r"weights are missing, for example 'visual.ln_post.bias', 1 in all")


def test_weights_that_are_not_finite_are_refused(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights["ln_final.bias"].fill_(float("nan")))
    refused(folder, "its weights are not finite")


def test_a_resnet_with_a_part_missing_is_refused(tmp_path: Path) -> None:
    if itself.SPEC is None:
        pytest.skip("open_clip_torch is not installed: make test installs it")
    config = model_cfg() | {"vision_cfg": RESNET}
    folder = itself.save(itself.made(config), config, tmp_path / "model")
    edit_weights(folder, lambda weights: weights.pop("visual.layer2.0.bn2.running_var"))
    refused(folder, r"missing, for example 'visual.layer2.0.bn2.running_var', 1 in all")


def test_weights_or_a_configuration_alone_are_refused(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "kept")
    refused(folder, f"it has {CONFIG} but no weights: {WEIGHTS} or ")
    (folder / "kept").rename(folder / WEIGHTS)
    (folder / CONFIG).write_text("[]")
    refused(folder, f"{CONFIG} has no model_cfg")


def test_a_configuration_of_timm_beside_it_does_no_harm(folder: Path) -> None:
    """Repositories of timm on the hub hold both; theirs has no model_type."""
    before = digest(folder)
    (folder / "config.json").write_text(json.dumps({"architecture": "vit_base_patch16_clip_224", "num_classes": 512}))
    assert digest(folder) == before


def test_the_format_of_hugging_face_comes_first(folder: Path) -> None:
    loaded = load_checkpoint(str(folder))
    loaded.model.save_pretrained(folder)
    loaded.images.save_pretrained(folder)
    (folder / CONFIG).write_text("damaged")
    assert digest(folder) == loaded.digest()


def image(width: int, height: int) -> np.ndarray:
    return noise(1, height, width)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("mode", ["shortest", "squash"])
def test_images_are_prepared_as_the_configuration_says(mode: str, interpolation: str, folder: Path) -> None:
    own = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3], "interpolation": interpolation, "resize_mode": mode}
    itself.save(itself.made(model_cfg()), model_cfg(), folder, own)
    array = image(96, 64)
    found = load_checkpoint(str(folder)).images(array, return_tensors="np")["pixel_values"][0]
    kind = Image.Resampling[interpolation.upper()]
    whole = Image.fromarray(array[0])
    cut = whole.resize((48, 32), kind).crop((8, 0, 40, 32))
    resized = whole.resize((32, 32), kind) if mode == "squash" else cut
    expected = (np.asarray(resized) / 255 - own["mean"]) / own["std"]
    np.testing.assert_allclose(found, expected.transpose(2, 0, 1), atol=1e-5)


@pytest.mark.parametrize("setting", [{"resize_mode": "longest"}, {"interpolation": "lanczos"}])
def test_images_that_cannot_be_prepared_so_are_refused(setting: dict[str, str], folder: Path) -> None:
    itself.save(itself.made(model_cfg()), model_cfg(), folder, setting)
    key, value = next(iter(setting.items()))
    refused(folder, f"its preprocess_cfg.{key} is '{value}'; known are")


def script(path: Path, config: dict[str, Any]) -> Path:
    """An archive as OpenAI saved theirs: traced, its larger weights in float16, its sizes beside them."""
    model, size = itself.made(config), config["vision_cfg"]["image_size"]
    inputs = {
        "encode_image": torch.ones(1, 3, size, size),
        "encode_text": torch.zeros(1, model.context_length, dtype=torch.int),
    }
    for name, number in (("input_resolution", size), ("context_length", 20), ("vocab_size", 49408)):
        vars(model).pop(name, None)
        model.register_buffer(name, torch.tensor(number))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is no longer developed
        traced = torch.jit.trace_module(model, inputs)
        for weight in traced.parameters():
            weight.data = weight.data.half() if weight.ndim > 1 else weight.data
        traced.save(str(path))
    return path


OPENAI = {
    "vision transformer": model_cfg({"width": 64, "head_width": 64}, {"width": 64, "heads": 1}, quick_gelu=True),
    "resnet": model_cfg(text={"width": 64, "heads": 1}, quick_gelu=True) | {"vision_cfg": RESNET | {"head_width": 64}},
}


@pytest.fixture
def vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' tokenizer where the true one would be made."""
    monkeypatch.setattr("secfpp.models.families.open_clip.tokenizer", lambda merges: itself.tiny_tokenizer())
    monkeypatch.setattr("secfpp.models.families.open_clip.merges_file", lambda folder: folder)


@itself.needs_open_clip
@pytest.mark.usefixtures("vocabulary")
@pytest.mark.parametrize("config", OPENAI.values(), ids=OPENAI.keys())
def test_an_archive_of_openai_is_read_and_its_programs_are_not(config: dict[str, Any], tmp_path: Path) -> None:
    path = script(tmp_path / "ViT-B-16.pt", config)
    emptied = tmp_path / "emptied.pt"
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(emptied, "w") as copy:
        for entry in archive.infolist():
            program = "/code/" in entry.filename or entry.filename.endswith("constants.pkl")
            copy.writestr(entry.filename, b"not a program" if program else archive.read(entry))
    model = itself.made(config)
    for weight in model.parameters():
        weight.data = weight.data.half().float() if weight.ndim > 1 else weight.data
    size = config["vision_cfg"]["image_size"]
    images = noise(3, size, size)
    for each in (path, emptied):
        backbone: Any = load_backbone(str(each), device="cpu", cache_dir=tmp_path)
        with torch.no_grad():
            expected = model.encode_image(torch.from_numpy(backbone._pixels(images)), normalize=True)
        torch.testing.assert_close(backbone.features(images), expected, atol=1e-5, rtol=0)


class Listed(torch.nn.Module):
    """A module with a list of numbers, which an archive writes by a function of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = torch.jit.Attribute([3, 4], list[int])
        self.part = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.part(x) * self.sizes[0]


def test_lists_in_an_archive_are_passed_over(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.script(Listed())
        script.save(str(tmp_path / "model.pt"))
    with zipfile.ZipFile(tmp_path / "model.pt") as archive:
        assert b"torch.jit._pickle\nbuild_intlist" in archive.read("model/data.pkl")
    found, expected = read_weights(tmp_path / "model.pt"), script.state_dict()
    assert found.keys() == expected.keys() - {"part.1.num_batches_tracked"}
    assert all(torch.equal(found[name], expected[name]) for name in found)


@itself.needs_open_clip
def test_an_archive_that_holds_more_than_modules_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/constants.pkl", b"")
        archive.writestr("model/version", b"3\n")
        archive.writestr("model/data.pkl", b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.")
    refused(path, "it holds os.system, which is no module")


def test_weights_alone_that_are_no_archive_are_refused(tmp_path: Path) -> None:
    """Nothing says of what model they are: open_clip's own have another activation than OpenAI's."""
    torch.save({"visual.proj": torch.ones(2, 2)}, tmp_path / "ViT-B-32.pt")
    refused(tmp_path / "ViT-B-32.pt", "it is a file, not the directory of a checkpoint .*does not say of what model")


REFUSED = {
    "coca_ViT-B-32": "CoCa",
    "MobileCLIP-S1": "image tower is 'fastvit_mci1' of timm",
    "MobileCLIP2-B": "image tower is 'vit_base_mci_224' of timm",
    "EVA02-B-16": "of timm",
    "convnext_base_w": "of timm",
    "ViT-B-16-SigLIP": "google/siglip-base-patch16-224",
    "ViT-B-16-SigLIP2": "google/siglip2-base-patch16-224",
    "ViT-H-14-CLIPA": r"not causal \(no_causal_mask\)",
    "xlm-roberta-base-ViT-B-32": "text tower is 'xlm-roberta-base' of Hugging Face",
    "nllb-clip-base-siglip": "of timm",
}
TAKEN = ("RN50", "RN50x64-quickgelu", "ViT-B-32", "ViT-L-14-336", "ViT-bigG-14", "ViT-M-16-alt", "ViT-H-14-worldwide")


@itself.needs_open_clip
def test_every_configuration_that_open_clip_has_is_taken_or_refused_for_a_reason() -> None:
    found = {path.stem: json.loads(path.read_text()) for path in (itself.folder() / "model_configs").glob("*.json")}
    said = {name: refusal(config) for name, config in found.items()}
    for name, words in REFUSED.items():
        with pytest.raises(ValueError, match=words):
            raise ValueError(said[name])
    assert not any(said[name] for name in TAKEN)
    for name, config in found.items():
        own = not config["vision_cfg"].get("timm_model_name") and not config["text_cfg"].get("hf_model_name")
        usual = not config["text_cfg"].get("no_causal_mask") and not config["text_cfg"].get("tokenizer_kwargs")
        plain = own and usual and "multimodal_cfg" not in config
        assert bool(said[name]) != plain, name
        assert not plain or architecture(config).places == config["text_cfg"]["context_length"]


@pytest.mark.parametrize(
    ("vision", "text", "words"),
    [
        ({"qk_norm": True}, {}, r"attention is not CLIP's \(vision_cfg.qk_norm\)"),
        ({}, {"block_type": "custom"}, "text_cfg.block_type = 'custom'"),
        ({}, {"pool_type": "last"}, "read at the last place"),
        ({}, {"proj_bias": True}, "not projected by a matrix alone"),
        ({"pool_type": "none"}, {}, "pooled in a way that is not known"),
        ({"image_size": [32, 48]}, {}, "only squares are read"),
        ({"registers": 4}, {}, "vision_cfg.registers, which is not known here"),
        ({"act_kwargs": {"inplace": True}}, {}, "vision_cfg.act_kwargs"),
        ({}, {"tokenizer_kwargs": {"clean": "canonicalize"}}, "text_cfg.tokenizer_kwargs"),
        ({}, {"norm_kwargs": {"bias": False}}, "text_cfg.norm_kwargs"),
    ],
)
def test_towers_that_are_no_clips_are_refused(vision: dict[str, Any], text: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        raise ValueError(refusal(model_cfg(vision, text)))


def test_a_folder_without_a_tokenizer_says_where_to_get_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    monkeypatch.setattr(tokenizer, "CARRIERS", ())
    refused(folder, "it has no tokenizer: copy tokenizer.json of openai/clip-vit-base-patch16 or bpe_simple_vocab")
    content = json.loads((folder / CONFIG).read_text())
    content["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "facebook/xlm-v-base"
    (folder / CONFIG).write_text(json.dumps(content))
    refused(folder, "copy tokenizer.json of facebook/xlm-v-base")


def test_another_vocabulary_than_clips_keeps_capitals_and_its_own_tokenizer(folder: Path) -> None:
    edit_model(folder, text_cfg=model_cfg(text={"hf_tokenizer_name": "facebook/xlm-v-base"})["text_cfg"])
    loaded = load_checkpoint(str(folder))
    assert loaded.tokenizer.get_vocab() == itself.tiny_tokenizer().get_vocab()
    assert loaded.cleaned is not None and loaded.cleaned("Men\u2019s Cat") == "Men's Cat"
    edit_model(folder, text_cfg=model_cfg()["text_cfg"])
    own = load_checkpoint(str(folder)).cleaned
    assert own is not None and own("Men\u2019s Cat") == "men's cat"


def test_what_the_cache_of_the_hub_lacks_is_asked_of_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """open_clip itself leaves configuration and weights there, without the tokenizer that lies beside them."""
    asked: list[tuple[str, bool]] = []

    def path(files: Files, name: str) -> Path | None:
        asked.append((name, files.local))
        return None if files.local and "tokenizer" in name else Files.path(Files(str(folder), True), name)

    monkeypatch.setattr(tokenizer, "CARRIERS", ())
    monkeypatch.setattr(checkpoint, "Files", type("Cached", (Files,), {"path": path}))
    with pytest.raises(ConfigError, match="openai/no-such-clip"):  # there is no hub here to give it
        load_checkpoint("openai/no-such-clip")
    assert ("tokenizer.json", True) in asked and ("tokenizer.json", False) in asked


def test_an_end_token_that_the_tokenizer_does_not_write_is_refused(folder: Path) -> None:
    edit_model(folder, text_cfg=model_cfg(text={"pool_type": "eos", "eos_id": 2})["text_cfg"])
    refused(folder, r"reads features at token 2 \(eos_id\), its tokenizer ends texts with another")
