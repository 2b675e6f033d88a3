"""Compiled blocks: the same features and gradients, in few graphs, and refused where nothing can be compiled.

Most tests have PyTorch trace the blocks and run what it traced as it is, which takes no compiler; if gradients matter,
with its own backward pass (``aot_eager``).
"""

from __future__ import annotations

import logging
import pickle
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from secfpp.algorithms.image_gradients import ImageGradients
from secfpp.errors import ConfigError
from secfpp.models import compiling
from secfpp.models.backbone import load_backbone
from secfpp.models.class_chunks import ClassChunks
from support.tiny_siglip import TinySiglip, siglip_tokenizer

NAMES = ("home", "search", "arrow", "mail", "settings")
BLOCKS = 3
"""Graphs of a tower: the first block, one in the middle, the last one."""


@pytest.fixture(scope="module", params=["mini", "siglip"])
def name(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    if request.param == "mini":
        return "mini"
    return str(TinySiglip(layers=4).save(tmp_path_factory.mktemp("siglip"), siglip_tokenizer()))


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is compiled is traced only, and PyTorch has nothing of other tests."""
    monkeypatch.setattr(compiling, "BACKEND", "eager")
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "disabled", True)  # pytest would keep it
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.fixture
def with_backward(traced: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Backward passes are traced too."""
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")


@pytest.fixture
def nothing_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "_lacking", lambda device: "")


def both(name: str) -> tuple[Any, Any]:
    """The model as it is, and compiled."""
    plain, fast = (load_backbone(name, device="cpu", compile=compiled) for compiled in (False, True))
    counters.clear()  # of the trial
    return plain, fast


def encoded(model: Any, k: int, names: tuple[str, ...] = NAMES) -> tuple[Tensor, Tensor]:
    """Features of `k` random prompts, and a gradient of theirs."""
    draws = torch.Generator().manual_seed(k)
    prompts = (0.1 * torch.randn(k, 4, model.spec.text_dim, generator=draws)).requires_grad_()
    features = model.class_features(prompts, model.class_tokens(names, 4))
    features.backward(torch.randn(features.shape, generator=draws))
    assert prompts.grad is not None
    return features.detach(), prompts.grad


def assert_close(found: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(found[0], wanted[0], rtol=0, atol=1e-5)
    assert (found[1] - wanted[1]).norm() <= 1e-5 * wanted[1].norm()


@pytest.mark.usefixtures("with_backward", "nothing_lacks")
def test_features_and_gradients_are_the_same_in_three_graphs_for_any_number_of_prompts(name: str) -> None:
    plain, fast = both(name)
    for k in (3, 5, 2):
        assert_close(encoded(fast, k), encoded(plain, k))
    assert counters["stats"]["unique_graphs"] == BLOCKS
    assert not counters["graph_break"]
    assert_close(encoded(fast, 1), encoded(plain, 1))
    assert counters["stats"]["unique_graphs"] <= 2 * BLOCKS, "of one prompt PyTorch makes graphs of their own"


@pytest.mark.usefixtures("traced", "nothing_lacks")
def test_a_tower_of_one_block_is_compiled(tmp_path: Path) -> None:
    plain, fast = both(str(TinySiglip(layers=1).save(tmp_path, siglip_tokenizer())))
    assert_close(encoded(fast, 3), encoded(plain, 3))
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.usefixtures("with_backward", "nothing_lacks")
def test_chunks_are_compiled_too(name: str) -> None:
    """Two chunks of classes, prompts one by one, each encoded again for its gradient."""
    plain, fast = both(name)
    wanted, tower, asked = encoded(plain, 5), fast._towers.text, []
    parts = tower._chunks.parts
    tower._chunks.parts = lambda classes, each: asked.append(each) or parts(classes, each)
    with torch.no_grad():
        fast.class_features(torch.zeros(1, 4, fast.spec.text_dim), fast.class_tokens(NAMES, 4))
    tower._chunks = ClassChunks(torch.device("cpu"), bound=3 * asked[0], chunk=3 * asked[0])
    assert len(parts(fast.class_tokens(NAMES, 4), asked[0])) == 1
    assert len(tower._chunks.parts(fast.class_tokens(NAMES, 4), asked[0])) == 2
    assert_close(encoded(fast, 5), wanted)
    assert counters["stats"]["unique_graphs"] >= BLOCKS


@pytest.mark.usefixtures("traced", "nothing_lacks")
def test_without_a_gradient_and_for_single_classes_nothing_is_compiled(name: str) -> None:
    _, fast = both(name)
    tokens, prompts = fast.class_tokens(NAMES, 4), torch.zeros(len(NAMES), 4, fast.spec.text_dim)
    fast.class_features(prompts, tokens)
    with torch.no_grad():
        fast.class_features(prompts.clone().requires_grad_(), tokens)
    fast.single_class_features(prompts.clone().requires_grad_(), tokens).sum().backward()
    assert counters["stats"]["unique_graphs"] == 0


@pytest.mark.usefixtures("traced", "nothing_lacks")
@pytest.mark.parametrize("images", [1, 10_000])
def test_gradients_of_single_images_are_made_without(name: str, images: int) -> None:
    """They ask for gradients of many cotangents at once, which compiled code cannot have."""
    found, draws = [], torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(7, 128, generator=draws), dim=1)
    labels = torch.arange(7) % len(NAMES)
    for model in both(name):
        prompt = torch.from_numpy(model.initial_prompt("an icon symbol for", 4))
        gradients = ImageGradients(model, model.class_tokens(NAMES, 4), prompt, images)
        found.append(gradients.of(features[:, : model.spec.projection], labels)[0])
    assert torch.equal(*found)
    assert counters["stats"]["unique_graphs"] == 0


@pytest.mark.usefixtures("traced", "nothing_lacks")
def test_shapes_beyond_the_most_run_as_they_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, fast = both(name)
    encoded(fast, 3)
    monkeypatch.setattr(compiling, "MOST", 2)  # the first block and one in the middle are two shapes
    assert_close(encoded(fast, 1, NAMES[:3]), encoded(plain, 1, NAMES[:3]))
    before = counters["stats"]["unique_graphs"]
    assert before <= BLOCKS + 1, "the last block alone had room"
    assert_close(encoded(fast, 3), encoded(plain, 3))
    assert counters["stats"]["unique_graphs"] == before


@pytest.mark.usefixtures("traced", "nothing_lacks")
def test_a_pickle_is_compiled_again_where_that_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = pickle.dumps(load_backbone("mini", device="cpu", compile=True))
    assert pickle.loads(kept).compiled
    monkeypatch.setattr(compiling, "_lacking", lambda device: "needs this and that")
    assert not pickle.loads(kept).compiled


@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        ("compiler", r"needs the C\+\+ compiler 'g\+\+'.*apt install g\+\+"),
        ("named", r"needs the C\+\+ compiler 'no-such-compiler'"),
        ("headers", r"needs Python\.h.*python3-dev"),
        ("windows", r"false on win32: it was not tried there"),
    ],
)
def test_what_a_processor_lacks_is_named_before_anything_is_loaded(
    lacks: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(compiling.sys, "platform", "win32" if lacks == "windows" else "linux")
    monkeypatch.setattr(
        shutil, "which", lambda name: None if name == "no-such-compiler" or lacks == "compiler" else "x"
    )
    monkeypatch.setenv("CXX", "no-such-compiler" if lacks == "named" else "")
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(sysconfig, "get_path", lambda of: str(tmp_path / "gone" if lacks == "headers" else tmp_path))
    with pytest.raises(ConfigError, match=rf"backbone\.compile = True: {said}.*or leave it out"):
        load_backbone("a checkpoint that nobody has", device="cpu", compile=True)
    with pytest.raises(ConfigError, match="a checkpoint that nobody has"):
        load_backbone("a checkpoint that nobody has", device="cpu")


@pytest.mark.parametrize(
    ("triton", "compiler", "capability", "said"),
    [
        (None, "gcc", (9, 0), "needs Triton: pip install triton"),
        ("there", None, (9, 0), "needs a C compiler for Triton"),
        ("there", "gcc", (6, 1), "needs a GPU of compute capability 7.0 or newer"),
        ("there", "gcc", (9, 0), None),
    ],
)
def test_what_a_gpu_lacks_is_named(
    triton: str | None,
    compiler: str | None,
    capability: tuple[int, int],
    said: str | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(compiling, "find_spec", lambda name: triton)
    monkeypatch.setattr(shutil, "which", lambda name: compiler)
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(sysconfig, "get_path", lambda of: str(tmp_path))
    problems = [str(problem) for problem in compiling.compile_problems("cuda", "backbone.compile")]
    assert [problem.startswith(f"backbone.compile = True: {said}") for problem in problems] == [True] * bool(said)


@pytest.mark.usefixtures("nothing_lacks")
def test_a_compiler_that_does_not_work_is_told_with_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: Any, examples: Any) -> Any:
        raise RuntimeError("cannot find -lgomp")

    monkeypatch.setattr(compiling, "BACKEND", broken)
    with pytest.raises(ConfigError, match=r"(?s)backbone\.compile = True: leave it out.*cannot find -lgomp"):
        load_backbone("a checkpoint that nobody has", device="cpu", compile=True)


@pytest.mark.slow
@pytest.mark.skipif(
    bool(compiling.compile_problems("cpu", "backbone.compile")), reason="PyTorch finds nothing here to compile with"
)
def test_compiled_code_gives_the_same(name: str) -> None:
    """With the compiler of this machine; a minute or two."""
    torch._dynamo.reset()
    plain, fast = both(name)
    for k in (3, 5):
        found = encoded(fast, k)
        assert_close(found, encoded(plain, k))
        assert all(map(torch.equal, found, encoded(fast, k))), "the same bits again"
    assert counters["stats"]["unique_graphs"] == BLOCKS and not counters["graph_break"]
