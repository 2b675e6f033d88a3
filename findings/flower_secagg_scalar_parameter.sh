#!/usr/bin/env bash
# Ten clients, each with a parameter of no dimensions that is 4.0: by Flower's SecAgg+ their mean is 112.
#
# flwr 1.42.0 and 1.41.0, `SecAggPlusWorkflow` with defaults, `secaggplus_mod`, numpy 2.4.6. Models have such parameters: the
# `num_batches_tracked` of a batch norm, the `logit_scale` of CLIP. numpy's arithmetic makes scalars of arrays without dimensions,
# and the workflow ends with `vec += offset; vec *= ...` in a loop over arrays: that changes an array in its place, and a scalar
# not at all. So what comes out is the weighted sum, not divided, and the clipping range (8) once for every client but one:
# 10 * 4 + 9 * 8. There is no warning. The same number in an array of one is right, and so are both without SecAgg+.
#
# Output seen:
#   SecAgg+: 112.0 without dimensions, 4.0 in an array of one
#   in the clear: 4.0 without dimensions, 4.0 in an array of one
#
# Exits with 0 while that is so. SecFPP has secure means of its own; benchmarks/peers compares them with Flower's, for vectors.
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
from flwr.server.workflow.default_workflows import default_fit_workflow
from flwr.supercore.task_identity import TaskIdentity

logging.getLogger("flwr").setLevel(logging.ERROR)
TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1


class Trained(NumPyClient):
    def fit(self, parameters, config):
        return [np.array(4.0), np.array([4.0])], 1000, {}


class Grid:
    """Hands messages to clients in this process."""

    def __init__(self, mods):
        self.app = ClientApp(lambda context: Trained().to_client(), mods=mods)
        self.contexts = {node: context_of(node) for node in range(2, 12)}

    def send_and_receive(self, messages, timeout=None):
        return [self.app(copy.deepcopy(m), self.contexts[m.metadata.dst_node_id]) for m in messages]


def context_of(node):
    return Context(run_id=1, node_id=node, node_config={}, state=RecordDict(), run_config={})


def mean(workflow, mods):
    grid, manager = Grid(mods), SimpleClientManager()
    for node in grid.contexts:
        manager.register(GridClientProxy(node, grid, 1))
    server = LegacyContext(context_of(1), strategy=FedAvg(), client_manager=manager)
    server.state["config"] = ConfigRecord({"current_round": 1})
    server.state["parameters"] = ArrayRecord([np.zeros(1)])
    workflow(grid, server)
    scalar, array = server.state["parameters"].to_numpy_ndarrays()
    return round(float(scalar), 6), round(float(array[0]), 6)


hidden, clear = mean(SecAggPlusWorkflow(5, 3), [secaggplus_mod]), mean(default_fit_workflow, [])
for way, (scalar, array) in (("SecAgg+", hidden), ("in the clear", clear)):
    print(f"{way}: {scalar} without dimensions, {array} in an array of one")
sys.exit(0 if hidden == (112.0, 4.0) and clear == (4.0, 4.0) else 1)
PY
