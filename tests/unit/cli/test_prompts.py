from __future__ import annotations

import csv
import io
import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from secfpp.cli.app import app
from secfpp.errors import DataWarning
from secfpp.images import as_array
from secfpp.models.backbone import load_backbone
from secfpp.models.prompt_file import ClientPrompt, load_prompt
from support.picture_folders import picture_tree
from support.tiny_clip import TinyClip

CLASSES = ("cat", "dog", "bird")
LEVELS = ["personal", "domain"]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_backbone(str(TinyClip().save(tmp_path_factory.mktemp("tiny"))), device="cpu")


@pytest.fixture
def prompt(backbone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClientPrompt:
    """A prompt, saved as a.safetensors in the current folder, which also holds photos/."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    learned = ClientPrompt(
        prompt=np.random.default_rng(0).normal(size=(4, 32)).astype(np.float32),
        classes=CLASSES,
        backbone=backbone.spec.name,
        backbone_digest=backbone.spec.digest,
        log_prior=np.log(np.float32([0.01, 0.01, 0.98])),
        client="hospital-a",
        image_size=32,
    )
    learned.save("a.safetensors")
    picture_tree(tmp_path / "photos", {"cat": 2, "dog/deep": 1})
    return learned


@pytest.fixture
def two_levels(prompt: ClientPrompt) -> ClientPrompt:
    """The same with a domain prompt, and saved as a.safetensors instead."""
    learned = replace(prompt, domain_prompt=-prompt.prompt, familiar=np.array([True, True, False]), trust=0.5)
    learned.save("a.safetensors")
    return learned


IMAGES = ["photos/cat/000.png", "photos/cat/001.png", "photos/dog/deep/000.png"]


def secfpp(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result.stdout


def fails(*words: str) -> str:
    """The message of a command that must end with 2, without a traceback."""
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.stderr.replace("│", " ").split())


def predict(*words: str) -> str:
    return secfpp("predict", "--prompt", "a.safetensors", *words)


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


def test_export_leaves_the_class_frequencies_out_on_demand(prompt: ClientPrompt) -> None:
    assert "holds how often" in secfpp("export", "a.safetensors", "--to", "safetensors", "--out", "b.safetensors")
    shown = json.loads(
        secfpp("export", "a.safetensors", "--to", "safetensors", "--out", "c.safetensors", "--no-prior", "--json")
    )
    assert (shown["class_frequencies"], shown["path"]) == (False, "c.safetensors")
    assert shown["bytes"] == Path("c.safetensors").stat().st_size
    whole, bare = load_prompt("b.safetensors"), load_prompt("c.safetensors")
    np.testing.assert_array_equal(whole.log_prior, prompt.log_prior)
    assert bare.log_prior is None
    for each in (whole, bare):
        np.testing.assert_array_equal(each.prompt, prompt.prompt)
    assert stat.S_IMODE(Path("c.safetensors").stat().st_mode) == 0o600


def test_export_says_what_is_left_of_two_levels(two_levels: ClientPrompt) -> None:
    def exported(*words: str) -> tuple[ClientPrompt, dict[str, Any], str]:
        line = ["export", "a.safetensors", "--to", "safetensors", "--out", "b.safetensors", "--force", *words]
        shown, facts = secfpp(*line), json.loads(secfpp(*line, "--json"))
        assert all(note in shown for note in facts["notes"])
        return load_prompt("b.safetensors"), facts, shown

    whole, facts, shown = exported()
    np.testing.assert_array_equal(whole.domain_prompt, two_levels.domain_prompt)
    np.testing.assert_array_equal(whole.familiar, two_levels.familiar)
    assert (facts["levels"], facts["class_frequencies"], facts["familiar_classes"]) == (LEVELS, True, True)
    assert "how often the client has each class and which it knows well; --no-prior leaves" in shown
    assert facts["notes"] == []
    for level, vectors in zip(LEVELS, (two_levels.prompt, two_levels.domain_prompt), strict=True):
        for more in ([], ["--no-prior"]):
            alone, facts, shown = exported("--level", level, *more)
            np.testing.assert_array_equal(alone.prompt, vectors)
            assert (alone.domain_prompt, alone.familiar, alone.log_prior is None) == (None, None, bool(more))
            assert (facts["levels"], facts["class_frequencies"]) == ([level], not more)
            assert facts["familiar_classes"] is False
            assert f"predicts with two prompts, this file with one, here the {level} one: expect less accuracy" in shown
    bare, facts, shown = exported("--no-prior")
    np.testing.assert_array_equal(bare.prompt, two_levels.prompt)
    assert (facts["levels"], bare.log_prior, bare.familiar) == (["personal"], None, None)
    assert "few images of, or none" in shown and "It holds" not in shown


@pytest.fixture
def visual(two_levels: ClientPrompt) -> ClientPrompt:
    """`two_levels` with a visual part, and saved as a.safetensors instead."""
    weights = np.random.default_rng(1).normal(size=(2, 3, 24)).astype(np.float32)
    learned = replace(two_levels, visual_weights=weights, visual_bias=weights[:, :, 0], text_weight=np.ones(2))
    learned.save("a.safetensors")
    return learned


def test_predictions_with_a_visual_part_are_those_of_the_prompt(visual: ClientPrompt) -> None:
    found = json.loads(predict("photos", "--json", "--prior", "uniform"))["images"]
    expected = visual.predict_proba([Path(name) for name in IMAGES], prior="uniform")
    assert [entry["probability"] for entry in found] == pytest.approx(expected.max(1).tolist(), abs=1e-5)


def test_a_visual_part_goes_into_this_packages_own_files_only(visual: ClientPrompt) -> None:
    line = ["export", "a.safetensors", "--to", "safetensors", "--out", "b", "--force"]
    assert "which it knows well and class means of its images; --no-prior leaves that out" in secfpp(*line)
    assert json.loads(secfpp(*line, "--json"))["visual_part"] is True
    np.testing.assert_array_equal(load_prompt("b").visual_weights, visual.visual_weights)
    secfpp(*line, "--level", "domain")
    np.testing.assert_array_equal(load_prompt("b").visual_weights, visual.visual_weights[1:])  # type: ignore[index]
    shown = secfpp(*line, "--no-prior")
    assert (
        "The client also predicts with class means of image features, this file without: expect much less accuracy."
        in shown
    )
    assert load_prompt("b").visual_weights is None
    line[3] = "coop"
    assert "CoOp's own predictor without: expect much less accuracy; --class-contexts IMAGES makes" in secfpp(*line)
    assert json.loads(secfpp(*line, "--json"))["visual_part"] is False


@pytest.mark.parametrize("prior", ["uniform", "own"])
def test_coop_gets_a_prompt_that_says_the_same(prior: Any, visual: ClientPrompt, backbone: Any) -> None:
    out = "model.pth.tar-5"
    line = ["export", "a.safetensors", "--to", "coop", "--class-contexts", "photos", "--out", out, "--prior", prior]
    shown = secfpp(*line)
    assert "contexts of single classes tell which the client has" in shown and "% get the class that" in shown
    assert "expect" not in shown
    facts = json.loads(secfpp(*line, "--force", "--json"))
    assert (facts["class_contexts"], facts["visual_part"], facts["class_frequencies"]) == (True, False, False)
    assert facts["agreement"] == 1 and torch.load(out)["state_dict"]["ctx"].shape == (3, 4, 32)
    words = ["--classes", "cat,dog,bird", "--backbone", visual.backbone, "--out", "d.safetensors"]
    secfpp("import", out, "--from", "coop", *words)
    images = [Path(name) for name in IMAGES]
    whole, again = visual.predict_proba(images, prior=prior), load_prompt("d.safetensors").predict_proba(images)
    np.testing.assert_allclose(again, whole, atol=0.1)
    plain = visual.one_level().without_visual().predict_proba(images, prior="uniform")
    assert np.abs(again - whole).max() < 0.3 * np.abs(plain - whole).max()


def test_a_prompt_alone_can_be_kept_with_its_class_frequencies(visual: ClientPrompt) -> None:
    line = ["export", "a.safetensors", "--to", "safetensors", "--class-contexts", "photos", "--out", "b"]
    assert "how often the client has each class" in secfpp(*line)
    alone = load_prompt("b")
    assert alone.prompt.shape == (3, 4, 32) and (alone.domain_prompt, alone.visual_weights) == (None, None)
    np.testing.assert_array_equal(alone.log_prior, visual.log_prior)
    assert "photos/cat/000.png" in secfpp("predict", "--prompt", "b", "photos", "--prior", "own")
    again = ["export", "b", "--to", "safetensors", "--no-prior", "--out", "c"]
    assert "tell the client's classes themselves: take the prompt that they were made from" in fails(*again)


def test_class_contexts_that_make_no_sense_are_refused(visual: ClientPrompt) -> None:
    line = ["export", "a.safetensors", "--to", "coop", "--out", "x"]
    assert "--prior = 'own': only with --class-contexts" in fails(*line, "--prior", "own")
    assert "not with --no-prior: they tell" in fails(*line, "--class-contexts", "photos", "--no-prior")
    assert "none: no such file or folder" in fails(*line, "--class-contexts", "none")
    assert not Path("x").exists()


@pytest.mark.parametrize(
    ("words", "level", "weak"),
    [
        ([], "personal", "classes that the client has few images of, or none"),
        (["--level", "personal"], "personal", "classes that the client has few images of, or none"),
        (["--level", "domain"], "domain", "the classes that it has"),
        (["--level", "domain", "--no-prior"], "domain", "the classes that it has"),
    ],
)
def test_coop_gets_one_of_two_levels_and_its_user_is_told(
    words: list[str], level: str, weak: str, two_levels: ClientPrompt
) -> None:
    line = ["export", "a.safetensors", "--to", "coop", "--out", "x", "--force", *words]
    told = f"two prompts, CoOp's own predictor with one, here the {level} one: expect less accuracy on {weak}"
    assert told + "." in secfpp(*line)
    facts = json.loads(secfpp(*line, "--json"))
    assert told in facts["notes"][0] and "full stop" in facts["notes"][1]
    assert (facts["levels"], facts["class_frequencies"], facts["familiar_classes"]) == ([level], False, False)
    expected = two_levels.prompt if level == "personal" else two_levels.domain_prompt
    np.testing.assert_array_equal(torch.load("x")["state_dict"]["ctx"].numpy(), expected)


@pytest.mark.parametrize("to", ["coop", "safetensors"])
def test_a_prompt_on_one_level_has_no_other_and_loses_nothing(to: str, prompt: ClientPrompt) -> None:
    line = ["export", "a.safetensors", "--to", to, "--out", "x"]
    assert "level = 'domain': personal: this prompt has no other level" in fails(*line, "--level", "domain")
    assert not Path("x").exists()
    assert "two prompts" not in secfpp(*line, "--level", "personal")


@pytest.mark.parametrize("as_file", [False, True])
def test_to_coop_and_back_keeps_every_bit(as_file: bool, prompt: ClientPrompt) -> None:
    out = "coop/prompt_learner/model.pth.tar-50"
    assert "full stop behind class names" in secfpp("export", "a.safetensors", "--to", "coop", "--out", out)
    assert torch.load(out)["state_dict"]["ctx"].shape == (4, 32)
    Path("names.txt").write_text("cat\ndog\n\nbird\n")
    names = "names.txt" if as_file else "cat, dog,bird"
    words = ["--classes", names, "--backbone", prompt.backbone, "--out", "d.safetensors", "--client", "me"]
    assert "wrote d.safetensors" in secfpp("import", out, "--from", "coop", *words)
    again = load_prompt("d.safetensors")
    assert again.prompt.tobytes() == prompt.prompt.tobytes()
    assert (again.classes, again.client, again.class_template) == (CLASSES, "me", "{}")
    first = json.loads(secfpp("predict", "--prompt", "d.safetensors", "photos", "--json"))["images"]
    assert first == json.loads(predict("photos", "--json", "--prior", "uniform"))["images"]


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


def test_what_is_passed_over_is_counted(prompt: ClientPrompt) -> None:
    Path("photos/scan.dcm").write_text("x")
    with pytest.warns(DataWarning, match=r"1 \.dcm"):
        predict("photos")


def test_nothing_is_overwritten_unless_asked(prompt: ClientPrompt) -> None:
    Path("b.safetensors").write_text("mine")
    words = ["export", "a.safetensors", "--to", "safetensors", "--out", "b.safetensors"]
    assert "exists already" in fails(*words) and "--force" in fails(*words)
    more = ["--classes", "a,b", "--backbone", "mini", "--out", "b.safetensors"]
    assert "exists already" in fails("import", "x", "--from", "coop", *more)
    assert Path("b.safetensors").read_text() == "mine"
    secfpp(*words, "--force")
    assert load_prompt("b.safetensors").client == "hospital-a"
    assert "is a directory" in fails(*words[:-1], "photos", "--force")
    assert "cannot be written" in fails(*words[:-1], "b.safetensors/c")


def test_import_says_what_is_wrong(prompt: ClientPrompt) -> None:
    secfpp("export", "a.safetensors", "--to", "coop", "--out", "x")

    def refused(classes: str, *more: str) -> str:
        words = ["--backbone", prompt.backbone, "--out", "d.safetensors", *more]
        return fails("import", "x", "--from", "coop", "--classes", classes, *words)

    assert "two names or more" in refused("cat")
    assert "names 1 and 3: no prompt can tell them apart: add a word" in refused("cat,dog,cat")
    Path("twice.txt").write_text("cat\n\ndog\ncat\n")
    assert "--classes = 'cat': lines 1 and 4: no prompt" in refused("twice.txt")
    assert "x: it is for 3 classes, but 2 names are given" in refused("cat,dog")
    assert "class 'dog' is not what the file has in its place" in refused("dog,cat,bird")
    assert not Path("d.safetensors").exists()


def test_help_says_what_is_private() -> None:
    shown = " ".join(secfpp("export", "--help").split())
    assert "A prompt file is private" in shown and "--no-prior" in shown
