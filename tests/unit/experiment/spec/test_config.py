from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from secfpp.errors import ConfigError
from secfpp.experiment.spec.config import (
    BackboneSettings,
    ExperimentConfig,
    load_config,
    parse_config,
    to_toml,
)
from secfpp.experiment.spec.layers import merge, parse_override
from support_experiment import Grouped, Means, Pooled, Single, ToySettings, Training, catalog

FILE = """
seeds = [3, 4]
rounds = 7
participation = 0.5

[data]
name = "toy"
shots = 8

[backbone]
name = "mini"
threads = 2

[method]
name = "grouped"
training.lr = 0.5
grouping.k_max = 4

[variants."grouped+single"]
base = "grouped"
grouping.kind = "single"

[variants."slow"]
base = "grouped+single"
training.steps = 50

[variants."pooled-prior"]
base = "pooled"
class_prior = false
"""


def parsed(text: str = FILE) -> ExperimentConfig:
    return parse_config(tomllib.loads(text), catalog())


def keys(text: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    return {problem.key: problem.allowed for problem in caught.value.problems}


def test_everything_in_a_file_is_read() -> None:
    config = parsed()
    assert (config.seeds, config.rounds, config.participation) == ((3, 4), 7, 0.5)
    assert config.data.settings == ToySettings(shots=8)
    assert config.backbone == BackboneSettings(threads=2)
    assert config.method.algorithm == Grouped(training=Training(lr=0.5), grouping=Means(k_max=4))


def test_a_variant_builds_on_the_configured_method_or_another_variant() -> None:
    variants = parsed().variants
    assert variants["grouped+single"].algorithm == Grouped(training=Training(lr=0.5), grouping=Single())
    assert variants["slow"].algorithm == Grouped(training=Training(lr=0.5, steps=50), grouping=Single())
    assert variants["pooled-prior"].algorithm == Pooled(class_prior=False)
    assert variants["slow"].name == "grouped"


def test_written_and_read_again_it_is_equal() -> None:
    config = parsed()
    assert parsed(to_toml(config)) == config


def test_choose_knows_variants_the_method_and_plain_methods() -> None:
    chosen = parsed().choose(["slow", "grouped", "pooled"], catalog())
    assert list(chosen) == ["slow", "grouped", "pooled"]
    assert chosen["grouped"] == parsed().method.algorithm
    assert chosen["pooled"] == Pooled()


def test_all_labels_come_floors_first_the_method_last_then_variants(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parsed().labels(catalog()) == ("pooled", "grouped", "grouped+single", "slow", "pooled-prior")
    monkeypatch.setattr(Pooled, "trained", True, raising=False)
    monkeypatch.setattr(Grouped, "trained", False, raising=False)
    other = parsed('data.name = "toy"\nmethod.name = "pooled"')
    assert other.labels(catalog()) == ("grouped", "pooled")
    assert list(parsed().choose(parsed().labels(catalog()), catalog())) == list(parsed().labels(catalog()))


@pytest.mark.parametrize("share", ["0", "0.0", "1.5", "-1", '"half"', "nan", "true"])
def test_participation_is_a_share(share: str) -> None:
    assert "participation" in keys(f"participation = {share}")
    assert parsed('data.name = "toy"\nmethod.name = "pooled"').participation == 1.0


def test_choose_names_every_unknown_label() -> None:
    with pytest.raises(ConfigError) as caught:
        parsed().choose(["poold", "pooled", "zzz"], catalog())
    assert [problem.value for problem in caught.value.problems] == ["poold", "zzz"]
    assert "did you mean 'pooled'" in caught.value.problems[0].allowed


def test_all_bad_values_of_a_file_come_at_once() -> None:
    found = keys(
        """
        seed = -1
        rounds = 0
        round = 3
        [data]
        name = "toy"
        shot = 8
        [backbone]
        dtype = "float8"
        [method]
        name = "groupd"
        [variants.x]
        base = "nothing"
        [variants.y]
        """
    )
    assert set(found) == {
        "seed", "rounds", "round", "data.shot", "backbone.dtype", "method.name", "variants.x.base", "variants.y",
    }  # fmt: skip
    assert "did you mean 'rounds'" in found["round"]
    assert "did you mean 'shots'" in found["data.shot"]
    assert "did you mean 'grouped'" in found["method.name"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("seed = 1\nseeds = [1]", "seed"),
        ("seeds = []", "seeds"),
        ("seeds = [1, 1]", "seeds"),
        ("data = 3", "data"),
        ("method = 'pooled'", "method"),
        ("variants = 3", "variants"),
        ("[variants.pooled]\nbase = 'grouped'", "variants.pooled"),
        ("[variants.'a/b']\nbase = 'grouped'", 'variants."a/b"'),
        ("[variants.a]\nbase = 'b'\n[variants.b]\nbase = 'a'", "variants.a.base"),
        ("[variants.a]\nbase = 'a'", "variants.a.base"),
        ("[variants.a]\nbase = 'pooled'\ntraining.lr = 0", "variants.a.training.lr"),
    ],
)
def test_contradictions_are_named(text: str, key: str) -> None:
    basis = {"data": {"name": "toy"}, "method": {"name": "grouped"}}
    with pytest.raises(ConfigError) as caught:
        parse_config(basis | tomllib.loads(text), catalog())
    assert key in {problem.key for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b=3", {"a": {"b": 3}}),
        ("lr=2e-3", {"lr": 0.002}),
        ("name=promptfl", {"name": "promptfl"}),
        ('name="x"', {"name": "x"}),
        ("seeds=[1, 2]", {"seeds": [1, 2]}),
        ('variants."a+b".lr=1', {"variants": {"a+b": {"lr": 1}}}),
        ("path=C:\\x", {"path": "C:\\x"}),
    ],
)
def test_overrides_are_toml_or_a_string(text: str, expected: dict[str, Any]) -> None:
    assert parse_override(text) == expected


@pytest.mark.parametrize("text", ["a", "=3", "a b=3", ""])
def test_bad_overrides_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        parse_override(text)


def test_merge_is_deep_and_another_kind_starts_afresh() -> None:
    base = {"x": 1, "part": {"kind": "means", "k": 3, "inner": {"a": 1}}}
    assert merge(base, {"part": {"k": 4, "inner": {"b": 2}}})["part"] == {
        "kind": "means",
        "k": 4,
        "inner": {"a": 1, "b": 2},
    }
    assert merge(base, {"part": {"kind": "single"}}) == {"x": 1, "part": {"kind": "single"}}
    assert merge(base, {"part": {"kind": "means"}}) == base
    assert merge({"seeds": [1]}, {"seed": 2}) == {"seed": 2}


def test_load_reads_a_file_and_applies_overrides(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(FILE)
    config = load_config(path, ["seed=9", "method.name=pooled", "method.training.lr=0.3"], catalog())
    assert config.seeds == (9,)
    assert config.method.algorithm == Pooled(training=Training(lr=0.3))


def test_load_says_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.toml.*No such file"):
        load_config(tmp_path / "missing.toml", (), catalog())
    (tmp_path / "bad.toml").write_text("a = = 3")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(tmp_path / "bad.toml", (), catalog())


def test_an_empty_table_needs_only_known_defaults() -> None:
    found = keys("")  # the made-up catalog has neither of the default names
    assert set(found) == {"data.name", "method.name"}
