from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from secfpp.errors import ConfigError
from secfpp.protocol.wire import MAX_MESSAGE
from secfpp.secure.circuits import plan
from secfpp.secure.clustering import on_shares
from secfpp.secure.clustering.cost import AgreementCost, ClusteringCost
from secfpp.secure.clustering.plain_agreement import PlainAgreement
from secfpp.secure.clustering.room import TEXTS, cost_of, most_restarts
from secfpp.secure.clustering.secure_agreement import SecureAgreement
from secfpp.secure.clustering.secure_kmeans import SecureKMeans

MIB = 2**20


@pytest.mark.parametrize("clients", [400, 600, 1000])
@pytest.mark.parametrize("kind", [SecureAgreement, SecureKMeans])
def test_too_many_clients_are_refused_in_a_second_with_what_fits(
    kind: Any, clients: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("the circuit was worked out")

    monkeypatch.setattr(plan, "estimated", refuse)
    monkeypatch.setattr(f"{kind.__module__}.estimated", refuse)
    began = time.perf_counter()
    with pytest.raises(ConfigError) as refused:
        kind(sample=0).require(clients)
    assert time.perf_counter() - began < 1
    told = re.search(
        r"clusterer.restarts = 192: fewer: with (\d+) clients a message to a holder would have (\d+) MiB and one "
        r"process that plays all parties (\d+) MiB of memory, at most 256 MiB in a message are allowed; (\d+) fit",
        str(refused.value),
    )
    assert told
    n, size, memory, least = map(int, told.groups())
    assert n == clients and 254 < size < memory and memory > 9_000
    kind(restarts=least, sample=0).require(clients)
    with pytest.raises(ConfigError):
        kind(restarts=least + 1, sample=0).require(clients)
    kind().require(clients)


VARIANTS: list[dict[str, Any]] = [
    {},
    {"threshold": "high", "min_cluster_size": 7},
    {"compare_bits": 20},
    {"compare_bits": 24},
    {"reveal": "assignments"},
]


@pytest.mark.parametrize("security", ["passive", "active"])
@pytest.mark.parametrize("settings", VARIANTS)
def test_no_message_of_k_means_is_too_large_or_it_is_refused_before_any_work(
    settings: dict[str, Any], security: Any
) -> None:
    for clients in (70, 128, 1000):
        clusterer = SecureKMeans(security=security, **settings)
        cost = cost_of(clusterer, clients, 0)
        assert cost and 8 * sum(cost.opened) <= cost.largest_message  # all that a holder who missed everything is told
        if cost.largest_message <= MAX_MESSAGE - TEXTS:
            clusterer.require(clients)
        else:
            assert clients > 70
            with pytest.raises(ConfigError, match=r"a message to a holder would have \d+ MiB .* fit, or fix"):
                clusterer.require(clients)


def test_verified_k_means_of_70_clients_fits_messages_by_far() -> None:
    cost = cost_of(SecureKMeans(security="active"), 70, 0)
    assert cost and 131 * MIB < cost.largest_message < 132 * MIB


def test_where_not_even_one_run_fits_another_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_shares.wire, "MAX_MESSAGE", 2 * MIB)
    with pytest.raises(ConfigError, match=r"not even one fits: lower clusterer\.k_max"):
        SecureAgreement().require(100)


@pytest.mark.parametrize(("settings", "fits"), [({}, 57), ({"k_max": 4}, 192), ({"restarts": 3}, 3)])
def test_most_restarts_are_the_most(settings: dict[str, int], fits: int) -> None:
    asked: list[int] = []

    def fit(clusterer: Any) -> bool:
        asked.append(clusterer.restarts)
        return bool(clusterer.restarts <= fits)

    clusterer = SecureAgreement(**settings)
    assert most_restarts(clusterer, fit) == min(fits, clusterer.restarts - 1)
    assert len(asked) < 20 and max(asked) < clusterer.restarts
    assert most_restarts(clusterer, lambda _: False) == 0


def test_only_what_is_computed_on_shares_has_a_cost() -> None:
    assert isinstance(cost_of(SecureAgreement(), 30, 576), AgreementCost)
    assert isinstance(cost_of(SecureKMeans(), 30, 0), ClusteringCost)
    for clusterer, clients in ((PlainAgreement(), 30), (SecureAgreement(), 7), (object(), 30)):
        assert cost_of(clusterer, clients, 576) is None
    assert cost_of(SecureKMeans(reveal="distances"), 30, 0) is None


PEAK = """
import json, sys
from secfpp.secure.clustering.secure_agreement import SecureAgreement
from support.agreement_runs import AgreementRun
run = AgreementRun(int(sys.argv[1]), SecureAgreement(**json.loads(sys.argv[2])))
def peak():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
run.driver.force_wire = False  # as training does
before = peak()
run.assign()
print(peak() - before)
"""
SLOW = pytest.mark.slow


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")
@pytest.mark.parametrize(
    ("clients", "settings"),
    [
        (16, {}),
        (20, {"restarts": 64}),
        pytest.param(24, {}, marks=SLOW),
        pytest.param(30, {"k_max": 4}, marks=SLOW),
        pytest.param(30, {}, marks=SLOW),
        pytest.param(40, {"restarts": 64}, marks=SLOW),
    ],
)
def test_memory_is_near_the_peak_of_a_process_that_plays_everybody(clients: int, settings: dict[str, int]) -> None:
    tests = Path(__file__).parents[3]
    command = [sys.executable, "-c", PEAK, str(clients), json.dumps(settings)]
    done = subprocess.run(
        command, cwd=tests, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, check=True
    )
    cost = cost_of(SecureAgreement(**settings), clients, 24)
    assert cost and cost.memory == pytest.approx(int(done.stdout) * 1024, rel=0.25)
