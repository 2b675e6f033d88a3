from __future__ import annotations

import numpy as np
import pytest

from secfpp.experiment.report import plots
from secfpp.experiment.report.client_map import client_map
from secfpp.experiment.report.holdings_map import holdings_map
from secfpp.experiment.report.some_clients import MOST, drawn, told
from support_experiment import fake_result


def test_few_clients_are_all_drawn_and_many_evenly() -> None:
    assert drawn(["a", "b"], "xy") == {"a", "b"} and not told(MOST)
    names = [f"c{i:05}" for i in range(10_000)]
    kept = sorted(int(name[1:]) for name in drawn(names, ["all"] * 10_000))
    assert len(kept) == MOST and set(np.diff(kept)) == {10_000 // MOST}
    odd = sum(int(name[1:]) % 2 for name in drawn(names, ["ab"[i % 2] for i in range(10_000)]))
    assert odd == MOST // 2
    assert told(10_000) == "400 of 10,000 clients are shown, evenly chosen; means are over all."


def test_a_map_of_many_clients_shows_some_of_each_domain_and_means_of_all() -> None:
    many = fake_result("a", per_domain=1_000)
    found = client_map([many], "a")
    assert found is not None
    assert [len(group.clients) for group in found.groups] == [MOST // 2, MOST // 2]
    domains = np.array(many.domains)
    of_all = [many.metrics["own"][domains == group.domain].mean() for group in found.groups]
    assert [group.mean[0].value for group in found.groups] == pytest.approx(of_all)


def test_pictures_of_many_clients_have_a_bounded_size() -> None:
    def drawings(n: int) -> int:
        names = [f"c{i:05}" for i in range(n)]
        points = np.random.default_rng(0).random((n, 2))
        dots = plots.scatter(points, ["ab"[i % 2] for i in range(n)], [i % 3 for i in range(n)], names)
        clients = {name: {"domain": "ab"[i % 2], "train": [i % 5, 1]} for i, name in enumerate(names)}
        held = holdings_map(0, {"classes": ["x", "y"], "clients": clients})
        assert held.domains.keys() == {"a", "b"}
        return len(dots) + sum(map(len, held.domains.values()))

    assert drawings(4_000) < 1.05 * drawings(MOST)
