"""What one image less changes of what no epsilon covers: the partition, and which classes are shared.

Class sums are shared under noise once a seed, and clients are grouped by how they differ from these. Then, over and
over, one training image is taken from one client, and groups are found anew with the same sums: what an observer of the
partition could tell of that image alone. Groups are found in the clear, which decides the same as shares.

  tries      images taken away
  partition  tries in which somebody is in another group than before
  classes    tries in which a class is shared by all, or by the client's group, that was not, or the other way round

Run: python benchmarks/removed_image.py configs/icons.toml --seeds 0-2 --tries 100
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from secfpp.algorithms.record_privacy import Privacy
from secfpp.algorithms.residuals import class_residuals
from secfpp.algorithms.secfpp import SecFPP
from secfpp.algorithms.sharing import EVERYBODY
from secfpp.cli.training import parse_seeds
from secfpp.data.federated import FederatedDataset
from secfpp.experiment.run.training import load_dataset
from secfpp.experiment.spec.config import load_config
from secfpp.models.backbone import Backbone, load_backbone
from secfpp.models.class_means import ClassSums
from secfpp.privacy.ledger import RunLedger
from secfpp.protocol.cohort import Cohort
from secfpp.runtime.contexts import make_contexts
from secfpp.runtime.in_process import InProcessDriver
from secfpp.runtime.privacy import ledger_of
from secfpp.secure.clustering.plain_agreement import PlainAgreement
from secfpp.secure.polls.plain_poll import PlainPoll
from secfpp.seeding import derive


def shared_once(data: FederatedDataset, backbone: Backbone, method: SecFPP, seed: int) -> tuple[Any, ...]:
    """The contexts and states of all clients after the sharing of sums, and the groups that were found."""
    assert method.privacy_terms is not None
    contexts = make_contexts(data, backbone, method, seed, RunLedger(ledger_of(data, method.privacy_terms), "removed"))
    driver = InProcessDriver(method, contexts, {name: method.client_state(own) for name, own in contexts.items()})
    driver.round_ = 1
    cohort = Cohort({name: own.weight for name, own in contexts.items()}, 1, seed, 1)
    server = driver.run(method.round(method.server_state(), cohort))
    assert server.found is not None
    return contexts, driver.states, server.found


def removals(data: FederatedDataset, backbone: Backbone, method: SecFPP, seed: int, tries: int) -> tuple[int, int]:
    """In how many of the tries the partition, and a list of shared classes, is another one."""
    contexts, states, found = shared_once(data, backbone, method, seed)
    names, clusterer = sorted(contexts), method.clusterer
    assert isinstance(clusterer, PlainAgreement)
    points = np.stack([clusterer.described(states[name]["descriptor"]) for name in names])
    spread, n_classes = float(states[names[0]]["descriptor.spread"]), len(data.classes)
    before = clusterer.partition(points, spread, seed, 1)
    assert before.tolist() == [found.cluster_of[name] for name in names]
    holders = np.stack([contexts[name].histogram for name in names])
    least = method.class_means.min_holders
    rng, moved, listed = derive(seed, "removed").numpy(), 0, 0
    for _ in range(tries):
        i = int(rng.integers(len(names)))
        context = contexts[names[i]]
        left = np.delete(np.arange(context.weight), rng.integers(context.weight))
        own = ClassSums.of(context.features.numpy()[left], context.data.train.labels[left], n_classes)
        everybody = method.shared_sums(context, states[names[i]], EVERYBODY)
        assert everybody is not None
        less = class_residuals(own, everybody, method.directions, method.class_means.shrinkage)
        others = points.copy()
        others[i] = clusterer.described(less.astype(np.float32))
        moved += not np.array_equal(clusterer.partition(others, spread, seed, 1), before)
        fewer = holders.copy()
        fewer[i] = own.counts
        group = before == before[i]
        listed += any(
            (_shared(fewer[side], least) != _shared(holders[side], least)).any() for side in (slice(None), group)
        )
    return moved, listed


def _shared(counts: np.ndarray, least: int) -> np.ndarray:
    """Which classes at least so many clients have, bool [n_cls]; `counts` are images [clients, n_cls]."""
    return np.asarray((counts > 0).sum(0) >= least)


def main() -> None:
    """Print a row for each epsilon."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--seeds", default="0-2")
    parser.add_argument("--tries", type=int, default=100, help="for each seed")
    asked = parser.parse_args()
    config, backbone = load_config(asked.config), load_backbone("mini", device="cpu", threads=1)
    data = {seed: load_dataset(config, seed) for seed in parse_seeds(asked.seeds)}
    print(f"{'epsilon':>7} {'tries':>7} {'partition':>10} {'classes':>8}")
    for epsilon in (8.0, 4.0, 2.0):
        privacy = Privacy(mechanism="class_means", epsilon=epsilon)
        method = SecFPP(clusterer=PlainAgreement(), poll=PlainPoll(), privacy=privacy)
        counts = [removals(own, backbone, method, seed, asked.tries) for seed, own in data.items()]
        moved, listed = np.sum(counts, axis=0)
        print(f"{epsilon:7g} {asked.tries * len(data):7} {moved:10} {listed:8}", flush=True)


if __name__ == "__main__":
    main()
