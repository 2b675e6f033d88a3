from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from secfpp.algorithms.base import ServerState
from secfpp.data.federated import ClientData, Split
from secfpp.models.scoring import Predictor, smoothed_log_prior
from secfpp.protocol.program import ClientState
from secfpp.runtime import judging
from secfpp.runtime.checkpoint import TrainingState

N_CLASSES, CLIENTS = 3, 11
AXES = torch.eye(N_CLASSES)


class Axes:
    """Images are single pixels whose red value names a class; a prompt [1, 3] turns the directions of classes."""

    device, logit_scale = torch.device("cpu"), 10.0

    def __init__(self) -> None:
        self.encoded, self.looked_at = 0, 0

    def features(self, images: np.ndarray) -> torch.Tensor:
        self.looked_at += 1
        return AXES[torch.from_numpy(images[:, 0, 0, 0].astype(np.int64))]

    def class_features(self, prompts: torch.Tensor, tokens: object) -> torch.Tensor:
        self.encoded += len(prompts)
        return torch.nn.functional.normalize(AXES[None] + 2 * prompts * AXES.roll(1, 1), dim=-1)


def images(rng: np.random.Generator, count: int) -> Split:
    shown = np.zeros((count, 1, 1, 3), np.uint8)
    shown[:, 0, 0, 0] = rng.integers(N_CLASSES, size=count)
    return Split(shown, rng.integers(N_CLASSES, size=count))


class World:
    """Clients of two domains with prompts of their own, and a method that predicts with these alone."""

    def __init__(self) -> None:
        rng, self.backbone = np.random.default_rng(0), Axes()
        self.method = SimpleNamespace(predictor=Predictor(), visuals=lambda contexts, states, texts: None)
        self.contexts = [self._context(rng, i) for i in range(CLIENTS)]
        self.states = {context.client: ClientState() for context in self.contexts}
        self.test = {"d": images(rng, 30), "e": images(rng, 20)}
        self.prompts = rng.standard_normal((CLIENTS, 1, 1, N_CLASSES)).astype(np.float32)

    def _context(self, rng: np.random.Generator, i: int) -> SimpleNamespace:
        data = ClientData(f"c{i:02d}", "de"[i % 2], images(rng, 0), images(rng, 5))
        counts = np.eye(N_CLASSES, dtype=np.int64)[i // 2] if i < 6 else np.zeros(N_CLASSES, np.int64)
        return SimpleNamespace(
            client=data.name,
            data=data,
            backbone=self.backbone,
            tokens=SimpleNamespace(names=("a", "b", "c")),
            histogram=counts,
            validation_features=self.backbone.features(data.validation.images),
            log_prior=lambda smoothing: smoothed_log_prior(counts, smoothing),
        )

    def judged(self) -> judging.Judged:
        return judging.judged(self.method, self.contexts, self.states, self.prompts, self.test)


def test_some_clients_at_a_time_give_the_bits_of_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    whole = world.judged()
    assert "neighbour" in whole.metrics  # which looks at clients of other parts
    monkeypatch.setattr(judging, "_PART", 4)
    before = world.backbone.looked_at
    parts = world.judged()
    assert world.backbone.looked_at - before == 2  # the images of each domain once, not once for each part
    assert np.array_equal(parts.validation, whole.validation)
    for name, values in whole.metrics.items():
        assert np.array_equal(parts.metrics[name], values, equal_nan=True), name


def test_only_clients_that_chose_an_earlier_prompt_are_measured_again() -> None:
    world = World()
    last, chosen, rng = world.judged().metrics, world.prompts.copy(), np.random.default_rng(1)
    chosen[[2, 7]] = rng.standard_normal((2, 1, 1, N_CLASSES))
    state = TrainingState(ServerState(), world.states, chosen, np.zeros(CLIENTS))
    world.backbone.encoded = 0
    found = judging.selected(world.method, world.contexts, state, world.prompts, world.test, last)
    assert world.backbone.encoded == 2
    world.prompts = chosen
    whole = world.judged().metrics
    assert found.keys() == {f"{name}_selected" for name in whole if not name.endswith("_no_prior")}
    for name, values in found.items():
        assert np.array_equal(values, whole[name.removesuffix("_selected")], equal_nan=True), name
    assert not np.array_equal(found["own_domain_selected"], last["own_domain"])
    state.chosen, world.backbone.encoded = chosen, 0
    assert judging.selected(world.method, world.contexts, state, chosen, world.test, whole).keys() == found.keys()
    assert world.backbone.encoded == 0
