#!/usr/bin/env bash
# FLARE's own list of the classes that a job may name without bringing code lacks the two that every Collab job names.
#
# nvflare 2.9.0. A site whose resources name no `class_allow_list`, and every freshly provisioned kit, lets jobs without
# code use the 88 classes of `DEFAULT_CLASS_ALLOW_LIST`. The Collab API's controller and executor are not among them. So
# a Collab job is refused by default unless it brings code, even where its code is installed at all sites already;
# a job that does bring code is not checked against the list at all, but needs the right to bring it.
#
# Output seen:
#   classes in the default list: 88
#   nvflare.app_common.workflows.fedavg.FedAvg: allowed
#   nvflare.collab.runtime.controller.CollabController: UnsafeComponentError
#   nvflare.collab.runtime.executor.CollabExecutor: UnsafeComponentError
#
# Exits with 0 while that is so. SecFPP gives each kit a list of two classes (secfpp.deploy.flare.binding).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check nvflare==2.9.0 numpy==2.4.6 protobuf==7.36.2
"$folder/venv/bin/python" - <<'PY'
import logging
import sys

from nvflare.apis.fl_exception import UnsafeComponentError
from nvflare.app_common.default_component_policy import DEFAULT_CLASS_ALLOW_LIST
from nvflare.app_common.widgets.component_path_authorizer import ComponentPathAuthorizer
from nvflare.app_common.workflows.fedavg import FedAvg
from nvflare.collab.runtime.controller import CollabController
from nvflare.collab.runtime.executor import CollabExecutor

logging.disable(logging.CRITICAL)


def verdict(kind):
    path = f"{kind.__module__}.{kind.__qualname__}"
    try:
        ComponentPathAuthorizer().authorize_component_config({"path": path})
        found = "allowed"
    except UnsafeComponentError as error:
        found = type(error).__name__
    print(f"{path}: {found}")
    return found


print("classes in the default list:", len(DEFAULT_CLASS_ALLOW_LIST))
found = [verdict(kind) for kind in (FedAvg, CollabController, CollabExecutor)]
sys.exit(0 if found == ["allowed", "UnsafeComponentError", "UnsafeComponentError"] else 1)
PY
