from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secfpp.models.backbone import load_backbone
from secfpp.models.prompt_file import ClientPrompt
from support.picture_folders import picture_tree
from support.prompt_commands import CLASSES
from support.tiny_clip import TinyClip


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_backbone(str(TinyClip().save(tmp_path_factory.mktemp("tiny"))), device="cpu")


@pytest.fixture
def prompt(backbone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClientPrompt:
    """A prompt, saved as a.safetensors in the current folder, which also holds photos/."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    learned = ClientPrompt(
        prompt=np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32),
        classes=CLASSES,
        backbone=backbone.spec.name,
        backbone_digest=backbone.spec.digest,
        log_prior=np.log(np.float32([0.01, 0.01, 0.98])),
        client="hospital-a",
        image_size=32,
    )
    learned.save("a.safetensors")
    picture_tree(tmp_path / "photos", {"cat": 2, "dog/deep": 1})
    return learned


@pytest.fixture
def two_levels(prompt: ClientPrompt) -> ClientPrompt:
    """The same with a domain prompt, and saved as a.safetensors instead."""
    learned = replace(prompt, domain_prompt=-prompt.prompt, familiar=np.array([True, True, False]), trust=0.5)
    learned.save("a.safetensors")
    return learned
