from types import SimpleNamespace

import numpy as np
import pytest
import torch

from secfpp.algorithms.base import FederatedAlgorithm, cross_entropy, methods
from secfpp.algorithms.promptfl import PromptFL
from secfpp.algorithms.training import LocalTraining
from secfpp.algorithms.zero_shot import ZeroShot
from secfpp.errors import ConfigError, SecFPPError
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import Ask

BACKBONE = SimpleNamespace(device=torch.device("cpu"))


def client(name, n=20, seed=0):
    generator = torch.Generator().manual_seed(len(name))
    return SimpleNamespace(
        client=name,
        seed=seed,
        backbone=BACKBONE,
        data=SimpleNamespace(train=range(n)),
        features=torch.rand(n, 2, generator=generator),
        labels=torch.arange(n) % 2,
    )


def distance(parameters, features, labels):
    """Squared distance of the parameter to the batch's mean feature, per client."""
    return ((parameters["p"] - features.mean(1)) ** 2).sum(-1)


def test_training_moves_each_client_towards_its_own_data():
    clients = [client("a"), client("bcd")]
    settings = LocalTraining(steps=200, batch=20, lr=0.05)
    trained, losses = settings.fit(clients, {"p": np.zeros((2, 2), np.float32)}, distance, round_=1)
    for c, value in zip(clients, trained["p"], strict=True):
        assert np.allclose(value, c.features.mean(0), atol=0.1)
    assert losses.shape == (2,)


def test_a_client_alone_gives_the_same_as_among_others():
    clients = [client("a"), client("bcd"), client("ef")]
    start = {"p": np.ones((3, 2), np.float32)}
    for settings in (LocalTraining(), LocalTraining(optimizer="sgd", lr=0.1, weight_decay=0.01)):
        together, losses = settings.fit(clients, start, distance, round_=3)
        for i, c in enumerate(clients):
            alone, loss = settings.fit([c], {"p": start["p"][i : i + 1]}, distance, round_=3)
            assert np.allclose(alone["p"][0], together["p"][i], atol=1e-6) and np.isclose(loss[0], losses[i])


def test_sgd_takes_the_textbook_step():
    c = client("a", n=1)
    settings = LocalTraining(steps=1, batch=4, optimizer="sgd", lr=0.25, momentum=0.0)
    trained, _ = settings.fit([c], {"p": np.zeros((1, 2), np.float32)}, distance, round_=1)
    assert np.allclose(trained["p"][0], 0.25 * 2 * c.features[0], atol=1e-6)


def test_a_rate_of_its_own_for_one_parameter():
    def both(parameters, features, labels):
        return distance({"p": parameters["p"] + parameters["q"]}, features, labels)

    start = {name: np.zeros((1, 2), np.float32) for name in "pq"}
    trained, _ = LocalTraining(steps=1).fit([client("a")], start, both, round_=1, rates={"q": 0.0005})
    assert np.allclose(np.abs(trained["p"]), 0.02, rtol=1e-3) and np.allclose(np.abs(trained["q"]), 0.0005, rtol=1e-3)


def test_batches_depend_on_seed_client_and_round_alone():
    draw = LocalTraining(steps=3, batch=5).draws
    first = draw(client("a"), 1)
    assert first.shape == (3, 5) and first.min() >= 0 and first.max() < 20
    assert np.array_equal(first, draw(client("a"), 1))
    for other in (draw(client("b"), 1), draw(client("a"), 2), draw(client("a", seed=1), 1)):
        assert not np.array_equal(first, other)


def test_start_values_are_not_changed_in_place():
    start = {"p": np.zeros((1, 2), np.float32)}
    LocalTraining().fit([client("a")], start, distance, round_=1)
    assert not start["p"].any()


def test_a_loss_that_is_not_finite_names_client_and_remedy():
    def broken(parameters, features, labels):
        return distance(parameters, features, labels) * torch.tensor([1.0, torch.nan])

    with pytest.raises(SecFPPError, match=r"client 'b'.*training\.lr = 0\.02"):
        LocalTraining().fit([client("a"), client("b")], {"p": np.zeros((2, 2), np.float32)}, broken, round_=1)


def test_all_bad_settings_at_once():
    with pytest.raises(ConfigError) as caught:
        LocalTraining(steps=0, batch=0, optimizer="lion", lr=-1, momentum=1.0, weight_decay=-1)
    assert len(caught.value.problems) == 6


def test_logit_adjustment_shifts_the_logits_of_the_loss():
    backbone = SimpleNamespace(logit_scale=10.0, class_features=lambda prompts, tokens: torch.eye(3)[None])
    contexts = [SimpleNamespace(backbone=backbone, tokens=None)]
    features, labels = torch.eye(3)[None, :2], torch.tensor([[0, 2]])
    shift = torch.log(torch.tensor([[0.7, 0.2, 0.1]]))
    loss = cross_entropy(contexts, torch.zeros(1, 1, 1), features, labels, shift)
    logits = 10 * features[0] + shift
    assert torch.allclose(loss[0], torch.nn.functional.cross_entropy(logits, labels[0]))


def test_methods_are_found_and_names_are_unique():
    assert {"zero_shot", "random_prompt", "coop_local", "promptfl", "secfpp"} <= set(methods())
    assert all(methods()[name].__doc__ for name in methods())

    class Twin(PromptFL):
        name = "promptfl"

    methods.cache_clear()
    try:
        with pytest.raises(ConfigError, match="two methods are named 'promptfl'"):
            methods()
    finally:
        del Twin.name  # a class without a name of its own is no method
        methods.cache_clear()
        assert methods()["promptfl"] is PromptFL


def test_a_floor_asks_nobody_and_refuses_to_train():
    floor = ZeroShot()
    program = floor.round(floor.server_state(), Cohort({"a": 1}, 1, 0))
    with pytest.raises(StopIteration):
        next(program)
    with pytest.raises(ConfigError, match="does not train"):
        floor.local_update([], [], 1)


def test_a_round_begins_by_asking_everybody_to_train():
    program = PromptFL().round(PromptFL().server_state(), Cohort({"b": 2, "a": 1}, 4, 0))
    ask = next(program)
    assert isinstance(ask, Ask) and ask.step == "method.train"
    assert {client: int(payload["round"]) for client, payload in ask.payloads.items()} == {"a": 4, "b": 4}
    assert issubclass(PromptFL, FederatedAlgorithm)
