"""The real methods and data sets, and the configs of this repository, through the config reader."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from secfpp.algorithms.secfpp import SecFPP
from secfpp.cli.training import DEMO_METHODS, DEMO_VARIANTS
from secfpp.errors import ConfigError
from secfpp.experiment.config import Catalog, load_config, parse_config, to_toml
from secfpp.secure.clustering.clusterer import Clusterer, OracleClusters
from secfpp.secure.clustering.plain_agreement import PlainAgreement
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.polls.plain_poll import PlainPoll

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.mark.parametrize("name", sorted(Catalog.installed().methods))
def test_every_method_has_a_config_that_reads_back_equal(name: str) -> None:
    config = parse_config({"method": {"name": name}})
    assert config.method.algorithm == Catalog.installed().methods[name]()
    assert parse_config(tomllib.loads(to_toml(config))) == config


def test_nothing_given_is_what_the_shipped_config_spells_out() -> None:
    shipped = load_config(CONFIGS / "icons.toml")
    assert replace(shipped, variants={}) == parse_config({})


def test_shipped_variants_differ_from_their_base_as_named() -> None:
    config = load_config(CONFIGS / "icons.toml")
    chosen = config.choose([*DEMO_METHODS, *config.variants])
    assert chosen["secfpp+oracle"] == replace(chosen["secfpp"], clusterer=OracleClusters())
    assert chosen["promptfl+prior"] == chosen["promptfl"]
    assert chosen["coop_local+prior+la"] == replace(chosen["coop_local"], logit_adjustment=1.0)


def test_clusterers_are_chosen_by_kind_and_keep_their_settings() -> None:
    config = parse_config({"method": {"clusterer": {"kind": "plain_agreement", "k_max": 3}}})
    assert config.method.algorithm.clusterer == PlainAgreement(k_max=3)
    assert issubclass(PlainAgreement, Clusterer)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_config_works_and_reads_back_equal(path: Path) -> None:
    config = load_config(path)
    assert parse_config(tomllib.loads(to_toml(config))) == config
    assert config.choose(list(config.variants)).keys() == config.variants.keys()


def test_the_method_in_the_clear_is_the_same_in_the_demo_and_in_the_config() -> None:
    shipped = load_config(CONFIGS / "icons.toml").variants
    shown = parse_config({"variants": DEMO_VARIANTS}).variants
    assert list(shown) == [label for label in DEMO_METHODS if label in shipped] == ["coop_local+means", "secfpp+clear"]
    clear = shown["secfpp+clear"].algorithm
    assert clear == shipped["secfpp+clear"].algorithm
    assert clear == SecFPP(clusterer=PlainAgreement(), aggregator=PlainMean(min_responders=4), poll=PlainPoll())


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("data.rho=2.0", "data.rho"),
        ("data.domains=['clipart', 'nowhere']", "data.domains"),
        ("method.training.lr=0.0", "method.training.lr"),
        ("method.clusterer.k_max=0", "method.clusterer.k_max"),
        ("method.poll.min_count=1", "method.poll.min_count"),
        ("method.class_means.min_holders=1", "method.class_means.min_holders"),
        ("method.aggregator.min_responders=0", "method.aggregator.min_responders"),
        ("method.prompt.n_ctx=0", "method.prompt.n_ctx"),
    ],
)
def test_values_that_cannot_work_are_named_by_their_key(override: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(CONFIGS / "icons.toml", [override])
    assert [problem.key for problem in caught.value.problems] == [key]
