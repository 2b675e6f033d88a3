"""Small collections in the layouts of their makers, with images drawn here."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
from PIL import Image
from scipy.io import savemat

DOMAINNET = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")
OFFICE = ("amazon", "caltech", "dslr", "webcam")


def noisy(path: Path, label: int, number: int, side: int = 16) -> Path:
    """An image of noise that is brighter for a higher label; no two are alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([label, number, crc32("/".join(path.parts[-4:]).encode())])
    pixels = rng.integers(0, 120, (side, side, 3)) + 20 * (label % 7)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def further(more: int) -> tuple[str, ...]:
    """Names of so many more classes."""
    return tuple(f"thing_{chr(97 + i)}" for i in range(more))


def in_folders(root: Path, classes: Sequence[str], n: int) -> list[list[str]]:
    """`n` images in a folder for each class; their paths by class, relative to `root`."""
    return [
        [str(noisy(root / name / f"{name}_{i:04d}.jpg", label, i).relative_to(root)) for i in range(n)]
        for label, name in enumerate(classes)
    ]


def zhou(file: Path, paths: Sequence[Sequence[str]], names: Sequence[str], parts: tuple[int, int, int]) -> None:
    """A split file: of each class the first images for training, then validation, then the test."""
    ends = np.cumsum(parts)
    table = {
        part: [[path, label, names[label]] for label, own in enumerate(paths) for path in own[end - n : end]]
        for part, n, end in zip(("train", "val", "test"), parts, ends.tolist(), strict=True)
    }
    file.write_text(json.dumps(table))


def caltech101(root: Path, parts: tuple[int, int, int] = (10, 4, 6), split: bool = True, more: int = 0) -> Path:
    """Three classes, two of them renamed, and `more`; and two that do not count."""
    folder = root / "caltech-101"
    images = folder / "101_ObjectCategories"
    folders = ("Faces", "airplanes", "water_lilly", *further(more))
    paths = in_folders(images, folders, sum(parts))
    in_folders(images, ("BACKGROUND_Google", "Faces_easy"), 2)
    if split:
        zhou(folder / "split_zhou_Caltech101.json", paths, ("face", "airplane", *folders[2:]), parts)
    return root


def plain_folders(
    root: Path, name: str, split: str, classes: Sequence[str], parts: tuple[int, int, int], with_split: bool
) -> Path:
    """Images in ``images/class``."""
    paths = in_folders(root / name / "images", classes, sum(parts))
    if with_split:
        zhou(root / name / split, paths, classes, parts)
    return root


def food101(root: Path, parts: tuple[int, int, int] = (10, 4, 6), split: bool = True, more: int = 0) -> Path:
    """Three dishes; and `more`."""
    dishes = ("apple_pie", "ramen", "waffles", *further(more))
    return plain_folders(root, "food-101", "split_zhou_Food101.json", dishes, parts, split)


def dtd(root: Path, parts: tuple[int, int, int] = (10, 4, 6), split: bool = True, more: int = 0) -> Path:
    """Three textures; and `more`."""
    split_file = "split_zhou_DescribableTextures.json"
    return plain_folders(root, "dtd", split_file, ("banded", "dotted", "woven", *further(more)), parts, split)


def oxford_pets(root: Path, parts: tuple[int, int, int] = (10, 4, 6), split: bool = True, more: int = 0) -> Path:
    """Three breeds, numbered otherwise than by their names; and `more`."""
    folder = root / "oxford_pets"
    breeds = ("Siamese", "great_pyrenees", "Bombay", *further(more))
    n_train, n_validation, _ = parts
    lists: dict[str, list[str]] = {"trainval.txt": ["# IMAGE CLASS-ID SPECIES BREED-ID"], "test.txt": []}
    paths = []
    for number, breed in enumerate(breeds, 1):
        stems = [f"{breed}_{i}" for i in range(1, sum(parts) + 1)]
        for i, stem in enumerate(stems):
            noisy(folder / "images" / f"{stem}.jpg", number, i)
            lists["trainval.txt" if i < n_train + n_validation else "test.txt"].append(f"{stem} {number} 1 1")
        paths.append([f"{stem}.jpg" for stem in stems])
    (folder / "annotations").mkdir()
    for name, lines in lists.items():
        (folder / "annotations" / name).write_text("\n".join(lines) + "\n")
    if split:
        zhou(folder / "split_zhou_OxfordPets.json", paths, [breed.lower() for breed in breeds], parts)
    return root


def oxford_flowers(root: Path, parts: tuple[int, int, int] = (10, 4, 6), split: bool = True, more: int = 0) -> Path:
    """Three flowers, whose images follow each other in turn; and `more`."""
    folder = root / "oxford_flowers"
    names = {"1": "pink primrose", "2": "hard-leaved pocket orchid", "10": "globe thistle"}
    names |= {str(20 + i): name for i, name in enumerate(further(more))}
    labels = np.tile([2, 10, 1, *range(20, 20 + more)], sum(parts))
    for at, label in enumerate(labels, 1):
        noisy(folder / "jpg" / f"image_{at:05d}.jpg", int(label), at)
    savemat(folder / "imagelabels.mat", {"labels": labels[None].astype(np.uint8)})
    (folder / "cat_to_name.json").write_text(json.dumps(names))
    if split:
        paths = [[f"image_{at:05d}.jpg" for at, label in enumerate(labels, 1) if label == int(key)] for key in names]
        zhou(folder / "split_zhou_OxfordFlowers.json", paths, list(names.values()), parts)
    return root


def cifar(root: Path, n_classes: int = 10, per_class: int = 12, test: int = 6, text: bool = True) -> Path:
    """CIFAR-10 or -100; `text` writes keys as Python 3 does, else as bytes."""
    rng = np.random.default_rng(n_classes)
    names = [f"thing_{chr(97 + i % 26)}{i}" for i in range(n_classes)]

    def write(file: Path, n: int, label_key: str) -> None:
        labels = rng.permutation(np.repeat(np.arange(n_classes), n))
        data = (rng.integers(0, 100, (len(labels), 3072)) + labels[:, None] * 100 // n_classes).astype(np.uint8)
        table = {"data": data, label_key: labels.tolist(), "filenames": [f"{i}.png" for i in range(len(labels))]}
        keyed = table if text else {key.encode(): value for key, value in table.items()}
        file.write_bytes(pickle.dumps(keyed, protocol=2))

    if n_classes == 10:
        folder = root / "cifar-10-batches-py"
        folder.mkdir(parents=True)
        for i in range(1, 6):
            write(folder / f"data_batch_{i}", per_class // 4, "labels")
        write(folder / "test_batch", test, "labels")
        meta = {"label_names": names, "num_vis": 3072}
    else:
        folder = root / "cifar-100-python"
        folder.mkdir(parents=True)
        write(folder / "train", per_class, "fine_labels")
        write(folder / "test", test, "fine_labels")
        meta = {"fine_label_names": names, "coarse_label_names": ["thing"]}
    (folder / ("batches.meta" if n_classes == 10 else "meta")).write_bytes(pickle.dumps(meta, protocol=2))
    return root


def domain_lists(
    folder: Path, domains: Sequence[str], classes: Sequence[str], n_train: int, n_test: int, kind: str, above: str = ""
) -> None:
    """Images in ``domain/class`` and their lists, as pickles ("pkl"), text ("txt") or not at all ("")."""
    for domain in domains:
        paths = in_folders(folder / domain, classes, n_train + n_test)
        for part, slice_ in (("train", slice(n_train)), ("test", slice(n_train, None))):
            rows = [(f"{domain}/{path}", label) for label, own in enumerate(paths) for path in own[slice_]]
            if kind == "txt":
                text = "".join(f"{path} {label}\n" for path, label in rows)
                (folder / f"{domain}_{part}.txt").write_text(text)
            elif kind == "pkl":
                held = [above + path for path, _ in rows], [classes[label] for _, label in rows]
                written = held if part == "train" else tuple(np.array(each, dtype=object) for each in held)
                (folder / f"{domain}_{part}.pkl").write_bytes(pickle.dumps(written))
