from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secfpp.data.federated import Split
from secfpp.models.scoring import Predictor
from secfpp.runtime.evaluation import class_features, example_classes, example_images, examples

AXES = torch.eye(3)


class Toy:
    """Images are 1 x 1 pixels whose red value names a class; a prompt [1, 3] is added to each class direction."""

    device = torch.device("cpu")
    logit_scale = 10.0

    def features(self, images: np.ndarray) -> torch.Tensor:
        return AXES[torch.from_numpy(images[:, 0, 0, 0].astype(np.int64))]

    def class_features(self, prompts: torch.Tensor, tokens: object) -> torch.Tensor:
        return torch.nn.functional.normalize(AXES[None] + prompts, dim=-1)


def split(shown: list[int], labels: list[int]) -> Split:
    images = np.zeros((len(shown), 1, 1, 3), np.uint8)
    images[:, 0, 0, 0] = shown
    return Split(images, np.array(labels, np.int64))


def client(name: str, domain: str) -> Any:
    tokens = SimpleNamespace(names=("a", "b", "c"))
    return SimpleNamespace(client=name, data=SimpleNamespace(domain=domain), backbone=Toy(), tokens=tokens)


@given(st.integers(1, 500), st.integers(2, 12))
def test_example_classes_are_spread_over_all(n_classes: int, columns: int) -> None:
    chosen = example_classes(n_classes, columns)
    assert len(chosen) == min(columns, n_classes)
    assert chosen[0] == 0 and chosen[-1] == n_classes - 1
    gaps = np.diff(chosen)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


def test_example_images_are_the_first_of_their_class() -> None:
    assert example_images(split([0] * 5, [2, 0, 2, 0, 0]), 3) == [1, None, 0]


def test_the_first_client_of_a_domain_classifies_its_images() -> None:
    clients = [client("x", "d"), client("y", "e"), client("z", "e")]
    test = {"d": split([0, 1, 1], [0, 0, 2]), "e": split([2, 2], [2, 1]), "empty": split([0], [0])}
    prompts = np.zeros((3, 1, 3), np.float32)
    found = examples(clients, class_features(clients, prompts), test, Predictor())
    assert [(e.domain, e.client, e.image, e.label, e.predicted) for e in found] == [
        ("d", "x", 0, 0, 0),
        ("d", "x", 2, 2, 1),
        ("e", "y", 1, 1, 2),
        ("e", "y", 0, 2, 2),
    ]
    expected = float(np.exp(10) / (np.exp(10) + 2))
    assert [e.probability for e in found] == pytest.approx([expected] * 4)


def test_predictions_are_those_of_the_clients_own_prompt() -> None:
    clients = [client("x", "d"), client("y", "e")]
    away = np.zeros((2, 1, 3), np.float32)
    away[1, 0] = [-2, 0, 0]  # turns class 0 round
    same = split([0], [0])
    of_d, of_e = examples(clients, class_features(clients, away), {"d": same, "e": same}, Predictor())
    assert (of_d.predicted, of_d.client) == (0, "x")
    assert of_e.predicted != 0
    assert examples(clients, class_features(clients, away), {"d": split([], [])}, Predictor()) == ()
