"""What is kept on disk because there are very many clients changes no bit of any result or message."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from secfpp import paging, shelf
from secfpp.algorithms.base import methods
from secfpp.algorithms.training import LocalTraining
from secfpp.data.federated import FederatedDataset
from secfpp.data.icons import IconSettings, load_icons
from secfpp.data.partitions.iid import IID
from secfpp.experiment.results.result_record import result_record
from secfpp.models.backbone import Backbone
from secfpp.protocol.transcript import Transcript
from secfpp.runtime import judging
from secfpp.runtime.contexts import dataset_digest
from secfpp.runtime.trainer import train
from secfpp.secure.clustering.plain_agreement import PlainAgreement
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.polls.plain_poll import PlainPoll
from support.method_runs import TRAINED, make

CLEAR = {"clusterer": PlainAgreement(), "aggregator": PlainMean(), "poll": PlainPoll()}


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on everything is too much for memory."""

    def begin() -> None:
        monkeypatch.setattr(paging, "IN_MEMORY", 0)
        monkeypatch.setattr(shelf, "_FILE", 1 << 16)
        monkeypatch.setattr(judging, "_PART", 3)

    return begin


def kept_files(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all files that are made from now on, in a list that grows."""
    made, file_map = [], paging.file_map
    for module in ("secfpp.storage", "secfpp.paging"):
        monkeypatch.setattr(f"{module}.file_map", lambda *a, **k: made.append(a[1]) or file_map(*a, **k))
    return made


def ran(algorithm: object, name: str, data: FederatedDataset, backbone: Backbone, checkpoint: Path | None = None):
    transcript = Transcript()
    result = train(
        data, backbone, algorithm, method=name, seed=0, rounds=3, transcript=transcript, checkpoint=checkpoint
    )
    arrays, about = result_record(result)
    timeless = {key: value for key, value in about.items() if key not in ("seconds", "costs")}
    bits = {key: (array.dtype.str, array.shape, array.tobytes()) for key, array in arrays.items()}
    return bits, timeless, {**about["costs"], "seconds": 0}, transcript


@pytest.mark.parametrize("name", TRAINED)
def test_a_run_has_the_same_bits_and_costs(name, dataset, backbone, on_disk, tmp_path, monkeypatch) -> None:
    plain = ran(make(name), name, dataset, backbone, tmp_path / "one")
    on_disk()
    made = kept_files(monkeypatch)
    kept = ran(make(name), name, dataset, backbone, tmp_path / "two")
    assert made and kept[:3] == plain[:3]
    assert [(m.step, m.client, m.direction, m.size) for m in kept[3]] == [
        (m.step, m.client, m.direction, m.size) for m in plain[3]
    ]


def test_messages_in_the_clear_are_the_same_bytes(dataset, backbone, on_disk) -> None:
    algorithm = methods()["secfpp"](training=LocalTraining(steps=2, batch=8), effort=1.0, **CLEAR)
    plain = ran(algorithm, "clear", dataset, backbone)
    on_disk()
    assert ran(algorithm, "clear", dataset, backbone)[3].digest() == plain[3].digest()


@pytest.mark.parametrize(
    "settings", [{}, {"alignment": 0.5}, {"partition": IID()}], ids=["by domain", "two conventions", "mixed"]
)
@pytest.mark.parametrize("cached", [False, True], ids=["rendered", "from the cache"])
def test_pictures_are_the_same(settings, cached, on_disk, tmp_path, monkeypatch) -> None:
    small = IconSettings(
        shots=6, validation_shots=2, test_shots=2, clients_per_domain=4, domains=("sketch", "pixel"), **settings
    )
    wanted = dataset_digest(load_icons(small, 3))
    if not cached:
        monkeypatch.setenv("SECFPP_CACHE", str(tmp_path))
    gc.collect()
    before = len(paging._MAPS)
    on_disk()
    data = load_icons(small, 3)
    assert len(paging._MAPS) > before  # the clients' pictures; what they were taken from is closed
    paging.give_back()
    assert dataset_digest(data) == wanted
    assert all(split.images.flags.writeable for split in data.test.values())
    again = load_icons(small, 3)  # what was rendered may be read from the cache by then
    assert dataset_digest(again) == wanted
    del data, again
    gc.collect()
    assert len(paging._MAPS) == before


def test_nobody_else_sees_the_files(dataset, backbone, on_disk, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SECFPP_CACHE", str(tmp_path))
    on_disk()
    names, keep = [], shelf.Shelf.keep

    def kept(self: shelf.Shelf, array: np.ndarray, total: int) -> np.ndarray:
        found = keep(self, array, total)
        names.append(sorted(path.name for path in tmp_path.iterdir()))
        return found

    monkeypatch.setattr(shelf.Shelf, "keep", kept)
    ran(make("promptfl"), "promptfl", dataset, backbone)
    assert len(names) > len(dataset.clients) and all(set(seen) <= {"features"} for seen in names)
