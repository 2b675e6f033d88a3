from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from secfpp.cli.app import app
from secfpp.data.collection import ROOT_VARIABLE
from support.collections_on_disk import caltech101, in_folders, oxford_pets
from support.commands import fails

CONFIG = """
[data]
name = "caltech101"
clients_per_domain = 2
size = 48
"""
DAMAGED = "damaged, or not an image. Replace or remove the file"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECFPP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(ROOT_VARIABLE, "")
    Path("c.toml").write_text(CONFIG)
    return tmp_path


def check(*words: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["data", "check", *words])
    assert result.exit_code == code, result.output
    return result


def told(*words: str, code: int = 0) -> Any:
    return json.loads(check(*words, "--json", code=code).stdout)


def test_a_collection_is_counted_compared_and_seen_by_the_model() -> None:
    caltech101(Path("data"))
    found = told("c.toml", "--data-root", "data")
    assert found["usable"] and found["problems"] == []
    assert found["images"] == 60 and found["imbalance"] == 1.0
    assert found["classes"]["water lilly"] == {"train": 10, "validation": 4, "test": 6}
    assert found["zero_shot"]["chance"] == pytest.approx(100 / 3) and found["zero_shot"]["images"] == {"caltech101": 18}
    shown = check("c.toml", "--data-root", "data").stdout
    assert "60 images of 3 classes" in shown and "chance 33.3" in shown and shown.rstrip().endswith("usable")


def test_every_file_that_stops_a_run_is_named_and_the_command_fails() -> None:
    images = caltech101(Path("data")) / "caltech-101/101_ObjectCategories"
    broken = [images / "Faces" / f"Faces_{i:04d}.jpg" for i in range(12)]
    for file in broken:
        file.write_bytes(b"no image")
    found = told("c.toml", "--data-root", "data", code=1)
    assert not found["usable"] and found["zero_shot"] is None
    assert sorted(found["problems"]) == [f"{file}: {DAMAGED}" for file in broken]
    shown = check("c.toml", "--data-root", "data", code=1).stdout
    assert "problems: 12" in shown and shown.rstrip().endswith("a run would stop at these problems")


def test_files_that_are_missing_are_all_named() -> None:
    images = caltech101(Path("data")) / "caltech-101/101_ObjectCategories"
    shutil.rmtree(images / "Faces")
    found = told("c.toml", "--data-root", "data", code=1)
    assert len(found["problems"]) == 20 and all("no such file" in each for each in found["problems"])


def test_a_copy_on_the_other_side_of_a_split_is_found_and_one_of_another_class_is_remarked() -> None:
    images = caltech101(Path("data")) / "caltech-101/101_ObjectCategories"
    with Image.open(images / "Faces/Faces_0000.jpg") as image:
        image.resize((40, 40), Image.Resampling.BICUBIC).save(images / "airplanes/airplanes_0019.jpg", quality=90)
    found = told("c.toml", "--data-root", "data")
    (pair,) = found["twins"]
    assert {Path(pair["first"]).name, Path(pair["second"]).name} == {"Faces_0000.jpg", "airplanes_0019.jpg"}
    assert sorted(pair["labels"]) == ["airplane", "face"] and pair["bits"] <= 10
    assert [each.partition(" pairs")[0] for each in found["remarks"][:1]] == ["1"]
    assert "of these pairs are of two classes" in found["remarks"][1]
    assert told("c.toml", "--data-root", "data", "--bits", "0")["twins"] in ([], [pair])


def test_uneven_classes_are_remarked() -> None:
    oxford_pets(Path("data"), split=False)
    listing = Path("data/oxford_pets/annotations/trainval.txt")
    lines = listing.read_text().splitlines()
    listing.write_text("\n".join([line for line in lines if "Siamese_" not in line] + ["Siamese_1 1 1 1"]) + "\n")
    found = told("c.toml", "--set", 'data={name="oxford_pets", clients_per_domain=1}', "--data-root", "data")
    assert found["imbalance"] == 11.0
    assert "the largest has 11.0 times the training images of the smallest" in found["remarks"][0]


def test_labels_that_are_no_better_than_guessed_are_remarked() -> None:
    caltech101(Path("data"))  # noise, of which the model knows nothing
    remarks = told("c.toml", "--data-root", "data")["remarks"]
    assert any("do class names and labels agree?" in each for each in remarks)


def test_a_partition_that_cannot_be_is_a_problem() -> None:
    caltech101(Path("data"))
    for partition, words in (
        ("{kind='pathological', classes=4}", "data.partition.classes = 4: there are 3 classes"),
        ("{kind='pathological'}", "client caltech101-3 cannot be filled"),
    ):
        found = told(
            "c.toml", "--data-root", "data", "--set", f"data.partition={partition}",
            "--set", "data.clients_per_domain=4", code=1,
        )  # fmt: skip
        assert len(found["problems"]) == 1 and words in found["problems"][0] and found["images"] == 60


def test_without_the_model_everything_else_is_told() -> None:
    caltech101(Path("data"))
    found = told("c.toml", "--data-root", "data", "--backbone", "nowhere")
    assert found["usable"] and found["images"] == 60 and found["zero_shot"] is None
    assert found["remarks"][0].startswith("no model has looked at the images: ") and "nowhere" in found["remarks"][0]


def test_class_names_that_the_model_refuses_stop_a_run_and_are_problems() -> None:
    in_folders(Path("photos/north"), ["übung", "chat noir"], 10)
    found = told("photos", "--backbone", "mini", code=1)
    (problem,) = found["problems"]
    assert "class name = 'übung'" in problem and "write 'ubung'" in problem
    assert not found["usable"] and found["images"] == 20 and told("photos")["usable"]


def test_images_that_were_not_counted_are_not_called_none() -> None:
    in_folders(Path("photos/north"), ["cat", "dog"], 10)
    in_folders(Path("photos/north"), ["fish"], 1)
    shown = check("photos", code=1).stdout
    assert "1 of the 3 images" in shown and "0 images" not in shown


def test_what_is_not_there_may_be_a_config_or_images() -> None:
    told_ = fails(2, "data", "check", "nowhere")
    assert "nowhere: no such file or folder" in told_ and "a folder or a table" in told_


@pytest.mark.parametrize(
    ("folders", "layout"),
    [
        (["cat", "dog"], "class"),
        (["north/cat", "north/dog", "south/cat", "south/dog"], "client/class"),
        (["train/cat", "train/dog", "test/cat", "test/dog"], "split/class"),
        (["x/a/cat", "x/a/dog", "y/b/cat", "y/b/dog"], "domain/client/class"),
        (["a/train/cat", "a/train/dog", "a/val/cat", "a/val/dog", "a/test/cat", "a/test/dog"], "client/split/class"),
    ],
)
def test_the_levels_of_a_folder_are_guessed(folders: list[str], layout: str) -> None:
    for folder in folders:
        in_folders(Path("photos") / Path(folder).parent, [Path(folder).name], 10)
    found = told("photos", "--set", "data.clients_per_domain=2")
    assert found["usable"] and found["images"] == 10 * len(folders) and found["zero_shot"] is None
    assert set(found["classes"]) == {"cat", "dog"}
    parts = {part for counts in found["classes"].values() for part in counts}
    assert parts == ({"open"} if "split" not in layout else {"train", "test"} | ({"validation"} & parts))


def test_own_images_are_seen_by_a_model_that_is_named() -> None:
    in_folders(Path("photos/north"), ["cat", "dog"], 20)
    found = told("photos", "--backbone", "mini", "--set", "data.size=48")
    assert found["zero_shot"]["backbone"] == "mini" and list(found["zero_shot"]["images"]) == ["north"]


def test_a_folder_that_is_not_as_it_should_be_is_told_whole() -> None:
    in_folders(Path("photos"), [f"c{i}" for i in range(14)], 1)
    Path("photos/c3/c3_0000.jpg").write_bytes(b"no image")
    found = told("photos", code=1)
    assert len(found["problems"]) == 15
    assert all("1 of the 3 images" in each for each in found["problems"][:14])
    assert found["problems"][14] == f"photos/c3/c3_0000.jpg: {DAMAGED}"


def test_the_root_is_kept_for_worker_processes(here: Path) -> None:
    caltech101(Path("data"))
    check("c.toml", "--data-root", "data")
    assert os.environ[ROOT_VARIABLE] == "data"
