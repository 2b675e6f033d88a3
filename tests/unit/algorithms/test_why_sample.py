"""What a run tells of groups that a sample can miss."""

from __future__ import annotations

from secfpp.algorithms.secfpp import SecFPP
from secfpp.algorithms.why import _of_sample, _sample
from secfpp.secure.clustering.clusterer import OneCluster
from secfpp.secure.clustering.plain_agreement import PlainAgreement
from secfpp.secure.clustering.sampling import least_seen


def test_it_tells_how_small_a_group_may_be_to_be_missed() -> None:
    told = _sample(SecFPP(), 1000)
    assert told == {"searched": 128, "clients": 1000, "least": least_seen(1000, 128, 4), "risk": 0.05}
    assert _of_sample(told) == (
        "; of 1000 clients 128 were searched: groups of fewer than 58 members, 5.8 % of all, are missed with a "
        "probability above 5 %"
    )


def test_it_tells_nothing_where_all_are_searched() -> None:
    assert _sample(SecFPP(), 128) is None
    assert _sample(SecFPP(clusterer=PlainAgreement(sample=0)), 1000) is None
    assert _sample(SecFPP(clusterer=OneCluster(), descriptor="features"), 1000) is None
    assert _of_sample(None) == ""
