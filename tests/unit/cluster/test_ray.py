"""The same on Ray: actors of this machine, one of which dies."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from secfpp.cluster.engine import ray_engine, settings_for_ray
from secfpp.errors import SecFPPError
from secfpp.experiment.spec.config import BackboneSettings
from support.spread_runs import assert_same, run

pytestmark = [
    pytest.mark.slow,  # Ray starts in 8 s, actors in as many
    pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray"),
]


def test_a_run_on_actors_and_one_that_goes_on_after_an_actor_died(dataset, backbone, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("secfpp.cluster.engine.usable_cores", lambda: 2)
    path, whole = tmp_path / "run.safetensors", run(dataset, backbone, rounds=4)
    with ray_engine(settings_for_ray(BackboneSettings())) as engine:
        import ray

        def kill(record):
            ray.kill(engine._actors._actors[1])

        with pytest.raises(SecFPPError, match=r"an actor of the cluster ended .*--resume"):
            run(dataset, backbone, rounds=4, engine=engine, checkpoint=path, on_round=kill)
        assert path.exists()
        assert_same(run(dataset, backbone, rounds=4, engine=engine, checkpoint=path), whole)
        assert engine.processes == 2
    assert not ray.is_initialized()


def test_a_run_on_two_nodes_has_the_bits_of_one_process(dataset, backbone, monkeypatch):
    from ray.cluster_utils import Cluster

    whole = run(dataset, backbone)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        with ray_engine(settings_for_ray(BackboneSettings())) as engine:
            import ray

            nodes = set()

            def look(record):
                places = [actor.__ray_call__.remote(node) for actor in engine._actors._actors]
                nodes.update(ray.get(places))

            def node(holder):
                return ray.get_runtime_context().get_node_id()

            assert_same(run(dataset, backbone, engine=engine, on_round=look), whole)
            assert engine.processes == 2 and len(nodes) == 2
    finally:
        cluster.shutdown()
