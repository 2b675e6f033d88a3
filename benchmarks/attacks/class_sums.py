"""What members of a group make of the class sums that they share, see `secfpp.attacks.class_sums`.

Icons, rho 0.4, five clients in each of six true groups. Attackers are one client or several of one group, or of as many
groups, who put together what they hold. `least` is how many clients must have a class for its sum to be shared
(`class_means.min_holders`); 1 is no rule.

  exposed    % of the classes of another client of which the attackers know its mean exactly
  error      of their guess at such a mean, as a share of that of everybody's mean of the class (root mean square)
  rest       the same, of those that are not exposed
  base       % of the classes that a client has
  sizes      AUC of telling who has a class from how many images a client has in all
  holders    the same, from all that the attackers hold
  served     the same, with the server, who knows which classes each group shares
  certain    % of (client, class) of which they know for sure whether it has it

Run: python benchmarks/attacks/class_sums.py --seeds 0 1 2
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import torch

from secfpp.attacks.class_sums import Parts, Shared, certain, has, relative_error
from secfpp.attacks.membership import auc, in_mean, in_scatter
from secfpp.data.federated import FederatedDataset
from secfpp.data.icons import IconSettings, load_icons
from secfpp.models.backbone import Backbone, load_backbone
from secfpp.models.class_means import ClassSums, Scatter
from secfpp.seeding import derive

LEAST = (1, 2, 3, 4)
SHRINKAGE = 0.1
CUTS = (10, 20, 30)
TWO = ("sketch", "pixel")


@dataclass(frozen=True)
class Clients:
    """Everybody's class sums, as a simulator knows them."""

    own: Sequence[ClassSums]
    partition: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """Images, [clients, n_cls]."""
        return np.array([sums.counts for sums in self.own])

    @property
    def means(self) -> np.ndarray:
        """Class means, [clients, n_cls, dim]."""
        return np.array([s.sums / np.maximum(s.counts, 1)[:, None] for s in self.own])


def clients_of(dataset: FederatedDataset, backbone: Backbone) -> Clients:
    own = [
        ClassSums.of(backbone.features(c.train.images).numpy(), c.train.labels, len(dataset.classes))
        for c in dataset.clients
    ]
    return Clients(own, np.array([dataset.groups.index(c.true_group) for c in dataset.clients]))


def coalitions(partition: np.ndarray, size: int, together: bool, seed: int) -> Iterator[tuple[int, ...]]:
    """Attackers: every choice inside a group, or sixty at random from as many groups."""
    groups = [np.flatnonzero(partition == group) for group in range(int(partition.max()) + 1)]
    if together:
        for members in groups:
            yield from combinations(members.tolist(), size)
        return
    rng = derive(seed, "attackers", size).numpy()
    for _ in range(60):
        yield tuple(int(rng.choice(groups[g])) for g in rng.permutation(len(groups))[:size])


def contents_and_holders(clients: Clients, least: int, size: int, together: bool, seed: int) -> dict[str, list[float]]:
    """The figures of every coalition."""
    shared = Shared.by_rule(clients.own, clients.partition, least)
    counts, means, holds = clients.counts, clients.means, clients.counts > 0
    sizes, everybody = counts.sum(1), sum(s.sums for s in clients.own) / counts.sum(0)[:, None]
    usual = np.broadcast_to(everybody, means.shape)
    known = np.where(has(shared.everybody)[:, None], everybody, shared.everybody.centre)
    found: dict[str, list[float]] = {}
    for attackers in coalitions(clients.partition, size, together, seed):
        own = {a: clients.own[a] for a in attackers}
        parts = Parts.left_to(own, shared)
        alone, guesses = parts.alone(holds), parts.guesses()
        guesses = np.where(np.isnan(guesses), known, guesses)
        sure = certain(own, shared, parts, least)
        spread = parts.images(sizes) / (1 + parts.images(sizes))
        bits = shared.bits[clients.partition]
        victims = ~np.isin(np.arange(len(sizes)), attackers)[:, None] & np.ones_like(holds)
        near = victims & np.isin(clients.partition, clients.partition[list(attackers)])[:, None]
        size_alone = np.broadcast_to(sizes[:, None], holds.shape)
        for where, asked in (("near", near), ("far", victims & ~near)):
            pairs = asked & holds
            figures = {
                "exposed": 100 * alone[pairs].mean(),
                "error": relative_error(guesses[pairs], means[pairs], usual[pairs]),
                "rest": relative_error(*(x[pairs & ~alone] for x in (guesses, means, usual))),
                "base": 100 * holds[asked].mean(),
                "sizes": auc(size_alone[asked], holds[asked]),
                "holders": auc((spread + near * bits)[asked], holds[asked]),
                "served": auc((spread + bits)[asked], holds[asked]),
                "certain": 100 * (sure[asked] != 0).mean(),
            }
            assert (np.sign(2 * holds[asked] - 1) == sure[asked])[sure[asked] != 0].all()
            for name, value in figures.items():
                found.setdefault(f"{where} {name}", []).append(float(value))
    return found


def thirds(dataset: FederatedDataset, seed: int) -> list[list[np.ndarray]]:
    """Of each client's images three random parts with as many of each class: images in sums, others, known ones."""
    found = []
    for number, client in enumerate(dataset.clients):
        order = derive(seed, "thirds", number).numpy().permutation(len(client.train))
        order = order[np.argsort(client.train.labels[order], kind="stable")]
        found.append([order[part::3] for part in range(3)])
    return found


def memberships(dataset: FederatedDataset, backbone: Backbone, seed: int) -> tuple[dict[int, list[np.ndarray]], float]:
    """For each rule (images in the sum, log-ratio, whether inside) of images; and AUC against everybody's scatter."""
    n_classes = len(dataset.classes)
    features = [backbone.features(c.train.images).double().numpy() for c in dataset.clients]
    labels = [c.train.labels for c in dataset.clients]
    split = thirds(dataset, seed)

    def part(number: int) -> list[tuple[np.ndarray, np.ndarray]]:
        return [(x[s[number]], y[s[number]]) for x, y, s in zip(features, labels, split, strict=True)]

    inside, outside, known = part(0), part(1), part(2)
    own = [ClassSums.of(x, y, n_classes) for x, y in inside]
    apart = [ClassSums.of(x, y, n_classes) for x, y in known]
    clients = Clients(own, np.array([dataset.groups.index(c.true_group) for c in dataset.clients]))
    around = [Scatter.of(x, y, sums) for (x, y), sums in zip(known, apart, strict=True)]
    precision = Scatter(sum(s.products for s in around), sum(s.freedom for s in around)).precision(SHRINKAGE)

    found: dict[int, list[np.ndarray]] = {}
    for least in LEAST:
        shared = Shared.by_rule(own, clients.partition, least)
        for attacker, group in enumerate(clients.partition.tolist()):
            parts = Parts.left_to({attacker: own[attacker]}, shared)
            others = [c for c in np.flatnonzero(clients.partition == group).tolist() if c != attacker]
            familiar = [apart[c] for c in (*others, attacker)]
            expected = sum(s.sums for s in familiar) / np.maximum(sum(s.counts for s in familiar), 1)[:, None]
            for label in np.flatnonzero(has(shared.groups[group]) & (parts.counts[1] > 0.5)):
                asked = [
                    np.concatenate([side[c][0][side[c][1] == label] for c in others]) for side in (inside, outside)
                ]
                count = parts.counts[1, label]
                images, is_in = np.concatenate(asked), np.arange(sum(map(len, asked))) < len(asked[0])
                mean = parts.sums[1, label] / count
                ratio = in_mean(images, mean, count, expected[label], precision)
                found.setdefault(least, []).append(np.stack([np.full(len(images), count), ratio, is_in]))

    mine = [Scatter.of(x, y, sums) for (x, y), sums in zip(inside, own, strict=True)]
    scatter = Scatter(sum(s.products for s in mine), sum(s.freedom for s in mine))
    centres = [s.sums / np.maximum(s.counts, 1)[:, None] for s in apart]
    scores = []
    for side in (inside, outside):
        seen = [(x - m[y])[s.counts[y] > 1] for (x, y), m, s in zip(side, centres, apart, strict=True)]
        scores.append(in_scatter(np.concatenate(seen), scatter, precision))
    return found, auc(np.concatenate(scores), np.repeat([True, False], [len(s) for s in scores]))


def mean(rows: Iterable[dict[str, list[float]]], name: str) -> float:
    """Over coalitions, then over seeds."""
    return float(np.mean([np.nanmean(row[name]) for row in rows]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    backbone = load_backbone("mini")
    found = [(seed, clients_of(load_icons(IconSettings(), seed), backbone)) for seed in seeds]

    columns = ("exposed", "error", "rest", "base", "sizes", "holders", "served", "certain")
    print(f"icons, rho 0.4, true groups, seeds {' '.join(map(str, seeds))}; means over choices of attackers and seeds")
    for where, title in (("near", "of members of the attackers' group"), ("far", "of clients of other groups")):
        print(f"\nWhat attackers learn {title}")
        print(f"{'least':>5} {'attackers':<14}" + "".join(f"{name:>9}" for name in columns))
        for least, size in product(LEAST, (1, 2, 3)):
            rows = [contents_and_holders(c, least, size, where == "near", seed) for seed, c in found]
            of = {"near": f"{size} of one group", "far": f"{size} of {size} groups"}[where]
            values = "".join(f"{mean(rows, f'{where} {column}'):>9.2f}" for column in columns)
            print(f"{least:>5} {'1' if size == 1 else of:<14}{values}", flush=True)

    print("\nBy taking a group's sums from everybody's: exposed of the other of two groups, one attacker")
    halves = {
        alpha: [clients_of(load_icons(IconSettings(domains=TWO, alpha=alpha), seed), backbone) for seed in seeds]
        for alpha in (0.3, 0.1)
    }
    print(f"{'least':>5} " + "".join(f"{f'alpha {alpha}':>11}" for alpha in halves))
    for least in LEAST:
        rates = [
            mean([contents_and_holders(c, least, 1, True, 0) for c in of], "far exposed") for of in halves.values()
        ]
        print(f"{least:>5} " + "".join(f"{rate:>11.2f}" for rate in rates))

    print("\nIs one image in a group's class sum? AUC by images of others in the sum, and at 1 % false alarms")
    results = [memberships(load_icons(IconSettings(shots=96), seed), backbone, seed) for seed in seeds]
    heads = [f"<= {CUTS[0]}", *(f"<= {b}" for b in CUTS[1:]), f"> {CUTS[-1]}", "all", "hits, %"]
    print(f"{'least':>5} " + "".join(f"{name:>9}" for name in heads))
    for least in LEAST:
        count, ratio, is_in = np.concatenate([np.concatenate(found[least], 1) for found, _ in results], 1)
        inside, bins = is_in > 0, np.searchsorted(CUTS, count)
        values = [auc(ratio[bins == b], inside[bins == b]) for b in range(len(CUTS) + 1)]
        hits = 100 * (ratio[inside] > np.quantile(ratio[~inside], 0.99)).mean()
        print(f"{least:>5} " + "".join(f"{v:>9.2f}" for v in [*values, auc(ratio, inside), hits]))
    print(f"in everybody's scatter: AUC {np.mean([value for _, value in results]):.2f}")


if __name__ == "__main__":
    main()
