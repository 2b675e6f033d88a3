"""Batched prompt training at the shape of ViT-B/16's text tower: time of a step, and the share of a device's peak.

Random weights, the 100 class names of CIFAR-100 as `text_prefix` beside this file has them, prompts of 16 vectors of
several clients in one pass; a step of `LocalTraining`, its optimiser included, with random features of images.

Model FLOPs of a step of k prompts, 2 for a multiplication with its addition. With width d, perceptron width f, n
context vectors, N classes, t name and end tokens in all, of the classes t_c each, and L layers:

    linear      2 (4 d^2 + 2 d f) for each token and layer, but in the first layer's projections (3 d^2) names do not
                depend on the prompt, and in the last layer context vectors have keys and values alone (2 d^2) and
                names beyond these only at their N ends (d^2 for the query, d^2 for the output, 2 d f)
    attention   4 d for each key that a token looks at: i + 1 for the i-th context vector, 1 + n + j for the j-th
                token of a name; in the last layer for end tokens alone
    projection  2 d p for each class; logits 2 p N for each image of a batch

Weights are frozen, so that a backward pass goes to activations alone and takes as much as the forward pass: twice the
sum. What is padded, or encoded again to save memory, is not counted, nor is attention to what is masked.

Peaks are those that makers state for dense matrices; give your card's with --peak, in TFLOP/s.

With --compile the same is measured with compiled blocks (`secfpp.models.compiling`) too, in turns; and it is counted
how many graphs PyTorch made, where it broke one, and how many more it made for another number of prompts.

Run: python benchmarks/micro/gpu_training.py --device cuda --dtype bfloat16 --prompts 64 --peak 989 --compile
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from text_prefix import END, N_CTX, NAMES, START, random_tokens
from transformers import CLIPConfig, CLIPModel

from secfpp.algorithms.base import cross_entropy
from secfpp.algorithms.training import ClientContext, LocalTraining
from secfpp.models.compiling import compile_problems, try_to_compile
from secfpp.models.devices import DTYPES, device_named, device_problems
from secfpp.models.text_prefix import ClassTokens, PrefixTextEncoder

SHAPES = {
    "vit-b-16": {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8},
    "small": {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4},
}


@dataclass(frozen=True)
class Shape:
    """What model FLOPs depend on."""

    width: int
    inner: int
    layers: int
    projection: int
    n_ctx: int
    lengths: tuple[int, ...]


def step_flops(shape: Shape, prompts: int, batch: int) -> int:
    """Model FLOPs of a training step, by the formula above."""
    d, f, n, classes = shape.width, shape.inner, shape.n_ctx, len(shape.lengths)
    names, whole = sum(shape.lengths), 4 * d * d + 2 * d * f
    linear = (shape.layers - 1) * (n + names) * whole - names * 3 * d * d
    linear += (n + names) * 2 * d * d + classes * (2 * d * d + 2 * d * f)
    seen = sum(i + 1 for i in range(1, n + 1)) + sum(1 + n + j for t in shape.lengths for j in range(1, t + 1))
    ends = sum(1 + n + t for t in shape.lengths)
    forward = 2 * linear + 4 * d * ((shape.layers - 1) * seen + ends) + 2 * d * shape.projection * classes
    return 2 * prompts * (forward + 2 * shape.projection * classes * batch)


class Trained:
    """Clients with random features and a random text tower, ready to be trained.

    Args:
        kind: one of `SHAPES`.
        device: where it computes.
        dtype: one of `secfpp.models.devices.DTYPES`.
        prompts: clients in one pass.
        batch: images of each in a step.
    """

    def __init__(self, kind: str, device: torch.device, dtype: str, prompts: int, batch: int) -> None:
        torch.manual_seed(0)
        tiny = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1}
        text = {**SHAPES[kind], "eos_token_id": END, "bos_token_id": START}
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=tiny)).eval().requires_grad_(False)
        encoder, tokens = PrefixTextEncoder(model.to(device, DTYPES[dtype]), START), random_tokens()
        config, self.batch, self.encoder = model.config, batch, encoder
        self.start = 0.02 * np.random.default_rng(0).standard_normal(
            (prompts, N_CTX, config.text_config.hidden_size), dtype=np.float32
        )
        self.shape = Shape(
            config.text_config.hidden_size,
            config.text_config.intermediate_size,
            config.text_config.num_hidden_layers,
            config.projection_dim,
            N_CTX,
            tuple(int(end) + 1 for end in tokens.end),
        )
        self.contexts = [self._client(i, encoder, tokens, device) for i in range(prompts)]

    def _client(self, i: int, encoder: PrefixTextEncoder, tokens: ClassTokens, device: torch.device) -> ClientContext:
        backbone = SimpleNamespace(
            device=device, logit_scale=100.0, class_features=lambda prompts, of: encoder(prompts, of)
        )
        images = F.normalize(torch.randn(4 * self.batch, self.shape.projection), dim=-1).to(device)
        labels = torch.randint(len(NAMES), (4 * self.batch,)).to(device)
        data = SimpleNamespace(train=range(4 * self.batch))
        made: Any = SimpleNamespace(
            client=str(i), seed=0, data=data, backbone=backbone, tokens=tokens, features=images, labels=labels
        )
        return cast(ClientContext, made)

    @property
    def flops(self) -> int:
        """Model FLOPs of a step."""
        return step_flops(self.shape, len(self.contexts), self.batch)

    def train(self, steps: int, prompts: int | None = None) -> np.ndarray:
        """The losses [k], mean over so many steps, of all or the first `prompts`; back when all is computed."""
        training, contexts = LocalTraining(steps=steps, batch=self.batch), self.contexts[:prompts]
        _, losses = training.fit(
            contexts,
            {"prompt": self.start[:prompts]},
            lambda parameters, features, labels: cross_entropy(contexts, parameters["prompt"], features, labels),
            round_=1,
        )
        return losses

    def seconds(self, steps: int) -> float:
        """Of a step."""
        started = time.perf_counter()
        self.train(steps)  # its losses are on the CPU: the device has ended
        return (time.perf_counter() - started) / steps


def compiled(made: Trained) -> None:
    """Have the blocks of `made` compiled, and say what that took."""
    from torch._dynamo.utils import counters

    counters.clear()
    made.encoder.compile()
    started = time.perf_counter()
    made.train(1)
    took, graphs = time.perf_counter() - started, counters["stats"]["unique_graphs"]
    made.train(1, max(2, len(made.contexts) - 1))
    again, breaks = counters["stats"]["unique_graphs"] - graphs, sum(counters["graph_break"].values())
    print(f"compiled in {took:.1f} s: {graphs} graphs, {breaks} breaks, {again} more for another number of prompts")


def main(given: Sequence[str] | None = None) -> None:
    """Measure, and print one line for each repeat's best."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", choices=DTYPES, default="float32")
    parser.add_argument("--prompts", type=int, default=4, help="clients in one pass")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="measure compiled blocks too")
    parser.add_argument("--peak", type=float, help="the device's stated peak in this number type, TFLOP/s")
    asked = parser.parse_args(given)
    device = device_named(asked.device)
    if device is None:
        parser.error(str(device_problems(asked.device, "--device")[0]))
    if asked.compile and (problems := compile_problems(asked.device, "--compile")):
        parser.error(str(problems[0]))
    kind = asked.shape or ("small" if device.type == "cpu" else "vit-b-16")
    print(f"{kind}, {len(NAMES)} classes, {N_CTX} context vectors, {asked.prompts} prompts, batches of {asked.batch}")
    ways = {"as it is": Trained(kind, device, asked.dtype, asked.prompts, asked.batch)}
    losses = ways["as it is"].train(1)  # warms up
    print(f"{device}, {asked.dtype}, best of {asked.repeats} times {asked.steps} steps, mean loss {losses.mean():.3f}")
    if asked.compile:
        try_to_compile(device)
        ways["compiled"] = Trained(kind, device, asked.dtype, asked.prompts, asked.batch)
        compiled(ways["compiled"])
    seconds = [[made.seconds(asked.steps) for made in ways.values()] for _ in range(asked.repeats)]
    for way, best in zip(ways, map(min, zip(*seconds, strict=True)), strict=True):
        flops = ways[way].flops
        rate = flops / best / 1e12
        print(f"{way}, a step: {best:.4f} s, {flops / 1e9:.1f} model GFLOP, {rate:.3f} TFLOP/s", end="")
        print(f", {100 * rate / asked.peak:.1f} % of {asked.peak:g}" if asked.peak else "; --peak gives the share")


if __name__ == "__main__":
    main()
