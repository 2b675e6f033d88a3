"""A cluster without processes: what actors would hold, in this one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from secfpp.cluster.clients import Clients, Failure, Model
from secfpp.cluster.driver import ClusterDriver, spread
from secfpp.errors import SecFPPError
from secfpp.runtime.engine import Engine


class LocalProcesses:
    """Holders of clients that are called one after the other; the one that is told to die does at that exchange."""

    def __init__(self, count: int, dies_at: int = 0) -> None:
        self.holders = [Clients() for _ in range(count)]
        self.dies_at, self.exchanges = dies_at, 0

    def call(self, method: str, arguments: Mapping[int, Sequence[Any]]) -> dict[int, Any]:
        self.exchanges += method == "answer"
        if self.dies_at and self.exchanges == self.dies_at:
            raise SecFPPError("an actor of the cluster ended")
        results = {number: self.holders[number].call(method, *own) for number, own in arguments.items()}
        for result in results.values():
            if isinstance(result, Failure):
                raise SecFPPError(result.text)
        return results


class LocalEngine(Engine):
    name = "local"

    def __init__(self, count: int, dies_at: int = 0) -> None:
        self.count, self.dies_at, self.made = count, dies_at, None

    def driver(self, simulation, states, transcript=None):
        data = simulation.dataset
        clients, newcomers = ([c.name for c in of] for of in (data.clients, data.newcomers))
        places = spread(clients, newcomers, simulation.chunk, self.count)
        self.processes = len(places)

        def start(messages):
            self.made = LocalProcesses(len(places), self.dies_at)
            model = Model("mini", "float32", simulation.model, 1)
            made = self.made.call(
                "open", {n: (data, model, simulation.algorithm, simulation.seed, own) for n, own in enumerate(places)}
            )
            keys = {client: key for own in made.values() for client, key in own.items()}
            self.made.call("enter", {n: (keys, {c: messages[c] for c in own}) for n, own in made.items()})
            return self.made

        return ClusterDriver(simulation.algorithm, places, states, start, chunk=simulation.chunk, transcript=transcript)
