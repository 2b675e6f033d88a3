"""Small checkpoints written as other programs write them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPForImageClassification, CLIPModel, CLIPTextModel

from secfpp.errors import ConfigError
from secfpp.models import checkpoint
from secfpp.models.checkpoint import load_checkpoint
from support.tiny_clip import TinyClip, tiny_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return TinyClip(layers=1).save(tmp_path / "tiny")


def refused(name: Path, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_checkpoint(str(name))


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    edit(weights)
    save_file(weights, path, metadata={"format": "pt"})


def only(folder: Path, *kept: str) -> None:
    """Leave nothing in `folder` but files of these suffixes or names."""
    for path in folder.iterdir():
        if path.name not in kept and path.suffix not in kept:
            path.unlink()


@pytest.mark.parametrize(
    ("missing", "there"),
    [
        (("tokenizer.json", "tokenizer_config.json"), ()),
        (("tokenizer.json",), ()),
        (("tokenizer.json",), ("vocab.json",)),
        (("tokenizer.json",), ("merges.txt",)),
    ],
)
@pytest.mark.parametrize("legacy", [True, False])
def test_a_missing_tokenizer_is_named_by_its_files(
    missing: tuple[str, ...], there: tuple[str, ...], legacy: bool, tmp_path: Path
) -> None:
    """transformers makes a vocabulary of two tokens or so instead."""
    folder = TinyClip(layers=1, legacy_end=legacy).save(tmp_path / "tiny")
    for name in missing:
        (folder / name).unlink()
    for name in there:
        (folder / name).write_text("{}")
    refused(folder, r"it has no tokenizer: tokenizer.json is missing, and so is vocab.json or merges.txt; copy them")


def test_the_two_files_of_older_tokenizers_will_do(folder: Path) -> None:
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    before = load_checkpoint(str(folder)).tokenizer("security cat")["input_ids"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(tiny_tokenizer().get_vocab()))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{' '.join(pair)}\n" for pair in model["merges"]))
    assert load_checkpoint(str(folder)).tokenizer("security cat")["input_ids"] == before


def test_the_tokenizer_of_another_model_is_noticed(tmp_path: Path) -> None:
    words = ["".join(letters) for letters in product("abcde", repeat=4)]
    folder = TinyClip(layers=1, legacy_end=True).save(tmp_path / "tiny", words)
    tiny_tokenizer().save_pretrained(folder)
    refused(
        folder, r"its tokenizer has 5\d\d tokens, but the model's vocabulary \d{4}: the tokenizer is another model's"
    )


def test_weights_that_are_missing_are_not_replaced_by_random_ones(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights.pop("text_projection.weight"))
    refused(folder, r"weights are missing, for example 'text_projection.weight', 1 in all: save it")


def test_weights_that_have_no_place_are_not_left_out(folder: Path) -> None:
    extra = {"text_model.encoder.layers.1.mlp.fc1.bias": torch.ones(3), "text_model.extra": torch.ones(1)}
    edit_weights(folder, lambda weights: weights.update(extra))
    refused(folder, r"hold 'text_model.encoder.layers.1.mlp.fc1.bias' and 1 more that config.json has no place for")


def test_positions_that_older_versions_saved_do_no_harm(folder: Path) -> None:
    """The checkpoints of openai/ on the hub hold such numbers, which say nothing."""
    digest = load_checkpoint(str(folder)).digest()
    edit_weights(folder, lambda weights: weights.update({"text_model.embeddings.position_ids": torch.arange(20)[None]}))
    assert load_checkpoint(str(folder)).digest() == digest


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    edit_weights(folder, lambda weights: weights.update({"text_projection.weight": torch.ones(5, 5)}))
    refused(folder, "the checkpoint cannot be read. Cause: RuntimeError")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float, folder: Path) -> None:
    edit_weights(folder, lambda weights: weights["visual_projection.weight"][0].fill_(value))
    refused(
        folder, r"not finite \(NaN or infinite\), in 'visual_projection.weight' and 0 more: .* an earlier checkpoint"
    )


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq"])
def test_a_quantised_model_is_refused_by_its_config(method: str, folder: Path) -> None:
    edit_config(folder, quantization_config={"quant_method": method, "load_in_8bit": True, "bits": 4})
    refused(folder, rf"it is quantised \(quantization_config, {method}\): give the weights that were quantised")


def test_a_quantised_model_is_refused_by_its_weights(folder: Path) -> None:
    name = "text_model.encoder.layers.0.mlp.fc1.weight"
    edit_weights(folder, lambda weights: weights.update({f"{name}.absmax": torch.ones(4)}))
    refused(folder, rf"hold '{name}.absmax', quantised weights: give the weights")


def with_lora(weights: dict[str, torch.Tensor]) -> None:
    """As peft leaves a model whose layers it has wrapped and not merged."""
    wrapped = "vision_model.encoder.layers.0.self_attn.q_proj"
    weights[f"{wrapped}.base_layer.weight"] = weights.pop(f"{wrapped}.weight")
    weights[f"{wrapped}.lora_A.default.weight"] = torch.ones(4, 32)
    weights[f"{wrapped}.lora_B.default.weight"] = torch.zeros(32, 4)


def beside(weights: dict[str, torch.Tensor]) -> None:
    """The base weights as they were, and an adapter that would be left out."""
    weights["vision_model.encoder.layers.0.self_attn.q_proj.lora_A.weight"] = torch.ones(4, 32)


@pytest.mark.parametrize("edit", [with_lora, beside])
def test_an_adapter_that_is_not_merged_is_refused(edit: Any, folder: Path) -> None:
    edit_weights(folder, edit)
    refused(folder, r"q_proj\..*', an adapter that is not merged: give a merged model: .*merge_and_unload")


def test_adapters_in_files_of_their_own_are_refused(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "x"}))
    save_file({"base_model.model.a.lora_A.weight": torch.ones(2, 2)}, folder / "adapter_model.safetensors")
    refused(folder, r"it holds an adapter of PEFT that is not merged into its model: give a merged model")
    (folder / "config.json").unlink()
    refused(folder, r"no config.json.*an adapter of PEFT that is not merged into its model: give a merged model")


def test_a_classifier_is_refused_by_name(folder: Path) -> None:
    CLIPForImageClassification(CLIPConfig.from_pretrained(folder)).save_pretrained(folder)
    refused(
        folder, r"a CLIPForImageClassification \(architectures\), not a CLIPModel .*: give the CLIPModel that it was"
    )
    edit_config(folder, architectures=["CLIPModel"])
    refused(folder, r"hold 'classifier.bias', a classifier, which is not used here")


def test_one_tower_is_refused(folder: Path) -> None:
    CLIPTextModel(CLIPConfig.from_pretrained(folder).text_config).save_pretrained(folder)
    refused(folder, "its model_type is 'clip_text_model', one of the two towers of .clip.: give the whole model")


def test_a_config_that_makes_no_sense_is_no_traceback(folder: Path) -> None:
    edit_config(folder, projection_dim="wide")
    refused(folder, "the checkpoint cannot be read. Cause: .*projection_dim")


def open_clip_writes(folder: Path) -> None:
    """A training's weights, moved without what says of which model they are."""
    only(folder, "tokenizer.json")
    save_file(
        {"visual.conv1.weight": torch.ones(2, 2), "ln_final.bias": torch.ones(2)},
        folder / "open_clip_model.safetensors",
    )


def a_training_writes(folder: Path) -> None:
    only(folder, "tokenizer.json")
    torch.save({"visual.proj": torch.ones(2, 2)}, folder / "ViT-B-16.pt")


def optimum_writes(folder: Path) -> None:
    """An exported model beside the config and tokenizer that it had."""
    only(folder, ".json")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(b"\x08\x07")


def flax_writes(folder: Path) -> None:
    only(folder, ".json")
    (folder / "flax_model.msgpack").write_bytes(b"\x80")


def loses_its_weights(folder: Path) -> None:
    only(folder, ".json")


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (open_clip_writes, "weights of open_clip without their open_clip_config.json"),
        (a_training_writes, "a file of weights that does not say of what model .* openai/clip-vit-base-patch16"),
        (optimum_writes, "an ONNX graph, which cannot be turned back: give the checkpoint that it was exported from"),
        (flax_writes, "TensorFlow or Flax: with transformers 4"),
        (loses_its_weights, "it has no weights: model.safetensors or pytorch_model.bin is missing; save it"),
    ],
)
def test_other_formats_are_refused_by_what_they_are(write: Callable[[Path], None], words: str, folder: Path) -> None:
    write(folder)
    refused(folder, words)


def test_a_pipeline_of_sentence_transformers_says_where_its_clip_is(folder: Path, tmp_path: Path) -> None:
    pipeline = tmp_path / "clip-ViT-B-32"
    shutil.copytree(folder, pipeline / "0_CLIPModel")
    modules = [{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}]
    (pipeline / "modules.json").write_text(json.dumps(modules))
    refused(pipeline, r"a pipeline of sentence-transformers .*: give the CLIP inside it, '.*/0_CLIPModel'")
    assert load_checkpoint(str(pipeline / "0_CLIPModel")).digest() == load_checkpoint(str(folder)).digest()
    shutil.rmtree(pipeline / "0_CLIPModel")
    refused(pipeline, r"\(modules.json\): SentenceTransformer\(FOLDER\)\[0\].model is its CLIP")


def test_a_file_instead_of_a_directory_is_told_what_it_is(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:
    refused(folder / "model.safetensors", "it is a file, not the directory of a checkpoint: save it")
    monkeypatch.chdir(tmp_path)
    Path("ViT-B-16.pt").write_bytes(b"x")  # its name could be one on the hub
    refused(Path("ViT-B-16.pt"), "it is a file.* openai/clip-vit-base-patch16")


def test_what_the_cache_of_the_hub_lacks_is_asked_of_the_hub(folder: Path, monkeypatch: Any) -> None:
    """A download that was cut short leaves a config without weights."""
    asked: list[bool] = []
    present = checkpoint.Files.has

    def has(self: Any, pattern: str) -> bool:
        asked.append(self.local)
        return present(checkpoint.Files(str(folder), True), pattern) and not (self.local and "model" in pattern)

    config = CLIPModel.config_class.get_config_dict(folder)
    monkeypatch.setattr(checkpoint.Files, "has", has)
    monkeypatch.setattr(CLIPConfig, "get_config_dict", lambda *_, **__: config)
    with pytest.raises(ConfigError, match="openai/no-such-clip"):  # there is no hub here to give it
        load_checkpoint("openai/no-such-clip")
    assert asked[0] is True and asked[-1] is False
