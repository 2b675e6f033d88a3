#!/usr/bin/env bash
# Build the wheel, install it into an empty environment outside the checkout and use it from there:
# proves that model, icon tables and templates travel with the package.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 HF_HUB_OFFLINE=1 SECFPP_CACHE="$room/cache"
unset PYTHONPATH

echo "Building the wheel ..."
"$python" -m build --wheel --no-isolation --outdir "$room/dist" . >"$room/build.log" 2>&1 || { cat "$room/build.log"; exit 1; }
ls -l "$room"/dist/*.whl

echo "Installing it into an empty environment ..."
"$python" -m venv "$room/venv"
"$room/venv/bin/python" -m pip install --quiet --constraint constraints.txt "$room"/dist/*.whl

cd /
"$room/venv/bin/secfpp" --version
"$room/venv/bin/secfpp" doctor
"$room/venv/bin/python" -I - <<'PYTHON'
import sys

import numpy as np

import secfpp
from secfpp.data.catalog import datasets
from secfpp.models.backbone import load_backbone

assert secfpp.__file__.startswith(sys.prefix), f"not the installed package: {secfpp.__file__}"
icons = datasets()["icons"]
dataset = icons.load(icons.settings(shots=2, validation_shots=1, test_shots=1, clients_per_domain=1), 0)
images = dataset.clients[0].train.images[:8]
assert images.dtype == np.uint8 and images.std() > 10, "the icons are blank"
features = load_backbone("mini", device="cpu").features(images)
assert np.allclose(features.norm(dim=1), 1, atol=1e-3), "features are not of unit length"
print(f"{len(dataset.clients)} domains rendered, image features {tuple(features.shape)}")
PYTHON
echo "The installed wheel works."
