from __future__ import annotations

import importlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from secfpp.data.collection import deal
from secfpp.data.collections.huggingface import HuggingFaceSettings, read
from secfpp.data.folders import FolderSettings, load_folder
from secfpp.errors import ConfigError, DataError, DataWarning, MissingExtraError
from secfpp.images import read_images
from support.collections_on_disk import in_folders

hf = pytest.importorskip("datasets")
CLASSES = ("zebra", "mug", "water_lilly")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECFPP_CACHE", str(tmp_path_factory.mktemp("cache")))


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def table(n: int, first: int = 0, names: tuple[str, ...] = CLASSES, **more: list[Any]) -> Any:
    rows = {"image": [png(first + i) for i in range(n)], "label": [i % len(names) for i in range(n)], **more}
    features = hf.Features(
        {"image": hf.Image(), "label": hf.ClassLabel(names=list(names)), **{name: hf.Value("string") for name in more}}
    )
    return hf.Dataset.from_dict({**rows, "image": [{"bytes": b, "path": None} for b in rows["image"]]}, features)


def load(source: Path | str, **settings: Any) -> Any:
    chosen = HuggingFaceSettings(dataset=str(source), size=12, clients_per_domain=2, **settings)
    return deal(read(chosen), chosen, 0)


def refused(source: Path | str, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(source, **settings)
    return str(caught.value)


def test_a_parquet_file_keeps_images_labels_and_the_order_of_its_names(tmp_path: Path) -> None:
    table(45).to_parquet(tmp_path / "things.parquet")
    data = load(tmp_path / "things.parquet")
    assert data.name == "things" and data.classes == ("zebra", "mug", "water lilly")
    held = {
        image.tobytes(): int(label)
        for split in (*data.test.values(), *(s for c in data.clients for s in (c.train, c.validation)))
        for image, label in zip(split.images, split.labels, strict=True)
    }
    expected = {np.asarray(Image.open(io.BytesIO(png(i)))).tobytes(): i % 3 for i in range(45)}
    assert held == expected


@pytest.mark.parametrize("saved", [True, False])
def test_a_folder_of_splits_keeps_them(saved: bool, tmp_path: Path) -> None:
    splits = {"train": table(30), "validation": table(6, 100), "test": table(9, 200), "unlabelled": table(3, 300)}
    if saved:
        hf.DatasetDict(splits).save_to_disk(str(tmp_path / "things"))
        with pytest.warns(DataWarning, match="splits not used: unlabelled"):
            data = load(tmp_path / "things")
    else:
        (tmp_path / "things").mkdir()
        for name in ("train", "validation", "test"):
            splits[name].to_parquet(tmp_path / "things" / f"{name}-00000-of-00001.parquet")
        data = load(tmp_path / "things")
    assert sum(len(c.train) for c in data.clients) == 30 and len(data.test["things"]) == 9
    assert sorted(image.tobytes() for image in data.test["things"].images) == sorted(
        np.asarray(Image.open(io.BytesIO(png(200 + i)))).tobytes() for i in range(9)
    )


def test_a_folder_of_images_by_class_is_read_from_the_files(tmp_path: Path) -> None:
    paths = in_folders(tmp_path / "photos", sorted(CLASSES), 8)
    data = load("photos", data_root=str(tmp_path))
    assert data.classes == ("mug", "water lilly", "zebra")
    held = [i.tobytes() for c in data.clients for s in (c.train, c.validation) for i in s.images]
    held += [i.tobytes() for i in data.test["photos"].images]
    files = [tmp_path / "photos" / path for own in paths for path in own]
    assert sorted(held) == sorted(image.tobytes() for image in read_images(files, 12))


@pytest.mark.parametrize("vehicle", ["train", "test_tube", "training shoe", "dev"])
def test_a_class_that_the_library_takes_for_a_split_loses_no_images(vehicle: str, tmp_path: Path) -> None:
    """See findings/datasets_class_called_train.sh."""
    in_folders(tmp_path / "photos", ("bus", "car", vehicle), 8)
    assert "only 8 of its 24 images were found" in refused(tmp_path / "photos")
    data = load_folder(FolderSettings(root=str(tmp_path / "photos"), layout="class", clients_per_domain=2, size=12))
    assert data.classes == tuple(sorted(("bus", "car", vehicle.replace("_", " "))))


def test_columns_are_named_where_they_cannot_be_told_apart(tmp_path: Path) -> None:
    two = table(45).add_column("thumb", [None] * 45).cast_column("thumb", hf.Image())
    two = two.add_column("site", [f"site {i % 2}" for i in range(45)])
    two.save_to_disk(str(tmp_path / "two"))
    assert "image, thumb could be the image: say it in data.image" in refused(tmp_path / "two")
    assert "no column 'picture'; it has image, label, thumb, site" in refused(tmp_path / "two", image="picture")
    data = load(tmp_path / "two", image="image", domain="site")
    assert data.domains == ("site 0", "site 1") and len(data.clients) == 4
    assert "(from 0): no image in it" in refused(tmp_path / "two", image="thumb")


def test_labels_may_be_names_or_numbers_that_are_named(tmp_path: Path) -> None:
    plain = table(30)
    numbers = plain.cast_column("label", hf.Value("int64"))
    numbers.save_to_disk(str(tmp_path / "numbers"))
    assert "no column could be the label" in refused(tmp_path / "numbers")
    assert "label = 0, of which there are no names" in refused(tmp_path / "numbers", label="label")
    assert "label = 2, of which there are 2 names" in refused(tmp_path / "numbers", label="label", classes=("a", "b"))
    assert load(tmp_path / "numbers", label="label", classes=CLASSES).classes == ("zebra", "mug", "water lilly")
    named = plain.remove_columns("label").add_column("kind", [CLASSES[i % 3] for i in range(30)])
    named.save_to_disk(str(tmp_path / "named"))
    assert load(tmp_path / "named", label="kind").classes == ("mug", "water lilly", "zebra")
    more = plain.remove_columns("label").add_column("kind", ["ant", *(CLASSES[i % 3] for i in range(29))])
    hf.DatasetDict(train=more, test=named).save_to_disk(str(tmp_path / "more"))
    assert "class 'ant' has no image for the test" in refused(tmp_path / "more", label="kind")
    hf.DatasetDict(train=named, test=more).save_to_disk(str(tmp_path / "last"))
    found = read(HuggingFaceSettings(dataset=str(tmp_path / "last"), label="kind"))
    assert found.classes == ("ant", "mug", "water lilly", "zebra")


def test_a_class_without_an_image_is_named(tmp_path: Path) -> None:
    table(30, names=CLASSES).filter(lambda row: row["label"] != 1).save_to_disk(str(tmp_path / "two"))
    assert "class 'mug' has no image for training" in refused(tmp_path / "two")


def test_broken_images_are_named_by_row(tmp_path: Path) -> None:
    rows = [{"bytes": b"JPEG" if i == 4 else png(i), "path": None} for i in range(30)]
    features = hf.Features({"image": hf.Image(), "label": hf.ClassLabel(names=list(CLASSES))})
    hf.Dataset.from_dict({"image": rows, "label": [i % 3 for i in range(30)]}, features).save_to_disk(
        str(tmp_path / "things")
    )
    assert "things, train, row 4 (from 0): damaged, or not an image" in refused(tmp_path / "things")


def test_nothing_is_fetched_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def load_dataset(name: str, *args: Any, **kwargs: Any) -> Any:
        asked.append(hf.config.HF_HUB_OFFLINE)
        raise ConnectionError("no network")

    monkeypatch.setattr(hf.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hf, "load_dataset", load_dataset)
    for download in (False, True):
        assert "neither on this disk nor in the cache" in refused("somebody/photos", download=download)
    assert asked == [True, False]
    assert hf.config.HF_HUB_OFFLINE is False


def test_the_real_library_keeps_to_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its switch as we set it the library does not open a connection."""
    monkeypatch.setattr(hf.config, "HF_HUB_OFFLINE", False)
    opened: list[Any] = []
    monkeypatch.setattr("socket.create_connection", lambda *a, **k: opened.append(a))
    monkeypatch.setattr("socket.getaddrinfo", lambda *a, **k: opened.append(a) or [])
    assert "data.download = true" in refused("somebody/photos-that-are-not-here")
    assert opened == []


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"secfpp\[data\]"):
        load("somebody/photos")


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.dataset = '': a folder, a Parquet file, or a name"):
        HuggingFaceSettings(dataset="")
