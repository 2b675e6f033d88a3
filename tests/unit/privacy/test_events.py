from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest

from secfpp.errors import ConfigError, UnsupportedMechanism
from secfpp.privacy.accounting import epsilon
from secfpp.privacy.events import (
    Composed,
    Event,
    Gaussian,
    SampledGaussian,
    Skellam,
    Uncovered,
    from_json,
    to_json,
)

SUM = Gaussian(covers="class sums", unit="client", norm=2.0, sd=3.0)
SAMPLE = SampledGaussian(covers="gradient", unit="client", norm=1.0, sd=2.0, rate=0.1)
MEAN = Skellam(covers="mean", unit="client", l1=40.0, l2=10.0, variance=900.0)
ROUND = Composed(covers="round", unit="client", events=(SUM, MEAN), times=3)


@pytest.mark.parametrize("event", [SUM, SAMPLE, MEAN, ROUND, Uncovered(covers="groups", unit="record")])
def test_an_event_survives_json(event: Event) -> None:
    assert from_json(json.loads(json.dumps(to_json(event)))) == event


@pytest.mark.parametrize(
    "told",
    [
        {"kind": "laplace", "covers": "x", "unit": "client"},
        {**to_json(SUM), "rate": 0.5},
        {key: value for key, value in to_json(SUM).items() if key != "sd"},
        [],
        {**to_json(ROUND), "events": [{"kind": "laplace"}]},
    ],
)
def test_what_is_not_known_is_refused(told: Any) -> None:
    with pytest.raises(UnsupportedMechanism, match="version of secfpp that wrote it"):
        from_json(told)


def test_replacing_moves_a_sum_twice_as_far_as_removing() -> None:
    assert SUM.sensitivity == 2.0
    assert replace(SUM, adjacency="replace_one").sensitivity == 4.0


@pytest.mark.parametrize("adjacency", ["add_remove", "replace_one"])
def test_a_record_is_hidden_by_what_hides_any_change_of_its_client(adjacency: Any) -> None:
    for event in (SUM, MEAN, ROUND):
        any_change = epsilon([event.restated("client", "replace_one")], 1e-5)
        assert epsilon([event.restated("record", adjacency)], 1e-5) == pytest.approx(any_change, rel=1e-9)
        assert any_change > epsilon([event], 1e-5)


def test_what_is_bounded_by_records_says_nothing_of_clients() -> None:
    records = replace(SUM, unit="record")
    with pytest.raises(UnsupportedMechanism, match=r"class sums: a gaussian release.*clip what a client gives"):
        records.restated("client", "add_remove")
    with pytest.raises(UnsupportedMechanism, match="gradient: a sample of clients"):
        SAMPLE.restated("record", "add_remove")
    mixed = Composed(covers="both", unit="record", events=(records,))
    with pytest.raises(UnsupportedMechanism, match="class sums"):
        mixed.restated("client", "add_remove")


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: replace(SUM, norm=0.0), "gaussian.norm"),
        (lambda: replace(SUM, sd=float("inf")), "gaussian.sd"),
        (lambda: replace(SUM, unit="image"), "gaussian.unit"),
        (lambda: replace(SUM, adjacency="remove"), "gaussian.adjacency"),
        (lambda: replace(SAMPLE, rate=1.0), "sampled_gaussian.rate"),
        (lambda: replace(MEAN, l1=5.0), "skellam.l1, l2"),
        (lambda: replace(MEAN, variance=-1.0), "skellam.variance"),
        (lambda: replace(ROUND, times=0), "composed.times"),
        (lambda: replace(ROUND, unit="record"), "restate it first"),
    ],
)
def test_values_that_no_release_has_are_refused_by_name(make: Any, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        make()


@dataclass(frozen=True, kw_only=True)
class Sharpened(Gaussian):
    """A mechanism of somebody else, whatever it inherits from."""

    kind: ClassVar[str] = "sharpened"


def test_an_unknown_mechanism_is_refused_even_if_it_inherits_from_a_known_one() -> None:
    stranger = Sharpened(covers="prompt", unit="client", norm=1.0, sd=1.0)
    for events in ([stranger], [SUM, Composed(covers="round", unit="client", events=(stranger,))]):
        with pytest.raises(UnsupportedMechanism, match="prompt: no accountant covers a Sharpened"):
            epsilon(events, 1e-5)
