"""Time of a gradient step whose images are shortened one by one, with noise, beside the plain step of the same batch.

At the shape of ViT-B/16's text tower (random weights, 100 classes, 16 context vectors) and of the included model. Both
steps run in turn in one process, so that what else the machine does falls on both; the table gives each one's median.

  plain     cross-entropy of the batch, backward to the prompt
  clipped   each image's gradient by the class features shortened, their sum, backward to the prompt
  noisy     the same with Skellam noise from the operating system, as `promptfl` does by the mechanism dpsgd

Run: python benchmarks/micro/per_example.py --threads 1 --repeats 9
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from text_prefix import N_CTX, START, random_model, random_tokens
from torch import Tensor

from secfpp.algorithms.noisy_steps import clipped_sum, noisy, planned
from secfpp.algorithms.privacy import Privacy
from secfpp.data.icons import IconSettings, load_icons
from secfpp.models.backbone import load_backbone
from secfpp.models.text_prefix import PrefixTextEncoder
from secfpp.privacy.events import Skellam
from secfpp.seeding import SystemEntropy

SCALE, PRIVACY = 100.0, Privacy(mechanism="dpsgd", releases=20)
Encode = Callable[[Tensor], Tensor]


def plain(encode: Encode, prompt: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    prompt = prompt.clone().requires_grad_()
    F.cross_entropy(SCALE * features @ encode(prompt).T, labels).backward()
    assert prompt.grad is not None
    return prompt.grad


def clipped(encode: Encode, prompt: Tensor, features: Tensor, labels: Tensor, variance: float, clip: float) -> Tensor:
    prompt = prompt.clone().requires_grad_()
    texts = encode(prompt)
    total, _ = clipped_sum(features, labels, texts.detach(), SCALE, clip)
    if variance:
        total = noisy(total, clip, variance, SystemEntropy())
    texts.backward((total * (SCALE / len(labels))).float())
    assert prompt.grad is not None
    return prompt.grad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    model, tokens = random_model(), random_tokens()
    large = PrefixTextEncoder(model, START)
    mini, data = load_backbone("mini", device="cpu", threads=asked.threads), load_icons(IconSettings(shots=1), 0)
    names = mini.class_tokens(data.classes, 4)
    small = torch.from_numpy(mini.initial_prompt("an icon of a", 4))
    large_one = 0.02 * torch.randn(N_CTX, model.config.text_config.hidden_size)
    print(f"float32, {asked.threads} thread(s), median of {asked.repeats}; ms")
    print(
        f"{'text tower':<12}{'classes':>8}{'batch':>7}{'plain':>9}{'clipped':>9}{'noisy':>9}{'ratios':>14}{'apart':>9}"
    )
    for batch in (64, 512):
        compare("ViT-B/16", lambda p: large(p[None], tokens)[0], large_one, batch, asked.repeats)
        compare("included", lambda p: mini.class_features(p[None], names)[0], small, batch, asked.repeats)
    print("apart: the clipped step from the plain one, relative, where nothing is longer than the clip")


def compare(shape: str, encode: Encode, prompt: Tensor, batch: int, repeats: int) -> None:
    """Take the steps in turn, and print a line."""
    with torch.no_grad():
        n_classes, dim = encode(prompt).shape
    (event,) = planned(PRIVACY, n_classes, dim, 1).events
    assert isinstance(event, Skellam)
    features, labels = F.normalize(torch.randn(batch, dim), dim=1), torch.randint(n_classes, (batch,))
    ways: dict[str, Callable[[], Tensor]] = {
        "plain": lambda: plain(encode, prompt, features, labels),
        "clipped": lambda: clipped(encode, prompt, features, labels, 0.0, PRIVACY.bound),
        "noisy": lambda: clipped(encode, prompt, features, labels, event.variance, PRIVACY.bound),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(repeats + 1):
        for way, step in ways.items():
            begin = time.perf_counter()
            step()
            if turn:  # the first one warms up
                seconds[way].append(time.perf_counter() - begin)
    expected, found = ways["plain"](), clipped(encode, prompt, features, labels, 0.0, 2.0)
    apart = float((found - expected).norm() / expected.norm())
    taken = {way: 1000 * statistics.median(times) for way, times in seconds.items()}
    ratios = " ".join(f"{taken[way] / taken['plain']:6.2f}" for way in ("clipped", "noisy"))
    figures = "".join(f"{milliseconds:>9.1f}" for milliseconds in taken.values())
    print(f"{shape:<12}{n_classes:>8}{batch:>7}{figures}{ratios:>14}{apart:>9.0e}")


if __name__ == "__main__":
    main()
