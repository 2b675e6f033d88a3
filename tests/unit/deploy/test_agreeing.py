from __future__ import annotations

import pytest

from secfpp.algorithms.base import FederatedAlgorithm, methods
from secfpp.algorithms.privacy import Privacy
from secfpp.algorithms.secfpp import SecFPP
from secfpp.algorithms.visual import ClassMeans
from secfpp.crypto.roster import IdentityKey, Roster
from secfpp.deploy.agreeing import agreed_from, leaves
from secfpp.errors import ConfigError
from secfpp.experiment.spec.config import parse_config
from secfpp.secure.clustering.clusterer import OneCluster
from secfpp.secure.clustering.plain_agreement import PlainAgreement
from secfpp.secure.clustering.secure_agreement import SecureAgreement
from secfpp.secure.clustering.secure_kmeans import SecureKMeans
from secfpp.secure.polls.secure_poll import SecurePoll


def roster_of(count: int) -> Roster:
    return Roster("trial", 1, {f"site-{i}": IdentityKey.generate().public for i in range(count)})


def told(algorithm: FederatedAlgorithm) -> str:
    config = parse_config({"rounds": 4})
    agreed = agreed_from(config, roster_of(8), ("cat", "dog"), "a {}", "00")
    object.__setattr__(agreed, "algorithm", algorithm)
    return "\n".join(leaves(agreed))


def test_a_round_needs_as_few_sites_as_the_method_takes() -> None:
    config = parse_config({})
    assert agreed_from(config, roster_of(9), ("cat", "dog"), "a {}", "00").fewest == 4
    assert agreed_from(config, roster_of(4), ("cat", "dog"), "a {}", "00").fewest == 4
    alone = parse_config({"method": {"name": "coop_local"}})
    assert agreed_from(alone, roster_of(9), ("cat", "dog"), "a {}", "00").fewest == 2
    with pytest.raises(ConfigError, match="at most the 3 clients of a round"):
        agreed_from(config, roster_of(3), ("cat", "dog"), "a {}", "00")


def test_what_leaves_is_said_for_each_part_that_sends_something() -> None:
    whole = told(SecFPP())
    assert whole.count("as shares that nobody can read alone") == 4 and "CLEAR" not in whole
    assert "the shared prompt" in whole and "grouped" in whole and "which classes" in whole
    alone = told(methods()["coop_local"]())
    assert alone.count("\n") == 0 and "how many training images" in alone
    verified = told(SecFPP(clusterer=SecureAgreement(security="active"), poll=SecurePoll(security="active")))
    assert verified.count("read alone, also if the server sends false values") == 2
    clear = told(SecFPP(clusterer=PlainAgreement()))
    assert "grouped: IN THE CLEAR" in clear
    assert "grouped" not in told(SecFPP(clusterer=OneCluster()))
    opened = SecFPP(clusterer=SecureKMeans(reveal="distances"), class_means=ClassMeans(), descriptor="features")
    assert "but distances are opened" in told(opened) and "sums of image features" not in told(opened)


def test_differential_privacy_is_told_with_what_it_does_not_cover() -> None:
    found = told(SecFPP(privacy=Privacy(mechanism="class_means", epsilon=2.0)))
    assert "differential privacy of one record: epsilon 2, delta 1e-05" in found
    assert "the shared prompt" not in found and "not covered by that" in found
