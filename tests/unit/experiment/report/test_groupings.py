from __future__ import annotations

from dataclasses import replace

from secfpp.experiment.report.groupings import agreement, groupings
from support_experiment import fake_result


def test_each_method_that_clusters_has_an_agreement_per_seed() -> None:
    found = groupings([fake_result("a", 1), fake_result("plain", 1, clustered=False), fake_result("a", 2)])
    assert [item.method for item in found] == ["a"]
    assert [run.seed for run in found[0].runs] == [1, 2]
    assert found[0].counts == "2"
    assert (found[0].ari, found[0].lowest_ari, found[0].purity) == (1, 1, 1)
    assert found[0].picture is not None
    assert found[0].table == (("clipart", (3, 0)), ("sketch", (0, 3)))


def test_counts_and_agreement_over_seeds_that_differ() -> None:
    right = fake_result("a", 1)
    wrong = replace(fake_result("a", 2), assignment=(0, 0, 0, 0, 0, 0))
    (found,) = groupings([right, wrong])
    assert found.counts == "1 to 2"
    assert (found.ari, found.lowest_ari, found.purity) == (1, 1, 1)  # one group says nothing of who belongs together
    assert [run.ari for run in found.runs] == [1, None]
    assert [run.decision for run in found.runs] == ["2 groups used", "one group used"]
    assert [run.sizes for run in found.runs] == [(3, 3), (6,)]


def test_clients_in_no_cluster_are_counted_apart() -> None:
    result = replace(fake_result("a"), assignment=(4, 4, -1, 0, 0, 0))
    run = agreement(result, result.assignment or ())
    assert (run.sizes, run.alone, run.ari) == ((3, 2), 1, 1)
    (found,) = groupings([result])
    assert found.clusters == (-1, 0, 4)
    assert found.table == (("clipart", (1, 0, 2)), ("sketch", (0, 3, 0)))
    assert [(number, size) for _, number, size in found.shapes] == [(0, 3), (4, 2)]


def test_agreement_that_means_nothing_is_none() -> None:
    one_domain = fake_result("a", domains=("clipart",))
    same = agreement(one_domain, (0, 0, 1))
    assert (same.sizes, same.ari, same.purity) == ((2, 1), None, None)
    alone = agreement(fake_result("a", domains=tuple("abcdef"), per_domain=1), (0, 0, 1, 1, 1, 1))
    assert (alone.sizes, alone.ari, alone.purity) == ((2, 4), None, None)
    nobody = agreement(fake_result("b"), (-1,) * 6)
    assert (nobody.sizes, nobody.alone, nobody.ari, nobody.purity) == ((), 6, None, None)
    (found,) = groupings([one_domain])
    assert (found.ari, found.lowest_ari) == (None, None)


def test_without_descriptors_there_is_no_picture() -> None:
    (found,) = groupings([replace(fake_result("a"), descriptors=None)])
    assert found.picture is None
    assert found.table


def test_clusters_are_judged_by_the_true_groups_not_by_domains() -> None:
    result = replace(fake_result("a"), groups=("p", "q", "p", "q", "p", "q"), assignment=(0, 1, 0, 1, 0, 1))
    (found,) = groupings([result])
    assert (found.ari, found.purity, found.truth) == (1, 1, "true group")
    assert found.table == (("p", (3, 0)), ("q", (0, 3)))
    assert [name for _, name in found.groups] == ["p", "q"]
    assert groupings([fake_result("a")])[0].truth == "domain"
