#!/usr/bin/env bash
# A job of 50 rounds is exported as a job without a number of rounds, and runs 5: no error, no warning.
#
# nvflare 2.9.0. `FedJob.export_job` writes a component's constructor arguments by looking for attributes of the same
# names, `name` or `_name`. An argument that the object keeps under another attribute is left out of the exported
# configuration, though it was given; where the job runs, the constructor's default takes its place.
#
# Output seen:
#   kept as self.rounds:     built with 50, exported {'rounds': 50}, built again with 50
#   kept as self.max_rounds: built with 50, exported {}, built again with 5
#   an argument that was given is lost without an error: True
#
# Exits with 0 while that is so. SecFPP writes the JSON files of its jobs itself (secfpp.deploy.flare.job).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check nvflare==2.9.0 numpy==2.4.6 protobuf==7.36.2
cat > "$folder/controllers.py" <<'PY'
from nvflare.apis.impl.controller import Controller


class Idle(Controller):
    def start_controller(self, fl_ctx):
        pass

    def stop_controller(self, fl_ctx):
        pass

    def control_flow(self, abort_signal, fl_ctx):
        pass


class SameName(Idle):
    def __init__(self, rounds=5):
        super().__init__()
        self.rounds = rounds


class OtherName(Idle):
    def __init__(self, rounds=5):
        super().__init__()
        self.max_rounds = rounds
PY
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import json
import sys
from pathlib import Path

from controllers import OtherName, SameName
from nvflare.job_config.api import FedJob


def exported(controller, name):
    job = FedJob(name=name, min_clients=1)
    job.to_server(controller)
    job.export_job("jobs")
    (config,) = Path("jobs", name).rglob("config_fed_server.json")
    return json.loads(config.read_text())["workflows"][0]["args"]


same, other = exported(SameName(rounds=50), "same"), exported(OtherName(rounds=50), "other")
print(f"kept as self.rounds:     built with 50, exported {same}, built again with {SameName(**same).rounds}")
print(f"kept as self.max_rounds: built with 50, exported {other}, built again with {OtherName(**other).max_rounds}")
print("an argument that was given is lost without an error:", other == {})
sys.exit(0 if same == {"rounds": 50} and other == {} else 1)
PY
