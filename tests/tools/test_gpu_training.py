"""The benchmark of batched prompt training, on the CPU: what it counts, and that it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from secfpp.models import compiling

MICRO = Path(__file__).parents[2] / "benchmarks" / "micro"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(MICRO))
    import gpu_training

    made: ModuleType = sys.modules["gpu_training"]
    assert made is gpu_training
    return made


@pytest.mark.parametrize("prompts", [1, 3])
def test_model_flops_are_those_of_matrix_products_but_for_padding(benchmark: Any, prompts: int) -> None:
    """PyTorch counts what is padded and masked as well: attention of rows of 32 tokens, which here looks at more."""
    made = benchmark.Trained("small", torch.device("cpu"), "float32", prompts, 16)
    made.train(1)  # lays class names out, once
    with FlopCounterMode(display=False) as counter:
        made.train(1)
    counted = counter.get_total_flops()
    assert 0.8 * counted < made.flops <= counted


def test_model_flops_of_the_smallest_tower(benchmark: Any) -> None:
    """Width 1, two layers, one context vector, one name of one token: 17 products, 8 keys looked at, a projection."""
    shape = benchmark.Shape(width=1, inner=1, layers=2, projection=1, n_ctx=1, lengths=(1,))
    assert benchmark.step_flops(shape, 1, 0) == 2 * (2 * 17 + 4 * 8 + 2)
    assert benchmark.step_flops(shape, 3, 5) == 3 * 2 * (2 * 17 + 4 * 8 + 2 + 2 * 5)


def test_it_says_its_share_of_a_peak(benchmark: Any, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--device", "cpu", "--dtype", "bfloat16", "--prompts", "2", "--batch", "4", "--steps", "1"]
    benchmark.main([*words, "--repeats", "1", "--peak", "0.5"])
    told = capsys.readouterr().out
    assert "small, 100 classes, 16 context vectors, 2 prompts" in told and "cpu, bfloat16" in told
    assert told.rstrip().endswith("% of 0.5")


def test_compiled_blocks_are_measured_beside_those_that_are_not(
    benchmark: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--device", "cpu", "--prompts", "3", "--batch", "4", "--steps", "1", "--repeats", "1", "--compile"]
    monkeypatch.setattr(compiling, "_lacking", lambda device: "needs this")
    with pytest.raises(SystemExit):
        benchmark.main(words)
    assert "--compile = True: needs this" in capsys.readouterr().err
    monkeypatch.setattr(compiling, "_lacking", lambda device: "")
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    torch._dynamo.reset()
    benchmark.main(words)
    told = capsys.readouterr().out
    assert "3 graphs, 0 breaks, 0 more for another number of prompts" in told
    assert "as it is, a step" in told and "compiled, a step" in told


def test_a_device_that_is_not_there_is_refused(benchmark: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        benchmark.main(["--device", "cuda:99"])
    assert "--device = 'cuda:99'" in capsys.readouterr().err
