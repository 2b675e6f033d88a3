"""What a data set offers before any method: how far looks tell sources apart, and what heads on features reach.

For each config, mean over seeds, accuracy in percent on test images, all classes counting alike:
  source     a linear probe tells from one picture which source (style, deck, ...) it comes from
  chance     the same by guessing
  zero-shot  the hand-written prompt
  pooled     one linear head for everybody
  source's   a linear head for each source
  group's    a linear head for each true group: what finding the groups is worth
Heads are multinomial logistic regressions on the model's features, trained on the training images of all clients
concerned; their weight decay is chosen on the validation images.

Run: python benchmarks/data_probe.py configs/icons.toml configs/icons-across.toml --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from secfpp.data.catalog import datasets
from secfpp.data.federated import ClientData, FederatedDataset, Split
from secfpp.errors import ConfigError, Problem
from secfpp.experiment.spec.layers import overridden
from secfpp.experiment.spec.schema import build
from secfpp.models.backbone import Backbone, load_backbone
from secfpp.models.prompt import SoftPrompt
from secfpp.seeding import Seed

DECAYS = (3e-5, 3e-4, 3e-3)
N_CTX = 4
Labelled = tuple[Tensor, Tensor]


def head(train: Labelled, validation: Labelled, n_classes: int) -> Callable[[Tensor], Tensor]:
    features, labels = train
    mean, spread = features.mean(0), features.std()
    best: tuple[float, Tensor] = (-1.0, torch.empty(0))

    def scores(x: Tensor, weights: Tensor) -> Tensor:
        return ((x - mean) / spread) @ weights[:-1] + weights[-1]

    for decay in DECAYS:
        weights = torch.zeros(features.shape[1] + 1, n_classes, requires_grad=True)
        optimiser = torch.optim.LBFGS([weights], max_iter=50, line_search_fn="strong_wolfe")

        def loss(
            weights: Tensor = weights, decay: float = decay, optimiser: torch.optim.Optimizer = optimiser
        ) -> Tensor:
            optimiser.zero_grad()
            value = F.cross_entropy(scores(features, weights), labels) + decay * weights[:-1].square().sum()
            value.backward()
            return value

        optimiser.step(loss)
        hits = accuracy(scores(validation[0], weights.detach()), validation[1])
        if hits > best[0]:
            best = hits, weights.detach()
    return lambda x: scores(x, best[1])


def accuracy(scores: Tensor, labels: Tensor) -> float:
    return 100 * (scores.argmax(1) == labels).float().mean().item()


def source(domain: str) -> str:
    """A domain is called after its source, and after the convention too where these differ."""
    return domain.partition("/")[0]


def probe(dataset: FederatedDataset, backbone: Backbone) -> dict[str, float]:
    def of(splits: Iterable[Split]) -> Labelled:
        parts = list(splits)
        labels = torch.from_numpy(np.concatenate([s.labels for s in parts]))
        return torch.cat([backbone.features(s.images) for s in parts]), labels

    def heads(key: Callable[[ClientData], str]) -> float:
        """Mean over clients of what the head of their kind reaches on their domain."""
        found = {}
        for kind in {key(client) for client in dataset.clients}:
            members = [client for client in dataset.clients if key(client) == kind]
            for domain in {member.domain for member in members}:
                found[domain, kind] = accuracy(
                    fitted(tuple(m.name for m in members))(tests[domain][0]), tests[domain][1]
                )
        return float(np.mean([found[client.domain, key(client)] for client in dataset.clients]))

    @cache
    def fitted(names: tuple[str, ...]) -> Callable[[Tensor], Tensor]:
        members = [client for client in dataset.clients if client.name in names]
        return head(of(m.train for m in members), of(m.validation for m in members), len(dataset.classes))

    tests = {domain: of([split]) for domain, split in dataset.test.items()}
    names = list(dict.fromkeys(map(source, dataset.domains)))

    def sources(pictures: dict[str, Tensor]) -> Labelled:
        numbers = [torch.full((len(found),), names.index(name)) for name, found in pictures.items()]
        return torch.cat([*pictures.values()]), torch.cat(numbers)

    told = {
        part: sources({n: of(getattr(c, part) for c in dataset.clients if source(c.domain) == n)[0] for n in names})
        for part in ("train", "validation")
    }
    looks = head(told["train"], told["validation"], len(names))
    seen = [accuracy(looks(x), torch.full((len(x),), names.index(source(domain)))) for domain, (x, _) in tests.items()]
    prompt = torch.from_numpy(SoftPrompt(n_ctx=N_CTX).initial(backbone, dataset.template, Seed(0)))
    texts = backbone.class_features(prompt[None], backbone.class_tokens(dataset.classes, N_CTX))[0]
    zero = {domain: accuracy(x @ texts.T, y) for domain, (x, y) in tests.items()}
    return {
        "source": float(np.mean(seen)),
        "chance": 100 / len(names),
        "zero-shot": float(np.mean([zero[client.domain] for client in dataset.clients])),
        "pooled": heads(lambda client: ""),
        "source's": heads(lambda client: source(client.domain)),
        "group's": heads(lambda client: client.true_group),
    }


def load(path: Path, overrides: Sequence[str], seed: int) -> FederatedDataset:
    table = overridden(tomllib.loads(path.read_text()), overrides)
    values = dict(table["data"])
    spec = datasets()[values.pop("name")]
    problems: list[Problem] = []
    settings = build(spec.settings, values, "data", problems)
    if problems:
        raise ConfigError(problems)
    return spec.load(settings, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="+", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    backbone = load_backbone("mini")
    print(f"seeds {' '.join(map(str, arguments.seeds))}; accuracy on test images, %")
    for number, path in enumerate(arguments.configs):
        rows = [probe(load(path, arguments.set, seed), backbone) for seed in arguments.seeds]
        if not number:
            print(f"{'':<20}" + "".join(f"{name:>10}" for name in rows[0]))
        print(
            f"{path.stem:<20}" + "".join(f"{np.mean([r[name] for r in rows]):>10.1f}" for name in rows[0]), flush=True
        )


if __name__ == "__main__":
    main()
