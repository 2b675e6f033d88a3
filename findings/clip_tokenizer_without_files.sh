#!/usr/bin/env bash
# A CLIP folder without tokenizer files still gives a tokenizer: of two tokens, and without an error.
#
# transformers 5.23.0, tokenizers 0.23.3. `CLIPTokenizer.from_pretrained` of a folder that holds a model alone (what
# `CLIPModel.save_pretrained` leaves, without tokenizer.json or vocab.json and merges.txt) makes a tokenizer whose
# vocabulary is the start and the end token. All texts of as many letters become the same ids, so a zero-shot
# classifier scores names alike and says nothing.
#
# Output seen:
#   vocabulary: 2
#   ids: [0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2] [0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
#   'a photo of a cat' and 'a photo of a dog' are the same: True
#
# Exits with 0 while that is so. SecFPP refuses such a folder and names the files (secfpp.models.checkpoint).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 tokenizers==0.23.3
mkdir "$folder/clip"
echo '{"model_type": "clip"}' > "$folder/clip/config.json"
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - "$folder/clip" <<'PY'
import sys

from transformers import CLIPTokenizer

tokenizer = CLIPTokenizer.from_pretrained(sys.argv[1])
cat, dog = (tokenizer(f"a photo of a {name}")["input_ids"] for name in ("cat", "dog"))
print("vocabulary:", len(tokenizer))
print("ids:", cat, dog)
print("'a photo of a cat' and 'a photo of a dog' are the same:", cat == dog)
sys.exit(0 if len(tokenizer) == 2 and cat == dog else 1)
PY
