"""What is lost when all that a client predicts with is said by a prompt alone, as software like CoOp's can use it.

    python benchmarks/prompt_alone.py [--methods class_means_local secfpp] [--seeds 0 1 2] [--clients 6]

Methods are trained on configs/icons.toml with all clients; then, for some of them, one in each domain first:
  full           what the client predicts with: levels, visual part
  prompts        its prompts as they are, without the visual part
  prompt         the personal prompt alone, likewise
  contexts       contexts of single classes, fitted to `full` on the client's training images (`fit_class_contexts`)
  - on images    the same without made-up features
  + prior        the same as `contexts` with the class frequencies put in, for software that has no place for them
  residuals      class features themselves, moved freely and put back to unit length: what any prompt alone could do
Accuracies on test images of the domain, in percent: `own`, on the client's mix of classes and with its class prior;
`no prior`, the same without one, as CoOp predicts; `domain`, on all classes alike. `same` is the share of test images
that get the class `full` gives them (without prior), `KL` how far the probabilities are from those of `full`, in nats.
Means over clients and seeds, and for `contexts` and `residuals` the standard error of the difference to `full`.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from secfpp.data.federated import ClientData, FederatedDataset
from secfpp.experiment.results.summary import client_prompts
from secfpp.experiment.run.training import load_dataset
from secfpp.experiment.spec.config import load_config
from secfpp.models.backbone import Backbone, load_backbone
from secfpp.models.class_contexts import distilled, fit_class_contexts, with_made_up
from secfpp.models.prompt_file import ClientPrompt
from secfpp.runtime.trainer import train

CONFIG = Path(__file__).parents[1] / "configs" / "icons.toml"
COLUMNS = ("own", "no prior", "domain", "same", "KL")


def residuals(prompt: ClientPrompt, images: np.ndarray, backbone: Backbone) -> Tensor:
    features = with_made_up(backbone.features(images))
    start = torch.from_numpy(prompt.class_features(backbone))
    target = prompt.logits(features, backbone).log_softmax(1)
    moved = distilled(start, lambda u: backbone.logit_scale * features @ F.normalize(u, dim=1).T, target, 400, 0.3)
    return F.normalize(moved, dim=1)


def measured(client: ClientData, data: FederatedDataset, logits: Tensor, prior: Tensor, full: Tensor) -> list[float]:
    labels, n_classes = data.test[client.domain].labels, len(data.classes)
    histogram = client.train.histogram(n_classes)

    def by_class(scores: Tensor) -> np.ndarray:
        hits = scores.argmax(1).numpy() == labels
        return np.array([hits[labels == label].mean() for label in range(n_classes)])

    mix, plain = histogram / histogram.sum(), by_class(logits)
    same = (logits.argmax(1) == full.argmax(1)).float().mean()
    far = F.kl_div(logits.log_softmax(1), full.log_softmax(1), reduction="batchmean", log_target=True)
    return [100 * mix @ by_class(logits + prior), 100 * mix @ plain, 100 * plain.mean(), 100 * float(same), float(far)]


def predictors(
    prompt: ClientPrompt, client: ClientData, features: Tensor, backbone: Backbone
) -> dict[str, tuple[Tensor, Tensor]]:
    """Logits of `features` and the prior that belongs to them, by name."""
    images, prior = client.train.images, torch.tensor(prompt.log_prior)
    fitted = {
        "contexts": fit_class_contexts(prompt, images, backbone),
        "- on images": fit_class_contexts(prompt, images, backbone, made_up=0),
        "+ prior": fit_class_contexts(prompt, images, backbone, prior="own"),
    }
    whole = {"full": prompt, "prompts": prompt.without_visual(), "prompt": prompt.one_level().without_visual()}
    found = {name: (each.logits(features, backbone), prior) for name, each in (whole | fitted).items()}
    found["+ prior"] = (found["+ prior"][0], torch.zeros_like(prior))
    moved = residuals(prompt, images, backbone)
    return found | {"residuals": (backbone.logit_scale * features @ moved.T, prior)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["class_means_local", "secfpp"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="changes of the config")
    given = parser.parse_args()
    config, backbone = load_config(CONFIG, given.set), load_backbone("mini")
    rows: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    for seed in given.seeds:
        data = load_dataset(config, seed)
        for method, algorithm in config.choose(given.methods).items():
            run = train(data, backbone, algorithm, method=method, seed=seed, rounds=config.rounds)
            prompts = client_prompts(run, backbone.spec, data.classes, data.image_size)
            for client in sorted(data.clients, key=lambda c: c.name[::-1])[: given.clients]:
                features = backbone.features(data.test[client.domain].images)
                found = predictors(prompts[client.name], client, features, backbone)
                full = found["full"][0]
                for name, (logits, prior) in found.items():
                    rows[method, name].append(measured(client, data, logits, prior, full))
            print(f"seed {seed}, {method}", flush=True)
    print("\n" + f"{'':32}" + "".join(f"{column:>14}" for column in COLUMNS))
    for (method, name), figures in rows.items():
        values, less = np.array(figures), np.array(figures) - np.array(rows[method, "full"])
        errors = less.std(0, ddof=1) / len(less) ** 0.5 if name in ("contexts", "residuals") else np.full(5, np.nan)
        cells = [
            f"{value:.{3 if column == 'KL' else 1}f}" + (f" +-{error:.1f}" if error > 0.05 and column != "same" else "")
            for column, value, error in zip(COLUMNS, values.mean(0), errors, strict=True)
        ]
        print(f"{method:>20}  {name:<12}" + "".join(f"{cell:>14}" for cell in cells[:-2] + cells[-2:]))
    print(f"n = {len(next(iter(rows.values())))} clients")


if __name__ == "__main__":
    main()
