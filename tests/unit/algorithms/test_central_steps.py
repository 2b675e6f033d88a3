"""Steps under a trusted server's noise: what a round costs, how far an image moves a sum, what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from secfpp.algorithms.central_steps import SLACK, as_published, planned, problems, server_noise, stepped
from secfpp.algorithms.privacy import Privacy
from secfpp.algorithms.training import LocalTraining
from secfpp.errors import ConfigError
from secfpp.privacy.accounting import epsilon
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.secure_mean import SecureMean

ONE_STEP = LocalTraining(steps=1, optimizer="sgd", momentum=0.0, lr=1.0)
PARTS = ("shared prompt", "left factor", "right factor")


@pytest.mark.parametrize("parts", [("prompt",), PARTS])
@pytest.mark.parametrize(("target", "rounds"), [(8.0, 20), (2.0, 5)])
def test_all_rounds_cost_what_was_asked_for(parts, target, rounds):
    event = planned(Privacy(mechanism="central", epsilon=target, releases=rounds, clip=3.0), parts)
    assert len(event.events) == len(parts) and event.unit == "record"
    found = epsilon([event] * rounds, 1e-5)
    assert found == pytest.approx(target, rel=1e-3) and found <= target
    assert {one.norm for one in event.events} == {3.0 * (1 + SLACK)}


@pytest.mark.parametrize(("printed", "least", "most"), [(0.1, 9, 65), (0.4, 60, 160)])
def test_the_published_noise_costs_far_more_than_its_formula_says(printed, least, most):
    for rounds in (20, 100):  # the formula takes rounds into account; what it forgets are constants
        event = as_published(Privacy(mechanism="published", epsilon=printed, releases=rounds), PARTS, 32)
        assert least < epsilon([event] * rounds, 1e-5) < most
    (one, *_) = event.events
    assert one.sd == pytest.approx(math.sqrt(100 * math.log(1e5)) / printed * 10 / 32)
    assert one.norm == pytest.approx(20, rel=2 * SLACK)  # a shortened mean of other images lies up to two clips away


def test_an_image_moves_the_sum_no_further_than_accounted_for():
    mean, lr, clip, images = PlainMean(clip=20.0, bits=24), 0.5, 1.0, 40
    rng = np.random.default_rng(0)
    base = rng.standard_normal((4, 32)).astype(np.float32)
    gradients = rng.standard_normal((images, 4, 32))
    gradients *= clip / np.linalg.norm(gradients, axis=(1, 2), keepdims=True)
    whole = stepped(base, gradients.sum(0) / images, lr, images, clip, mean)
    for own in range(images):
        without = stepped(base, (gradients.sum(0) - gradients[own]) / images, lr, images, clip, mean)
        assert np.linalg.norm(images * (whole - without)) <= lr * clip * (1 + SLACK)
    assert np.abs(whole - (base - lr * gradients.sum(0) / images)).max() <= 2.0**-25


def test_too_coarse_a_rounding_is_refused_with_what_would_do():
    base, gradient = np.zeros((4, 128), np.float32), np.zeros((4, 128))
    with pytest.raises(ConfigError, match=r"aggregator\.bits = 16: at least (\d+)") as caught:
        stepped(base, gradient, 0.1, 300, 1.0, PlainMean(bits=16))
    enough = int(caught.value.problems[0].allowed.split()[2].strip(","))
    stepped(base, gradient, 0.1, 300, 1.0, PlainMean(bits=enough))
    with pytest.raises(ConfigError):
        stepped(base, gradient, 0.1, 300, 1.0, PlainMean(bits=enough - 1))


def test_the_servers_noise_is_that_of_the_event_for_a_step():
    event = planned(Privacy(mechanism="central", clip=2.0, releases=20))
    found = server_noise(event, 0.3)((300, 300))
    assert float(found.std()) == pytest.approx(0.3 * event.events[0].sd, rel=0.02)


@pytest.mark.parametrize(
    ("training", "aggregator", "key"),
    [
        (LocalTraining(steps=2, optimizer="sgd", momentum=0.0), PlainMean(), "training.steps"),
        (LocalTraining(steps=1, momentum=0.0), PlainMean(), "training.optimizer"),
        (LocalTraining(steps=1, optimizer="sgd"), PlainMean(), "training.momentum"),
        (LocalTraining(steps=1, optimizer="sgd", momentum=0.0, weight_decay=0.1), PlainMean(), "training.weight_decay"),
        (ONE_STEP, SecureMean(), "aggregator.kind"),
        (LocalTraining(steps=1, optimizer="sgd", momentum=0.0, lr=3.0), PlainMean(clip=2.5), "aggregator.clip"),
    ],
)
def test_settings_with_which_it_cannot_work_are_named(training, aggregator, key):
    found = problems(Privacy(mechanism="central"), training, aggregator)
    assert [problem.key for problem in found] == [key]
    assert "central" in found[0].allowed or "privacy.clip" in found[0].allowed
    assert problems(Privacy(), training, aggregator) == problems(Privacy(mechanism="central"), ONE_STEP, PlainMean())
