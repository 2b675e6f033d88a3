"""A mean by Flower's SecAgg and SecAgg+ in one process: its own workflow, client mod, messages and serialisation.

Ours are only a carrier that takes the place of the network, and a client that trains by returning its update.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.client import Client, NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_combine,
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import dequantize, quantize
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as Proto
from flwr.server import LegacyContext, SimpleClientManager
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow, SecAggWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD, Key
from flwr.supercore.task_identity import TaskIdentity

RUN, SERVER, WEIGHT = 1, 1, 1
TARGET, MODULUS = 1 << 22, 1 << 32
"""Steps of the quantisation and the modulus: Flower's defaults."""


class Trained(NumPyClient):
    """A client that has finished training."""

    def __init__(self, update: np.ndarray) -> None:
        self.update = update

    def fit(self, parameters: list[np.ndarray], config: Mapping[str, object]) -> tuple[list[np.ndarray], int, dict]:
        """The update, and the weight that is the same for all."""
        return [self.update], WEIGHT, {}


@dataclass
class Carrier:
    """The one method of Flower's `Grid` that the workflow calls, for clients in this process.

    Attributes:
        seconds: processor time that serialising and parsing took.
    """

    app: ClientApp
    contexts: Mapping[int, Context]
    seconds: float = field(default=0.0, init=False)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Hand each message to its client, which replies; both travel as bytes."""
        arrived = [self._carried(message) for message in messages]
        return [self._carried(self.app(one, self.contexts[one.metadata.dst_node_id])) for one in arrived]

    def _carried(self, message: Message) -> Message:
        started = time.process_time()
        arrived = message_from_proto(Proto.FromString(message_to_proto(message).SerializeToString()))
        self.seconds += time.process_time() - started
        return arrived


def flower(updates: np.ndarray, clip: float, shares: int | None) -> tuple[np.ndarray, float, float]:
    """The mean of `updates` [clients, n], as Flower's server learns it.

    Args:
        updates: one of each client, every weight the same.
        clip: bound of a number, which the workflow calls `clipping_range`.
        shares: neighbours of a client in SecAgg+, itself counted; None is SecAgg, where all are neighbours.

    Returns:
        The mean, the processor time of all parties in seconds, and that of their serialising and parsing.
    """
    logging.getLogger("flwr").setLevel(logging.ERROR)
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, RUN, SERVER
    of = dict(enumerate(updates, start=SERVER + 1))

    def client_fn(context: Context) -> Client:
        return Trained(of[context.node_id]).to_client()

    carrier = Carrier(ClientApp(client_fn, mods=[secaggplus_mod]), {node: _context(node) for node in of})
    manager = SimpleClientManager()
    for node in of:
        manager.register(GridClientProxy(node, carrier, RUN))
    server = LegacyContext(_context(SERVER), strategy=FedAvg(), client_manager=manager)
    server.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({Key.CURRENT_ROUND: 1})
    server.state.array_records[MAIN_PARAMS_RECORD] = ArrayRecord([np.zeros(0)])  # no model is sent
    threshold = (shares or len(updates)) // 2 + 1
    settings = {
        "max_weight": float(WEIGHT),
        "clipping_range": clip,
        "quantization_range": TARGET,
        "modulus_range": MODULUS,
    }
    if shares is None:
        workflow = SecAggWorkflow(threshold, **settings)
    else:
        workflow = SecAggPlusWorkflow(shares, threshold, **settings)
    started = time.process_time()
    workflow(carrier, server)
    seconds = time.process_time() - started
    (mean,) = server.state.array_records[MAIN_PARAMS_RECORD].to_numpy_ndarrays()
    assert mean.shape == updates[0].shape, "Flower's workflow came to no mean; what it logged says why"
    return mean, seconds, carrier.seconds


def _context(node: int) -> Context:
    return Context(run_id=RUN, node_id=node, node_config={}, state=RecordDict(), run_config={})


def flower_arithmetic(updates: np.ndarray, clip: float, shares: int | None) -> tuple[np.ndarray, float]:
    """The mean of `updates` [clients, n] by Flower's arithmetic, the seeds of all masks at hand, and its seconds."""
    clients, half = range(len(updates)), (shares or len(updates)) // 2
    around = {i: {(i + step) % len(updates) for step in range(-half, half + 1)} - {i} for i in clients}
    rng = np.random.default_rng(0)
    seeds = {(i, j): rng.bytes(32) for i in clients for j in {i, *around[i]} if i <= j}
    shapes, total = [(1,), updates[0].shape], None
    started = time.process_time()
    for i in clients:
        vector = factor_combine(WEIGHT * TARGET, quantize([updates[i] * WEIGHT], clip, TARGET))
        vector = parameters_addition(vector, pseudo_rand_gen(seeds[i, i], MODULUS, shapes))
        for j in around[i]:
            mask = pseudo_rand_gen(seeds[min(i, j), max(i, j)], MODULUS, shapes)
            vector = (parameters_addition if i > j else parameters_subtraction)(vector, mask)
        vector = parameters_mod(vector, MODULUS)
        total = vector if total is None else parameters_addition(total, vector)
    for i in clients:
        total = parameters_subtraction(total, pseudo_rand_gen(seeds[i, i], MODULUS, shapes))
    weight, summed = parameters_mod(total, MODULUS)
    (mean,) = dequantize([summed], clip, TARGET)
    # Every update is shifted by the range, which dequantising takes off once.
    mean = (mean - (len(updates) - 1) * clip) * (TARGET / weight[0])
    return mean, time.process_time() - started
