"""Ray as the place for a run's clients: a cluster that is there already, or this machine's processors."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, ClassVar

from secfpp.cluster.clients import Chunks, Clients, Failure, Model
from secfpp.cluster.driver import ClusterDriver, spread
from secfpp.data.federated import FederatedDataset
from secfpp.errors import ConfigError, MissingExtraError, Problem, SecFPPError
from secfpp.experiment.run.machine import usable_cores
from secfpp.experiment.spec.config import BackboneSettings
from secfpp.protocol.program import ClientId, ClientState
from secfpp.protocol.transcript import Transcript
from secfpp.runtime.engine import Engine, Simulation

PATIENCE = 600.0
"""Seconds that actors have to start: they need free processors, and load a model."""


def settings_for_ray(model: BackboneSettings) -> BackboneSettings:
    """The same model as actors compute with it: on processors, on one thread if not set.

    Raises:
        ConfigError: another device is set.
    """
    if model.device not in ("auto", "cpu"):
        raise ConfigError(
            [Problem("backbone.device", model.device, "cpu, or leave it out: actors compute on processors")]
        )
    return replace(model, device="cpu", threads=model.threads or 1)


@contextmanager
def ray_engine(model: BackboneSettings) -> Iterator[Engine]:
    """Ray for a while: the cluster at ``RAY_ADDRESS``, else processes of this machine that ask others for a token.

    Args:
        model: as `settings_for_ray` gives it.

    Raises:
        MissingExtraError: Ray is not installed.
        SecFPPError: there is no cluster at that address.
    """
    if find_spec("ray") is None:
        raise MissingExtraError("--engine ray", "ray")
    address = os.environ.get("RAY_ADDRESS") or "local"
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address == "local" and "ray" not in sys.modules:  # Ray reads it when it is imported
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    here = {"num_cpus": usable_cores(), "include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error", **here)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise SecFPPError(f"Ray at RAY_ADDRESS={address}: {error}") from error
    try:
        engine = RayEngine(model, int(ray.cluster_resources().get("CPU", 0)))
        try:
            yield engine
        finally:
            engine.close()
    finally:
        ray.shutdown()


class RayEngine(Engine):
    """Simulations on a cluster that this process is connected to: an actor for each chunk of clients, while room lasts.

    Args:
        model: as `settings_for_ray` gives it.
        processors: of the cluster.
    """

    name: ClassVar[str] = "ray"

    def __init__(self, model: BackboneSettings, processors: int) -> None:
        self._model, self._threads = model, model.threads or 1
        self._room = processors // self._threads
        if self._room < 1:
            allowed = f"at most {processors}, the processors of the cluster"
            raise ConfigError([Problem("backbone.threads", self._threads, allowed)])
        self._actors: _Actors | None = None
        self._put: tuple[FederatedDataset, Any] | None = None

    def driver(
        self, simulation: Simulation, states: Mapping[ClientId, ClientState], transcript: Transcript | None = None
    ) -> ClusterDriver:
        """See `Engine.driver`; actors start at its first exchange."""
        self.close()
        clients, newcomers = ([c.name for c in of] for of in (simulation.dataset.clients, simulation.dataset.newcomers))
        places = spread(clients, newcomers, simulation.chunk, self._room)
        self.processes = len(places)

        def start(data: Mapping[ClientId, bytes]) -> _Actors:
            self._actors = _Actors(len(places), self._threads)
            self._open(self._actors, simulation, places, data)
            return self._actors

        return ClusterDriver(simulation.algorithm, places, states, start, chunk=simulation.chunk, transcript=transcript)

    def close(self) -> None:
        """End the actors, if there are any."""
        if self._actors is not None:
            self._actors.close()
            self._actors = None

    def _open(
        self, actors: _Actors, simulation: Simulation, places: Sequence[Chunks], states: Mapping[ClientId, bytes]
    ) -> None:
        model = Model(self._model.name, self._model.dtype, simulation.model, self._threads, self._model.compile)
        about = (self._stored(simulation.dataset), model, simulation.algorithm, simulation.seed)
        made = actors.call("open", {n: (*about, own) for n, own in enumerate(places)}, patience=PATIENCE)
        keys = {client: key for own in made.values() for client, key in own.items()}
        actors.call("enter", {n: (keys, {client: states[client] for client in own}) for n, own in made.items()})

    def _stored(self, dataset: FederatedDataset) -> Any:
        """The data set in Ray's object store, where it is put once."""
        import ray

        if self._put is None or self._put[0] is not dataset:
            self._put = dataset, ray.put(dataset)
        return self._put[1]


class _Actors:
    """Actors of Ray, see `secfpp.cluster.driver.Processes`."""

    def __init__(self, count: int, threads: int) -> None:
        import ray

        made = ray.remote(num_cpus=threads)(Clients)
        self._actors = [made.remote() for _ in range(count)]

    def call(
        self, method: str, arguments: Mapping[int, Sequence[Any]], patience: float | None = None
    ) -> dict[int, Any]:
        """See `Processes.call`; `patience` is in seconds."""
        import ray
        from ray.exceptions import GetTimeoutError, RayError

        pending = {n: self._actors[n].call.remote(method, *own) for n, own in arguments.items()}
        try:
            results = dict(zip(pending, ray.get(list(pending.values()), timeout=patience), strict=True))
        except GetTimeoutError as error:
            raise SecFPPError(
                f"{len(self._actors)} actors did not start in {patience:g} s: is the cluster full?"
            ) from error
        except RayError as error:
            kind = type(error).__name__
            raise SecFPPError(
                f"an actor of the cluster ended ({kind}), and its clients with it: "
                "the run goes on after its last finished round, by run --resume or the same compare"
            ) from error
        for result in results.values():
            if isinstance(result, Failure):
                raise SecFPPError(result.text)
        return results

    def close(self) -> None:
        """End all of them."""
        import ray

        for actor in self._actors:
            ray.kill(actor)
