"""A run on a model of open_clip, and its prompts on the same model in the format of Hugging Face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from secfpp.cli.app import app
from secfpp.models.backbone import load_backbone
from secfpp.models.checkpoint import load_checkpoint
from secfpp.models.prompt_file import load_prompt
from support import open_clip_itself as itself

pytestmark = itself.needs_open_clip
CONFIG = """
rounds = 1
[data]
name = "icons"
shots = 2
clients_per_domain = 1
[backbone]
name = "model"
device = "cpu"
[method]
name = "promptfl"
"""
TEXT = {"vocab_size": 49_408, "context_length": 77}
MODELS = {
    "vision transformer": itself.model_cfg({"image_size": 48}, TEXT, quick_gelu=True),
    "resnet": itself.model_cfg(text=TEXT) | {"vision_cfg": itself.RESNET},
}


@pytest.mark.parametrize("kind", MODELS)
def test_prompts_are_learned_for_a_model_of_open_clip(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.toml").write_text(CONFIG)
    itself.save(itself.made(MODELS[kind]), MODELS[kind], Path("model"), words=False)
    result = CliRunner().invoke(app, ["run", "c.toml", "--out", "run"])
    assert result.exit_code == 0, result.output
    path = min(Path("run/prompts/promptfl/0").glob("*.safetensors"))
    prompt, ours = load_prompt(path), load_backbone("model", device="cpu")
    assert prompt.backbone_digest == ours.spec.digest
    image = np.random.default_rng(0).integers(0, 256, (1, 48, 48, 3), dtype=np.uint8)
    scores = prompt.predict_proba(image, backbone=ours)
    assert np.isfinite(scores).all() and np.ptp(scores) > 0
    if kind == "resnet":
        return
    loaded = load_checkpoint("model")
    for part in (loaded.model, loaded.tokenizer, loaded.images):
        part.save_pretrained("hf")
    same = prompt.predict_proba(image, backbone=load_backbone("hf", device="cpu"))
    np.testing.assert_allclose(same, scores, atol=1e-5)
