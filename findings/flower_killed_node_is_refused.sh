#!/usr/bin/env bash
# A SuperNode that was killed and is started again at once ends with an error, and goes on doing so for up to a minute.
#
# flwr 1.42.0, nodes with listed keys. A SuperLink takes a node to be online until two heartbeats of 30 s are missing, and
# does not activate one that is online. The new process does not wait and does not try again: it ends with exit status 1
# and "Failed to activate SuperNode", the words that a key which is not listed gets too. One that was ended by SIGTERM has said
# goodbye, and is let in at once. So a node that a supervisor restarts after a crash fails until the minute is over, and stays
# away if the supervisor gives up before.
#
# Output seen:
#   after SIGTERM: connected at the first start
#   after SIGKILL: exit status 1, [code: 2004] Failed to activate SuperNode.; the SuperLink lists it as online
#   connected 65 s after it was killed
#
# Exits with 0 while that is so. SecFPP starts its SuperNode again until it is let in (secfpp.deploy.flower.site).
set -euo pipefail
folder=$(mktemp -d)
trap 'kill -9 ${node:-} ${link:-} 2> /dev/null || true; wait; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check flwr==1.42.0 numpy==2.4.6
export PATH="$folder/venv/bin:$PATH" FLWR_HOME="$folder/home" FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
port=$(free_port)
own=$(free_port)
mkdir "$folder/home"
cat > "$folder/home/config.toml" <<TOML
[superlink]
default = "here"
[superlink.here]
address = "127.0.0.1:$port"
root-certificates = "$folder/tls.crt"
TOML
python3 - "$folder" <<'PY'
import datetime
import ipaddress
import pathlib
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as to
from cryptography.hazmat.primitives.asymmetric import ec

folder, key, node = pathlib.Path(sys.argv[1]), *(ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5)
made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
made = made.not_valid_before(begin).not_valid_after(begin + datetime.timedelta(days=1))
made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), True).sign(key, hashes.SHA256())
(folder / "tls.crt").write_bytes(made.public_bytes(to.Encoding.PEM))
(folder / "tls.key").write_bytes(key.private_bytes(to.Encoding.PEM, to.PrivateFormat.PKCS8, to.NoEncryption()))
(folder / "node").write_bytes(node.private_bytes(to.Encoding.PEM, to.PrivateFormat.OpenSSH, to.NoEncryption()))
(folder / "node.pub").write_bytes(node.public_key().public_bytes(to.Encoding.OpenSSH, to.PublicFormat.OpenSSH))
PY
flower-superlink --host 127.0.0.1 --port "$port" --ssl-ca-certfile "$folder/tls.crt" --ssl-certfile "$folder/tls.crt" \
  --ssl-keyfile "$folder/tls.key" --enable-supernode-auth > "$folder/superlink.log" 2>&1 &
link=$!
for _ in $(seq 240); do
  if (: < "/dev/tcp/127.0.0.1/$port") 2> /dev/null; then break; fi
  sleep 0.5
done
flwr supernode register "$folder/node.pub" here > "$folder/register.log" 2>&1

connects() { # whether a new SuperNode gets in; one that does not has ended with $status
  status=0
  flower-supernode --superlink "127.0.0.1:$port" --root-certificates "$folder/tls.crt" --isolation process \
    --auth-supernode-private-key "$folder/node" --host 127.0.0.1 --port "$own" > "$folder/node.log" 2>&1 &
  node=$!
  while kill -0 "$node" 2> /dev/null; do
    if grep -q "SuperNode ID" "$folder/node.log"; then return 0; fi
    sleep 0.2
  done
  wait "$node" || status=$?
  return 1
}

connects
kill -TERM "$node"
wait "$node" || true
connects || { echo "after SIGTERM: not connected"; exit 1; }
echo "after SIGTERM: connected at the first start"
kill -KILL "$node"
wait "$node" || true
killed=$SECONDS
if connects; then echo "after SIGKILL: connected at the first start"; exit 1; fi
refused=$status
flwr supernode list here --format json > "$folder/list.json"
listed=$(python3 -c 'import json, sys; t = open(sys.argv[1]).read(); print(json.loads(t[t.index("{"):])["nodes"][0]["status"])' "$folder/list.json")
echo "after SIGKILL: exit status $refused, $(grep -o '\[code.*' "$folder/node.log"); the SuperLink lists it as $listed"
until connects; do sleep 1; done
echo "connected $((SECONDS - killed)) s after it was killed"
[ "$refused" = 1 ] && [ "$listed" = online ] && [ $((SECONDS - killed)) -gt 25 ]
