from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from secfpp.errors import DataWarning
from secfpp.images import as_array
from secfpp.models.prompt_file import ClientPrompt, load_prompt
from support.prompt_commands import CLASSES, IMAGES, fails, predict, secfpp
from support.tiny_clip import TinyClip


def test_a_folder_in_labels_and_scores_out(prompt: ClientPrompt) -> None:
    head, *rows = [line.split() for line in predict("photos").splitlines()]
    assert head == ["image", "label", "probability"]
    scores = prompt.predict_proba([Path(name) for name in IMAGES])
    expected = [[n, CLASSES[s.argmax()], f"{s.max():.3f}"] for n, s in zip(IMAGES, scores, strict=True)]
    assert rows == expected


def test_files_and_folders_mix_and_more_than_the_best_can_be_shown(prompt: ClientPrompt) -> None:
    head, row, *rest = [line.split() for line in predict(IMAGES[2], "photos/cat", "--top", "9").splitlines()]
    assert head == ["image", "label", "probability", "label", "2", "probability", "label", "3", "probability"]
    assert row[0] == IMAGES[2] and len(rest) == 2
    assert set(row[1::2]) == set(CLASSES)
    assert sum(float(word) for word in row[2::2]) == pytest.approx(1, abs=2e-3)


def test_json_holds_all_of_it(prompt: ClientPrompt) -> None:
    found = json.loads(predict("photos", "--top", "2", "--json"))
    assert (found["prompt"], found["client"], found["prior"]) == ("a.safetensors", "hospital-a", "own")
    assert [entry["image"] for entry in found["images"]] == IMAGES
    for entry in found["images"]:
        assert [entry["label"], entry["probability"]] == list(entry["top"][0].values())
        assert entry["top"][0]["probability"] >= entry["top"][1]["probability"]


def test_csv_has_a_line_per_image_and_class(prompt: ClientPrompt) -> None:
    rows = list(csv.DictReader(io.StringIO(predict("photos", "--top", "3", "--csv"))))
    assert [(row["image"], row["rank"]) for row in rows] == [(name, rank) for name in IMAGES for rank in "123"]
    assert float(rows[0]["probability"]) >= float(rows[1]["probability"])
    assert "not both" in fails("predict", "--prompt", "a.safetensors", "photos", "--csv", "--json")


@pytest.fixture
def knowing(prompt: ClientPrompt, backbone: Any) -> ClientPrompt:
    """The same, saved with what the client's images are like: two of the three are like them."""
    features = backbone.features(as_array([Path(name) for name in IMAGES], 32)).numpy()
    about = {"image_mean": features[:2].mean(0), "image_spread": np.full(24, 0.02, np.float32)}
    one = replace(prompt, **about, novelty_threshold=1.0)
    near, far = np.sort(one.novelty([Path(name) for name in IMAGES], backbone=backbone))[1:]
    assert near < far
    learned = replace(one, novelty_threshold=float(near + far) / 2)
    learned.save("a.safetensors")
    return learned


def test_images_unlike_the_training_ones_are_marked(knowing: ClientPrompt) -> None:
    head, *rows = predict("photos").splitlines()
    assert head.split()[-1] == "novelty"
    novelty = knowing.novelty([Path(name) for name in IMAGES])
    assert [row.split()[3] for row in rows[:3]] == [f"{value:.2f}" for value in novelty]
    assert [row.endswith("(unlike)") for row in rows[:3]] == [False, False, True]
    assert rows[3].startswith("1 of 3 are unlike the client's training images (novelty above")
    assert len(predict("photos/cat").splitlines()) == 3  # nothing to say
    found = json.loads(predict("photos", "--json"))
    assert found["novelty_threshold"] == knowing.novelty_threshold
    assert [entry["novelty"] for entry in found["images"]] == pytest.approx(novelty.tolist(), abs=1e-5)
    assert [entry["unlike_training"] for entry in found["images"]] == [False, False, True]
    table = list(csv.DictReader(io.StringIO(predict("photos", "--csv", "--top", "2"))))
    assert [row["unlike_training"] for row in table] == ["False"] * 4 + ["True"] * 2
    assert [float(row["novelty"]) for row in table[::2]] == pytest.approx(novelty.tolist(), abs=1e-5)


def test_a_prompt_that_does_not_know_says_nothing_of_it(prompt: ClientPrompt) -> None:
    assert "novelty" not in predict("photos")
    found = json.loads(predict("photos", "--json"))
    assert found["novelty_threshold"] is None
    assert {(entry["novelty"], entry["unlike_training"]) for entry in found["images"]} == {(None, None)}
    assert {row["novelty"] for row in csv.DictReader(io.StringIO(predict("photos", "--csv")))} == {""}


def test_what_the_images_are_like_is_not_given_away(knowing: ClientPrompt) -> None:
    said = secfpp("export", "a.safetensors", "--to", "safetensors", "--out", "b.safetensors")
    assert "the mean of all of them; --no-prior leaves that out" in said
    secfpp("export", "a.safetensors", "--to", "safetensors", "--no-prior", "--out", "c.safetensors")
    assert load_prompt("b.safetensors").image_mean is not None and load_prompt("c.safetensors").image_mean is None


def test_the_prior_is_the_clients_unless_told_otherwise(prompt: ClientPrompt) -> None:
    own, same, uniform = (
        json.loads(predict("photos", "--json", *more)) for more in ([], ["--prior", "own"], ["--prior", "uniform"])
    )
    assert own == same
    assert {entry["label"] for entry in own["images"]} == {"bird"}  # as the client mostly has
    expected = prompt.predict_proba([Path(name) for name in IMAGES], prior="uniform")
    assert [e["probability"] for e in uniform["images"]] == pytest.approx(expected.max(1).tolist(), abs=1e-5)
    prompt.without_prior().save("a.safetensors")
    assert json.loads(predict("photos", "--json"))["prior"] == "uniform"
    assert "prior = 'own': this prompt holds no class frequencies" in fails(
        "predict", "--prompt", "a.safetensors", "photos", "--prior", "own"
    )


def test_predictions_on_two_levels_are_those_of_the_prompt(two_levels: ClientPrompt) -> None:
    for words in ([], ["--prior", "own"], ["--prior", "uniform"]):
        found = json.loads(predict("photos", "--json", *words))["images"]
        prior: Any = words[1] if words else None
        expected = two_levels.predict_proba([Path(name) for name in IMAGES], prior=prior)
        assert [entry["probability"] for entry in found] == pytest.approx(expected.max(1).tolist(), abs=1e-5)
        assert [entry["label"] for entry in found] == [CLASSES[i] for i in expected.argmax(1)]


def test_wrong_input_is_named_before_the_model_is_loaded(prompt: ClientPrompt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secfpp.models.backbone.load_backbone", lambda name: pytest.fail("too early"))
    Path("photos/bad.jpg").write_bytes(b"no image")
    Path("empty").mkdir()
    for words, part in {
        ("photos",): "photos/bad.jpg: damaged, or not an image",
        ("none.png",): "none.png: no such file or folder",
        ("empty",): "empty: no image in this folder",
    }.items():
        assert part in fails("predict", "--prompt", "a.safetensors", *words)
    assert "prompt file b.safetensors: No such file" in fails("predict", "--prompt", "b.safetensors", "photos")
    assert "give a file that secfpp wrote" in fails("predict", "--prompt", "photos/bad.jpg", "photos")


def test_another_model_is_refused(prompt: ClientPrompt, tmp_path: Path) -> None:
    other = TinyClip(seed=3).save(tmp_path / "other")
    assert "is another one" in fails("predict", "--prompt", "a.safetensors", "photos", "--backbone", str(other))


def test_deep_greys_are_scaled_as_in_training_if_that_is_stated(prompt: ClientPrompt) -> None:
    greys = {"dark": 1000, "bright": 4000}
    Path("greys").mkdir()
    for name, value in greys.items():
        Image.fromarray(np.full((32, 32), value, np.uint16)).save(f"greys/{name}.png")

    def found(*words: str) -> dict[str, float]:
        images = json.loads(predict(*words, "--json", "--top", "1"))["images"]
        return {Path(each["image"]).stem: each["probability"] for each in images}

    stated = found("greys", "--grey-window", "0", "4095")
    with pytest.warns(DataWarning, match="2 of 2 images have grey values"):
        assert found("greys") == stated
    assert found("greys/dark.png", "--grey-window", "0", "4095")["dark"] == stated["dark"]
    assert found("greys/dark.png", "--grey-window", "0", "1023")["dark"] != stated["dark"]
    words = ["export", "a.safetensors", "--to", "safetensors", "--class-contexts", "greys", "--out"]
    secfpp(*words, "stated.safetensors", "--grey-window", "0", "4095")
    with pytest.warns(DataWarning, match="2 of 2 images have grey values"):
        secfpp(*words, "other.safetensors")
    assert "two values, that of black below" in fails(
        "predict", "--prompt", "a.safetensors", "greys", "--grey-window", "9", "3"
    )


def test_deep_greys_are_scaled_as_the_prompt_file_says(prompt: ClientPrompt) -> None:
    replace(prompt, grey_window=(0, 4095)).save("a.safetensors")
    for name, value in {"dark": 1000, "bright": 60000}.items():
        Image.fromarray(np.full((32, 32), value, np.uint16)).save(f"{name}.png")

    def found(*words: str) -> float:
        (image,) = json.loads(predict(*words, "--json"))["images"]
        return float(image["probability"])

    trained = found("dark.png")
    Image.fromarray(np.full((32, 32), round(1000 / 4095 * 255), np.uint8)).save("eight.png")
    assert trained == found("eight.png") == found("dark.png", "--grey-window", "0", "4095")
    with pytest.warns(DataWarning, match="with 0 as black and 1023 as white, as stated; in training 0 .* 4095 white"):
        assert found("dark.png", "--grey-window", "0", "1023") != trained
    assert found("eight.png", "--grey-window", "0", "1023") == trained  # no deep image: nothing to tell
    with pytest.warns(
        DataWarning, match="1 of 2 images have grey values up to 60000, and in training 0 was black"
    ) as said:
        predict("dark.png", "bright.png")
    assert len(said) == 1


def test_what_is_passed_over_is_counted(prompt: ClientPrompt) -> None:
    Path("photos/scan.dcm").write_text("x")
    with pytest.warns(DataWarning, match=r"1 \.dcm"):
        predict("photos")
