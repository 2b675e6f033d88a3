"""How often groups are used where clients agree about classes, over many data sets.

Data sets of a config (one without label shift) are dealt from its pictures: the training and validation images of each
domain are put together and shared out anew among as many clients. Of `drawn` ones the features are normal around class
means, in six styles that add the same to every class; `plain` has no styles. Groups are found and tested in the clear,
which decides the same as shares.

  sets      data sets
  found     % in which groups were found, before any test
  used      % in which they were used
  gain      mean, where found, of how much better the others of a group predict validation images than all others do,
            in percentage points; groups are used if it is shown to be above 1
  at gain   % of those found in which a test against this very mean, instead of 1, would have used them: how often the
            test errs where it is hardest; 5 is asked for

Run: python benchmarks/false_groups.py configs/icons-agree.toml configs/icons-75.toml configs/icons-40.toml
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data_probe import load
from scipy import stats
from torch import Tensor

from secfpp.algorithms.secfpp import SecFPP
from secfpp.data.federated import ClientData, FederatedDataset, Split
from secfpp.data.partition import dirichlet_shares, split_by_shares
from secfpp.models.backbone import Backbone, load_backbone
from secfpp.runtime.trainer import train
from secfpp.secure.clustering.plain_agreement import PlainAgreement
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.polls.plain_poll import PlainPoll
from secfpp.seeding import Seed, derive

CLIENTS, ALPHA, PARTS = 5, 0.3, ("train", "validation")
CLASSES, PER_CLASS = 24, {"train": 32, "validation": 16}
APART, STYLE = 0.5, 1.0  # of class means and of styles, where images of one class are 1 apart in each direction


class Numbered:
    """A backbone whose images are three bytes: the row of a table of features."""

    def __init__(self, backbone: Backbone, table: Tensor) -> None:
        self._backbone, self._table = backbone, table

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backbone, name)

    def features(self, images: np.ndarray) -> Tensor:
        """Float32 [n, projection]."""
        return self._table[torch.from_numpy(images[:, 0, 0].astype(np.int64) @ (1 << np.array([0, 8, 16])))]


def numbers(start: int, count: int) -> np.ndarray:
    """Images uint8 [count, 1, 1, 3] that stand for the rows from `start`."""
    rows = np.arange(start, start + count)
    return np.stack([rows >> shift & 255 for shift in (0, 8, 16)], axis=1).astype(np.uint8)[:, None, None]


Pools = Mapping[str, Mapping[str, Split]]
"""Domain -> part -> all that its clients hold."""


def dealt(pools: Pools, classes: tuple[str, ...], seed: Seed) -> FederatedDataset:
    clients, tests = [], {}
    for domain, parts in pools.items():
        seeded, names = derive(seed, domain), [f"{domain}-{i}" for i in range(CLIENTS)]
        shares = dirichlet_shares(len(classes), CLIENTS, ALPHA, seeded)
        held = {
            part: split_by_shares(parts[part].labels, shares, derive(seeded, part), minimum=8, names=names)
            for part in PARTS
        }
        for i, name in enumerate(names):
            own = [Split(parts[p].images[held[p][i]], parts[p].labels[held[p][i]]) for p in PARTS]
            clients.append(ClientData(name, domain, *own))
        tests[domain] = Split(parts["validation"].images, parts["validation"].labels)  # not looked at
    return FederatedDataset("dealt", classes, tuple(clients), tests)


def of_pictures(path: Path, backbone: Backbone) -> tuple[Pools, tuple[str, ...], Tensor]:
    """What clients of a config hold, seed 0, as numbered images, with their features."""
    data, rows, pools = load(path, (), 0), [], {}
    for domain in data.domains:
        pools[domain] = {}
        for part in PARTS:
            splits = [getattr(client, part) for client in data.clients if client.domain == domain]
            start = sum(map(len, rows))
            rows += [backbone.features(split.images) for split in splits]
            labels = np.concatenate([split.labels for split in splits])
            pools[domain][part] = Split(numbers(start, len(labels)), labels)
    return pools, data.classes, torch.cat(rows)


def drawn(style: float, classes: tuple[str, ...], dim: int, seed: Seed) -> tuple[Pools, tuple[str, ...], Tensor]:
    """Normal features in six styles."""
    rng, rows, pools = derive(seed, "drawn").numpy(), [], {}
    means = APART * rng.standard_normal((len(classes), dim)) + 4 * rng.standard_normal(dim)
    for domain in "abcdef":
        shift, pools[domain] = style * rng.standard_normal(dim), {}
        for part, n in PER_CLASS.items():
            labels = np.repeat(np.arange(len(classes)), n)
            features = means[labels] + shift + rng.standard_normal((len(labels), dim))
            pools[domain][part] = Split(numbers(sum(map(len, rows)), len(labels)), labels)
            rows.append(features / np.linalg.norm(features, axis=1, keepdims=True))
    return pools, classes, torch.from_numpy(np.concatenate(rows)).float()


def runs(make: Callable[[int], tuple[Pools, tuple[str, ...], Tensor]], sets: int, backbone: Backbone) -> Iterator[Any]:
    """What `secfpp` decided on each data set, and why."""
    method = SecFPP(clusterer=PlainAgreement(), aggregator=PlainMean(min_responders=4), poll=PlainPoll(), local_lr=0.0)
    for seed in range(sets):
        pools, classes, table = make(seed)
        data = dealt(pools, classes, derive(Seed(seed), "deal"))
        yield train(data, Numbered(backbone, table), method, method="secfpp", seed=seed, rounds=1).why  # type: ignore[arg-type]


def row(decided: list[Any]) -> list[float]:
    gains = [[c["gain"] for c in why["clients"] if c["gain"] is not None] for why in decided if why["found"] > 1]
    mean = float(np.mean([np.mean(one) for one in gains])) if gains else float("nan")
    errs = [stats.ttest_1samp(one, mean, alternative="greater").pvalue < SecFPP().error for one in gains]
    used = [why["used"] > 1 for why in decided]
    return [100 * len(gains) / len(decided), 100 * np.mean(used), mean, 100 * np.mean(errs) if errs else float("nan")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configs", nargs="*", type=Path)
    parser.add_argument("--sets", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    backbone = load_backbone("mini")
    names, dim = load(Path("configs/icons.toml"), (), 0).classes, backbone.spec.projection
    makers: dict[str, Callable[[int], tuple[Pools, tuple[str, ...], Tensor]]] = {}
    for name, style in (("drawn", STYLE), ("drawn, plain", 0.0)):
        makers[name] = lambda seed, style=style: drawn(style, names, dim, Seed(seed))  # type: ignore[misc]
    for path in arguments.configs:
        pooled = of_pictures(path, backbone)
        makers[path.stem] = lambda seed, pooled=pooled: pooled  # type: ignore[misc]
    print(f"{'':<16}{'sets':>8}{'found':>8}{'used':>8}{'gain':>8}{'at gain':>9}")
    for name, make in makers.items():
        figures = row(list(runs(make, arguments.sets, backbone)))
        print(f"{name:<16}{arguments.sets:>8}" + "{:>8.1f}{:>8.1f}{:>8.2f}{:>9.1f}".format(*figures), flush=True)


if __name__ == "__main__":
    main()
