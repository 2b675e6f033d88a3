from __future__ import annotations

import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from secfpp.data.catalog import datasets
from secfpp.data.federated import FederatedDataset
from secfpp.data.folders import load_folder
from secfpp.data.tables import TableSettings, load_table
from secfpp.errors import ConfigError, DataError, DataWarning, MissingExtraError
from secfpp.experiment.spec.config import parse_config
from support.picture_folders import picture_tree
from support.picture_tables import Row, rows_of, write_table


def load(file: Path, seed: int = 0, **settings: Any) -> FederatedDataset:
    return load_table(TableSettings(file=str(file), size=8, **settings), seed)


def colours(split: Any) -> set[tuple[int, ...]]:
    return {tuple(int(v) for v in image[0, 0]) for image in split.images}


def refused(file: Path, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(file, **settings)
    return str(caught.value)


def test_a_table_says_whose_images_are_whose(tmp_path: Path) -> None:
    data = load(write_table(tmp_path / "photos.csv", rows_of(tmp_path)))
    assert (data.name, data.classes) == ("photos", ("cat", "dog"))
    assert [(c.name, c.domain) for c in data.clients] == [("north", "north"), ("south", "south")]
    for client in data.clients:
        parts = (client.train, client.validation, data.test[client.name])
        assert [len(part) for part in parts] == [8, 2, 2]
        for part in parts:
            for image, label in zip(part.images, part.labels, strict=True):
                assert image[0, 0].argmax() == label  # cats are red and dogs are green here
    assert data.facts["columns"] == "path, label, client"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_separator_is_seen(separator: str, tmp_path: Path) -> None:
    rows = rows_of(tmp_path)
    assert load(write_table(tmp_path / "a.csv", rows, separator)).classes == ("cat", "dog")
    (tmp_path / "b.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "a.csv").read_bytes().replace(b"path", b" Path "))
    assert load(tmp_path / "b.csv").classes == ("cat", "dog")


def test_parquet_gives_what_text_gives(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, group="{i}", split="train")
    for i, row in enumerate(rows):
        row["split"] = ("train", "val", "test")[i % 3]
        row["group"] = f"{row['client']}{row['label']}{i}"
    columns = {name: [row[name] for row in rows] for name in rows[0]} | {"age": list(range(len(rows)))}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.warns(DataWarning, match=r"a\.parquet: columns not used: age"):
        found = load(tmp_path / "a.parquet")
    expected = load(write_table(tmp_path / "a.csv", rows))
    for one, other in zip(found.clients, expected.clients, strict=True):
        np.testing.assert_array_equal(one.train.images, other.train.images)
        np.testing.assert_array_equal(one.train.labels, other.train.labels)


def test_names_are_compared_however_accents_are_written_but_paths_are_the_disks(tmp_path: Path) -> None:
    parts, whole = (unicodedata.normalize(form, "café") for form in ("NFD", "NFC"))
    rows = rows_of(tmp_path, clients=(parts, "bar"), labels=("cat", parts))  # the files are called so too
    for row in rows[::2]:
        row |= {column: unicodedata.normalize("NFC", row[column]) for column in ("label", "client")}
    data = load(write_table(tmp_path / "a.csv", rows))
    assert data.classes == (whole, "cat") and [client.name for client in data.clients] == ["bar", whole]


def test_a_separator_of_lines_inside_a_name_is_none(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, labels=("cat", "dog\u2028house"))
    assert load(write_table(tmp_path / "a.csv", rows)).classes == ("cat", "dog house")


def test_columns_of_one_name_that_are_not_read_do_no_harm(tmp_path: Path) -> None:
    rows = rows_of(tmp_path)
    arrays = [pa.array([row[name] for row in rows]) for name in ("path", "path", "label", "label")]
    pq.write_table(pa.Table.from_arrays(arrays, names=["path", "x", "label", "x"]), tmp_path / "a.parquet")
    with pytest.warns(DataWarning, match="columns not used: x, x"):
        assert load(tmp_path / "a.parquet", clients_per_domain=2).classes == ("cat", "dog")


def test_numbers_in_parquet_are_read_as_they_look(tmp_path: Path) -> None:
    rows = rows_of(tmp_path)
    labels = [float(row["label"] == "dog") for row in rows]
    columns = {"path": [row["path"] for row in rows], "label": labels, "client": [3 + (i > 11) for i in range(24)]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    data = load(tmp_path / "a.parquet", classes=("cat", "dog"))
    assert [c.name for c in data.clients] == ["3", "4"] and data.clients[0].train.histogram(2).tolist() == [4, 4]


def test_a_missing_value_in_parquet_is_an_empty_one(tmp_path: Path) -> None:
    rows = rows_of(tmp_path)
    names = [None, *(row["client"] for row in rows[1:])]
    columns = {"path": [row["path"] for row in rows], "label": [row["label"] for row in rows], "client": names}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert "a.parquet, row 1: no client, but the table has that column" in refused(tmp_path / "a.parquet")


def test_parquet_without_its_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"secfpp\[parquet\]"):
        load(tmp_path / "a.parquet")


def test_a_damaged_parquet_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    assert refused(tmp_path / "a.parquet").startswith(f"{tmp_path}/a.parquet: not Parquet, or damaged")


def test_splits_of_the_table_are_kept(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, split="train")
    for row in rows:
        row["split"] = {"4": "VAL", "5": "test"}.get(row["path"][-5], "train")
    data = load(write_table(tmp_path / "a.csv", rows))
    again = load(tmp_path / "a.csv", seed=5)
    for client, other in zip(data.clients, again.clients, strict=True):
        assert (len(client.train), len(client.validation), len(data.test[client.name])) == (8, 2, 2)
        assert colours(client.validation) == colours(other.validation)
    assert colours(data.test["north"]) == {(205, 45, 45), (45, 205, 45)}  # the sixth cat and the sixth dog


def test_a_part_that_no_row_is_in_is_taken_from_training(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, split="train")
    for row in rows:
        row["split"] = "test" if row["path"][-5] == "5" else "train"
    data = load(write_table(tmp_path / "a.csv", rows))
    for client in data.clients:
        assert (len(client.train), len(client.validation), len(data.test[client.name])) == (8, 2, 2)
    assert colours(data.test["north"]) == {(205, 45, 45), (45, 205, 45)}


def test_clients_of_one_domain_share_its_test_images(tmp_path: Path) -> None:
    data = load(write_table(tmp_path / "a.csv", rows_of(tmp_path, domain="xray")))
    assert data.domains == ("xray",) and len(data.test["xray"]) == 4


def test_without_clients_images_are_dealt(tmp_path: Path) -> None:
    rows = [
        {"path": row["path"], "label": row["label"], "domain": row["client"]} for row in rows_of(tmp_path, images=20)
    ]
    data = load(write_table(tmp_path / "a.csv", rows), clients_per_domain=3)
    assert [c.name for c in data.clients] == [f"{d}-{i}" for d in ("north", "south") for i in range(3)]
    alone = load(write_table(tmp_path / "b.csv", [{k: row[k] for k in ("path", "label")} for row in rows]))
    assert [c.name for c in alone.clients] == [f"b-{i}" for i in range(5)] and alone.domains == ("b",)


def test_it_gives_what_folders_give(tmp_path: Path) -> None:
    root = picture_tree(tmp_path / "p", {f"{c}/{k}": 7 for c in ("a", "b") for k in ("cat", "big_dog")})
    rows = [
        {"path": str(path.relative_to(root)), "label": path.parent.name, "client": path.parts[-3]}
        for path in sorted(root.rglob("*.png"))
    ]
    table = load(write_table(tmp_path / "t.csv", rows), root=str(root))
    folders = load_folder(root)
    assert table.classes == folders.classes == ("big dog", "cat")
    for one, other in zip(table.clients, folders.clients, strict=True):
        assert [int(i[0, 0, 0]) for i in one.train.images] == [int(i[0, 0, 0]) for i in other.train.images]


def test_labels_may_be_numbers_of_classes(tmp_path: Path) -> None:
    rows = rows_of(tmp_path)
    for row in rows:
        row["label"] = "1" if row["label"] == "cat" else "0"
    write_table(tmp_path / "a.csv", rows)
    assert load(tmp_path / "a.csv", classes=("dog", "cat", "bird")).clients[0].train.histogram(3).tolist() == [4, 4, 0]
    with pytest.warns(DataWarning, match=r"labels are numbers, .*data\.classes"):
        assert load(tmp_path / "a.csv").classes == ("0", "1")


@pytest.mark.parametrize("wrong", ["2", "-1", "1.5", "cat", ""])
def test_a_label_out_of_range_names_client_image_and_rule(wrong: str, tmp_path: Path) -> None:
    rows = [{**row, "label": str(int(row["label"] == "dog"))} for row in rows_of(tmp_path)]
    rows[13]["label"] = wrong
    message = refused(write_table(tmp_path / "a.csv", rows), classes=("cat", "dog"))
    assert message == (
        f"{tmp_path}/a.csv, line 15: client 'south', image 'images/south-cat-01.png', label = {wrong!r}: "
        "with 2 classes a label is a whole number from 0 to 1 (data.classes)"
    )


def test_class_names_given_twice_are_named_with_their_positions() -> None:
    with pytest.raises(ConfigError, match=r"data\.classes = 'crane': classes 0 and 2 \(from 0\) have the same name"):
        TableSettings(file="x.csv", classes=("crane", "dog", "crane"))


def changed(rows: list[Row], at: int, **values: str) -> list[Row]:
    rows[at].update(values)
    return rows


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"path": ""}, "no path: give that of an image"),
        ({"path": "images/none.png"}, "none.png: no such file: correct it, or set data.root"),
        ({"path": "scan.dcm"}, "scan.dcm: not called like an image that can be read"),
        ({"path": "images/north-cat-02.png"}, "a second time, see line 4: keep one"),
        ({"label": " _ "}, "label = '_': a name (underscores count as spaces)"),
        ({"client": ""}, "no client, but the table has that column: fill it in"),
        ({"domain": ""}, "no domain, but the table has that column"),
        ({"domain": "other"}, "client 'north' in domain 'other', but in 'north' in line 2: a client has one"),
        ({"split": "held out"}, "split = 'held out': one of train, val and test in every row"),
        ({"label": "Cat"}, "a name of {file}, line 2 but for capitals"),
        ({"client": "North", "domain": "x"}, "a name of {file}, line 2 but for capitals"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(change: dict[str, str], words: str, tmp_path: Path) -> None:
    rows = rows_of(tmp_path, domain="{client}", split="train")
    (tmp_path / "scan.dcm").write_text("x")
    file = write_table(tmp_path / "a.csv", changed(rows, 5, **change))
    lines = refused(file, min_classes=1).splitlines()
    assert any(line.startswith(f"{file}, line 7: ") and words.format(file=file) in line for line in lines), lines


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column 'path' and no column 'label'; it has none"),
        ("file,label\na,b\n", "no column 'path'; it has file, label, and the columns that are read are path, label,"),
        ("path,label,Label\na,b,c\n", "two columns 'label': keep one"),
        (
            "path,label,Groups\na,b,c\n",
            "the column 'Groups' is not read: rename it if 'group' is meant, or else remove",
        ),
        ("path,label\n", "no row below its head"),
        ("path,label\na.png,cat,dog\n", "line 2: 3 values, but the head has 2"),
        ('path,label\na.png,"cat\n', "not a line of a table"),
    ],
)
def test_text_that_is_no_table_is_named(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    assert words in refused(tmp_path / "a.csv")


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    assert "no such file: give a table, .csv, .tsv, .parquet" in refused(tmp_path / "a.csv")
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    assert "not called like a table" in refused(tmp_path / "a.xlsx")
    (tmp_path / "b.csv").write_bytes("päth,label\n".encode("latin-1"))
    assert "not text in UTF-8" in refused(tmp_path / "b.csv")


def test_too_few_images_and_classes_are_named(tmp_path: Path) -> None:
    rows = [row for row in rows_of(tmp_path) if (row["client"], row["label"]) != ("south", "dog")]
    rows = [row for row in rows if row["label"] == "dog" or row["client"] == "south" or int(row["path"][-5]) < 2]
    message = refused(write_table(tmp_path / "a.csv", rows))
    assert "client 'north', class 'cat': 2 of the 3 images that a class needs" in message
    assert "client 'south': 1 of the 2 classes that each client needs at least" in message
    cats = [row for row in rows if row["label"] == "cat"]
    assert "one class only" in refused(write_table(tmp_path / "b.csv", cats), min_classes=1)


def test_a_domain_without_test_images_names_it_and_a_client(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, split="train")
    for row in rows:
        row["split"] = "test" if row["client"] == "north" and row["path"][-5] == "5" else "train"
    message = refused(write_table(tmp_path / "a.csv", rows))
    assert message.startswith("client 'south': its domain 'south' has no test image") and "'north'" in message


def test_it_can_be_named_in_a_config(tmp_path: Path) -> None:
    file = write_table(tmp_path / "a.csv", rows_of(tmp_path))
    config = parse_config({"data": {"name": "table", "file": str(file), "size": 8, "grey_window": [0, 4095]}})
    assert config.data.settings == TableSettings(file=str(file), size=8, grey_window=(0, 4095))
    assert len(datasets()["table"].load(config.data.settings, 0).clients) == 2
    with pytest.raises(ConfigError, match=r"data\.file .*is required"):
        parse_config({"data": {"name": "table"}})
    with pytest.raises(ConfigError, match=r"data\.grey_window = \[9(\.0)?, 3(\.0)?\]: two values"):
        parse_config({"data": {"name": "table", "file": "a.csv", "grey_window": [9, 3]}})
