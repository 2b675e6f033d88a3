from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from secfpp.errors import ConfigError, DataError, DiskFullError, Problem, ProtocolError
from secfpp.experiment.results.cells import cell_file, checkpoint_file, error_file, load_cell
from secfpp.experiment.results.holdings import partition_table
from secfpp.experiment.run import training
from secfpp.experiment.run.training import Event, SeedTask, described, train_seed
from secfpp.experiment.spec.config import parse_config
from secfpp.experiment.spec.plan import Cell, Plan
from secfpp.models.novelty import Novelty
from secfpp.models.prompt_file import load_prompt
from support_experiment import Pooled, World, fake_result, toy_dataset, toy_world


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return toy_world(monkeypatch)


def task(folder: Path, *labels: str, **changes: Any) -> SeedTask:
    config = parse_config({"seed": 1, "rounds": 2, "data": {"name": "toy"}, "method": {"name": "grouped"}, **changes})
    labels = labels or ("grouped", "pooled")
    return SeedTask(folder, config, Plan.of(config, config.choose(labels), "abc123"), 1, labels)


def play(world: World, todo: SeedTask, **options: Any) -> list[Event]:
    events: list[Event] = []
    train_seed(todo, world.load_backbone("mini"), events.append, **options)
    return events


def kinds(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.kind, event.cell.method) for event in events]


def test_events_tell_everything_in_order(world: World, tmp_path: Path) -> None:
    events = play(world, task(tmp_path))
    of_a_cell = ["started", *2 * ["exchange", "round"], "finished"]
    assert kinds(events) == [
        ("preparing", "grouped"),
        ("preparing", "grouped"),
        *((kind, "grouped") for kind in of_a_cell),
        *((kind, "pooled") for kind in of_a_cell),
    ]
    assert [event.record.round for event in events if event.record] == [1, 2, 1, 2]
    assert "seed 1" in events[0].text and "seed 1" in events[1].text
    working = [event.text for event in events if event.kind == "exchange"]
    assert [text[:21] for text in working] == 2 * ["round 1/2, exchange 1", "round 2/2, exchange 1"]


def test_a_cell_is_whole_when_it_is_told_to_be_finished(world: World, tmp_path: Path) -> None:
    todo = task(tmp_path)

    def look(event: Event) -> None:
        if event.kind == "finished":
            finished = load_cell(tmp_path, event.cell, todo.plan.identity(event.cell))
            assert finished is not None and finished.versions["numpy"] and len(finished.data) == 64
            prompts = list((tmp_path / "prompts" / event.cell.method / "1").iterdir())
            assert len(prompts) == len(finished.result.clients)

    train_seed(todo, world.load_backbone("mini"), look)
    assert len(world.trained) == 2


def test_training_is_given_where_to_keep_its_rounds(world: World, tmp_path: Path, monkeypatch: Any) -> None:
    given: list[dict[str, Any]] = []
    trainer = sys.modules["secfpp.runtime.trainer"]
    monkeypatch.setattr(trainer, "train", lambda *args, **options: given.append(options))
    play(world, task(tmp_path, "pooled", participation=0.5))
    (options,) = given
    assert options["checkpoint"] == checkpoint_file(tmp_path, Cell("pooled", 1))
    assert (options["participation"], options["rounds"], options["seed"]) == (0.5, 2, 1)


def test_prompt_files_know_what_their_clients_images_are_like(world: World, tmp_path: Path) -> None:
    dataset, backbone = toy_dataset(1), world.load_backbone("mini")
    named = [replace(client, name=name) for client, name in zip(dataset.clients, fake_result().clients, strict=False)]
    dataset = replace(dataset, clients=tuple(named))
    backbone.features = lambda images: torch.from_numpy(np.float32(images.reshape(len(images), -1)[:, :4]))
    play(world, task(tmp_path, "pooled"), dataset=dataset)  # the toy's features say nothing
    assert load_prompt(next((tmp_path / "prompts").rglob("*.safetensors"))).image_mean is None
    train_seed(task(tmp_path / "other", "pooled"), backbone, lambda event: None, dataset)
    prompts = {each.client: each for each in map(load_prompt, (tmp_path / "other" / "prompts").rglob("*.safetensors"))}
    for client in dataset.clients:
        prompt = prompts[client.name]
        expected = Novelty.of(*(backbone.features(s.images).numpy() for s in (client.train, client.validation)))
        assert expected is not None and prompt.novelty_threshold == expected.threshold
        np.testing.assert_array_equal(prompt.image_mean, expected.mean)


def test_loaded_data_are_not_loaded_again(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "load_dataset", None)
    events = play(world, task(tmp_path, "pooled"), dataset=toy_dataset(1))
    assert kinds(events)[0][0] == "preparing" and kinds(events)[-1] == ("finished", "pooled")


@pytest.mark.parametrize("error", [ProtocolError("gone"), ValueError("gone"), MemoryError()])
def test_an_error_is_kept_with_its_traceback_and_the_next_cell_begins(
    error: Exception, world: World, tmp_path: Path
) -> None:
    def fail(method: str) -> None:
        if method == "grouped":
            raise error

    world.before_training = fail
    events = play(world, task(tmp_path))
    assert kinds(events)[3] == ("failed", "grouped") and kinds(events)[-1] == ("finished", "pooled")
    failed = events[3]
    assert failed.error is error and failed.text == described(error)
    note = error_file(tmp_path, failed.cell).read_text()
    assert note.startswith(failed.text) and "Traceback" in note
    assert not cell_file(tmp_path, failed.cell).exists()


def test_a_full_disk_is_no_failure_of_a_cell_and_ends_the_run(world: World, tmp_path: Path) -> None:
    def full(_: str) -> None:
        raise DiskFullError("no room left")

    world.before_training = full
    with pytest.raises(DiskFullError):
        play(world, task(tmp_path))
    assert not list(tmp_path.rglob("*.error.txt")) and world.trained == []


def test_an_interruption_is_no_failure(world: World, tmp_path: Path) -> None:
    def stop(_: str) -> None:
        raise KeyboardInterrupt

    world.before_training = stop
    with pytest.raises(KeyboardInterrupt):
        play(world, task(tmp_path))
    assert not list(tmp_path.rglob("*.error.txt"))


def test_data_that_cannot_be_loaded_fail_every_cell(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise DataError("photo.jpg: broken")

    monkeypatch.setattr(training, "load_dataset", broken)
    events = play(world, task(tmp_path))
    assert kinds(events)[1:] == [("failed", "grouped"), ("failed", "pooled")]
    assert {event.text for event in events[1:]} == {"photo.jpg: broken"}


def test_class_names_that_the_model_cannot_read_fail_before_an_image_is_encoded(world: World, tmp_path: Path) -> None:
    world.unreadable = toy_dataset(1).classes[0]
    events = play(world, task(tmp_path))
    assert kinds(events)[1:] == [("failed", "grouped"), ("failed", "pooled")]
    assert "cannot be read" in events[1].text and world.encoded == world.trained == []


def test_other_data_under_the_same_settings_are_noticed(world: World, tmp_path: Path) -> None:
    play(world, task(tmp_path, "pooled"))
    before = (tmp_path / "partitions/1.json").read_bytes()
    events = play(world, task(tmp_path, "grouped"), dataset=toy_dataset(2))
    assert kinds(events) == [("failed", "grouped")]
    assert "not those" in events[0].text and "--force" in events[0].text
    assert (tmp_path / "partitions/1.json").read_bytes() == before
    assert kinds(play(world, task(tmp_path, "grouped")))[-1] == ("finished", "grouped")


def test_settings_that_do_not_fit_the_clients_fail_before_images_are_encoded(world: World, tmp_path: Path) -> None:
    events = play(world, task(tmp_path, "pooled", participation=0.25))
    assert kinds(events) == [("preparing", "pooled"), ("failed", "pooled")]
    assert events[-1].text == "clients = 1: at least 2" and not world.encoded


def test_the_partition_file_says_who_holds_what(world: World, tmp_path: Path) -> None:
    play(world, task(tmp_path, "pooled"))
    stored = json.loads((tmp_path / "partitions/1.json").read_text())
    table = partition_table(toy_dataset(1))
    assert {key: stored[key] for key in table} == table
    assert stored["clients"]["domain 0/0"] == {"domain": "domain 0", "train": [1, 1, 1], "validation": [1, 1, 1]}
    assert len(stored["digest"]) == 64 and stored["facts"] == {}


def test_a_task_forgets_what_has_ended(tmp_path: Path, world: World) -> None:
    todo = task(tmp_path, "pooled", "grouped")
    assert todo.cells == (("pooled", 1), ("grouped", 1))
    assert todo.without({Cell("pooled", 1), Cell("grouped", 2)}).cells == (("grouped", 1),)


def test_messages_nobody_wrote_for_users_carry_their_type() -> None:
    assert described(DataError("photo.jpg: broken")) == "photo.jpg: broken"
    assert described(KeyError("x")) == "KeyError: 'x'"


def test_rounds_go_to_tensorboard_while_they_are_trained(world: World, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    seen: list[int] = []

    def look(event: Event) -> None:
        if event.kind == "round":
            seen.append(sum(path.stat().st_size for path in (tmp_path / "tensorboard/pooled/1").iterdir()))

    train_seed(replace(task(tmp_path, "pooled"), tensorboard=True), world.load_backbone("mini"), look)
    assert len(seen) == 2 and 0 < seen[0] < seen[1]
    play(world, task(tmp_path, "grouped"))
    assert not (tmp_path / "tensorboard/grouped").exists()


def test_memory_is_told_or_refused_before_anything_is_encoded(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def needed(algorithm: object, clients: int, n_classes: int, seed: int) -> str:
        assert (clients, n_classes, seed) == (4, 3, 1)
        if isinstance(algorithm, Pooled):
            raise ConfigError([Problem("clusterer.restarts", 192, "at most 5")])
        return "takes about 6 GiB"

    monkeypatch.setattr(training, "require_memory", needed)
    events = play(world, task(tmp_path))
    assert kinds(events)[:4] == [
        ("preparing", "grouped"),
        ("failed", "pooled"),
        ("note", "grouped"),
        ("preparing", "grouped"),
    ]
    assert events[2].text == "seed 1: takes about 6 GiB"
    assert [method for method, _ in world.trained] == ["grouped"]


def test_a_refused_setting_has_the_key_that_a_config_sets(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def needed(*_: object) -> str:
        raise ConfigError([Problem("training.lr", 192, "at most 5")])

    monkeypatch.setattr(training, "require_memory", needed)
    (failed,) = (event for event in play(world, task(tmp_path, "grouped")) if event.kind == "failed")
    assert failed.text == "method.training.lr = 192: at most 5"
    assert error_file(tmp_path, failed.cell).read_text().startswith(failed.text)
