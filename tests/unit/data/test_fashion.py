import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from secfpp.data.catalog import datasets
from secfpp.data.fashion import CLASSES, SIDE, FashionSettings, load_fashion, read_idx
from secfpp.data.partitions.pathological import Pathological
from secfpp.errors import ConfigError, DataError

SMALL = FashionSettings(shots=6, validation_shots=3, test_shots=2, clients_per_domain=3)


def idx(values):
    """Bytes of the IDX format."""
    sizes = np.array(values.shape, ">u4").tobytes()
    return bytes((0, 0, 8, values.ndim)) + sizes + values.astype(np.uint8).tobytes()


@pytest.fixture
def root(tmp_path):
    """The four files in small: the first value of an image is its label, the second its number, the third its file."""
    for place, (name, per_class) in enumerate((("train", 10), ("t10k", 4))):
        labels = np.random.default_rng(place).permutation(np.tile(np.arange(10), per_class))
        images = np.zeros((len(labels), SIDE, SIDE))
        images[:, 0, 0], images[:, 0, 1], images[:, 0, 2] = labels, np.arange(len(labels)), place
        (tmp_path / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (tmp_path / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return tmp_path


def test_images_keep_their_labels_and_their_makers_split(root):
    data = load_fashion(replace(SMALL, root=str(root)), 0)
    assert data.classes == CLASSES and data.domains == ("fashion",) and len(data.clients) == 3
    splits = [(0, split) for client in data.clients for split in (client.train, client.validation)]
    seen = [[], []]
    for place, split in [*splits, (1, data.test["fashion"])]:
        assert split.images.shape[1:] == (SIDE, SIDE, 3)
        assert (split.images[:, 0, 0, 0] == split.labels).all() and (split.images[:, 0, 2] == place).all()
        seen[place] += split.images[:, 0, 1, 0].tolist()
    assert [len(numbers) for numbers in seen] == [90, 20]
    assert all(len(set(numbers)) == len(numbers) for numbers in seen)
    assert data.facts == {"images for train": 100, "images for test": 40}


def test_a_hundred_clients_of_two_classes_each(root):
    settings = replace(SMALL, root=str(root), partition=Pathological(classes=1), clients_per_domain=20)
    data = load_fashion(settings, 0)
    assert len(data.clients) == 20 and {len(set(client.train.labels.tolist())) for client in data.clients} == {1}


def test_files_that_are_not_zipped_are_read_too(root):
    zipped = load_fashion(replace(SMALL, root=str(root)), 0)
    for file in root.glob("*.gz"):
        file.with_suffix("").write_bytes(gzip.decompress(file.read_bytes()))
        file.unlink()
    plain = load_fashion(replace(SMALL, root=str(root)), 0)
    assert np.array_equal(zipped.test["fashion"].images, plain.test["fashion"].images)


def test_a_missing_package_is_told_with_the_command(tmp_path):
    with pytest.raises(DataError, match=r"apt-get install dataset-fashion-mnist, or set data\.root"):
        load_fashion(replace(SMALL, root=str(tmp_path)), 0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data[:10],
        lambda data: b"\0\0\x0d\x03" + data[4:],
        lambda data: data[:8] + bytes((0, 0, 0, 27)) + data[12:],
        lambda data: b"",
    ],
)
def test_a_damaged_file_is_named(root, damage):
    file = root / "train-images-idx3-ubyte.gz"
    file.write_bytes(gzip.compress(damage(gzip.decompress(file.read_bytes()))))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: not an IDX file"):
        read_idx(root, "train-images-idx3-ubyte", (SIDE, SIDE))


def test_a_broken_archive_is_named(root):
    file = root / "t10k-labels-idx1-ubyte.gz"
    for broken in (file.read_bytes()[:-9], b"no archive", file.read_bytes()[:12] + b"\xff" * 40):
        file.write_bytes(broken)
        with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz: .*reinstall dataset-fashion-mnist"):
            load_fashion(replace(SMALL, root=str(root)), 0)


def test_labels_of_other_images_are_refused(root):
    (root / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(10))))
    with pytest.raises(DataError, match="40 images and 10 labels up to 9 of 't10k': not Fashion-MNIST"):
        load_fashion(replace(SMALL, root=str(root)), 0)


def test_more_images_than_there_are_is_told_by_class(root):
    with pytest.raises(
        DataError, match=r"10 pictures of 't shirt', but data\.shots and data\.validation_shots ask for 11"
    ):
        load_fashion(replace(SMALL, root=str(root), shots=8), 0)
    with pytest.raises(DataError, match=r"4 pictures of 't shirt', but data\.test_shots ask for 5"):
        load_fashion(replace(SMALL, root=str(root), test_shots=5), 0)


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match=r"data\.label_shift") as caught:
        FashionSettings(label_shift=1.0, shots=0)
    assert len(caught.value.problems) == 2
    assert datasets()["fashion"].settings is FashionSettings


@pytest.mark.skipif(not Path(FashionSettings().root).is_dir(), reason="needs Debian's dataset-fashion-mnist")
def test_the_installed_files_are_whole():
    everything = replace(
        FashionSettings(),
        shots=5000,
        validation_shots=1000,
        test_shots=1000,
        clients_per_domain=100,
        partition=Pathological(classes=2),
    )
    data = load_fashion(everything, 0)
    assert data.facts == {"images for train": 60000, "images for test": 10000}
    assert {len(client.train) for client in data.clients} == {500}
    assert 60 < data.test["fashion"].images.mean() < 90  # white on black
