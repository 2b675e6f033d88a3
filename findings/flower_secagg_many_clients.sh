#!/usr/bin/env bash
# 1,100 clients who all send 0.5: by Flower's SecAgg+ with defaults their mean is 7.24. Of 1,024 clients it is infinite.
#
# flwr 1.42.0 and 1.41.0. A weight is an integer up to 2^22, summed modulo 2^32, so the sum of 1,024 full weights is 0, and of
# more it wraps around; with half the weight the sum of updates does, at 2,048 clients. The workflow warns of an overflow
# if each secret has more than 1,024 shares, which has nothing to do with it; here there are three, and it says nothing
# (numpy does, where it divides by 0).
#
# Output seen, after a minute or two:
#   1023 clients: 0.5
#   1024 clients: inf
#   1100 clients: 7.23684
#
# Exits with 0 while that is so. SecFPP refuses a cohort whose sum its field cannot hold (secfpp.crypto.fixed_point).
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
from flwr.app import ArrayRecord, ConfigRecord, Context, RecordDict
from flwr.client import NumPyClient
from flwr.client.mod import secaggplus_mod
from flwr.clientapp import ClientApp
from flwr.server import LegacyContext, SimpleClientManager
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.supercore.task_identity import TaskIdentity

TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
warned = []
logging.getLogger("flwr").addFilter(lambda record: warned.append(record) if "overflow" in record.msg else False)


class Trained(NumPyClient):
    def fit(self, parameters, config):
        return [np.array([0.5])], 1000, {}


class Grid:
    """Hands messages to clients in this process."""

    def __init__(self, clients):
        self.app = ClientApp(lambda context: Trained().to_client(), mods=[secaggplus_mod])
        self.contexts = {node: context_of(node) for node in range(2, clients + 2)}

    def send_and_receive(self, messages, timeout=None):
        return [self.app(copy.deepcopy(m), self.contexts[m.metadata.dst_node_id]) for m in messages]


def context_of(node):
    return Context(run_id=1, node_id=node, node_config={}, state=RecordDict(), run_config={})


def mean(clients):
    grid, manager = Grid(clients), SimpleClientManager()
    for node in grid.contexts:
        manager.register(GridClientProxy(node, grid, 1))
    server = LegacyContext(context_of(1), strategy=FedAvg(), client_manager=manager)
    server.state["config"] = ConfigRecord({"current_round": 1})
    server.state["parameters"] = ArrayRecord([np.zeros(1)])
    with np.errstate(divide="ignore"):
        SecAggPlusWorkflow(3, 2)(grid, server)
    (found,) = server.state["parameters"].to_numpy_ndarrays()
    return float(f"{found[0]:.6g}")


found = {clients: mean(clients) for clients in (1023, 1024, 1100)}
for clients, value in found.items():
    print(f"{clients} clients: {value}")
sys.exit(0 if not warned and found == {1023: 0.5, 1024: float("inf"), 1100: 7.23684} else 1)
PY
