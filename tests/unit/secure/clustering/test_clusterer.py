from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from secfpp.errors import ClientError, ConfigError, DropoutError, FieldRangeError, ProtocolError
from secfpp.protocol.cohort import Assignment, Cohort
from secfpp.protocol.program import ClientState, Replies
from secfpp.runtime.in_process import InProcessDriver
from secfpp.secure.clustering.clusterer import Clusterer, OneCluster, OracleClusters, RandomClusters
from secfpp.secure.clustering.plain_kmeans import PlainKMeans
from support.toy import Toy, dropping, toy_driver


def grouped(seed: int, groups: int = 6, members: int = 5, spread: float = 0.05) -> dict[str, ClientState]:
    """Clients in well separated groups of descriptors of 128 dimensions; the names do not give the group away."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, 128))
    centres *= 0.5 / np.linalg.norm(centres, axis=1, keepdims=True)
    order = rng.permutation(groups * members)
    return {
        f"c{number:02}": ClientState(
            {"z": centres[i % groups] + rng.normal(size=128) * spread / 8, "domain": np.array(i % groups)}
        )
        for number, i in enumerate(order.tolist())
    }


def driver_for(states: dict[str, ClientState], clusterer: Clusterer, **settings: Any) -> InProcessDriver:
    return toy_driver(states, Toy(clusterer=clusterer), **settings)


def assign(
    states: dict[str, ClientState], clusterer: Clusterer, round_: int = 0, seed: int = 0, **settings: Any
) -> Assignment:
    cohort = Cohort(dict.fromkeys(states, 1), round_, seed)
    return driver_for(states, clusterer, **settings).run(clusterer.assign(cohort, "z", None))


def truth(states: dict[str, ClientState]) -> Assignment:
    return Assignment.from_labels(list(states), [int(state["domain"]) for state in states.values()])


def test_one_cluster_sends_nothing() -> None:
    states = grouped(0)
    driver = driver_for(states, OneCluster())
    assignment = driver.run(OneCluster().assign(Cohort(dict.fromkeys(states, 1), 0, 0), "z", None))
    assert assignment == Assignment(dict.fromkeys(states, 0))
    assert driver.costs.messages == 0


@pytest.mark.parametrize(("k", "sizes"), [(1, {30: 1}), (4, {8: 2, 7: 2}), (6, {5: 6}), (30, {1: 30})])
def test_random_clusters_have_nearly_equal_sizes(k: int, sizes: dict[int, int]) -> None:
    assert Counter(assign(grouped(0), RandomClusters(k=k)).sizes) == sizes


def test_random_clusters_depend_on_the_seed_only() -> None:
    states = grouped(0)
    first = assign(states, RandomClusters(), round_=0, seed=1)
    assert assign(grouped(9), RandomClusters(), round_=5, seed=1) == first
    assert assign(states, RandomClusters(), seed=2) != first


def test_more_random_clusters_than_clients_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"clusterer\.k = 6: at most one cluster per client, 4"):
        assign(grouped(0, groups=2, members=2), RandomClusters(k=6))


def test_the_oracle_knows_the_domains() -> None:
    states = grouped(3)
    assert assign(states, OracleClusters()) == truth(states)


def test_the_oracle_needs_domains_and_answers() -> None:
    cohort = Cohort({"a": 1}, 0, 0)
    with pytest.raises(ClientError, match="simulation with known domains"):
        driver_for({"a": ClientState()}, OracleClusters()).run(OracleClusters().assign(cohort, "z", None))
    gone = dropping((0, "clusterer.domain", "a", "before"))
    with pytest.raises(DropoutError, match="missing: a"):
        driver_for({"a": ClientState()}, OracleClusters(), dropouts=gone).run(
            OracleClusters().assign(cohort, "z", None)
        )


def test_well_separated_groups_are_found_nearly_always() -> None:
    found = [assign(grouped(seed), PlainKMeans(), seed=seed) == truth(grouped(seed)) for seed in range(20)]
    assert sum(found) >= 19


def test_one_cloud_is_one_cluster() -> None:
    ks = [assign(grouped(seed, groups=1, members=30, spread=0.5), PlainKMeans(), seed=seed).k for seed in range(10)]
    assert ks.count(1) >= 9


def test_equal_descriptors_are_one_cluster() -> None:
    states = {f"c{i}": ClientState({"z": np.ones(128)}) for i in range(12)}
    assert assign(states, PlainKMeans()).k == 1


def test_a_fixed_k_is_kept() -> None:
    states = grouped(0)
    assert assign(states, PlainKMeans(k=6)) == truth(states)
    assert assign(states, PlainKMeans(k=2)).k == 2


@pytest.mark.parametrize("k", [8, None])
def test_without_an_admissible_candidate_there_is_one_cluster(k: int | None) -> None:
    assert assign(grouped(0, groups=6, members=1), PlainKMeans(k=k)).k == 1


def test_a_fixed_k_of_clusters_that_cannot_be_so_large_is_refused_in_advance() -> None:
    PlainKMeans(k=2).require(8)
    with pytest.raises(ConfigError, match=r"clusterer.k = 8: at most 1: 6 clients in clusters of 4 or more"):
        PlainKMeans(k=8).require(6)


def test_no_cluster_is_below_the_minimum() -> None:
    for seed in range(5):
        states = grouped(seed, groups=4, members=3)
        assert min(assign(states, PlainKMeans(), seed=seed).sizes) >= 4
        assert assign(states, PlainKMeans(min_cluster_size=3), seed=seed) == truth(states)


def test_the_partition_does_not_depend_on_names_of_clusters_or_on_the_wire() -> None:
    states = grouped(4)
    assert assign(states, PlainKMeans()) == assign(states, PlainKMeans(), force_wire=False)


def test_rounds_and_seeds_draw_other_seed_points() -> None:
    points = np.random.default_rng(0).integers(-40, 41, size=(24, 4))
    settings = PlainKMeans(k=3, restarts=1, iterations=1)
    results = {
        Assignment.from_labels(range(24), settings.partition(points, seed, round_).tolist()).sizes  # type: ignore[arg-type]
        for seed in (0, 1)
        for round_ in range(4)
    }
    assert len(results) > 1
    np.testing.assert_array_equal(settings.partition(points, 1, 2), settings.partition(points, 1, 2))


def test_dropped_clients_are_left_out_of_the_partition() -> None:
    states = grouped(0)
    gone = dropping((0, "clusterer.describe", "c04", "before"), (0, "clusterer.describe", "c05", "after"))
    assignment = assign(states, PlainKMeans(), dropouts=gone)
    assert set(states) - set(assignment.cluster_of) == {"c04", "c05"}
    kept = {client: state for client, state in states.items() if client not in ("c04", "c05")}
    assert assignment == truth(kept)


def test_too_few_clients_are_refused() -> None:
    states = grouped(0, groups=1, members=4)
    gone = dropping((0, "clusterer.describe", "c02", "before"))
    with pytest.raises(DropoutError, match=r"3 clients answered, at least 4 are needed; missing: c02"):
        assign(states, PlainKMeans(), dropouts=gone)
    driver = driver_for(states, PlainKMeans(min_cluster_size=5))
    with pytest.raises(ConfigError, match=r"min_cluster_size = 5: at most the 4 clients"):
        driver.run(PlainKMeans(min_cluster_size=5).assign(Cohort(dict.fromkeys(states, 1), 0, 0), "z", None))
    assert driver.costs.messages == 0


def test_the_range_is_refused_before_anything_is_sent() -> None:
    states = grouped(0)
    settings = PlainKMeans(bits=16, pull=500)
    driver = driver_for(states, settings)
    with pytest.raises(FieldRangeError, match="30 points of length up to 32767 with pull 500"):
        driver.run(settings.assign(Cohort(dict.fromkeys(states, 1), 0, 0), "z", None))
    assert driver.costs.messages == 0


def test_short_descriptors_are_filled_up_with_zeros() -> None:
    settings = PlainKMeans(dimensions=8)
    found = settings.described(np.array([0.5, -0.25]), seed=0)
    assert found.dtype == np.int16
    assert found.tolist() == [64, -32, 0, 0, 0, 0, 0, 0]  # 63.5 and -31.75, halves to even
    assert settings.described(np.full(8, 0.1), seed=0).tolist() == [13] * 8
    assert settings.described(np.full(9, 0.1), seed=0).shape == (8,)


def test_clients_send_only_the_short_descriptor() -> None:
    states = grouped(0)
    driver = driver_for(states, PlainKMeans())
    driver.run(PlainKMeans().assign(Cohort(dict.fromkeys(states, 1), 0, 0), "z", None))
    assert driver.costs.exchanges == 1
    assert set(driver.costs.up.values()) == {11 + len(b"\x0adescriptor\x02\x01") + 4 + 2 * 16}
    assert driver.states == states


BAD = [
    ({}, "no int16 descriptor"),
    ({"descriptor": np.zeros(16)}, "no int16 descriptor"),
    ({"descriptor": np.zeros((4, 4), np.int16)}, "no int16 descriptor"),
    ({"descriptor": np.zeros(17, np.int16)}, "descriptor of 16 numbers"),
    ({"descriptor": np.zeros(15, np.int16)}, "descriptor of 16 numbers"),
    ({"descriptor": np.full(16, 32, np.int16)}, "longer than 127"),
]


@pytest.mark.parametrize(("reply", "reason"), BAD)
def test_replies_of_no_honest_client_are_refused_by_name(reply: dict[str, np.ndarray], reason: str) -> None:
    good = {f"c{i}": {"descriptor": np.zeros(16, np.int16)} for i in range(4)}
    program = PlainKMeans().assign(Cohort(dict.fromkeys([*good, "z"], 1), 0, 0), "z", None)
    next(program)
    with pytest.raises(ProtocolError, match=f"client 'z' .*{reason}"):
        program.send(Replies({**good, "z": reply}))


@pytest.mark.parametrize(
    ("settings", "key"),
    [({name: 0}, name) for name in ("k", "k_max", "dimensions", "restarts", "iterations", "min_cluster_size", "pull")]
    + [({"bits": 1}, "bits"), ({"bits": 17}, "bits"), ({"scale": 0.0}, "scale"), ({"scale": np.inf}, "scale")]
    + [({"bits": 2, "dimensions": 16}, "dimensions")],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^clusterer\.{key} = {settings[key]}: "):
        PlainKMeans(**settings)


def test_all_problems_are_listed() -> None:
    with pytest.raises(ConfigError) as caught:
        PlainKMeans(k_max=0, restarts=-1)
    assert [problem.key for problem in caught.value.problems] == ["clusterer.k_max", "clusterer.restarts"]
    with pytest.raises(ConfigError, match=r"clusterer\.k = 0"):
        RandomClusters(k=0)
