from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from secfpp.errors import DataError
from secfpp.experiment.report.samples import Guess, Samples, guesses, sample_images
from secfpp.runtime.evaluation import Example
from support_experiment import fake_result, toy_dataset


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


def seen(method: str, seed: int, *guesses: tuple[str, int, int]) -> Any:
    """A result whose examples are ``(domain, label, predicted)``."""
    examples = tuple(Example(domain, f"{domain}/0", 9, label, got, 0.75) for domain, label, got in guesses)
    return replace(fake_result(method, seed), examples=examples)


def test_guesses_stand_below_their_images() -> None:
    samples = sample_images(toy_dataset())
    found = guesses(samples, [seen("a", 4, ("domain 0", 2, 0), ("domain 0", 1, 1)), seen("b", 4)])
    assert found == {"domain 0": {"a": (None, Guess("dog", True, 0.75), Guess("cat", False, 0.75))}, "domain 1": {}}


def test_guesses_about_images_of_other_seeds_are_left_out() -> None:
    one, two = seen("a", 1, ("domain 0", 0, 0)), seen("a", 2, ("domain 0", 0, 1))
    dataset = toy_dataset()
    for seed, right in ((1, True), (2, False), (None, True)):
        (row,) = guesses(sample_images(dataset, seed), [two, one])["domain 0"].values()
        assert row[0] is not None and row[0].right is right
    assert guesses(sample_images(dataset, 3), [one, two]) == {"domain 0": {}, "domain 1": {}}
    assert guesses(sample_images(dataset), []) == {"domain 0": {}, "domain 1": {}}


def test_guesses_of_classes_or_images_that_are_not_there_are_left_out() -> None:
    dataset = toy_dataset()
    dataset.test["domain 0"].labels[:] = 1
    found = guesses(sample_images(dataset), [seen("a", 0, ("domain 0", 0, 0), ("domain 1", 0, 7), ("moon", 0, 0))])
    assert found == {"domain 0": {}, "domain 1": {}}
