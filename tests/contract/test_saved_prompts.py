"""A saved prompt predicts as the evaluation did: from its file, on the local page, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from secfpp.cli.app import app
from secfpp.data.federated import FederatedDataset
from secfpp.errors import ConfigError
from secfpp.experiment.results.result_record import result_from, result_record
from secfpp.experiment.results.summary import client_prompts, novelties
from secfpp.models.backbone import Backbone
from secfpp.models.class_contexts import fit_class_contexts
from secfpp.models.prompt_file import load_prompt
from secfpp.page.classifier import Classifier, Upload
from secfpp.runtime.trainer import RunResult, train
from support.method_runs import make

JOINED = ["promptfolio", "fedotp", "fedpha", "pfedprompt"]
"""Methods that predict with a pool, a memory, or a local prompt beside a shared one."""
SIDE = 48
"""Pixels."""


@pytest.fixture(scope="module", params=JOINED)
def result(request: pytest.FixtureRequest, dataset: FederatedDataset, backbone: Backbone) -> RunResult:
    return train(dataset, backbone, make(request.param), method=request.param, seed=0, rounds=2)


def test_accuracies_are_those_of_the_files(
    result: RunResult, dataset: FederatedDataset, backbone: Backbone, tmp_path: Path
) -> None:
    arrays, about = result_record(result)
    again = result_from(result.method, 0, json.loads(json.dumps(about)), arrays)
    prompts = client_prompts(again, backbone.spec, dataset.classes, SIDE)
    own = {client.name: client for client in dataset.clients}
    for place, name in enumerate(result.clients):
        path = tmp_path / f"{name}.safetensors"
        prompts[name].save(path)
        prompt, test = load_prompt(path), dataset.test[own[name].domain]
        histogram = own[name].train.histogram(len(dataset.classes))
        for prior, metric, weights in (("uniform", "own_domain", np.ones_like(histogram)), ("own", "own", histogram)):
            scores = prompt.predict_proba(test.images, backbone=backbone, prior=prior)  # type: ignore[arg-type]
            hits = scores.argmax(1) == test.labels
            of_class = [hits[test.labels == label].mean() for label in range(len(histogram))]
            expected = 100 * np.average(of_class, weights=weights)
            assert result.metrics[metric][place] == pytest.approx(expected), (name, metric)


def test_page_and_command_line_say_what_the_file_says(
    result: RunResult, dataset: FederatedDataset, backbone: Backbone, tmp_path: Path
) -> None:
    name = result.clients[0]
    prompt = client_prompts(result, backbone.spec, dataset.classes, SIDE, novelties(dataset, backbone))[name]
    prompt.save(tmp_path / "a.safetensors")
    images = dataset.test[dataset.domains[0]].images[:6]
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    paths = [tmp_path / f"{i}.png" for i in range(len(images))]
    scores = prompt.predict_proba(images, backbone=backbone, prior="own")
    labels = [prompt.classes[i] for i in scores.argmax(1)]

    answer = Classifier(prompt, backbone).answer([Upload(path.name, path.read_bytes()) for path in paths])
    words = ["predict", "--prompt", str(tmp_path / "a.safetensors"), *map(str, paths), "--json"]
    printed = CliRunner().invoke(app, words)
    assert printed.exit_code == 0, printed.output
    shown = json.loads(printed.stdout)["images"]
    assert [entry.label for entry in answer.images] == [entry["label"] for entry in shown] == labels
    for entry, line, best in zip(answer.images, shown, scores.max(1), strict=True):
        assert entry.probability == pytest.approx(best, abs=1e-5)
        assert line["probability"] == pytest.approx(best, abs=1e-5)


def test_contexts_for_single_classes_are_fitted_unless_patches_are_seen(
    result: RunResult, dataset: FederatedDataset, backbone: Backbone
) -> None:
    prompt = client_prompts(result, backbone.spec, dataset.classes, SIDE)[result.clients[0]]
    images = dataset.clients[0].train.images
    if result.method == "fedotp":
        with pytest.raises(ConfigError, match="no pool over patches of images"):
            fit_class_contexts(prompt, images, backbone, steps=1, made_up=8)
        return
    fitted = fit_class_contexts(prompt, images, backbone, steps=1, made_up=8)
    assert fitted.prompt.shape == (len(dataset.classes), *prompt.prompt.shape) and fitted.pool is None
