#!/usr/bin/env bash
# OpenAI's vocabulary under open_clip's names gives a tokenizer of two tokens more, which no model has a place for.
#
# transformers 5.23.0, tokenizers 0.23.3, open_clip_torch 3.3.0. In open_clip's vocabulary of 49,408 tokens the two special
# ones are called <start_of_text> and <end_of_text>. `CLIPTokenizer` made of it and of its merges keeps them as words and
# adds <|startoftext|> and <|endoftext|> behind them, without a warning, and begins and ends every text with those: ids
# 49,408 and 49,409, where the model's table ends at 49,407.
#
# Output seen:
#   open_clip's vocabulary: 49408, special tokens 49406 and 49407
#   transformers' tokenizer of it: 49410
#   'cat': [49408, 2368, 49409]
#
# Exits with 0 while that is so. SecFPP makes the tokenizer with transformers' names (secfpp.models.open_clip.tokenizer) and
# refuses files with the others.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 tokenizers==0.23.3
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$folder/open_clip" open_clip_torch==3.3.0
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - "$folder/open_clip/open_clip/bpe_simple_vocab_16e6.txt.gz" <<'PY'
import gzip
import sys

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

lines = gzip.open(sys.argv[1]).read().decode().split("\n")[1 : 49152 - 256 - 2 + 1]
merges = [tuple(line.split()) for line in lines]
letters = sorted(ByteLevel.alphabet())
words = [*letters, *(letter + "</w>" for letter in letters), *map("".join, merges), "<start_of_text>", "<end_of_text>"]
vocabulary = {word: i for i, word in enumerate(words)}
start, end = vocabulary["<start_of_text>"], vocabulary["<end_of_text>"]
print(f"open_clip's vocabulary: {len(vocabulary)}, special tokens {start} and {end}")
tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges)
ids = tokenizer("cat")["input_ids"]
print("transformers' tokenizer of it:", len(tokenizer))
print("'cat':", ids)
sys.exit(0 if len(vocabulary) == 49408 and len(tokenizer) == 49410 and ids == [49408, 2368, 49409] else 1)
PY
