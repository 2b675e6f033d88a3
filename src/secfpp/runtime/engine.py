"""What a simulation needs of a place for its clients other than this process."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from secfpp.algorithms.base import FederatedAlgorithm
from secfpp.data.federated import FederatedDataset
from secfpp.errors import ConfigError, Problem
from secfpp.protocol.program import ClientId, ClientState
from secfpp.protocol.transcript import Transcript
from secfpp.runtime.driver import SimulatingDriver


@dataclass(frozen=True)
class Simulation:
    """What is simulated.

    Attributes:
        algorithm: the method.
        dataset: its clients.
        model: digest of the frozen model.
        seed: of everything random in training.
        chunk: clients per call of a batched step.
    """

    algorithm: FederatedAlgorithm
    dataset: FederatedDataset
    model: str
    seed: int
    chunk: int


class Engine(ABC):
    """Places the clients of simulations elsewhere, those of one at a time.

    Attributes:
        name: what users call it.
        processes: in which the clients of the present simulation are.
    """

    name: ClassVar[str]
    processes: int = 1

    @abstractmethod
    def driver(
        self, simulation: Simulation, states: Mapping[ClientId, ClientState], transcript: Transcript | None = None
    ) -> SimulatingDriver:
        """A driver of the simulation's clients at these states; the driver before it ends.

        It is tolerant, see `Driver`.
        """

    def require(self, algorithm: FederatedAlgorithm) -> None:
        """Refuse a method that writes to a privacy ledger: a ledger is one file on one machine.

        Raises:
            ConfigError: it does.
        """
        if algorithm.privacy_terms is not None:
            allowed = (
                f"{algorithm.name} charges the privacy ledger of the data, which is kept on one machine: leave it out"
            )
            raise ConfigError([Problem("--engine", self.name, allowed)])
