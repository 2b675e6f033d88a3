"""Time of one prompt-learning step in the text encoder: full length, padding cut, shared prefix.

Random weights at the shape of ViT-B/16's text tower, the 100 class names of CIFAR-100 and one
prompt of 16 vectors; a step is a forward to all class features and a backward to the prompt. The three
ways run in turn in one process, and the table gives each one's best time over the repeats.

No tokenizer is needed, since random weights do not care which ids they read. A name's number of tokens
follows a rule: one for each word, one more for a word of eight letters and over. CLIP's vocabulary holds
most English words whole, so this counts too many rather than too few, which favours the full length.

Run: python benchmarks/micro/text_prefix.py --threads 2 --repeats 5
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from secfpp.models.text_prefix import ClassTokens, PrefixTextEncoder

CIFAR100 = """
apple, aquarium fish, baby, bear, beaver, bed, bee, beetle, bicycle, bottle, bowl, boy, bridge, bus, butterfly,
camel, can, castle, caterpillar, cattle, chair, chimpanzee, clock, cloud, cockroach, couch, crab, crocodile, cup,
dinosaur, dolphin, elephant, flatfish, forest, fox, girl, hamster, house, kangaroo, keyboard, lamp, lawn mower,
leopard, lion, lizard, lobster, man, maple tree, motorcycle, mountain, mouse, mushroom, oak tree, orange, orchid,
otter, palm tree, pear, pickup truck, pine tree, plain, plate, poppy, porcupine, possum, rabbit, raccoon, ray, road,
rocket, rose, sea, seal, shark, shrew, skunk, skyscraper, snail, snake, spider, squirrel, streetcar, sunflower,
sweet pepper, table, tank, telephone, television, tiger, tractor, train, trout, tulip, turtle, wardrobe, whale,
willow tree, wolf, woman, worm
"""
NAMES = tuple(name.strip() for name in CIFAR100.split(","))
N_CTX, START, END = 16, 49406, 49407


def token_count(name: str) -> int:
    return sum(1 + (len(word) >= 8) for word in name.split())


def random_model() -> CLIPModel:
    torch.manual_seed(0)
    tiny_vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = CLIPConfig(
        vision_config=tiny_vision, attn_implementation="sdpa"
    )  # the text side's defaults are ViT-B/16's
    return CLIPModel(config).eval().requires_grad_(False)


def random_tokens() -> ClassTokens:
    generator = torch.Generator().manual_seed(0)
    counts = torch.tensor([token_count(name) for name in NAMES])
    ids = torch.full((len(NAMES), int(counts.max()) + 1), END)
    for row, count in zip(ids, counts, strict=True):
        row[:count] = torch.randint(START, (int(count),), generator=generator)
    return ClassTokens(NAMES, ids, counts)


def hugging_face(model: CLIPModel, classes: ClassTokens, places: int) -> Callable[[Tensor], Tensor]:
    """The model's own forward over `places` positions, with the prompt put in where tokens are embedded."""
    ids = torch.full((len(classes.names), places), END)
    ids[:, 0] = START
    ids[:, 1 + N_CTX : 1 + N_CTX + classes.ids.shape[1]] = classes.ids
    ids[:, 1 : 1 + N_CTX] = 0

    def encode(prompts: Tensor) -> Tensor:
        def put_in(module: object, args: object, embedded: Tensor) -> Tensor:
            context = prompts.expand(len(ids), -1, -1)
            return torch.cat([embedded[:, :1], context, embedded[:, 1 + N_CTX :]], dim=1)

        hook = model.text_model.embeddings.token_embedding.register_forward_hook(put_in)
        pooled = model.text_model(input_ids=ids).pooler_output
        hook.remove()
        return F.normalize(model.text_projection(pooled), dim=-1)[None]

    return encode


def step(encode: Callable[[Tensor], Tensor], start: Tensor) -> tuple[Tensor, Tensor]:
    prompts = start.clone().requires_grad_()
    features = encode(prompts)
    features[..., ::7].sum().backward()
    return features.detach(), prompts.grad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, classes = random_model(), random_tokens()
    cut = 1 + N_CTX + classes.ids.shape[1]
    ways = {
        "full length, 77 tokens": hugging_face(model, classes, 77),
        f"padding cut, {cut} tokens": hugging_face(model, classes, cut),
        "shared prefix": (lambda encoder: lambda prompts: encoder(prompts, classes))(PrefixTextEncoder(model, START)),
    }
    start = 0.02 * torch.randn(1, N_CTX, model.config.text_config.hidden_size)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    results = {name: step(encode, start) for name, encode in ways.items()}  # and warm up
    for _ in range(arguments.repeats):
        for name, encode in ways.items():
            begin = time.perf_counter()
            step(encode, start)
            seconds[name].append(time.perf_counter() - begin)
    first, *_ = ways
    print(f"{len(NAMES)} classes, {int((classes.end + 1).sum())} name and end tokens, {N_CTX} context vectors,")
    print(f"float32, {arguments.threads} threads, best of {arguments.repeats}")
    print(f"{'one training step':<26}{'seconds':>9}{'ratio':>8}{'features':>11}{'gradient':>11}")
    for name, times in seconds.items():
        ratio = min(seconds[first]) / min(times)
        (features, gradient), (expected, slope) = results[name], results[first]
        gap, slope_gap = (features - expected).abs().max(), (gradient - slope).abs().max() / slope.abs().max()
        print(f"{name:<26}{min(times):>9.3f}{ratio:>7.1f}x{gap:>11.0e}{slope_gap:>11.0e}")
    print("features, gradient: largest difference from the full length (gradient: relative)")


if __name__ == "__main__":
    main()
