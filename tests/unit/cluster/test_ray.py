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
