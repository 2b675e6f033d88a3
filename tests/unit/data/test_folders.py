from __future__ import annotations

import os
import unicodedata
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from secfpp.data.catalog import datasets
from secfpp.data.folders import FolderSettings, load_folder
from secfpp.errors import ConfigError, DataError, DataWarning
from secfpp.experiment.spec.config import parse_config
from support.picture_folders import picture, picture_tree

TWO = {"north/cat": 10, "north/big_dog": 10, "south/cat": 5, "south/bird": 5}


def load(root: Path, seed: int = 0, **settings: Any) -> Any:
    return load_folder(FolderSettings(root=str(root), size=8, **settings), seed)


def colours(*splits: Any) -> list[tuple[int, ...]]:
    """The images, each of one colour, as a sorted list of colours."""
    return sorted(tuple(int(v) for v in image[0, 0]) for split in splits for image in split.images)


def test_folders_are_clients_with_images_of_their_own(tmp_path: Path) -> None:
    data = load(picture_tree(tmp_path / "photos", TWO))
    assert (data.name, data.classes) == ("photos", ("big dog", "bird", "cat"))
    assert [(c.name, c.domain) for c in data.clients] == [("north", "north"), ("south", "south")]
    north, south = data.clients
    for client, sizes in ((north, (12, 4, 4)), (south, (6, 2, 2))):
        splits = (client.train, client.validation, data.test[client.name])
        assert tuple(map(len, splits)) == sizes
        assert all(split.images.shape[1:] == (8, 8, 3) and split.labels.dtype == np.int64 for split in splits)
    assert north.train.histogram(3).tolist() == [6, 0, 6]
    assert south.train.histogram(3).tolist() == [0, 3, 3]
    assert data.facts == {"layout": "client/class", "images": 30, "files passed over": "none"}


def test_no_image_is_lost_or_in_two_splits(tmp_path: Path) -> None:
    data = load(picture_tree(tmp_path, TWO), 3)
    for name in ("north", "south"):
        client = next(c for c in data.clients if c.name == name)
        held = colours(client.train, client.validation, data.test[name])
        assert len(set(held)) == len(held) == (20 if name == "north" else 10)


def test_labels_are_the_folders_names(tmp_path: Path) -> None:
    data = load(picture_tree(tmp_path, TWO))
    splits = [s for c in data.clients for s in (c.train, c.validation)] + list(data.test.values())
    strongest = {"cat": 0, "bird": 2}  # red and blue
    for split in splits:
        for image, label in zip(split.images, split.labels, strict=True):
            name = data.classes[label]
            assert name not in strongest or image[0, 0].argmax() == strongest[name]


def test_the_same_seed_gives_the_same_split_and_another_another(tmp_path: Path) -> None:
    picture_tree(tmp_path, TWO)
    first, again, other = load(tmp_path, 1), load(tmp_path, 1), load(tmp_path, 2)
    for a, b in zip(first.clients, again.clients, strict=True):
        np.testing.assert_array_equal(a.train.images, b.train.images)
    assert colours(first.test["north"]) != colours(other.test["north"])


def test_a_new_client_leaves_the_others_splits_as_they_are(tmp_path: Path) -> None:
    picture_tree(tmp_path, TWO)
    before = load(tmp_path)
    picture_tree(tmp_path, {"east/cat": 4, "east/bird": 4})
    after = load(tmp_path)
    assert [c.name for c in after.clients] == ["east", "north", "south"]
    for old, new in zip(before.clients, after.clients[1:], strict=True):
        np.testing.assert_array_equal(old.train.images, new.train.images)


def test_clients_of_a_known_domain_share_its_test_images(tmp_path: Path) -> None:
    tree = {f"{d}/{c}/{k}": 5 for d in ("xray", "scan") for c in ("a", "b") for k in ("cat", "dog")}
    data = load(picture_tree(tmp_path, tree), layout="domain/client/class")
    assert [(c.name, c.domain) for c in data.clients] == [
        ("scan/a", "scan"), ("scan/b", "scan"), ("xray/a", "xray"), ("xray/b", "xray"),
    ]  # fmt: skip
    assert {domain: len(split) for domain, split in data.test.items()} == {"scan": 4, "xray": 4}


@pytest.mark.parametrize("layout", ["domain/class", "class"])
def test_the_images_of_a_domain_are_dealt_to_clients(layout: str, tmp_path: Path) -> None:
    prefix = ("xray/", "scan/") if layout == "domain/class" else ("",)
    root = picture_tree(tmp_path / "all", {f"{d}{k}": 30 for d in prefix for k in ("cat", "dog", "bird")})
    data = load(root, layout=layout, clients_per_domain=4, alpha=0.5)
    domains = ["scan", "xray"] if layout == "domain/class" else ["all"]
    assert list(data.domains) == domains
    assert [c.name for c in data.clients] == [f"{d}-{i}" for d in domains for i in range(4)]
    for domain in domains:
        mine = [c for c in data.clients if c.domain == domain]
        assert sum(c.train.histogram(3) for c in mine).tolist() == [18] * 3
        assert sum(c.validation.histogram(3) for c in mine).tolist() == [6] * 3
        assert data.test[domain].histogram(3).tolist() == [6] * 3
        held = colours(*(s for c in mine for s in (c.train, c.validation)), data.test[domain])
        assert len(set(held)) == 90
        assert min(len(c.train) for c in mine) >= 6


SPLITS = {"train": 4, "val": 2, "test": 3}


@pytest.mark.parametrize(
    ("layout", "folders", "clients"),
    [
        ("split/client/class", "{part}/{client}/{label}", ["a", "b"]),
        ("client/split/class", "{client}/{part}/{label}", ["a", "b"]),
        ("split/domain/client/class", "{part}/x/{client}/{label}", ["x/a", "x/b"]),
        ("domain/split/client/class", "x/{part}/{client}/{label}", ["x/a", "x/b"]),
        ("domain/client/split/class", "x/{client}/{part}/{label}", ["x/a", "x/b"]),
        ("split/domain/class", "{part}/{client}/{label}", ["a-0", "a-1", "b-0", "b-1"]),
        ("domain/split/class", "{client}/{part}/{label}", ["a-0", "a-1", "b-0", "b-1"]),
        ("split/class", "{part}/{client}{label}", ["all-0", "all-1"]),
    ],
)
def test_splits_that_folders_say_are_kept(layout: str, folders: str, clients: list[str], tmp_path: Path) -> None:
    root = tmp_path / "all"
    for part, colour in (("train", 10), ("val", 100), ("test", 200)):
        for client, label in product("ab", ("cat", "dog")):
            for i in range(SPLITS[part]):
                picture(root / folders.format(part=part, client=client, label=label) / f"{i}.png", [colour + i] * 3)
    data = load(root, layout=layout, clients_per_domain=2)
    assert [client.name for client in data.clients] == clients
    shown = {"train": data.clients, "validation": data.clients, "test": list(data.test.values())}
    for part, owners in shown.items():
        images = np.concatenate([(o if part == "test" else getattr(o, part)).images for o in owners])
        at, n = {"train": (10, 4), "validation": (100, 2), "test": (200, 3)}[part]
        assert sorted(np.unique(images)) == list(range(at, at + n)) and len(images) == 4 * n


def test_a_part_without_folders_is_taken_from_training(tmp_path: Path) -> None:
    root = picture_tree(tmp_path, {f"{p}/a/{c}": 10 for p in ("train", "test") for c in ("cat", "dog")})
    client = load(root, layout="split/client/class").clients[0]
    assert client.train.histogram(2).tolist() == [8, 8] and client.validation.histogram(2).tolist() == [2, 2]


def test_a_class_may_be_called_like_a_part(tmp_path: Path) -> None:
    root = picture_tree(tmp_path, {f"{c}/{k}": 4 for c in ("a", "b") for k in ("train", "bus")})
    assert load(root).classes == ("bus", "train")


def test_deep_greys_are_scaled_over_all_clients_and_said_once(tmp_path: Path) -> None:
    for client, largest in (("a", 4000), ("b", 900)):
        for label, i in product(("cat", "dog"), range(4)):
            path = tmp_path / client / label / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8), largest, np.uint16)).save(path)
    with pytest.warns(DataWarning, match="16 of 16 images have grey values .* 4000 the largest") as said:
        data = load(tmp_path)
    assert len(said) == 1 and data.grey_window == (0, 4095)
    assert [int(client.train.images.max()) for client in data.clients] == [249, 56]
    assert data.facts["grey values of more than 8 bits"] == "0 black, 4095 white"
    stated = load(tmp_path, grey_window=(0, 900))
    assert [int(client.train.images.min()) for client in stated.clients] == [255, 255]


def test_shots_bound_the_training_images_alone(tmp_path: Path) -> None:
    data = load(picture_tree(tmp_path, TWO), shots=2)
    assert [c.train.histogram(3).tolist() for c in data.clients] == [[2, 0, 2], [0, 2, 2]]
    assert len(data.test["north"]) == 4


def test_what_is_hidden_or_no_image_does_not_count(tmp_path: Path) -> None:
    picture_tree(tmp_path, {**TWO, ".git/cat": 2, "north/.thumbs": 2})
    for name in ("north/cat/notes.txt", "readme.md"):
        (tmp_path / name).write_text("x")
    with pytest.warns(DataWarning, match=r"passed over, not images that can be read here: 1 \.md, 1 \.txt$"):
        data = load(tmp_path)
    assert len(data.clients) == 2
    assert (data.facts["images"], data.facts["files passed over"]) == (30, {".md": 1, ".txt": 1})


def test_the_top_folder_may_be_a_link_and_a_plain_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture_tree(tmp_path / "far" / "photos", TWO)
    os.symlink(tmp_path / "far" / "photos", tmp_path / "here")
    monkeypatch.chdir(tmp_path)
    data = load_folder("here")
    assert data.name == "photos"
    assert data.clients[0].train.images.shape[1:] == (224, 224, 3)
    assert load_folder(Path("here")).classes == data.classes


def refused(root: Path, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(root, **settings)
    return str(caught.value)


def test_everything_wrong_is_said_at_once_with_paths_and_remedies(tmp_path: Path) -> None:
    picture_tree(tmp_path, {**TWO, "east/cat": 2, "east/dog": 4, "west/cat": 9})
    (tmp_path / "south" / "fish").mkdir()
    picture(tmp_path / "stray.png")
    message = refused(tmp_path)
    for path, words in {
        "east/cat": "2 of the 3 images that a class needs at least",
        "east": "a client with 1 of the 2 classes",
        "west": "set data.min_classes = 1",
        "south/fish": "no image (.jpg",
        "stray.png": "an image where layout 'client/class' expects folders",
    }.items():
        assert any(line.startswith(f"{tmp_path / path}: ") and words in line for line in message.splitlines()), message


def test_long_lists_of_problems_are_cut(tmp_path: Path) -> None:
    picture_tree(tmp_path, {f"c{i}/cat": 1 for i in range(15)})
    message = refused(tmp_path)
    assert len(message.splitlines()) == 10 and message.endswith("; and 5 more problems")


def test_a_client_with_one_class_can_be_let_in(tmp_path: Path) -> None:
    picture_tree(tmp_path, {**TWO, "west/cat": 9})
    assert "min_classes" in refused(tmp_path)
    assert len(load(tmp_path, min_classes=1).clients) == 3


@pytest.mark.parametrize(
    ("tree", "layout", "words"),
    [
        ({"a/Cat": 4, "a/dog": 4, "b/cat": 4, "b/dog": 4}, "client/class", "the same as .*Cat but for capitals"),
        ({"a/big_cat": 4, "a/big cat": 4}, "client/class", "the same class as another folder beside it"),
        ({"a/___": 4, "a/dog": 4, "a/cat": 4}, "client/class", "not a name .*: rename the folder"),
        ({"a/cat": 4, "a/dog": 4, "A/cat": 4, "A/dog": 4}, "client/class", "but for capitals: call them alike"),
        ({"a/cat/more": 4, "a/dog": 4}, "client/class", "a folder inside a class: move its images up"),
        ({"a/cat": 4, "b/cat": 4}, "domain/class", "one class only"),
        ({"a/cat": 4, "a/dog": 4}, "domain/client/class", "an image where layout .* expects folders"),
        ({"a/cat": 4, "a/dog": 4}, "domain/class", "set data.clients_per_domain to at most 2"),
        ({"cat": 4, "dog": 4}, "client/class", "another data.layout"),
        ({"x/a/cat": 4, "x/a/dog": 4, "X/b/cat": 4, "X/b/dog": 4}, "domain/client/class", "but for capitals"),
        ({"x/a/cat": 4, "x/a/dog": 4, "y": 0}, "domain/client/class", "y: no client folder in it"),
        ({"train/cat": 4, "train/dog": 4, "test/cat": 4, "test/dog": 4}, "client/class", "layout = 'split/class', or"),
        ({f"a/{p}/{c}": 4 for p in ("train", "VAL") for c in ("x", "y")}, "client/class", "'client/split/class', or"),
        ({f"{p}/a/{c}": 4 for p in ("train", "dev") for c in ("x", "y")}, "domain/client/class", "'split/client/"),
        ({"train/cat": 4, "train/dog": 4, "more/cat": 4}, "split/class", "more: not one of train, val and test"),
        ({"val/cat": 4, "valid/cat": 4, "train/cat": 4}, "split/class", "the same part as another folder beside it"),
        ({"train/cat": 4, "train/dog": 4, "test": 0}, "split/class", "test: no class folder in it"),
    ],
)  # fmt: skip
def test_folders_that_are_not_as_the_layout_says(tree: dict[str, int], layout: str, words: str, tmp_path: Path) -> None:
    picture_tree(tmp_path, tree)
    with pytest.raises(DataError, match=words):
        load(tmp_path, layout=layout)


def test_accents_are_one_letter_however_the_disk_writes_them(tmp_path: Path) -> None:
    composed, parts = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    picture_tree(tmp_path, {f"a/{composed}": 4, "a/dog": 4, f"b/{parts}": 4, "b/dog": 4})
    assert load(tmp_path).classes == (composed, "dog")
    picture_tree(tmp_path, {f"{name}/{c}": 4 for name in (composed, parts) for c in ("cat", "dog")})
    assert "how the disk writes accents: call them alike or apart" in refused(tmp_path)


def test_links_below_the_top_are_refused_also_those_that_lead_back(tmp_path: Path) -> None:
    picture_tree(tmp_path, TWO)
    os.symlink(tmp_path, tmp_path / "north" / "loop", target_is_directory=True)
    os.symlink("/etc/hostname", tmp_path / "south" / "cat" / "x.png")
    message = refused(tmp_path)
    assert f"{tmp_path}/north/loop: a link or special file: put the files themselves there" in message
    assert f"{tmp_path}/south/cat/x.png: a link" in message


def test_an_unreadable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture_tree(tmp_path, TWO)
    real = Path.iterdir

    def locked(path: Path) -> Any:
        if path.name == "south":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(Path, "iterdir", locked)
    assert f"{tmp_path}/south: Permission denied: make it readable, or remove it" in refused(tmp_path)


def test_a_class_with_files_that_cannot_be_read_says_which(tmp_path: Path) -> None:
    picture_tree(tmp_path, {**TWO, "north/fish": 0})
    for name in ("1.dcm", "2.dcm", "x.txt"):
        (tmp_path / "north/fish" / name).write_text("x")
    assert "fish: no image (.jpg, .png, .tif, .webp and what else Pillow reads), but 2 .dcm, 1 .txt: add" in refused(
        tmp_path
    )


def test_nothing_there_at_all(tmp_path: Path) -> None:
    assert "no such folder" in refused(tmp_path / "none")
    assert f"lie in {tmp_path}/CLIENT/CLASS/" in refused(tmp_path)


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    picture_tree(tmp_path, TWO)
    (tmp_path / "south/cat/002.png").write_bytes(b"no image")
    assert f"{tmp_path}/south/cat/002.png: damaged" in refused(tmp_path)


def test_too_many_images_are_refused_before_they_are_read(tmp_path: Path) -> None:
    picture_tree(tmp_path, TWO)
    (tmp_path / "south/cat/002.png").write_bytes(b"no image")  # would be named if it were read
    message = refused(tmp_path, memory_gib=1e-9)
    assert "30 images of 8 x 8 pixels" in message and "fewer" in message


def test_all_bad_settings_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        FolderSettings(root="", layout="class/client", clients_per_domain=0, alpha=0, validation=1, test=0, size=1)  # type: ignore[arg-type]
    assert {p.key.removeprefix("data.") for p in caught.value.problems} == {
        "root", "layout", "clients_per_domain", "alpha", "validation", "test", "size",
    }  # fmt: skip
    with pytest.raises(ConfigError, match="leaves no training"):
        FolderSettings(root="x", validation=0.5, test=0.5)


def test_it_can_be_named_in_a_config(tmp_path: Path) -> None:
    picture_tree(tmp_path, TWO)
    config = parse_config({"data": {"name": "folder", "root": str(tmp_path), "size": 8}})
    row = datasets()["folder"]
    assert config.data.settings == FolderSettings(root=str(tmp_path), size=8)
    assert row.load(replace(config.data.settings, shots=1), 0).clients[0].train.histogram(3).max() == 1
    with pytest.raises(ConfigError, match=r"data\.root.* is required"):
        parse_config({"data": {"name": "folder"}})


def test_a_class_without_validation_images_moves_no_other_class(tmp_path: Path) -> None:
    """With a tiny alpha each class goes to one client; its validation images follow its training images there."""
    counts = {"train/ant": 12}
    for name in ("bee", "cow", "dog", "elk", "fly", "gnu", "hen"):
        counts |= {f"train/{name}": 12, f"val/{name}": 12}
    root = picture_tree(tmp_path, {**counts, "test/ant": 1})
    followed = 0
    for seed in range(4):
        data = load(root, seed, layout="split/class", clients_per_domain=2, alpha=1e-4)
        train, validation = (
            np.array([getattr(client, part).histogram(8) for client in data.clients])
            for part in ("train", "validation")
        )
        followed += int((train[:, 1:].argmax(0) == validation[:, 1:].argmax(0)).sum())
    assert followed >= 26  # of 28; a client below its least share takes from the other
