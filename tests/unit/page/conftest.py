from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secfpp.models.backbone import load_backbone
from secfpp.models.prompt_file import ClientPrompt
from support.tiny_clip import TinyClip


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder, cache = (tmp_path_factory.mktemp(name) for name in ("tiny", "cache"))
    return load_backbone(str(TinyClip().save(folder)), device="cpu", cache_dir=cache)


@pytest.fixture
def plain(backbone: Any) -> ClientPrompt:
    """A prompt of three classes that knows nothing of the client's images."""
    return ClientPrompt(
        prompt=np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32),
        classes=("cat", "dog", "big bird"),
        backbone=backbone.spec.name,
        backbone_digest=backbone.spec.digest,
        log_prior=np.log(np.float32([0.01, 0.01, 0.98])),
        client="hospital-a",
        image_size=32,
    )


@pytest.fixture
def prompt(plain: ClientPrompt, backbone: Any) -> ClientPrompt:
    """The same, with images that are all alike: about every other one is unlike them."""
    images = np.random.default_rng(1).integers(100, 110, (8, 32, 32, 3)).astype(np.uint8)
    features = backbone.features(images).numpy()
    mean, spread = features.mean(0), np.maximum(features.std(0), 1e-3)
    return replace(plain, image_mean=mean, image_spread=spread, novelty_threshold=2.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "mine"
