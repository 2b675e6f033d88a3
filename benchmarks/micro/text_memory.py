"""Peak memory of one prompt-learning step with many classes: transformers' own forward, and ours.

Random weights at the shape of the text tower of CLIP ViT-B/16 (width 512, 12 layers, 8 heads) and of SigLIP B/16, one
prompt of 16 vectors, names of CIFAR-100 over and over. Each case runs in a process of its own, which prints the largest
resident size it had (``ru_maxrss``): what the interpreter, PyTorch and the weights take is in it, and told apart in
the first column. Frozen weights in all. A case of transformers that would take more than the free memory is left
out.

Run: python benchmarks/micro/text_memory.py --classes 345 1000
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from collections.abc import Callable

import siglip_text
import text_prefix
import torch
from torch import Tensor

from secfpp.models.class_chunks import ON_CPU
from secfpp.models.text_layers import Blocks, ClassTokens

MODELS = {"CLIP": 77, "SigLIP": 64}
WAYS = ("transformers", "ours")


def many(classes: ClassTokens, count: int) -> ClassTokens:
    times = -(-count // len(classes.names))
    ids, end = classes.ids.repeat(times, 1)[:count], classes.end.repeat(times)[:count]
    return ClassTokens(tuple(map(str, range(count))), ids, end)


def encoder(model: str, way: str, count: int) -> tuple[Callable[[Tensor], Tensor], int]:
    """What encodes prompts, and their width."""
    if model == "CLIP":
        clip, classes = text_prefix.random_model(), many(text_prefix.random_tokens(), count)
        width = clip.config.text_config.hidden_size
        if way == "transformers":
            return text_prefix.hugging_face(clip, classes, MODELS[model]), width
        prefix = text_prefix.PrefixTextEncoder(clip, text_prefix.START)
        return lambda prompts: prefix(prompts, classes), width
    siglip, classes = siglip_text.random_siglip().requires_grad_(False), many(siglip_text.siglip_tokens(), count)
    make = siglip_text.hugging_face if way == "transformers" else siglip_text.ours
    return make(siglip, classes), siglip.config.text_config.hidden_size


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def one_case(model: str, way: str, count: int) -> None:
    torch.set_num_threads(1)
    encode, width = encoder(model, way, count)
    before = peak()
    text_prefix.step(encode, 0.02 * torch.randn(1, text_prefix.N_CTX, width))
    print(f"{before:.2f} {peak():.2f}")


def needed(model: str, count: int) -> float:
    """GiB that transformers will take, by what blocks keep of a token."""
    made = text_prefix.random_model() if model == "CLIP" else siglip_text.random_siglip()
    return count * MODELS[model] * Blocks(made.text_model, made.config.text_config).bytes_per_token() / 2**30


def free() -> float:
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("MemAvailable")) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--classes", type=int, nargs="+", default=[345, 1000])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        return one_case(arguments.case[0], arguments.case[1], int(arguments.case[2]))
    print(f"16 context vectors, float32, one thread, at most {ON_CPU / 2**30:.0f} GiB kept for the backward pass")
    print(f"{'model':<8}{'classes':>8}  {'way':<14}{'loaded, GiB':>12}{'peak, GiB':>11}")
    for model in arguments.models:
        for count in arguments.classes:
            for way in WAYS:
                if way == "transformers" and (wanted := needed(model, count)) > 0.8 * free():
                    print(f"{model:<8}{count:>8}  {way:<14}{'':>12}{f'(~{wanted:.0f})':>11}", flush=True)
                    continue
                command = [sys.executable, __file__, "--case", model, way, str(count)]
                told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
                print(f"{model:<8}{count:>8}  {way:<14}{told[0]:>12}{told[1]:>11}", flush=True)
    print("in brackets: an estimate, not run, for want of memory")
    return None


if __name__ == "__main__":
    main()
