from __future__ import annotations

from typing import Any

import pytest

from secfpp.errors import ConfigError, Problem
from secfpp.experiment.spec.config import ExperimentConfig, parse_config
from secfpp.experiment.spec.layers import merge, parse_override
from secfpp.experiment.spec.schema import mentioned
from secfpp.experiment.spec.settable import as_set
from secfpp.protocol import wire


def refused(config: ExperimentConfig, label: str, clients: int) -> list[Problem]:
    with pytest.raises(ConfigError) as error:
        config.choose([label])[label].require(clients)
    return list(as_set(error.value, config, label).problems)


@pytest.mark.parametrize(
    ("table", "label", "key"),
    [
        ({}, "secfpp", "method.clusterer.restarts"),
        ({"variants": {"a+b": {"base": "secfpp"}}}, "a+b", 'variants."a+b".clusterer.restarts'),
        ({"method": {"name": "promptfl"}}, "secfpp", 'variants."secfpp+mine".clusterer.restarts'),
    ],
)
def test_a_problem_has_the_key_that_mends_it(
    table: dict[str, Any], label: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_MESSAGE", 80 << 20)
    (problem,) = refused(parse_config(table), label, 200)
    assert problem.key == key and problem.value == 192
    prefix = key.removesuffix(".restarts")
    assert f"or fix {prefix}.k" in problem.allowed
    mended = parse_override(f"{key}=8")
    if "+mine" in key:
        assert f'{prefix.removesuffix(".clusterer")}.base = "secfpp"' in problem.allowed
        mended["variants"]["secfpp+mine"]["base"] = "secfpp"
    config = parse_config(merge(table, mended))
    label = "secfpp+mine" if "+mine" in key else label
    config.choose([label])[label].require(200)


def test_what_is_no_setting_of_the_method_stays_as_it_is() -> None:
    config = parse_config({"method": {"clusterer": {"dropouts": 7}}})
    (problem,) = refused(config, "secfpp", 8)
    assert str(problem) == "clients = 8: at least 13 to hold shares, or method.clusterer.dropouts = 2"
    parse_config({"method": {"clusterer": {"dropouts": 2, "min_cluster_size": 4}}}).method.algorithm.require(8)
    for error in (ConfigError([Problem("rounds", 0, "at least 1")]), ConfigError("one sentence")):
        assert str(as_set(error, config, "secfpp")) == str(error)


def test_other_settings_that_a_problem_mentions_have_their_whole_keys() -> None:
    names = {"clusterer", "class_means"}
    text = 'at most clusterer.k = 4; class_means.levels = "group", not a.clusterer.k, clusterers.k or the clusterer.'
    assert mentioned(text, "method", names) == (
        'at most method.clusterer.k = 4; method.class_means.levels = "group", not a.clusterer.k, clusterers.k or the '
        "clusterer."
    )
    assert mentioned("fewer clusterer.dropouts", "method.clusterer", {"k"}) == "fewer method.clusterer.dropouts"
    with pytest.raises(ConfigError, match=r"method\.aggregator\.min_responders = 9: at most method\.clusterer\."):
        parse_config({"method": {"aggregator": {"min_responders": 9}}})


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("clusterer.restarts=64", "clusterer = {'restarts': 64}: unknown key; did you mean method.clusterer?"),
        ("rho=0.5", "rho = 0.5: unknown key; did you mean data.rho?"),
        ("threads=2", "threads = 2: unknown key; did you mean backbone.threads?"),
        ("round=2", "round = 2: unknown key; did you mean 'rounds'? Known"),
        ("method.restarts=64", "method.restarts = 64: unknown key; did you mean method.clusterer.restarts?"),
        ("method.lr=0.1", "method.lr = 0.1: unknown key; did you mean method.training.lr?"),
        ("method.efort=0.1", "method.efort = 0.1: unknown key; did you mean 'effort'? Known"),
    ],
)
def test_a_key_in_the_wrong_place_is_told_its_own(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_config(parse_override(override))
    assert str(error.value).startswith(said)
    if override.startswith("method.r"):
        parse_config(parse_override(override.replace("method.", "method.clusterer.")))
