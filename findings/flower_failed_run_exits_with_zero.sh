#!/usr/bin/env bash
# A run whose server app raises an exception is followed to its end with `flwr run --stream`, which exits with 0.
#
# flwr 1.42.0. `flwr run APP --stream` shows the log of a run until it has ended, and returns; how it ended makes no
# difference to the exit status, so a script that runs it takes a failed run for a good one. `flwr list --format json`
# says "finished:failed".
#
# Output seen:
#   flwr run --stream: exit status 0
#   flwr list: finished:failed (ServerApp failed with exception: it broke)
#
# Exits with 0 while that is so. SecFPP reads the status of the run (secfpp.deploy.flower.job).
set -euo pipefail
folder=$(mktemp -d)
trap '[ -z "${link:-}" ] || { kill "$link" && wait "$link" || true; }; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check flwr==1.42.0 numpy==2.4.6
export PATH="$folder/venv/bin:$PATH" FLWR_HOME="$folder/home" FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1
export FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir "$folder/home" "$folder/app"
cat > "$folder/home/config.toml" <<TOML
[superlink]
default = "here"
[superlink.here]
address = "127.0.0.1:$port"
insecure = true
TOML
cat > "$folder/app/pyproject.toml" <<'TOML'
[project]
name = "broken"
version = "1.0.0"
[tool.flwr.app]
publisher = "somebody"
[tool.flwr.app.components]
serverapp = "broken:server"
clientapp = "broken:client"
TOML
cat > "$folder/app/broken.py" <<'PY'
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

client = ClientApp()
server = ServerApp()


@server.main()
def main(grid, context):
    raise RuntimeError("it broke")
PY
flower-superlink --insecure --host 127.0.0.1 --port "$port" > "$folder/superlink.log" 2>&1 &
link=$!
for _ in $(seq 120); do
  if (: < "/dev/tcp/127.0.0.1/$port") 2> /dev/null; then break; fi
  sleep 0.5
done
status=0
flwr run "$folder/app" here --stream > "$folder/run.log" 2>&1 || status=$?
echo "flwr run --stream: exit status $status"
flwr list here --format json > "$folder/list.json"
python3 - "$folder/list.json" "$status" <<'PY'
import json
import sys

text = open(sys.argv[1]).read()
(run,) = json.loads(text[text.index("{") :])["runs"]
print(f"flwr list: {run['status']} ({run['status-details']})")
sys.exit(0 if sys.argv[2] == "0" and run["status"] == "finished:failed" else 1)
PY
