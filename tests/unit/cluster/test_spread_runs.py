"""A run whose clients are spread over processes ends with the bits and costs of one in a single process."""

from __future__ import annotations

import numpy as np
import pytest

from secfpp.algorithms.privacy import Privacy
from secfpp.cluster.clients import Clients, Failure, Model
from secfpp.cluster.driver import spread
from secfpp.cluster.engine import RayEngine, settings_for_ray
from secfpp.data.federated import hold_out
from secfpp.errors import ConfigError, SecFPPError
from secfpp.experiment.spec.config import BackboneSettings
from secfpp.protocol.transcript import Transcript
from secfpp.runtime.trainer import train
from support.cluster_processes import LocalEngine
from support.method_runs import TRAINED, make
from support.spread_runs import assert_same, run
from support.stopping import stopped


def test_chunks_are_those_of_one_process_and_neighbours_stay_together():
    clients = [f"c{n}" for n in range(7)]
    assert spread(clients[::-1], (), 3, 9) == [(("c0", "c1", "c2"),), (("c3", "c4", "c5"),), (("c6",),)]
    assert spread(clients, (), 3, 2) == [(("c0", "c1", "c2"),), (("c3", "c4", "c5"), ("c6",))]
    assert spread(clients, ("a",), 10, 5) == [(tuple(clients),), (("a",),)]
    assert len(spread([f"c{n}" for n in range(100)], (), 1, 4)) == 4  # never one for each client


@pytest.mark.parametrize("name", TRAINED)
def test_bits_and_costs_are_those_of_one_process(name, dataset, backbone):
    engine = LocalEngine(2)
    assert_same(run(dataset, backbone, name, engine=engine), run(dataset, backbone, name))
    assert engine.processes == 2


def test_newcomers_join_with_the_same_bits(dataset, backbone):
    late = hold_out(dataset, 0.25, 0)
    spread_out, here = run(late, backbone, engine=LocalEngine(2)), run(late, backbone)
    assert_same(spread_out, here)
    assert all(np.array_equal(own, here.newcomer_metrics[m]) for m, own in spread_out.newcomer_metrics.items())


@pytest.mark.parametrize("name", ["secfpp", "promptfl"])
def test_a_run_in_which_some_clients_take_part_has_the_same_bits(name, dataset, backbone):
    share = {"rounds": 4, "participation": 0.5}
    engine = LocalEngine(3)
    assert_same(run(dataset, backbone, name, engine=engine, **share), run(dataset, backbone, name, **share))
    assert engine.processes == 3


def test_a_run_goes_on_on_a_cluster_and_off_it(dataset, backbone, tmp_path):
    whole = run(dataset, backbone, rounds=4)
    for first, then in ((LocalEngine(2), None), (None, LocalEngine(3))):
        path = tmp_path / f"{bool(first)}.safetensors"
        stopped(
            1,
            lambda on_round, path=path, first=first: run(
                dataset, backbone, rounds=4, checkpoint=path, engine=first, on_round=on_round
            ),
        )
        assert_same(run(dataset, backbone, rounds=4, checkpoint=path, engine=then), whole)


def test_a_process_that_ends_ends_the_run_which_goes_on(dataset, backbone, tmp_path):
    path = tmp_path / "run.safetensors"
    whole = run(dataset, backbone, "promptfl", rounds=3)
    dying = LocalEngine(2, dies_at=whole.costs.exchanges)
    with pytest.raises(SecFPPError, match="ended"):
        run(dataset, backbone, "promptfl", rounds=3, checkpoint=path, engine=dying)
    assert path.exists()
    resumed = run(dataset, backbone, "promptfl", rounds=3, checkpoint=path, engine=LocalEngine(2))
    assert_same(resumed, whole)


def test_the_transcript_is_in_the_order_of_one_process(dataset, backbone):
    kept = [Transcript(), Transcript()]
    run(dataset, backbone, "promptfl", transcript=kept[0])
    run(dataset, backbone, "promptfl", transcript=kept[1], engine=LocalEngine(2))
    told = [[(m.exchange, m.step, m.client, m.direction, m.size) for m in of] for of in kept]
    assert told[0] == told[1] and told[0]


def test_a_method_that_charges_a_ledger_is_refused(dataset, backbone):
    private = make("secfpp", privacy=Privacy(mechanism="class_means", epsilon=60.0))
    with pytest.raises(ConfigError, match="privacy ledger"):
        train(dataset, backbone, private, method="private", seed=0, rounds=1, engine=LocalEngine(2))


def test_a_failing_step_is_told_with_client_and_step(dataset, backbone):
    broken = make("promptfl", training=make("promptfl").training.__class__(optimizer="sgd", lr=1e30, steps=3))
    with pytest.raises(SecFPPError, match=r"step 'method.train'.*not finite"):
        train(dataset, backbone, broken, method="promptfl", seed=0, rounds=3, engine=LocalEngine(2))


def test_another_model_is_refused(dataset, backbone):
    failure = Clients().call("open", dataset, Model("mini", "float32", "another", 1), make("promptfl"), 0, ())
    assert isinstance(failure, Failure) and "install the same" in failure.text


def test_an_error_that_nobody_wrote_for_users_has_its_kind():
    assert Clients().call("no_such") == Failure("AttributeError: 'Clients' object has no attribute 'no_such'")


def test_actors_compute_on_processors_alone():
    assert settings_for_ray(BackboneSettings(threads=3)) == BackboneSettings(device="cpu", threads=3)
    assert settings_for_ray(BackboneSettings()).threads == 1
    with pytest.raises(ConfigError, match=r"backbone.device = 'cuda'"):
        settings_for_ray(BackboneSettings(device="cuda"))
    with pytest.raises(ConfigError, match=r"backbone.threads = 4"):
        RayEngine(BackboneSettings(threads=4), 3)
