"""The real methods and data sets, and the configs of this repository, through the config reader."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from secfpp.algorithms.secfpp import SecFPP
from secfpp.cli.training import DEMO_METHODS
from secfpp.errors import ConfigError
from secfpp.experiment.spec.config import Catalog, load_config, parse_config, to_toml
from secfpp.experiment.spec.variants import KNOWN, root, variants
from secfpp.secure.clustering.clusterer import Clusterer, OneCluster, OracleClusters
from secfpp.secure.clustering.plain_agreement import PlainAgreement
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.polls.plain_poll import PlainPoll

CONFIGS = Path(__file__).parents[4] / "configs"


@pytest.mark.parametrize("name", sorted(Catalog.installed().methods))
def test_every_method_has_a_config_that_reads_back_equal(name: str) -> None:
    config = parse_config({"method": {"name": name}})
    assert config.method.algorithm == Catalog.installed().methods[name]()
    assert parse_config(tomllib.loads(to_toml(config))) == config


def test_nothing_given_is_what_the_shipped_config_spells_out() -> None:
    assert load_config(CONFIGS / "icons.toml") == parse_config({})


def test_usual_variants_differ_from_their_base_as_named() -> None:
    found, methods = variants(), Catalog.installed().methods
    assert found["secfpp+oracle"] == SecFPP(clusterer=OracleClusters())
    assert found["secfpp+no_private"] == SecFPP(local_lr=0.0)
    assert found["coop_local+logit_adjusted"] == methods["coop_local"](logit_adjustment=1.0)
    assert found["promptfl@0.04"].training.lr == 0.04
    for label, algorithm in found.items():
        assert algorithm.name == root(label) and algorithm != methods[algorithm.name](), label
        assert algorithm != found.get(KNOWN[label].base)


def test_a_usual_variant_builds_on_the_configured_method_and_is_kept_with_its_settings() -> None:
    config = parse_config({"method": {"name": "secfpp", "local_lr": 0.5}})
    assert config.choose(["secfpp+oracle"]) == {"secfpp+oracle": SecFPP(local_lr=0.5, clusterer=OracleClusters())}
    own = parse_config({"variants": {"secfpp+one": {"base": "secfpp+clear", "local_lr": 0.7}}})
    (algorithm,) = own.choose(["secfpp+one"]).values()
    assert algorithm == replace(variants()["secfpp+clear"], local_lr=0.7)
    assert own.labels()[-1] == "secfpp+one" and "secfpp+oracle" not in own.labels()


def test_a_usual_variant_that_the_configured_method_cannot_be_is_refused_when_it_is_chosen() -> None:
    config = parse_config({"method": {"name": "secfpp", "descriptor": "features", "clusterer": "secure_kmeans"}})
    with pytest.raises(ConfigError, match="secfpp\\+clear"):
        config.choose(["secfpp+clear"])
    with pytest.raises(ConfigError, match=r"'secfpp\+orcale': unknown method; did you mean 'secfpp\+oracle'"):
        config.choose(["secfpp+orcale"])


def test_the_kind_alone_stands_for_a_part_of_which_nothing_else_is_set(tmp_path: Path) -> None:
    alone = parse_config({"method": {"clusterer": "plain_agreement"}})
    assert alone == parse_config({"method": {"clusterer": {"kind": "plain_agreement"}}})
    path = tmp_path / "c.toml"
    path.write_text('method.clusterer = "plain_agreement"')
    assert load_config(path) == alone
    assert load_config(path, ["method.clusterer.k_max=3"]).method.algorithm.clusterer == PlainAgreement(k_max=3)
    assert load_config(path, ["method.clusterer=one"]).method.algorithm.clusterer == OneCluster()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"clusterer": 3}, r'a table of settings: {"kind": "one"}, or the kind alone; in TOML \[method.clusterer\]'),
        ({"training": "fast"}, r'a table of settings: {"steps": ...}; in TOML \[method.training\]'),
        ({"clusterer": "plain_kmean"}, "unknown kind; did you mean 'plain_kmeans'"),
    ],
)
def test_what_a_part_wants_is_said_in_python_and_in_toml(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_config({"method": settings})


def test_clusterers_are_chosen_by_kind_and_keep_their_settings() -> None:
    config = parse_config({"method": {"clusterer": {"kind": "plain_agreement", "k_max": 3}}})
    assert config.method.algorithm.clusterer == PlainAgreement(k_max=3)
    assert issubclass(PlainAgreement, Clusterer)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_config_works_and_reads_back_equal(path: Path) -> None:
    config = load_config(path)
    assert parse_config(tomllib.loads(to_toml(config))) == config
    assert config.choose(list(config.variants)).keys() == config.variants.keys()


def test_the_demo_shows_methods_and_variants_that_everybody_knows() -> None:
    chosen = parse_config({}).choose(DEMO_METHODS)
    assert [label for label in chosen if label in KNOWN] == ["coop_local+means", "secfpp+clear"]
    assert chosen["secfpp+clear"] == SecFPP(
        clusterer=PlainAgreement(), aggregator=PlainMean(min_responders=4, most_weight=0.5), poll=PlainPoll()
    )


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
