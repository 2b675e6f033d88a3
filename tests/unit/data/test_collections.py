from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from mmap import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from secfpp.data.catalog import datasets
from secfpp.data.collections.domainnet import TEN
from secfpp.data.collections.office_caltech import TEN as OFFICE_TEN
from secfpp.errors import ConfigError, DataError
from secfpp.images import read_images
from support.collections_on_disk import (
    DOMAINNET,
    OFFICE,
    caltech101,
    cifar,
    domain_lists,
    dtd,
    food101,
    noisy,
    oxford_flowers,
    oxford_pets,
)

COOP: dict[str, tuple[Callable[..., Path], tuple[str, ...], str]] = {
    "caltech101": (caltech101, ("face", "airplane", "water lilly"), "caltech-101/split_zhou_Caltech101.json"),
    "oxford_pets": (oxford_pets, ("siamese", "great pyrenees", "bombay"), "oxford_pets/split_zhou_OxfordPets.json"),
    "oxford_flowers": (
        oxford_flowers,
        ("pink primrose", "hard-leaved pocket orchid", "globe thistle"),
        "oxford_flowers/split_zhou_OxfordFlowers.json",
    ),
    "food101": (food101, ("apple pie", "ramen", "waffles"), "food-101/split_zhou_Food101.json"),
    "dtd": (dtd, ("banded", "dotted", "woven"), "dtd/split_zhou_DescribableTextures.json"),
}


def load(name: str, root: Path, seed: int = 0, **settings: Any) -> Any:
    spec = datasets()[name]
    return spec.load(spec.settings(data_root=str(root), **{"size": 16, "clients_per_domain": 2, **settings}), seed)


def survey(name: str, root: Path, **settings: Any) -> Any:
    spec = datasets()[name]
    assert spec.survey is not None
    return spec.survey(spec.settings(data_root=str(root), **settings))


def refused(name: str, root: Path, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(name, root, **settings)
    return str(caught.value)


def sizes(data: Any) -> tuple[int, int, int]:
    """Images for training, validation and test."""
    return (
        sum(len(client.train) for client in data.clients),
        sum(len(client.validation) for client in data.clients),
        sum(map(len, data.test.values())),
    )


def content(data: Any) -> list[bytes]:
    """All pixels of the test, with labels, in no order."""
    return sorted(
        image.tobytes() + bytes([label])
        for split in data.test.values()
        for image, label in zip(split.images, split.labels, strict=True)
    )


@pytest.mark.parametrize("name", COOP)
def test_a_split_file_decides_parts_and_the_order_of_classes(name: str, tmp_path: Path) -> None:
    make, classes, file = COOP[name]
    data = load(name, make(tmp_path))
    assert data.name == name and data.classes == classes
    assert sizes(data) == (30, 12, 18)
    assert [client.name for client in data.clients] == [f"{name}-0", f"{name}-1"] and data.domains == (name,)
    assert data.facts["split"] == Path(file).name
    table = json.loads((tmp_path / file).read_text())
    images = next((tmp_path / file).parent.rglob(table["test"][0][0].rpartition("/")[2])).parent
    root = images.parent if "/" in table["test"][0][0] else images
    expected = read_images([root / path for path, _, _ in table["test"]], 16)
    assert content(data) == sorted(
        image.tobytes() + bytes([label]) for image, (_, label, _) in zip(expected, table["test"], strict=True)
    )


@pytest.mark.parametrize("name", COOP)
def test_without_the_file_a_split_is_made_that_no_seed_changes(name: str, tmp_path: Path) -> None:
    make, classes, file = COOP[name]
    make(tmp_path, split=False)
    data, other = (load(name, tmp_path, seed) for seed in (0, 1))
    alphabetical = {"caltech101": ("face", "airplane", "water lilly")}  # the folder is called Faces
    assert data.classes == alphabetical.get(name, classes)
    assert sizes(data) == ((33, 9, 18) if name == "oxford_pets" else (30, 12, 18))
    assert data.facts["split"] == f"made here, as there is no {Path(file).name}"
    assert content(data) == content(other)


def test_the_label_of_each_flower_is_the_one_in_the_file_of_matlab(tmp_path: Path) -> None:
    oxford_flowers(tmp_path, split=False)
    found = survey("oxford_flowers", tmp_path)
    (holding,) = found.holdings
    assert [picture.label for picture in holding.pictures[:3]] == [
        "hard-leaved pocket orchid",
        "globe thistle",
        "pink primrose",
    ]
    assert [picture.path.name for picture in holding.pictures[:2]] == ["image_00001.jpg", "image_00002.jpg"]


def test_pets_without_the_file_are_tested_on_their_makers_test_images(tmp_path: Path) -> None:
    oxford_pets(tmp_path, split=False)
    data = load("oxford_pets", tmp_path)
    listed = (tmp_path / "oxford_pets/annotations/test.txt").read_text().split("\n")[:-1]
    paths = [tmp_path / "oxford_pets/images" / f"{line.split()[0]}.jpg" for line in listed]
    labels = [int(line.split()[1]) - 1 for line in listed]
    expected = read_images(paths, 16)
    assert content(data) == sorted(i.tobytes() + bytes([c]) for i, c in zip(expected, labels, strict=True))


def test_shots_are_drawn_by_the_seed_and_per_class(tmp_path: Path) -> None:
    caltech101(tmp_path)
    data, again, other = (
        load("caltech101", tmp_path, seed, shots=4, validation_shots=2, test_shots=3) for seed in (0, 0, 1)
    )
    assert sizes(data) == (12, 6, 9)
    assert sum(client.train.histogram(3) for client in data.clients).tolist() == [4, 4, 4]
    assert content(data) == content(again) != content(other)


@pytest.mark.parametrize("n_classes", [10, 100])
@pytest.mark.parametrize("text", [True, False])
def test_cifar_keeps_its_pixels_its_labels_and_its_order_of_names(n_classes: int, text: bool, tmp_path: Path) -> None:
    name = f"cifar{n_classes}"
    data = load(name, cifar(tmp_path, n_classes, text=text), size=32)
    file = tmp_path / ("cifar-10-batches-py/test_batch" if n_classes == 10 else "cifar-100-python/test")
    table = {key.decode() if isinstance(key, bytes) else key: v for key, v in pickle.loads(file.read_bytes()).items()}
    labels = table["labels" if n_classes == 10 else "fine_labels"]
    expected = table["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    assert content(data) == sorted(i.tobytes() + bytes([c]) for i, c in zip(expected, labels, strict=True))
    assert data.classes[:2] == ("thing a0", "thing b1") and len(data.classes) == n_classes
    assert sizes(data) == ((130, 20, 60) if n_classes == 10 else (1100, 100, 600))
    assert data.image_size == 32


@pytest.mark.parametrize("kind", ["pkl", "txt"])
@pytest.mark.parametrize("above", ["", "../data/DomainNet/"])
def test_the_ten_classes_of_domainnet_have_their_order_in_every_domain(kind: str, above: str, tmp_path: Path) -> None:
    classes = ("zebra", "aircraft_carrier", *TEN[:-1]) if kind == "txt" else (*TEN[::-1], "aircraft_carrier")
    domain_lists(tmp_path / "DomainNet", DOMAINNET, classes, 4, 2, kind, above)
    data = load("domainnet", tmp_path)
    assert data.classes == tuple(name.replace("_", " ") for name in TEN)
    assert data.domains == DOMAINNET and len(data.clients) == 12
    for domain, split in data.test.items():
        assert split.histogram(10).tolist() == [2] * 10
        paths = [tmp_path / "DomainNet" / domain / name / f"{name}_{i:04d}.jpg" for name in TEN for i in (4, 5)]
        expected = zip(read_images(paths, 16), np.repeat(np.arange(10), 2), strict=True)
        assert sorted(image.tobytes() + bytes([c]) for image, c in expected) == sorted(
            image.tobytes() + bytes([c]) for image, c in zip(split.images, split.labels, strict=True)
        )
    everything = load("domainnet", tmp_path, classes=(), domains=("real", "sketch"))
    assert len(everything.classes) == 11 and everything.domains == ("real", "sketch")


@pytest.mark.parametrize("kind", ["pkl", ""])
def test_office_caltech_is_read_by_lists_or_by_folders(kind: str, tmp_path: Path) -> None:
    domain_lists(tmp_path / "office_caltech_10", OFFICE, OFFICE_TEN, 6, 4, kind, "office_caltech_10/")
    data = load("office_caltech", tmp_path)
    assert data.classes == tuple(name.replace("_", " ") for name in OFFICE_TEN)
    assert data.domains == OFFICE and len(data.clients) == 8
    assert sizes(data) == ((200, 40, 160) if kind else (200, 80, 120))


def test_classes_have_the_same_order_in_every_process(tmp_path: Path) -> None:
    """Names that are kept in a set come in another order in each process, and labels then mean something else."""
    domain_lists(tmp_path / "DomainNet", DOMAINNET[:2], ("zebra", "ant", "bird", "cat", "owl", "fox"), 3, 2, "pkl")
    code = f"""
from secfpp.data.catalog import datasets
spec = datasets()["domainnet"]
settings = spec.settings(data_root={str(tmp_path)!r}, domains=("clipart", "infograph"), classes=())
print(spec.survey(settings).classes)
"""
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert told == {"('ant', 'bird', 'cat', 'fox', 'owl', 'zebra')\n"}


def test_the_root_is_said_by_the_variable_before_the_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    caltech101(tmp_path)
    monkeypatch.setenv("SECFPP_DATA_ROOT", str(tmp_path))
    assert load("caltech101", Path("/nowhere")).classes[0] == "face"
    monkeypatch.setenv("SECFPP_DATA_ROOT", str(tmp_path / "gone"))
    assert "gone: no such folder: put the collection there, or correct --data-root" in refused("caltech101", tmp_path)
    monkeypatch.delenv("SECFPP_DATA_ROOT")
    assert "no folder food-101: put the collection there" in refused("food101", tmp_path)
    with pytest.raises(ConfigError, match=r"data\.data_root = '': the folder that holds caltech-101/"):
        datasets()["caltech101"].load(datasets()["caltech101"].settings(), 0)


def change(file: Path, edit: Callable[[Any], Any]) -> None:
    table = json.loads(file.read_text())
    edit(table)
    file.write_text(json.dumps(table))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda t: t["val"][0].__setitem__(0, "Faces/gone.jpg"), "val 0 (from 0): {}Faces/gone.jpg: no such file"),
        (lambda t: t["test"].append(t["train"][3]), "Faces_0003.jpg a second time (in train and test), see "),
        (lambda t: t["test"][0].__setitem__(2, "airplane"), "numbers and names disagree"),
        (lambda t: t["test"][0].__setitem__(1, 1),
         "class 1 is 'face', but elsewhere class 1 is 'airplane' and 'face' is class 0"),
        (lambda t: t["test"][0].pop(), "test 0 (from 0): ['Faces/Faces_0014.jpg', 0]: should be [path, number, name]"),
        (lambda t: t.update(trial=[]), "'trial': should be lists under train, val and test"),
        (lambda t: t.update(test=[row for row in t["test"] if row[1]]), "class 'face' has no image for the test"),
        (lambda t: t.update(train=[row for row in t["train"] if row[1] != 2]),
         "class 'water lilly' has no image for training"),
        (lambda t: t["train"][0].__setitem__(2, "FACE"), "class FACE: the same as face but for capitals"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_split_file_is_named(edit: Callable[[Any], Any], words: str, tmp_path: Path) -> None:
    caltech101(tmp_path)
    change(tmp_path / "caltech-101/split_zhou_Caltech101.json", edit)
    if "FACE" in words:
        change(tmp_path / "caltech-101/split_zhou_Caltech101.json", lambda t: t["train"][0].__setitem__(1, 7))
    images = f"{tmp_path}/caltech-101/101_ObjectCategories/"
    assert words.replace("{}", images) in refused("caltech101", tmp_path)


def test_every_broken_image_is_named_before_training(tmp_path: Path) -> None:
    caltech101(tmp_path)
    images = tmp_path / "caltech-101/101_ObjectCategories"
    for name in ("Faces/Faces_0000.jpg", "airplanes/airplanes_0019.jpg"):
        (images / name).write_bytes((images / name).read_bytes()[:100])
    told = refused("caltech101", tmp_path)
    assert f"{images}/Faces/Faces_0000.jpg: damaged" in told and f"{images}/airplanes/airplanes_0019.jpg: dam" in told


def test_a_class_folder_without_images_is_named(tmp_path: Path) -> None:
    dtd(tmp_path, split=False)
    (tmp_path / "dtd/images/cracked").mkdir()
    assert "dtd/images/cracked: no image: complete the collection" in refused("dtd", tmp_path)


@pytest.mark.parametrize(
    ("file", "written", "words"),
    [
        ("imagelabels.mat", b"MATLAB", "imagelabels.mat: not a file of MATLAB with labels, or damaged"),
        ("cat_to_name.json", b'{"1": "pink primrose"}', "no name for the labels [2, 10]"),
        ("cat_to_name.json", b"[", "cat_to_name.json: not JSON, or damaged"),
    ],
)
def test_damaged_lists_of_flowers_are_named(file: str, written: bytes, words: str, tmp_path: Path) -> None:
    oxford_flowers(tmp_path, split=False)
    (tmp_path / "oxford_flowers" / file).write_bytes(written)
    assert words in refused("oxford_flowers", tmp_path)


def test_a_line_of_the_pets_lists_that_is_none_is_named(tmp_path: Path) -> None:
    oxford_pets(tmp_path, split=False)
    file = tmp_path / "oxford_pets/annotations/test.txt"
    file.write_text("Bombay 3 1 1\n" + file.read_text())
    assert "test.txt, line 1: 'Bombay 3 1 1': should be an image and three numbers" in refused("oxford_pets", tmp_path)


class Runs:
    def __reduce__(self) -> Any:
        return Path.touch, (Path("ran"),)


@pytest.mark.parametrize(
    ("held", "words"),
    [
        (Runs(), "only tuples, lists, dicts"),
        ([1], "holds list, not a dict"),
        ({"data": np.zeros((2, 3072), np.uint8)}, "no labels in it, but ['data']"),
        ({"data": np.zeros((2, 3000), np.uint8), "labels": [0, 1]},
         "data are uint8 of shape (2, 3000), not uint8 of 2 x 3072"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 10]}, "image 1: label 10, not a number from 0 to 9"),
    ],
)  # fmt: skip
def test_files_of_cifar_that_hold_something_else_are_named(
    held: Any, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cifar(tmp_path)
    (tmp_path / "cifar-10-batches-py/data_batch_2").write_bytes(pickle.dumps(held))
    told = refused("cifar10", tmp_path)
    assert "data_batch_2" in told and words in told
    assert not (tmp_path / "ran").exists()


def rewritten(root: Path, edit: Callable[[Any], Any]) -> str:
    """What is said of a list of Office-Caltech10 after `edit`."""
    domain_lists(root / "office_caltech_10", OFFICE, OFFICE_TEN, 4, 2, "pkl")
    file = root / "office_caltech_10/dslr_train.pkl"
    file.write_bytes(pickle.dumps(edit(pickle.loads(file.read_bytes()))))
    return refused("office_caltech", root)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda held: (held[0], held[1][1:]), "40 paths but 39 class names"),
        (lambda held: held[0], "holds list, not paths and class names"),
        (lambda held: (held[0], [*held[1][1:], "mug"]), "back_pack_0003.jpg is called 'bike', but lies in back_pack"),
        (lambda held: ([p.replace("dslr/", "amazon/") for p in held[0]], held[1]),
         "no path of the form dslr/class/image"),
        (lambda held: (held[0], [3] * 40), "3 among paths and class names"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_list_of_a_domain_is_named(edit: Callable[[Any], Any], words: str, tmp_path: Path) -> None:
    assert words in rewritten(tmp_path, edit)


def test_missing_lists_and_classes_of_domains_are_named(tmp_path: Path) -> None:
    domain_lists(tmp_path / "DomainNet", DOMAINNET, TEN, 4, 2, "txt")
    assert "no image of piano (data.classes)" in refused("domainnet", tmp_path, classes=("bird", "piano"))
    (tmp_path / "DomainNet/real_test.txt").unlink()
    assert "real_test.txt: no such file, but real_train.txt is there" in refused("domainnet", tmp_path)
    (tmp_path / "DomainNet/real_train.txt").unlink()
    assert "no real_train.pkl or real_train.txt" in refused("domainnet", tmp_path)
    with pytest.raises(ConfigError, match=r"data\.domains = 'photo': of clipart"):
        load("domainnet", tmp_path, domains=("photo",))


def test_a_number_of_two_names_in_the_lists_of_domainnet_is_named(tmp_path: Path) -> None:
    domain_lists(tmp_path / "DomainNet", DOMAINNET, TEN, 4, 2, "txt")
    file = tmp_path / "DomainNet/sketch_test.txt"
    file.write_text(file.read_text().replace("whale/whale_0004.jpg 6", "whale/whale_0004.jpg 7"))
    assert "class 7 is 'whale', but elsewhere class 7 is 'windmill'" in refused("domainnet", tmp_path)


def whose(array: np.ndarray) -> object:
    """What holds the bytes of an array."""
    return whose(array.base) if isinstance(array.base, np.ndarray) else array.base


def test_more_images_than_memory_are_kept_in_a_file_with_the_same_pixels(tmp_path: Path) -> None:
    caltech101(tmp_path)
    held, spilt = (load("caltech101", tmp_path, memory_gib=gib) for gib in (1.0, 1e-9))
    assert isinstance(whose(spilt.clients[0].train.images), mmap)
    assert not isinstance(whose(held.clients[0].train.images), mmap)
    assert content(held) == content(spilt)


def test_images_larger_than_the_models_size_are_brought_to_it(tmp_path: Path) -> None:
    caltech101(tmp_path)
    noisy(tmp_path / "caltech-101/101_ObjectCategories/Faces/Faces_0000.jpg", 0, 0, side=300)
    with Image.open(tmp_path / "caltech-101/101_ObjectCategories/Faces/Faces_0000.jpg") as large:
        assert large.size == (300, 300)
    assert load("caltech101", tmp_path, size=48).image_size == 48
