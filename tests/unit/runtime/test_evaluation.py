from types import SimpleNamespace

import numpy as np
import pytest
import torch

from secfpp.algorithms.base import ServerState
from secfpp.data.federated import ClientData, Split
from secfpp.models.scoring import Predictor, class_accuracies, cosine_logits, smoothed_log_prior
from secfpp.runtime import evaluation
from secfpp.runtime.checkpoint import TrainingState
from secfpp.runtime.evaluation import class_features, measure, neighbours, validation_accuracy
from secfpp.runtime.trainer import _choose

N_CLASSES = 3
AXES = torch.eye(N_CLASSES)


class Toy:
    """Images are 1 x 1 pixels whose red value names a class; a prompt [1, 3] is added to each class direction."""

    device = torch.device("cpu")
    logit_scale = 10.0

    def __init__(self):
        self.encoded = []

    def features(self, images):
        return AXES[torch.from_numpy(images[:, 0, 0, 0].astype(np.int64))]

    def class_features(self, prompts, tokens):
        self.encoded.append(len(prompts))
        return torch.nn.functional.normalize(AXES[None] + prompts, dim=-1)


def split(shown, labels):
    images = np.zeros((len(shown), 1, 1, 3), np.uint8)
    images[:, 0, 0, 0] = shown
    return Split(images, np.array(labels, np.int64))


def context(name, domain, histogram, backbone, validation=((0, 1), (0, 0))):
    data = ClientData(name, domain, split([], []), split(*validation))
    counts = np.array(histogram)
    return SimpleNamespace(
        client=name,
        data=data,
        backbone=backbone,
        tokens=SimpleNamespace(names=("a", "b", "c")),
        histogram=counts,
        validation_features=backbone.features(data.validation.images),
        log_prior=lambda smoothing: smoothed_log_prior(counts, smoothing),
    )


@pytest.fixture
def setting():
    backbone = Toy()
    clients = [context("x", "d", [3, 1, 0], backbone), context("y", "e", [0, 0, 1], backbone)]
    test = {"d": split([0, 0, 1, 2], [0, 0, 1, 1]), "e": split([0, 1, 2, 2], [0, 0, 1, 2])}
    return backbone, clients, test


def test_metrics_follow_their_definitions(setting):
    _, clients, test = setting
    figures = measure(
        clients, class_features(clients, np.zeros((2, 1, 3), np.float32)), test, Predictor(class_prior=False)
    )
    # domain d: class 0 right twice, class 1 right once of two, class 2 absent; e: class 0 1/2, class 1 0/1, class 2 1/1
    assert figures["own"].tolist() == pytest.approx([(3 * 100 + 1 * 50) / 4, 100])
    assert figures["own_domain"].tolist() == pytest.approx([75, 50])
    assert figures["other_domains"].tolist() == pytest.approx([50, 75])
    assert np.array_equal(figures["own"], figures["own_no_prior"])


def test_the_prior_moves_own_and_nothing_else(setting):
    _, clients, test = setting
    flat = 40 * np.ones((2, 1, 3), np.float32)  # nearly equal directions: the prior decides
    plain, shifted = (
        measure(clients, class_features(clients, flat), test, Predictor(prior, 1e-6)) for prior in (False, True)
    )
    assert shifted["own"][0] == pytest.approx(75)  # always answers class 0, which it holds three times of four
    assert shifted["own"][1] == pytest.approx(100)
    for name in ("own_domain", "other_domains", "own_no_prior"):
        assert np.array_equal(plain[name], shifted[name])
    assert np.array_equal(plain["own"], plain["own_no_prior"])


def test_equal_prompts_are_encoded_once(setting):
    backbone, clients, _ = setting
    features = class_features(clients * 10, np.zeros((20, 1, 3), np.float32))
    assert features.shape == (20, 1, 3, 3) and backbone.encoded == [1]
    different = np.arange(20, dtype=np.float32)[:, None, None] * np.array([1, 0, 0], np.float32)
    features = class_features(clients * 10, different)
    assert sum(backbone.encoded[1:]) == 20
    assert torch.allclose(features[7], torch.nn.functional.normalize(AXES + torch.from_numpy(different[7]), dim=-1))


def test_a_single_domain_has_no_other(setting):
    _, clients, test = setting
    figures = measure(
        clients[:1], class_features(clients[:1], np.zeros((1, 1, 3), np.float32)), {"d": test["d"]}, Predictor()
    )
    assert np.isnan(figures["other_domains"][0]) and figures["own_domain"][0] == 75


def test_validation_is_each_clients_own(setting):
    backbone, clients, _ = setting
    empty = context("z", "d", [1, 1, 1], backbone, validation=((), ()))
    accuracy = validation_accuracy(
        [*clients, empty],
        class_features(clients, np.zeros((3, 1, 3), np.float32)),
        Predictor(class_prior=False),
    )
    assert accuracy[:2].tolist() == [50, 50] and np.isnan(accuracy[2])


def test_validation_looks_at_clients_with_as_many_images_side_by_side(monkeypatch):
    backbone, rng = Toy(), np.random.default_rng(0)
    some = [
        context(f"c{i}", "d", [i % 3, 1, 1], backbone, (rng.integers(3, size=n), rng.integers(3, size=n)))
        for i, n in enumerate([4, 2, 0, 4] * 10)
    ]
    texts = class_features(some, rng.standard_normal((40, 1, 3)).astype(np.float32))
    single = [validation_accuracy([one], texts[i : i + 1], Predictor())[0] for i, one in enumerate(some)]
    calls, given = [], evaluation.client_logits
    monkeypatch.setattr(evaluation, "client_logits", lambda c, *rest: calls.append(len(c)) or given(c, *rest))
    assert np.array_equal(validation_accuracy(some, texts, Predictor()), single, equal_nan=True)
    assert sorted(calls) == [10, 20] and len(set(single)) > 3


def test_selection_keeps_each_clients_best_round():
    rounds = [np.full((3, 1), float(r)) for r in range(4)]
    state = TrainingState(ServerState(), {}, rounds[0].copy(), np.full(3, -np.inf))
    for accuracy, prompts in zip(([50, 70, np.nan], [60, 60, np.nan], [60, 10, np.nan]), rounds[1:], strict=True):
        _choose(state, prompts, np.array(accuracy))
    assert state.chosen[:, 0].tolist() == [3, 1, 3]
    assert state.best[:2].tolist() == [60, 70]


def test_scoring_pieces():
    assert np.allclose(np.exp(smoothed_log_prior(np.array([1, 0, 0]), 1.0)), [0.5, 0.25, 0.25])
    logits = cosine_logits(AXES, AXES[None], 5.0)
    assert logits.shape == (1, 3, 3) and logits[0, 1].tolist() == [0, 5, 0]
    accuracy = class_accuracies(logits, torch.tensor([0, 1, 1]), 3)
    assert accuracy[0, :2].tolist() == [1, 0.5] and torch.isnan(accuracy[0, 2])


def test_neighbours_are_the_other_clients_classes_where_no_class_is_shared():
    backbone = Toy()
    clients = [context("x", "d", [3, 0, 0], backbone), context("y", "d", [0, 1, 4], backbone)]
    test = {"d": split([0, 0, 1, 2], [0, 0, 1, 1])}
    figures = measure(clients, class_features(clients, np.zeros((2, 1, 3), np.float32)), test, Predictor())
    # class 0 right twice, class 1 right once of two, class 2 without a test image
    assert figures["neighbour"].tolist() == pytest.approx([50, 100])
    assert np.array_equal(figures["neighbour"], figures["neighbour_no_prior"])


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([("d", [1, 1, 0]), ("d", [0, 1, 1])], []),
        ([("d", [1, 0, 0]), ("e", [0, 1, 0])], []),
        ([("d", [1, 0, 0]), ("d", [0, 0, 2]), ("e", [1, 1, 1])], [[0, 0, 1], [1, 0, 0], [0, 0, 0]]),
    ],
)
def test_only_clients_of_a_domain_that_share_no_class_have_neighbours(rows, found):
    clients = [context(str(i), domain, histogram, Toy()) for i, (domain, histogram) in enumerate(rows)]
    assert [own.tolist() for own in neighbours(clients)] == found


def test_clients_of_one_prompt_are_scored_once_and_measured_each_by_its_own_classes(monkeypatch):
    backbone = Toy()
    some = [context(f"c{i}", "de"[i % 2], [i % 3, 1, i % 2], backbone) for i in range(12)]
    test = {"d": split([0, 0, 1, 2], [0, 0, 1, 1]), "e": split([0, 1, 2, 2], [0, 0, 1, 2])}
    prompts = np.array([[[0.0, 0, 0]], [[0.5, 0, 2.0]]], np.float32)[[0, 1, 1, 0] * 3]
    texts, scored = class_features(some, prompts), []
    single = [measure([one], texts[i : i + 1], test, Predictor()) for i, one in enumerate(some)]
    given = evaluation.client_logits
    monkeypatch.setattr(evaluation, "client_logits", lambda c, *rest: scored.append(len(c)) or given(c, *rest))
    together = measure(some, texts, test, Predictor())
    assert scored == [2, 2]  # two prompts, on the images of each domain
    for name, values in together.items():
        assert np.array_equal(values, [own[name][0] for own in single], equal_nan=True), name
    assert len(set(together["own"])) > 2
