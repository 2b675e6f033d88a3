"""Weights are named as in the trainers of CoCoOp, MaPLe, PromptSRC, VPT and PLOT, each in its authors' repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from secfpp.errors import DataError
from secfpp.models.backbone import load_backbone
from secfpp.models.coop_checkpoint import from_coop
from support.tiny_clip import TinyClip

CLASSES = ("cat", "dog", "bird")
N_CTX, WIDTH, LENGTH = 4, 32, 20


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_backbone(str(TinyClip().save(tmp_path_factory.mktemp("tiny"))), device="cpu")


class PromptLearner(nn.Module):
    """A context and its fixed embeddings, of `texts` texts."""

    def __init__(self, *shape: int, texts: int = len(CLASSES)) -> None:
        super().__init__()
        self.ctx = nn.Parameter(torch.ones(*shape, N_CTX, WIDTH))
        self.register_buffer("token_prefix", torch.ones(texts, 1, WIDTH))
        self.register_buffer("token_suffix", torch.ones(texts, LENGTH - 1 - N_CTX, WIDTH))


def cocoop() -> nn.Module:
    learner = PromptLearner()
    learner.meta_net = nn.Sequential()
    for name, layer in (("linear1", nn.Linear(24, 2)), ("relu", nn.ReLU()), ("linear2", nn.Linear(2, WIDTH))):
        learner.meta_net.add_module(name, layer)
    return learner


def whole(learner: nn.Module) -> nn.Module:
    """A model of which all is saved, as MaPLe and PromptSRC do."""
    model = nn.Module()
    model.prompt_learner = learner
    model.image_encoder = nn.Linear(2, 2)
    return model


def maple() -> nn.Module:
    learner = PromptLearner()
    learner.proj = nn.Linear(WIDTH, WIDTH)
    learner.compound_prompts_text = nn.ParameterList([torch.ones(2, WIDTH)])
    return whole(learner)


def promptsrc() -> nn.Module:
    model = whole(PromptLearner())
    model.image_encoder.VPT = nn.Parameter(torch.ones(4, WIDTH))
    return model


def trained_towers() -> nn.Module:
    return whole(PromptLearner())


def with_bias() -> nn.Module:
    learner = PromptLearner()
    learner.bias_vectors = nn.Parameter(torch.ones(1, WIDTH))
    return learner


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (cocoop, r"of CoCoOp: its meta_net makes a context from each image \(meta_net.linear1.weight\)"),
        (maple, r"with prompts in deeper layers .* \(prompt_learner.compound_prompts_text.0\)"),
        (promptsrc, r"with prompts in deeper layers .*PromptSRC.* \(image_encoder.VPT\)"),
        (trained_towers, r"of a whole model, .* \(image_encoder.weight\)"),
        (with_bias, "it holds 'bias_vectors' beside CoOp's ctx, token_prefix, token_suffix, and would not predict"),
        (lambda: PromptLearner(4, texts=12), r"it holds several contexts for each class \(ctx \(4, 4, 32\)\), as PLOT"),
        (lambda: PromptLearner(3, texts=9), r"several contexts for each class \(ctx \(3, 4, 32\)\)"),
        (lambda: PromptLearner(4, texts=3), r"several contexts for each class \(ctx \(4, 4, 32\)\)"),
        (lambda: PromptLearner(2, 3), r"several contexts for each class \(ctx \(2, 3, 4, 32\)\)"),
    ],
)
def test_other_prompt_learners_are_refused_by_what_they_are(
    make: Any, words: str, backbone: Any, tmp_path: Path
) -> None:
    torch.save({"state_dict": make().state_dict(), "epoch": 5}, tmp_path / "x")
    with pytest.raises(DataError, match=rf"x: .*{words}.*: train with CoOp's own trainer"):
        from_coop(tmp_path / "x", CLASSES, backbone)


def test_one_context_in_an_axis_of_its_own_is_one_context(backbone: Any, tmp_path: Path) -> None:
    """As PLOT saves it with one prompt, where it is CoOp."""
    torch.save({"state_dict": {"ctx": PromptLearner(1).ctx}}, tmp_path / "x")
    assert from_coop(tmp_path / "x", CLASSES, backbone).prompt.shape == (N_CTX, WIDTH)
