"""What can be asked for, what is there, and how close half precision is."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from secfpp.errors import ConfigError
from secfpp.models.backbone import load_backbone
from secfpp.models.devices import computed_on, device_named, device_problems


def gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Card {device.index}")


def test_a_gpu_that_is_not_there_is_named_with_the_reason_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 0)
    for built, reason in ((None, "this PyTorch is built without CUDA"), ("12.8", "PyTorch finds no such GPU")):
        monkeypatch.setattr(torch.version, "cuda", built)
        (problem,) = device_problems("cuda", "backbone.device")
        assert str(problem).startswith("backbone.device = 'cuda': auto, cpu")
        assert str(problem).endswith(f"on this machine; {reason}: set auto or cpu, or see what secfpp doctor says")
    started = time.perf_counter()
    with pytest.raises(ConfigError, match=r"backbone\.device = 'cuda:1'.*secfpp doctor"):
        load_backbone("a checkpoint that nobody has", device="cuda:1")
    assert time.perf_counter() - started < 5, "nothing is looked for before"


def test_devices_go_by_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 2)
    assert device_named("auto") == device_named("cuda") == torch.device("cuda:0")
    assert device_named("cuda:1") == torch.device("cuda:1")
    assert device_problems("cuda:1", "x") == []
    (problem,) = device_problems("cuda:2", "x")
    assert "auto, cpu, cuda:0, cuda:1" in problem.allowed


def test_results_say_which_device_and_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 2)
    assert computed_on("auto", "bfloat16") == {"device": "cuda:0 (Card 0)", "precision": "bfloat16"}
    assert computed_on("cpu", "float32") == {"device": "cpu", "precision": "float32"}
    compiled = {"device": "cpu", "precision": "float32", "compiled": "text tower"}
    assert computed_on("cpu", "float32", True) == compiled
    gpus(monkeypatch, 0)
    assert computed_on("auto", "float32")["device"] == "cpu"


def test_half_precision_is_within_a_hundredth_of_the_included_model() -> None:
    exact, rough = (
        load_backbone("mini", device="cpu", dtype=dtype).keeping_nothing() for dtype in ("float32", "bfloat16")
    )
    images = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), dtype=np.uint8)
    tokens = exact.class_tokens(["home", "search", "arrow", "settings"], 4)
    prompts = torch.from_numpy(exact.initial_prompt("an icon symbol for", 4))[None]
    for way in (lambda model: model.features(images), lambda model: model.class_features(prompts, tokens)[0]):
        wanted, found = way(exact), way(rough)
        assert found.dtype == torch.float32
        apart = (found - wanted).norm(dim=-1) / wanted.norm(dim=-1)
        assert 0 < apart.max() < 1e-2
