#!/usr/bin/env bash
# A client that is lost in the first or second stage of Flower's SecAgg+ stops the aggregation in the last; lost later, it does not.
#
# flwr 1.42.0 and 1.41.0, `SecAggPlusWorkflow(5, 3)` and `secaggplus_mod`, ten clients: five shares of each secret, of which
# three are enough. The stages are: set up, share keys, collect masked vectors, unmask. In the last, the workflow asks the others
# for their shares of the key of every sampled client that is gone. Of one that was gone before it shared its key there are none:
# the mod of each neighbour ends with a KeyError, so the shares of clients that are there are missing too. Nothing has to
# be unmasked for such a client, as nobody added a mask for it. All training of the round is lost by then.
#
# Output seen:
#   nobody lost: the mean is 0.55
#   client 1 lost in stage 1: no mean, 4 of the others fail with KeyError(2) in stage 4
#   client 1 lost in stage 2: no mean, 4 of the others fail with KeyError(2) in stage 4
#   client 1 lost in stage 3: the mean is 0.60
#   client 1 lost in stage 4: the mean is 0.55
#
# Exits with 0 while that is so. SecFPP has secure means of its own, and tests them with clients lost at every step.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check flwr==1.42.0 numpy==2.4.6
FLWR_TELEMETRY_ENABLED=0 "$folder/venv/bin/python" - <<'PY'
import copy
import logging
import sys

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.client import NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.server import LegacyContext, SimpleClientManager
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.supercore.task_identity import TaskIdentity

logging.getLogger("flwr").setLevel(logging.CRITICAL)
TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
FIRST = 2  # the server is node 1


class Trained(NumPyClient):
    def __init__(self, node):
        self.value = (node - 1) / 10

    def fit(self, parameters, config):
        return [np.full(3, self.value)], 1000, {}


class Grid:
    """Hands messages to clients in this process; the first client is away from a stage on."""

    def __init__(self, lost_in):
        self.app = ClientApp(lambda context: Trained(context.node_id).to_client(), mods=[secaggplus_mod])
        self.contexts = {node: context_of(node) for node in range(FIRST, FIRST + 10)}
        self.lost_in, self.stage, self.errors = lost_in, 0, []

    def send_and_receive(self, messages, timeout=None):
        self.stage += 1
        return [self.reply(copy.deepcopy(message)) for message in messages]

    def reply(self, message):
        node = message.metadata.dst_node_id
        if node == FIRST and self.lost_in is not None and self.stage >= self.lost_in:
            return Message(Error(1, "away"), reply_to=message)
        try:
            return self.app(message, self.contexts[node])
        except Exception as error:  # as a SuperNode does
            self.errors.append(repr(error))
            return Message(Error(2, repr(error)), reply_to=message)


def context_of(node):
    return Context(run_id=1, node_id=node, node_config={}, state=RecordDict(), run_config={})


def told(lost_in):
    grid, manager = Grid(lost_in), SimpleClientManager()
    for node in grid.contexts:
        manager.register(GridClientProxy(node, grid, 1))
    server = LegacyContext(context_of(1), strategy=FedAvg(), client_manager=manager)
    server.state["config"] = ConfigRecord({"current_round": 1})
    server.state["parameters"] = ArrayRecord([np.zeros(0)])
    SecAggPlusWorkflow(5, 3)(grid, server)
    (mean,) = server.state["parameters"].to_numpy_ndarrays()
    if mean.size:
        return f"the mean is {mean.mean():.2f}"
    return f"no mean, {len(grid.errors)} of the others fail with {', '.join(set(grid.errors))} in stage {grid.stage}"


found = {lost_in: told(lost_in) for lost_in in (None, 1, 2, 3, 4)}
for lost_in, what in found.items():
    print(f"client 1 lost in stage {lost_in}: {what}" if lost_in else f"nobody lost: {what}")
lost = "no mean, 4 of the others fail with KeyError(2) in stage 4"
wanted = {None: "the mean is 0.55", 1: lost, 2: lost, 3: "the mean is 0.60", 4: "the mean is 0.55"}
sys.exit(0 if found == wanted else 1)
PY
