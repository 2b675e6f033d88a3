"""Time of one prompt-learning step in SigLIP's text tower: transformers' own forward, and ours.

Random weights at the shape of SigLIP B/16's text tower (width 768, 12 layers, 64 places), the 100 class names of
CIFAR-100 and one prompt of 16 vectors. A model that transformers has loaded asks for gradients of its weights, and a
loop that does not switch that off computes them in every step; the second way is the same loop with weights frozen. The
ways run in turn in one process, and the table gives each one's least processor time over the repeats, of all threads.

Run: python benchmarks/micro/siglip_text.py --threads 1 --repeats 3
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from text_prefix import N_CTX, random_tokens, step
from torch import Tensor
from transformers import SiglipConfig, SiglipModel

from secfpp.models.text_bidirectional import BidirectionalTextEncoder
from secfpp.models.text_layers import ClassTokens

PAD, VOCABULARY = 1, 32_000


def random_siglip(layers: int = 12) -> SiglipModel:
    torch.manual_seed(0)
    vision = {"num_hidden_layers": 1, "image_size": 32, "intermediate_size": 32}  # widths are those of the text tower
    text = {"num_hidden_layers": layers, "bos_token_id": None, "eos_token_id": PAD}
    config = SiglipConfig(vision_config=vision, text_config=text, attn_implementation="sdpa")
    return SiglipModel(config).eval()


def siglip_tokens() -> ClassTokens:
    classes = random_tokens()
    return ClassTokens(classes.names, classes.ids % VOCABULARY, classes.end)


def hugging_face(model: SiglipModel, classes: ClassTokens) -> Callable[[Tensor], Tensor]:
    """The model's own forward over all places, with the prompt put in where tokens are embedded."""
    ids = torch.full((len(classes.names), model.config.text_config.max_position_embeddings), PAD)
    for row, name, end in zip(ids, classes.ids, classes.end, strict=True):
        row[N_CTX : N_CTX + end] = name[:end]

    def encode(prompts: Tensor) -> Tensor:
        def put_in(module: object, args: object, embedded: Tensor) -> Tensor:
            return torch.cat([prompts.expand(len(ids), -1, -1), embedded[:, N_CTX:]], dim=1)

        hook = model.text_model.embeddings.token_embedding.register_forward_hook(put_in)
        pooled = model.get_text_features(input_ids=ids).pooler_output
        hook.remove()
        return F.normalize(pooled, dim=-1)[None]

    return encode


def ours(model: SiglipModel, classes: ClassTokens) -> Callable[[Tensor], Tensor]:
    own = ClassTokens(classes.names, classes.ids.clone(), classes.end)
    for row, end in zip(own.ids, own.end, strict=True):
        row[end:] = PAD
    encoder = BidirectionalTextEncoder(model, PAD)
    return lambda prompts: encoder(prompts, own)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--layers", type=int, default=12)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model, classes = random_siglip(arguments.layers), siglip_tokens()
    plain, own = hugging_face(model, classes), ours(model, classes)
    ways = {
        "transformers, as loaded": (plain, True),
        "transformers, weights frozen": (plain, False),
        "ours": (own, False),
    }
    start = 0.02 * torch.randn(1, N_CTX, model.config.text_config.hidden_size)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    results = {}
    for _ in range(arguments.repeats):
        for name, (encode, weights) in ways.items():
            model.requires_grad_(weights)
            begin = time.process_time()
            results[name] = step(encode, start)
            seconds[name].append(time.process_time() - begin)
            model.zero_grad(set_to_none=True)
    print(f"{len(classes.names)} classes, {N_CTX} context vectors, {arguments.layers} layers, float32,")
    print(f"{arguments.threads} thread(s), best of {arguments.repeats}")
    print(f"{'one training step':<30}{'CPU s':>9}{'ours is':>9}{'features':>11}{'gradient':>11}")
    expected, slope = results["transformers, weights frozen"]
    for name, times in seconds.items():
        features, gradient = results[name]
        ratio = min(times) / min(seconds["ours"])
        gap, slope_gap = (features - expected).abs().max(), (gradient - slope).abs().max() / slope.abs().max()
        print(f"{name:<30}{min(times):>9.3f}{ratio:>8.2f}x{gap:>11.0e}{slope_gap:>11.0e}")
    print("features, gradient: largest difference from transformers (gradient: relative)")


if __name__ == "__main__":
    main()
