from __future__ import annotations

from itertools import combinations

import pytest
from scipy.stats import hypergeom

from secfpp.errors import ConfigError
from secfpp.secure import committee
from support.secure_runs import names

HELLO, REVEAL = "session.hello", "session.reveal"


@pytest.mark.parametrize(("holders", "threshold"), [(c, t) for c in range(4, 17) for t in (1, 2, 3) if c >= t + 2])
def test_two_quorums_share_an_honest_holder_and_fewer_would_not_do(holders: int, threshold: int) -> None:
    least = committee.quorum(holders, threshold)
    assert least <= holders
    assert 2 * least - holders > threshold
    assert 2 * (least - 1) - holders <= threshold


def test_quorums_by_trying_all_of_a_small_committee() -> None:
    everybody, corrupt = set(range(6)), {0, 1}
    sets = [set(group) for group in combinations(everybody, committee.quorum(6, 2))]
    assert all((one & two) - corrupt for one in sets for two in sets)


def test_committees_are_drawn_fairly_from_all_nonces() -> None:
    clients = names(20)
    nonces = {client: client.encode() * 8 for client in clients}
    drawn = committee.draw(clients, nonces, 16)
    assert drawn == committee.draw(clients[::-1], dict(reversed(nonces.items())), 16)
    assert len(set(drawn)) == 16
    assert list(drawn) == sorted(drawn)
    assert any(committee.draw(clients, {**nonces, c: b"other" * 6}, 16) != drawn for c in clients[:3])  # each has a say
    counts = dict.fromkeys(clients, 0)
    for trial in range(1000):
        for client in committee.draw(clients, {**nonces, "c00": trial.to_bytes(32, "big")}, 16):
            counts[client] += 1
    assert all(abs(count - 800) < 60 for count in counts.values())
    assert committee.draw(clients[:16], {}, 16) == tuple(clients[:16])


@pytest.mark.parametrize(("clients", "holders", "threshold"), [(100, 16, 2), (30, 16, 3), (1000, 16, 2), (20, 16, 1)])
@pytest.mark.parametrize("rate", [0.0, 0.05, 0.1, 0.2, 1.0])
def test_the_risk_of_a_corrupt_committee_is_hypergeometric(
    clients: int, holders: int, threshold: int, rate: float
) -> None:
    expected = hypergeom.sf(threshold, clients, int(rate * clients), holders)
    assert committee.corruption_risk(clients, holders, threshold, rate) == pytest.approx(expected, abs=1e-12)


def test_clustering_thresholds() -> None:
    assert [committee.clustering_threshold(c, 5) for c in (6, 7, 10, 14, 15, 16)] == [1, 1, 1, 1, 2, 2]
    assert committee.clustering_threshold(16, 5, 0) == 3
    assert committee.clustering_threshold(16, 3) == 5
    active = [committee.clustering_threshold(c, 5, active=True) for c in (7, 14, 15, 16)]
    assert active == [1, 1, 2, 2]
    assert committee.clustering_threshold(16, 3, active=True) == 3
    with pytest.raises(ConfigError, match="committee = 60: fewer, or more dropouts"):
        committee.clustering_threshold(60, 5, 0, active=True)
    with pytest.raises(ConfigError, match=r"5 holders of shares.*at least 6 are needed"):
        committee.clustering_threshold(5, 5)
