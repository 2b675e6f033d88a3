"""Some of a run's clients in a process of their own; whatever carries calls to it, they hold bytes and plain values."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from secfpp.algorithms.base import FederatedAlgorithm
from secfpp.algorithms.training import ClientContext
from secfpp.crypto.roster import IdentityKey, Roster
from secfpp.data.federated import FederatedDataset
from secfpp.errors import ClientError, ConfigError, ProtocolError, SecFPPError
from secfpp.models.backbone import load_backbone
from secfpp.protocol import wire
from secfpp.protocol.program import ClientId, ClientState, resolve
from secfpp.runtime.contexts import make_contexts
from secfpp.runtime.driver import called, component_of
from secfpp.secure.session import Party

Chunks = tuple[tuple[ClientId, ...], ...]


@dataclass(frozen=True)
class Model:
    """A frozen model as every process loads it.

    Attributes:
        name, dtype: see `secfpp.models.backbone.load_backbone`.
        digest: that it must have.
        threads: of each process.
        compile: see there.
    """

    name: str
    dtype: str
    digest: str
    threads: int
    compile: bool = False


@dataclass(frozen=True)
class Part:
    """One ask to clients of one process; `payloads` are wire messages, in sorted order of clients."""

    label: str
    step: str
    payloads: Mapping[ClientId, bytes]


@dataclass(frozen=True)
class Answer:
    """Replies to one exchange, wire messages by label and client, and the seconds of work by component."""

    replies: Mapping[str, Mapping[ClientId, bytes]]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Failure:
    """An error that a call ended with, in words."""

    text: str


class Clients:
    """Clients of one process: `open`, then `enter`, then `answer` and `states` as often as needed.

    Their contexts, and all that sessions keep secret, never leave it; their states do, for evaluation and checkpoints.
    """

    def __init__(self) -> None:
        self._contexts: dict[ClientId, ClientContext] = {}
        self._states: dict[ClientId, ClientState] = {}

    def call(self, method: str, *arguments: Any) -> Any:
        """What a method returns, or a `Failure` if it raises: an error may not survive the way to another process."""
        try:
            return getattr(self, method)(*arguments)
        except SecFPPError as error:
            return Failure(str(error))
        except Exception as error:
            return Failure(f"{type(error).__name__}: {error}")

    def open(
        self, dataset: FederatedDataset, model: Model, algorithm: FederatedAlgorithm, seed: int, chunks: Chunks
    ) -> dict[ClientId, bytes]:
        """Load the model and make every client's key; the public keys, 32 bytes each.

        Args:
            dataset: of the whole run.
            model: to load.
            algorithm: the method.
            seed: the run's.
            chunks: the clients of this process, as batched steps take them.

        Raises:
            ConfigError: the model that is found here is another one.
        """
        self._dataset, self._algorithm, self._seed, self._chunks = dataset, algorithm, seed, chunks
        self._backbone = load_backbone(
            model.name, device="cpu", threads=model.threads, dtype=model.dtype, compile=model.compile
        )
        if self._backbone.spec.digest != model.digest:
            raise ConfigError(f"the model {model.name!r} is another one on a machine of the cluster: install the same")
        self._keys = {client: IdentityKey.generate() for chunk in chunks for client in chunk}
        return {client: key.public for client, key in self._keys.items()}

    def enter(self, keys: Mapping[ClientId, bytes], states: Mapping[ClientId, bytes]) -> None:
        """Make the contexts.

        Args:
            keys: public keys of all clients of the run.
            states: of this process's clients, as wire messages.
        """
        roster = Roster("simulation", 1, dict(sorted(keys.items())))
        parties = {client: Party(client, key, roster) for client, key in self._keys.items()}
        self._contexts = make_contexts(self._dataset, self._backbone, self._algorithm, self._seed, parties=parties)
        self._states = {client: ClientState(wire.decode(data)) for client, data in states.items()}

    def answer(self, round_: int, parts: tuple[Part, ...]) -> Answer:
        """Do the steps of one exchange, part after part; a batched step takes one chunk after the other.

        Raises:
            ClientError: a step failed; states set before stay set.
            ProtocolError: no such step.
        """
        replies: dict[str, dict[ClientId, bytes]] = {}
        seconds: dict[str, float] = {}
        for part in parts:
            started = time.perf_counter()
            replies[part.label] = self._done(round_, part)
            component = component_of(part.step)
            seconds[component] = seconds.get(component, 0.0) + time.perf_counter() - started
        return Answer(replies, seconds)

    def states(self) -> dict[ClientId, bytes]:
        """Every client's present state as a wire message."""
        return {client: bytes(wire.encode(state.arrays)) for client, state in self._states.items()}

    def _done(self, round_: int, part: Part) -> dict[ClientId, bytes]:
        step, replies = resolve(self._algorithm, part.step), dict[ClientId, bytes]()
        asked = [[client for client in chunk if client in part.payloads] for chunk in self._chunks]
        for clients in asked if step.many else [[client] for chunk in asked for client in chunk]:
            if not clients:
                continue
            contexts = [self._contexts[client] for client in clients]
            states = [self._states[client] for client in clients]
            received = [wire.decode(part.payloads[client]) for client in clients]
            results = called(clients, round_, part.step, step, contexts, states, received, tolerant=True)
            for client, (state, reply) in zip(clients, results, strict=True):
                try:
                    replies[client] = bytes(wire.encode(reply))
                except ProtocolError as error:
                    raise ClientError(client, round_, part.step, error) from error
                self._states[client] = state
        return replies
