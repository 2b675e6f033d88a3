#!/usr/bin/env bash
# A folder of images by class loses all but one class when that one is called "train" or "test_tube".
#
# datasets 5.2.0. `load_dataset(FOLDER)` looks for names of splits in the names of files and folders before it looks for
# classes. In FOLDER/{bus,car,train}/*.png, as collections of vehicles and CIFAR-100 have them, the class "train" is taken
# for the split of that name: its images come without a label, those of the other classes do not come at all, and nothing
# is said. The same holds for "test_tube" and "training shoe".
#
# Output seen:
#   bus, car, train: 1 split(s) ['train'], 2 of 6 images, labels: none
#   bus, car, test_tube: 1 split(s) ['test'], 2 of 6 images, labels: none
#   bus, car, tram: 1 split(s) ['train'], 6 of 6 images, labels: ['bus', 'car', 'tram']
#
# Exits with 0 while that is so. SecFPP counts the images in the folder and refuses it (secfpp.data.collections.huggingface).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check datasets==5.2.0 pillow==13.0.0 numpy==2.4.6
export HF_HOME="$folder/home" HF_HUB_OFFLINE=1
cat > "$folder/look.py" <<'PY'
import sys
from pathlib import Path

import datasets
from PIL import Image

datasets.disable_progress_bars()
seen = {}
for name in ("train", "test_tube", "tram"):
    root = Path(sys.argv[1], name)
    for each in ("bus", "car", name):
        (root / each).mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (8, 8), (40 * i, 0, 0)).save(root / each / f"{i}.png")
    found = datasets.load_dataset(str(root))
    features = next(iter(found.values())).features
    labels = features["label"].names if "label" in features else "none"
    seen[name] = sum(map(len, found.values()))
    print(f"bus, car, {name}: {len(found)} split(s) {list(found)}, {seen[name]} of 6 images, labels: {labels}")
sys.exit(0 if seen == {"train": 2, "test_tube": 2, "tram": 6} else 1)
PY
"$folder/venv/bin/python" "$folder/look.py" "$folder/images"
