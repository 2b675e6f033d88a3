from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from secfpp.crypto.field import PrimeField
from secfpp.crypto.sharing import LagrangeCode
from secfpp.errors import ClientError, ConfigError, DropoutError, LeakyProtocolWarning, TamperError
from secfpp.protocol.cohort import Cohort
from secfpp.protocol.program import ClientState
from secfpp.secure.clustering.distances import Slices, nearest, tolerated
from secfpp.secure.clustering.found import Found
from secfpp.secure.clustering.plain_kmeans import PlainKMeans
from secfpp.secure.clustering.secure_kmeans import SecureKMeans
from secfpp.secure.session import parties_in_memory
from support.envelopes import repack
from support.secure_runs import answering, between, changing, names
from support.toy import Toy, toy_driver

SMALL: dict[str, Any] = {"k_max": 3, "dimensions": 4, "restarts": 5, "finalists": 3, "min_cluster_size": 3}


def descriptors(n: int, seed: int, d: int = 4, groups: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, d)) / d**0.5
    return {c: (0.6 * centres[i % groups] + 0.1 * rng.normal(size=d)) for i, c in enumerate(names(n))}


def run(clusterer: Any, points: dict[str, np.ndarray], **how: Any) -> tuple[Any, Any]:
    """What `find` gives (`assign` of a plain one), and the driver."""
    states = {client: ClientState({"z": point.astype(np.float32)}) for client, point in points.items()}
    on_ask, on_replies = how.pop("on_ask", None), how.pop("on_replies", None)
    parties = parties_in_memory(points)
    driver = toy_driver(states, Toy(clusterer=clusterer), how.pop("dropouts", None), parties, **how)
    cohort = Cohort(dict.fromkeys(points, 1), 0, 5)
    if isinstance(clusterer, PlainKMeans):
        return driver.run(clusterer.assign(cohort, "z", None)), driver
    with pytest.warns(LeakyProtocolWarning, match=r"\d clients.*exactly"):
        found, kept = driver.run(between(clusterer.find(cohort, "z"), on_ask, on_replies))
    return (found, kept), driver


def distances(**settings: Any) -> SecureKMeans:
    return SecureKMeans(reveal="distances", **{**SMALL, **settings})


@pytest.mark.parametrize("n", [7, 12, 18])
@pytest.mark.parametrize("seed", range(3))
def test_the_partition_is_that_of_k_means_in_the_clear(n: int, seed: int) -> None:
    points = descriptors(n, seed)
    settings = {**SMALL, "min_cluster_size": 4 if n > 14 else 3}
    (found, kept), driver = run(distances(**settings), points)
    plain, _ = run(PlainKMeans(**settings), points)
    labels = found.labels if found.labels is not None else np.zeros(n, np.int64)
    assert kept.clients == tuple(points)
    assert [plain.cluster_of[a] == plain.cluster_of[b] for a in points for b in points] == [
        i == j for i in labels for j in labels
    ]
    keys = 2 if n > 16 else 1  # above 16 clients, a committee is drawn
    assert driver.costs.exchanges == keys + 1 + driver.algorithm.clusterer.iterations + 1


def test_everything_found_is_that_of_the_default() -> None:
    points = descriptors(12, 1)
    (leaky, _), _ = run(distances(), points)
    clusterer = SecureKMeans(reveal="assignments", **SMALL)
    states = {client: ClientState({"z": point.astype(np.float32)}) for client, point in points.items()}
    driver = toy_driver(states, Toy(clusterer=clusterer), None, parties_in_memory(points))
    found: Found = driver.run(clusterer.find(Cohort(dict.fromkeys(points, 1), 0, 5), "z"))[0]
    assert leaky.inertia == found.inertia and leaky.k == found.k
    assert leaky.sizes == {run_: tuple(sorted(sizes)) for run_, sizes in found.sizes.items()}
    for run_, history in found.assignments.items():
        np.testing.assert_array_equal(leaky.assignments[run_], history)


def test_as_many_slices_as_dropouts_allow() -> None:
    plans = [(16, 2, 5), (16, 2, 0), (16, 1, 5), (6, 1, 0)]
    assert [Slices.plan(*plan, 16).code.blocks for plan in plans] == [4, 6, 5, 2]
    for holders, threshold, gone in plans:
        slices = Slices.plan(holders, threshold, gone, 16)
        assert slices.needed <= holders - gone
        assert LagrangeCode(holders, threshold, slices.code.blocks + 1).required(2) > holders - gone
    assert Slices.plan(16, 1, 0, 3).code.blocks == 3  # no more slices than coordinates
    assert [tolerated(c, t, 5, None) for c, t in [(16, 2), (12, 1), (6, 1)]] == [5, 3, 0]
    assert tolerated(16, 2, 5, 1) == 1


def test_descriptors_that_do_not_divide_are_filled_up() -> None:
    points = descriptors(9, 3, d=3)
    (found, _), _ = run(SecureKMeans(reveal="distances", **{**SMALL, "dimensions": 4}), points)
    plain, _ = run(PlainKMeans(**SMALL), points)
    assert len(set(plain.cluster_of.values())) == found.k


@pytest.mark.parametrize(
    ("distances_", "totals", "expected"),
    [([4, 4], [1, 1], 0), ([9, 1], [3, 1], 0), ([9, 3], [3, 2], 1), ([7, 4, 4], [1, 1, 1], 1), ([0, 0], [5, 1], 0)],
)
def test_the_nearest_centre_and_ties(distances_: list[int], totals: list[int], expected: int) -> None:
    assert nearest(np.array(distances_)[:, None], np.array(totals)).tolist() == [expected]


def test_holders_may_drop_out_and_return() -> None:
    points = descriptors(16, 2)
    settings = {"min_cluster_size": 4}
    (whole, _), _ = run(distances(**settings), points)
    asked: dict[str, int] = {}

    def away(round_: int, step: str, client: str) -> Any:
        if step != "clusterer.measure":
            return None
        asked[client] = asked.get(client, 0) + 1
        number = int(client[1:])
        return "before" if (number < 5 and asked[client] == 1) or (5 <= number < 10 and asked[client] == 2) else None

    (found, _), _ = run(distances(**settings), points, dropouts=away)
    np.testing.assert_array_equal(found.labels, whole.labels)
    assert found.inertia == whole.inertia


def test_too_many_dropouts_are_named() -> None:
    def away(round_: int, step: str, client: str) -> Any:
        return "after" if step == "clusterer.measure" and int(client[1:]) < 6 else None

    with pytest.raises(DropoutError, match=r"10 clients answered, at least 11.*c00, c01"):
        run(distances(min_cluster_size=4), descriptors(16, 2), dropouts=away)


def test_who_does_not_deal_is_left_out() -> None:
    points = descriptors(9, 4)
    (found, kept), _ = run(
        distances(), points, dropouts=lambda r, step, c: "after" if step == "clusterer.deal" and c == "c03" else None
    )
    assert kept.clients == tuple(c for c in points if c != "c03")
    assert found.labels is None or len(found.labels) == 8


def test_a_holder_that_evaluates_falsely_is_named() -> None:
    def wrong(message: dict[str, np.ndarray]) -> None:
        message["evaluations"] = PrimeField.add(message["evaluations"], np.array(1, np.uint64))

    with pytest.raises(TamperError, match=r"'c02': evaluations that are not of one polynomial"):
        run(distances(), descriptors(12, 0), on_replies=answering("clusterer.measure", "c02", wrong))
    with pytest.raises(TamperError, match="evaluations that are not of one polynomial") as caught:
        run(distances(), descriptors(6, 0), on_replies=answering("clusterer.measure", "c02", wrong))
    assert caught.value.party is None  # five make the polynomial, so one more cannot tell who lied


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.pop("evaluations"),
        lambda m: m.update(evaluations=m["evaluations"][1:]),
        lambda m: m.update(evaluations=np.full_like(m["evaluations"], (1 << 61) - 1)),
        lambda m: m.update(evaluations=m["evaluations"].astype(np.float64)),
    ],
)
def test_answers_of_another_form_are_refused(change: Any) -> None:
    def wrong(message: dict[str, np.ndarray]) -> None:
        change(message)

    with pytest.raises(TamperError, match="'c02'"):
        run(distances(), descriptors(12, 0), on_replies=answering("clusterer.measure", "c02", wrong))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: repack(m, lambda found: found.pop("c05")),
        lambda m: repack(m, lambda found: found.update(c05=found["c05"][::-1].copy())),
        lambda m: repack(m, lambda found: found.update(c05=found["c06"])),
        lambda m: m.pop("envelopes"),
        lambda m: m.update(labels=np.zeros((2, 3), np.uint8)),
    ],
)
def test_holders_refuse_what_is_not_for_them(change: Any) -> None:
    def wrong(message: dict[str, np.ndarray]) -> None:
        if "envelopes" in message:
            change(message)

    with pytest.raises(ClientError, match=r"c02.*clusterer\.measure"):
        run(distances(), descriptors(12, 0), on_ask=changing("clusterer.measure", "c02", wrong))


@pytest.mark.parametrize(
    ("going_on", "message"),
    [
        (None, "the numbers of 7 runs that go on are missing"),
        (np.zeros(6, np.int64), "the numbers of 7 runs that go on are missing"),
        (np.full(7, 5), r"of 1 runs with 1 clusters, \[5\] go on"),
        (np.array([0, 0, 1, 2, 0, -1, 2]), r"of 5 runs with 3 clusters, \[0, -1, 2\] go on"),
    ],
)
def test_holders_refuse_runs_that_are_none(going_on: np.ndarray | None, message: str) -> None:
    def wrong(payload: dict[str, np.ndarray]) -> None:
        if payload.pop("going_on", None) is not None and going_on is not None:
            payload["going_on"] = going_on

    with pytest.raises(ClientError, match=rf"c02.*{message}"):
        run(distances(), descriptors(12, 0), on_ask=changing("clusterer.measure", "c02", wrong))


def test_it_says_what_it_gives_away() -> None:
    assert distances().protection(12)["reveal"] == "distances"
    clusterer = distances()
    states = {c: ClientState({"z": p.astype(np.float32)}) for c, p in descriptors(9, 0).items()}
    driver = toy_driver(states, Toy(clusterer=clusterer), None, parties_in_memory(names(9)))
    with pytest.warns(LeakyProtocolWarning) as seen:
        driver.run(clusterer.assign(Cohort(dict.fromkeys(names(9), 1), 0, 5), "z", None))
    assert len(seen) == 1
    with pytest.raises(ConfigError, match='not with reveal = "distances"'):
        distances(compare_bits=20)
