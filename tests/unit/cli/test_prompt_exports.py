from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from secfpp.models.prompt_file import ClientPrompt, load_prompt
from support.prompt_commands import CLASSES, IMAGES, LEVELS, fails, predict, secfpp


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
