"""Measure an embedded CLIP on the benchmark and write its model card.

Usage: python tools/check_mini_clip.py FOLDER [--seeds 0,1,2] [--card]

Reports, with every figure measured here: zero-shot accuracy per domain; free linear heads on the frozen
features, pooled over domains and one per domain, which say how much a text prompt could still win;
whether the pre-training pool and the downstream pool are apart; how the houses' convention tables of the
pre-training compare with the benchmark's tables, beside chance.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mini_clip_corpus import Corpus
from torch import Tensor

from secfpp.data.conventions import agreement, convention, conventions
from secfpp.data.federated import FederatedDataset
from secfpp.data.glyphs import rasterise, signatures
from secfpp.data.icons import IconSettings, load_icons
from secfpp.data.pools import downstream_pool, labels, pool_digest
from secfpp.data.styles import DOMAINS
from secfpp.models.backbone import Backbone, load_backbone
from secfpp.models.prompt import template_text
from secfpp.models.scoring import cosine_logits
from secfpp.seeding import derive


def zero_shot(backbone: Backbone, dataset: FederatedDataset) -> dict[str, float]:
    """Accuracy in percent per domain with the hand-written prompt."""
    embedded = backbone.embed(template_text(dataset.template))
    texts = backbone.class_features(embedded[None], backbone.class_tokens(dataset.classes, len(embedded)))[0]
    return {
        d: _accuracy(cosine_logits(backbone.features(s.images), texts, 1.0), s.labels) for d, s in dataset.test.items()
    }


def linear_head(features: Tensor, target: Tensor, n_classes: int) -> Tensor:
    """Weights [n_classes, projection] of a cosine classifier trained on unit features."""
    with torch.enable_grad():
        weights = torch.zeros(n_classes, features.shape[1], requires_grad=True)
        optimiser = torch.optim.AdamW([weights], lr=0.5, weight_decay=1e-3)
        for _ in range(300):
            loss = F.cross_entropy(features @ weights.T, target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return weights.detach()


def heads(backbone: Backbone, dataset: FederatedDataset) -> tuple[dict[str, float], dict[str, float]]:
    """Accuracy per domain of one pooled linear head, and of one head per domain."""
    features = {c.name: (backbone.features(c.train.images), torch.from_numpy(c.train.labels)) for c in dataset.clients}
    of_domain = {
        d: tuple(
            torch.cat(parts)
            for parts in zip(*[features[c.name] for c in dataset.clients if c.domain == d], strict=True)
        )
        for d in dataset.domains
    }
    pooled = linear_head(*(torch.cat(parts) for parts in zip(*of_domain.values(), strict=True)), len(dataset.classes))
    single, common = {}, {}
    for domain, split in dataset.test.items():
        test = backbone.features(split.images)
        common[domain] = _accuracy(test @ pooled.T, split.labels)
        single[domain] = _accuracy(test @ linear_head(*of_domain[domain], len(dataset.classes)).T, split.labels)
    return common, single


def _accuracy(logits: Tensor, target: np.ndarray) -> float:
    return 100 * float((logits.argmax(1).numpy() == target).mean())


def separation(corpus: Corpus) -> float:
    """Largest correlation of a pre-training glyph with a downstream glyph."""
    held = sorted({g for drawings in downstream_pool().values() for d in drawings for g in d})
    return float((signatures(corpus.masks) @ signatures(rasterise(held)).T).max())


def overlap(corpus: Corpus, seeds: Sequence[int]) -> tuple[float, float]:
    """Mean agreement of the houses' tables with the benchmark's tables, and of fresh random tables with these."""
    tables = [
        table
        for seed in seeds
        for table in conventions(list(DOMAINS), labels(), 0.4, derive(derive(seed, "icons"), "conventions")).values()
    ]
    fresh = [convention(labels(), derive(0, "chance", i)) for i in range(len(corpus.houses))]
    houses = np.mean([agreement(house, table) for house in corpus.houses for table in tables])
    return float(houses), float(np.mean([agreement(other, table) for other in fresh for table in tables]))


def guessing(seeds: Sequence[int]) -> float:
    """Accuracy of one who names every drawing but knows no table: a guess among the labels it may draw."""
    sharers = Counter(concept for options in labels().values() for concept in options)
    tables = [convention(labels(), derive(derive(seed, "icons"), "guess")) for seed in seeds]
    return float(np.mean([1 / sharers[concept] for table in tables for concept in table.values()]))


def card(
    facts: dict[str, object], rows: list[tuple[str, dict[str, float]]], apart: float, tables: tuple[float, float]
) -> str:
    """The model card's text."""
    domains = list(rows[0][1])
    head = "| | " + " | ".join([*domains, "mean"]) + " |\n|" + " --- |" * (len(domains) + 2)
    body = "\n".join(
        f"| {name} | " + " | ".join(f"{v:.1f}" for v in [*r.values(), float(np.mean(list(r.values())))]) + " |"
        for name, r in rows
    )
    making = "\n".join(f"| {key} | {value} |" for key, value in facts.items())
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: zero-shot-image-classification
---
# mini CLIP

A small CLIP (48-pixel images in patches of 8; vision 192 wide, 4 layers; text 128 wide, 3 layers; 128 shared
dimensions) for trying federated prompt learning on a laptop. `tools/pretrain_mini_clip.py` pre-trained it from
scratch on drawings rendered from icon fonts, with captions that name the drawing, and with functional labels whose
drawing depends on a made-up house style. It knows icons and nothing else: do not use it on photographs.

## What it can do

Accuracy in percent on the benchmark's test drawings, all classes, rho 0.4, 32 shots, mean over development seeds. The
linear heads are trained on all clients' training features at once: they show the headroom, no method may do this.
One who names every drawing but knows no convention would reach {100 * guessing(range(200)):.1f} by guessing among the
labels it may stand for, so zero-shot accuracy is bounded by the task and not by the model alone.

{head}
{body}

## What it has never seen

* No drawing of the downstream pool (SHA-256 `{pool_digest()}`): the largest correlation of a pre-training
  glyph with a downstream glyph is {apart:.3f}; above 0.8 two glyphs count as one drawing.
* No convention table of the benchmark. The tables of its house styles agree with the benchmark's on
  {100 * tables[0]:.1f} % of labels, fresh random tables on {100 * tables[1]:.1f} %: chance.

## How it was made

| fact | value |
| --- | --- |
{making}
"""


@torch.no_grad()
def main() -> None:
    """Measure and print; with ``--card`` write README.md into the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--card", action="store_true")
    args = parser.parse_args()
    seeds = [int(seed) for seed in args.seeds.split(",")]
    backbone = load_backbone(str(args.folder), device="cpu")
    found: dict[str, list[dict[str, float]]] = {
        "zero-shot": [],
        "linear head, pooled": [],
        "linear head per domain": [],
    }
    for seed in seeds:
        dataset = load_icons(IconSettings(), seed)
        results = (zero_shot(backbone, dataset), *heads(backbone, dataset))
        for name, result in zip(found, results, strict=True):
            found[name].append(result)
            print(
                seed,
                name,
                {d: round(v, 1) for d, v in result.items()},
                round(float(np.mean(list(result.values()))), 1),
                flush=True,
            )
    if args.card:
        facts = json.loads((args.folder / "pretraining.json").read_text(encoding="utf-8"))
        corpus = Corpus(facts["seed"])
        rows = [
            (name, {d: float(np.mean([r[d] for r in results])) for d in DOMAINS}) for name, results in found.items()
        ]
        text = card(facts, rows, separation(corpus), overlap(corpus, range(200)))
        (args.folder / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
