"""Run methods on seeds and keep the results: the one place behind ``demo`` and ``run``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from secfpp.experiment.config import ExperimentConfig, to_toml
from secfpp.experiment.report import render_report, sample_images
from secfpp.experiment.results import costs_lines, metrics_lines, prompt_files, summarize
from secfpp.experiment.run_directory import RunDirectory, git_revision, versions

if TYPE_CHECKING:
    from secfpp.data.federated import FederatedDataset
    from secfpp.models.backbone import Backbone
    from secfpp.runtime.trainer import RoundRecord, RunResult


class Progress(Protocol):
    """What watches a run; all calls come from the running thread, in order."""

    def preparing(self, what: str) -> None:
        """Something that takes a while, before or between trainings."""
        ...

    def method_started(self, method: str, seed: int, rounds: int, cell: int, cells: int) -> None:
        """Training of `method` begins, the `cell`-th of `cells`, counted from 1."""
        ...

    def round_done(self, method: str, seed: int, record: RoundRecord) -> None:
        """A round is over."""
        ...

    def method_done(self, result: RunResult) -> None:
        """A method is trained and evaluated on one seed, and its results are on disk."""
        ...


def run_experiment(
    config: ExperimentConfig, labels: Sequence[str], directory: RunDirectory, progress: Progress
) -> dict[str, Any]:
    """Train every method in `labels` on every seed of `config`, writing results as they come.

    Model and data are loaded, and the labels resolved, before anything in `directory` changes. After
    each method and seed all result files are written anew, each atomically: a run that is stopped
    leaves the results of what was finished.

    Returns:
        The content of ``summary.json``.

    Raises:
        ConfigError: unknown labels, or settings that model or data refuse.
        SecFPPError: what data or training raise.
    """
    from secfpp.models.backbone import load_backbone
    from secfpp.runtime.trainer import train

    chosen = config.choose(labels)
    model = config.backbone
    progress.preparing(f"loading the model {model.name!r}")
    backbone = load_backbone(model.name, device=model.device, threads=model.threads, dtype=model.dtype)
    progress.preparing(f"loading the data set {config.data.name!r}, seed {config.seeds[0]}")
    dataset = load_dataset(config, config.seeds[0])
    samples = sample_images(dataset)
    about: dict[str, Any] = {"versions": versions(), "git": git_revision(), "data": {}}
    directory.start(to_toml(config))
    started = time.perf_counter()
    results: list[RunResult] = []
    for seed in config.seeds:
        if seed != config.seeds[0]:
            progress.preparing(f"loading the data set {config.data.name!r}, seed {seed}")
            dataset = load_dataset(config, seed)
        about["data"][str(seed)] = dict(dataset.facts)
        directory.write_json(f"partitions/{seed}.json", partition_table(dataset))
        progress.preparing("encoding the images (once: they are kept in the cache)")
        encode_images(dataset, backbone)
        for label, algorithm in chosen.items():
            cells = len(chosen) * len(config.seeds)
            progress.method_started(label, seed, config.rounds, len(results) + 1, cells)

            def on_round(record: RoundRecord, label: str = label, seed: int = seed) -> None:
                progress.round_done(label, seed, record)

            result = train(
                dataset, backbone, algorithm, method=label, seed=seed, rounds=config.rounds, on_round=on_round
            )
            results.append(result)
            for name, content in prompt_files(result, backbone.spec, dataset.classes).items():
                directory.write(name, content)
            summary = _write(directory, config, _in_order(results, chosen), about)
            progress.method_done(result)
    summary["wall_seconds"] = time.perf_counter() - started
    directory.write_json("summary.json", summary)
    directory.write("report.html", render_report(summary, _in_order(results, chosen), samples, to_toml(config)))
    directory.mark("finished")
    return summary


def load_dataset(config: ExperimentConfig, seed: int) -> FederatedDataset:
    """The federated data set of `config` for one seed."""
    from secfpp.data.catalog import datasets

    return datasets()[config.data.name].load(config.data.settings, seed)


def partition_table(dataset: FederatedDataset) -> dict[str, Any]:
    """Who holds how many training and validation images of each class."""
    n_classes = len(dataset.classes)
    clients = {
        client.name: {
            "domain": client.domain,
            "train": client.train.histogram(n_classes).tolist(),
            "validation": client.validation.histogram(n_classes).tolist(),
        }
        for client in dataset.clients
    }
    return {"classes": list(dataset.classes), "clients": clients}


def encode_images(dataset: FederatedDataset, backbone: Backbone) -> None:
    """Put every image's features into the cache, so that no method pays for them in its seconds."""
    for client in dataset.clients:
        for split in (client.train, client.validation):
            if len(split):
                backbone.features(split.images)
    for split in dataset.test.values():
        backbone.features(split.images)


def _in_order(results: Sequence[RunResult], labels: Mapping[str, object]) -> list[RunResult]:
    order = {label: index for index, label in enumerate(labels)}
    return sorted(results, key=lambda result: (order[result.method], result.seed))


def _write(
    directory: RunDirectory, config: ExperimentConfig, results: Sequence[RunResult], about: Mapping[str, Any]
) -> dict[str, Any]:
    directory.write("metrics.jsonl", metrics_lines(results))
    directory.write("costs.jsonl", costs_lines(results))
    summary = {**summarize(config.data.name, config.backbone.name, config.rounds, results), **about}
    directory.write_json("summary.json", summary)
    return summary
