from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from secfpp.algorithms.base import FederatedAlgorithm, methods
from secfpp.algorithms.privacy import Privacy
from secfpp.algorithms.secfpp import SecFPP
from secfpp.algorithms.training import LocalTraining
from secfpp.algorithms.visual import ClassMeans
from secfpp.deploy.agreed import Agreed
from secfpp.deploy.limits import Limits, line_of
from secfpp.errors import ConfigError
from secfpp.secure.clustering.clusterer import OneCluster
from secfpp.secure.clustering.plain_agreement import PlainAgreement
from secfpp.secure.clustering.secure_agreement import SecureAgreement
from secfpp.secure.clustering.secure_kmeans import SecureKMeans
from secfpp.secure.means.plain_mean import PlainMean
from secfpp.secure.means.secure_mean import SecureMean
from secfpp.secure.polls.plain_poll import PlainPoll
from secfpp.secure.polls.secure_poll import SecurePoll

LINES = """\
name = "anna"
[data]
methods = "of another table"
[limits]
# methods = ["none"]
methods = ["secfpp"]
  most_rounds = 9
"""
VERIFIED = SecureAgreement(security="active")


def run(algorithm: FederatedAlgorithm | None = None, **changes: Any) -> Agreed:
    values: dict[str, Any] = {"run": "trial", "roster": "ABCD", "seed": 0, "rounds": 8, "fewest": 6, "deadline": 9.0}
    values |= {"template": "a {}", "classes": ("cat", "dog"), "backbone": "mini", "backbone_digest": "00"}
    return Agreed(**{**values, "algorithm": algorithm or SecFPP(), **changes})


def keys(limits: Limits, agreed: Agreed, sites: int = 12) -> list[str]:
    return [problem.key for problem in limits.problems(agreed, sites)]


def test_no_run_is_agreed_whose_epsilon_is_in_name_only() -> None:
    training = LocalTraining(steps=1, optimizer="sgd", momentum=0.0, lr=0.001)
    method = methods()["dp_fpl"](privacy=Privacy(mechanism="published", epsilon=0.1), training=training)
    with pytest.raises(ConfigError, match=r"privacy\.mechanism = 'published': .* far below the true one"):
        run(method)


def test_the_default_method_is_allowed_by_the_default_limits() -> None:
    assert keys(Limits(), run()) == []


@pytest.mark.parametrize(
    ("changes", "algorithm", "key"),
    [
        ({}, methods()["promptfl"](aggregator=SecureMean()), "method.name"),
        ({"most_rounds": 7}, None, "rounds"),
        ({"fewest_sites": 7}, None, "fewest"),
        ({"smallest_group": 5}, None, "method.aggregator.min_responders"),
        ({"largest_weight": 0.4}, None, "method.aggregator.most_weight"),
        ({"least_colluding": 3}, None, "method.aggregator.threshold"),
        ({"least_colluding": 2}, None, "method.clusterer.threshold"),
        ({}, SecFPP(clusterer=PlainAgreement()), "method.clusterer.kind"),
        ({}, SecFPP(aggregator=PlainMean(min_responders=4, most_weight=0.5)), "method.aggregator.kind"),
        ({}, SecFPP(poll=PlainPoll()), "method.poll.kind"),
        (
            {},
            SecFPP(clusterer=SecureKMeans(reveal="distances"), class_means=ClassMeans(), descriptor="features"),
            "method.clusterer.reveal",
        ),
        ({"active_security": True}, None, "method.clusterer.security"),
        ({"active_security": True}, SecFPP(clusterer=VERIFIED), "method.poll.security"),
        ({"active_security": True, "in_the_clear": True}, SecFPP(clusterer=PlainAgreement()), "method.clusterer.kind"),
        ({"active_security": True, "in_the_clear": True}, SecFPP(poll=PlainPoll()), "method.poll.kind"),
        ({"class_sums": False}, None, "method.class_means.levels"),
        ({"fewest_holders": 4}, None, "method.class_means.min_holders"),
        ({"epsilon": 8.0}, None, "method.privacy.mechanism"),
        ({"epsilon": 2.0}, SecFPP(privacy=Privacy(mechanism="class_means", epsilon=3.0)), "method.privacy.epsilon"),
    ],
)
def test_what_asks_for_more_is_refused(changes: dict[str, Any], algorithm: FederatedAlgorithm | None, key: str) -> None:
    assert key in keys(Limits(**changes), run(algorithm))


def test_what_asks_for_as_much_as_is_allowed_is_not_refused() -> None:
    limits = Limits(most_rounds=8, fewest_sites=6, epsilon=3.0, in_the_clear=True, class_sums=True)
    method = SecFPP(privacy=Privacy(mechanism="class_means", epsilon=3.0), clusterer=PlainAgreement())
    assert keys(limits, run(method)) == []


def test_a_method_that_tells_the_server_of_a_single_site_is_refused_unless_that_is_allowed() -> None:
    agreed = run(methods()["ifca_prompt"](aggregator=SecureMean()))
    (problem,) = Limits(methods=("ifca_prompt",)).problems(agreed, 12)
    assert problem.key == "method.name" and "does not tell the server which prompt" in problem.allowed
    assert keys(Limits(methods=("ifca_prompt",), in_the_clear=True), agreed) == []
    assert keys(Limits(methods=("fedpgp",)), run(methods()["fedpgp"](aggregator=SecureMean()))) == []


def test_a_site_that_asks_for_active_security_takes_part_in_runs_that_have_it() -> None:
    limits, poll = Limits(active_security=True), SecurePoll(security="active")
    assert keys(limits, run(SecFPP(clusterer=VERIFIED, poll=poll))) == []
    assert keys(limits, run(SecFPP(clusterer=OneCluster(), poll=poll))) == [], "no site is asked for its group"
    averaging = replace(limits, methods=("promptfl",))
    assert keys(averaging, run(methods()["promptfl"](aggregator=SecureMean()))) == [], "it has no groups and no polls"


def test_an_infinite_epsilon_is_no_limit_and_is_refused() -> None:
    with pytest.raises(ConfigError, match="a finite number"):
        Limits(epsilon=float("inf"))


def test_a_roster_that_is_smaller_than_the_fewest_sites_is_refused() -> None:
    assert keys(Limits(), run(), sites=3) == ["sites in the roster"]


def test_the_refusal_says_which_line_and_what_was_asked() -> None:
    limits = Limits(methods=("secfpp",), most_rounds=9)
    found = [str(p) for p in limits.problems(replace(run(), rounds=10, fewest=4), 12, LINES)]
    assert found == ["rounds = 10: at most 9 (site.toml line 7: most_rounds = 9)"]
    (unsaid,) = Limits(fewest_sites=5).problems(replace(run(), fewest=4), 12, LINES)
    assert "site.toml does not say fewest_sites, so 5 holds" in unsaid.allowed


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (LINES, 6),
        ("limits.methods = []", 1),
        ("a = 1\nlimits = { methods = [], most_rounds = 1 }", 2),
        ('[ "limits" ]\n"methods"=[]', 2),
        ("[limits]\n[other]\nmethods = []", 0),
        ("", 0),
    ],
)
def test_the_line_of_a_key_is_found_however_it_is_written(text: str, line: int) -> None:
    assert line_of(text, "limits", "methods") == line
