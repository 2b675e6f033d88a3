from __future__ import annotations

import json
from typing import Any

import pytest

from secfpp.errors import DataError
from secfpp.experiment.samples import Samples, sample_images
from support_experiment import toy_dataset


def test_samples_show_each_domain_and_a_class_it_lacks() -> None:
    dataset = toy_dataset()
    dataset.test["domain 1"].labels[dataset.test["domain 1"].labels == 2] = 1
    samples = sample_images(dataset, seed=7)
    assert samples.names == samples.classes == ("cat", "dog", "<b>")
    assert samples.labels == (0, 1, 2)
    assert samples.seed == 7
    assert all(samples.rows["domain 0"])
    assert samples.rows["domain 1"][2] is None


@pytest.mark.parametrize("seed", [None, 3])
def test_samples_survive_json(seed: int | None) -> None:
    dataset = toy_dataset()
    dataset.test["domain 1"].labels[:] = 1
    samples = sample_images(dataset, seed)
    assert Samples.from_json(json.loads(json.dumps(samples.to_json()))) == samples


def stored(**changes: Any) -> dict[str, Any]:
    return {**sample_images(toy_dataset()).to_json(), **changes}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "no table"),
        ({}, "no table"),
        (stored(rows=[]), "no table"),
        (stored(names="abc"), "class names"),
        (stored(names=[1, 2, 3]), "class names"),
        (stored(labels=[0, 1, 3]), "positions in the 3"),
        (stored(labels=[0, 1, -1]), "positions"),
        (stored(labels=[True, 1, 2]), "positions"),
        (stored(labels=None), "positions"),
        (stored(seed="3"), "seed = '3'"),
        (stored(rows={"a": [None]}), "'a' has not one"),
        (stored(rows={"a": "xyz"}), "'a' has not one"),
        (stored(rows={"a": [None, None, "https://example.org/cat.png"]}), "embedded PNG"),
        (stored(rows={"a": [None, None, 4]}), "embedded PNG"),
    ],
)
def test_damaged_samples_are_refused(content: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Samples.from_json(content)
