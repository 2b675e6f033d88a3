"""Training and attacks with the model on another device than where tensors are made that name none.

A stand-in for a GPU, see `support.other_device`: what PyTorch would refuse there is refused, and bits stay as they are.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from secfpp.algorithms.privacy import Privacy
from secfpp.algorithms.training import LocalTraining
from secfpp.attacks.finished import Left
from secfpp.attacks.game import Game, halves
from secfpp.attacks.shadows import Pool, confidences, take_steps
from secfpp.data.federated import FederatedDataset
from secfpp.experiment.audit.make import Audit, run_audit
from secfpp.experiment.results.run_directory import open_run_directory
from secfpp.experiment.run.training import load_dataset
from secfpp.experiment.spec.config import parse_config
from secfpp.models.backbone import Backbone, load_backbone
from secfpp.runtime.contexts import make_contexts
from secfpp.runtime.trainer import RunResult, train
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.seeding import derive
from support.method_runs import ALL, make
from support.other_device import MixedDevicesError, elsewhere


@pytest.fixture
def there() -> AbstractContextManager[None]:
    """The stand-in, to be entered once a model is loaded, which PyTorch does on the CPU."""
    return elsewhere()


@pytest.fixture
def fresh() -> Backbone:
    """A model that has laid out no class names yet."""
    return load_backbone("mini", device="cpu").keeping_nothing()


def test_what_a_gpu_refuses_is_refused(there: AbstractContextManager[None]) -> None:
    model = torch.ones(3)  # made before: there
    with there:
        made, named = torch.zeros(3), torch.zeros(3, device="cpu")
        read = torch.from_numpy(np.ones(3, np.float32))
        for odd in (made, read, made[:2].sum().expand(3), made.cpu(), model.cpu()):
            with pytest.raises(MixedDevicesError, match="add"):
                _ = odd.add(model)
            assert odd.to("cpu").add(model).shape == (3,)
            assert odd.to(model.device).add(named).shape == (3,)
        for view in (model, named, model * 2, made.to(model)):
            with pytest.raises(MixedDevicesError, match="NumPy"):
                view.numpy()
        assert made.numpy().tolist() == [0, 0, 0] and model.cpu().numpy().tolist() == [1, 1, 1]
        assert model[torch.tensor([0, 2])].tolist() == [1, 1] and (model + torch.tensor(1.0)).tolist() == [2, 2, 2]
        with pytest.raises(MixedDevicesError, match="stack"):
            torch.stack([made, model])


def run(dataset: FederatedDataset, backbone: Backbone, algorithm: Any, name: str) -> RunResult:
    return train(dataset, backbone, algorithm, method=name, seed=0, rounds=2)


@pytest.mark.parametrize("name", ALL)
def test_methods_train_and_predict_there_with_the_same_bits(
    name: str, dataset: FederatedDataset, backbone: Backbone, fresh: Backbone, there: AbstractContextManager[None]
) -> None:
    results = []
    for place, model in ((nullcontext(), backbone), (there, fresh)):
        with place:
            results.append(run(dataset, model, make(name), name))
    here, other = results
    assert np.array_equal(here.prompts, other.prompts)
    assert all(np.array_equal(here.metrics[key], other.metrics[key]) for key in here.metrics)


@pytest.mark.parametrize("mechanism", ["dpsgd", "central"])
def test_steps_under_differential_privacy_are_taken_there(
    mechanism: Any,
    dataset: FederatedDataset,
    fresh: Backbone,
    there: AbstractContextManager[None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECFPP_LEDGERS", str(tmp_path))
    step, mean = LocalTraining(steps=1, batch=8, optimizer="sgd", momentum=0.0), PlainMean(clip=20.0, bits=32)
    privacy = Privacy(mechanism=mechanism, epsilon=60.0, releases=3, clip=2.0)
    algorithm = make("promptfl", training=step, aggregator=mean, privacy=privacy)
    with there:
        found = run(dataset, fresh, algorithm, "promptfl")
    assert np.isfinite(found.prompts).all()


def test_shadow_prompts_are_trained_and_asked_there(
    dataset: FederatedDataset, fresh: Backbone, there: AbstractContextManager[None]
) -> None:
    algorithm, game = make("promptfl"), Game.deal(dataset, 0)
    found = []
    for place, model in ((nullcontext(), load_backbone("mini", device="cpu").keeping_nothing()), (there, fresh)):
        with place:
            (name, context), *_ = make_contexts(game.dataset, model, algorithm, 0).items()
            images = game.pools[name]
            pool = Pool(context, images, model.features(images.images), halves(len(images), 4, derive(0, name)))
            shadows = list(pool.shadows())
            states = [algorithm.client_state(shadow) for shadow in shadows]
            after = take_steps(algorithm, shadows, states, [("method.train", {"round": np.array(1)})])
            prompts = np.stack([state["prompt"] for state in after])
            found.append((prompts, confidences(context, prompts, pool.features, pool.labels)))
    assert all(np.array_equal(*pair) for pair in zip(*found, strict=True))


@pytest.mark.parametrize("name", ["coop_local", "secfpp"])
def test_what_a_run_left_is_attacked_there(
    name: str, dataset: FederatedDataset, backbone: Backbone, fresh: Backbone, there: AbstractContextManager[None]
) -> None:
    algorithm = make(name, class_prior=True)
    result = run(dataset, backbone, algorithm, name)
    with there:
        contexts = make_contexts(dataset, fresh, algorithm, 0)
        left = Left(result, algorithm, {client: contexts[client] for client in result.clients}, dataset.test)
        scored = list(left.scored(0))
    assert scored
    assert all(np.isfinite(one.scores).all() for _, _, found in scored for one in found)


def test_an_audit_is_made_there(
    fresh: Backbone, there: AbstractContextManager[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secfpp.models.backbone.load_backbone", lambda name, **how: fresh)
    data: dict[str, Any] = {
        "name": "icons",
        "shots": 6,
        "validation_shots": 2,
        "test_shots": 1,
        "clients_per_domain": 4,
        "alpha": 1.0,
    }
    data["domains"] = ["sketch", "pixel"]
    method = {"name": "secfpp", "effort": 1.0, "training": {"steps": 1, "batch": 8}}
    config = parse_config({"rounds": 2, "data": data, "backbone": {"device": "cpu"}, "method": method})
    wanted = Audit(("promptfl", "secfpp"), shadows=4, victims=4, shadow_dtype="float32")
    load_dataset(config, 0)  # pictures are drawn once, on the CPU, and kept
    with open_run_directory(tmp_path / "audit", "audit") as directory, there:
        summary = run_audit(config, wanted, directory, lambda what, pace: None)
    assert {row["target"] for row in summary["rows"]} == {"promptfl", "secfpp"}
    assert (summary["versions"]["device"], summary["versions"]["precision"]) == ("cpu", "float32")


def test_half_precision_moves_accuracy_less_than_another_seed_does(dataset: FederatedDataset) -> None:
    """The mean over clients of a whole run, in percent; the same seeds in both precisions."""
    exact, rough = (load_backbone("mini", device="cpu", dtype=dtype) for dtype in ("float32", "bfloat16"))
    algorithm = make("promptfl")
    means = np.array(
        [
            [
                train(dataset, model, algorithm, method="promptfl", seed=seed, rounds=6).metrics["own"].mean()
                for model in (exact, rough)
            ]
            for seed in range(4)
        ]
    )
    between_seeds = means[:, 0].std(ddof=1)
    assert abs((means[:, 1] - means[:, 0]).mean()) < between_seeds
