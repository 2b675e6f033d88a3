"""What more clients cost those who hold no shares, where a sample is searched: names; and the formulas for it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pytest

from secfpp.crypto.channel import read_offer
from secfpp.errors import ConfigError
from secfpp.secure import session
from secfpp.secure.clustering import assigning
from secfpp.secure.clustering.sampled_cost import SampledCost
from secfpp.secure.clustering.secure_agreement import SecureAgreement
from secfpp.secure.session import Party
from support.agreement_runs import AgreementRun, disagreeing
from support.counting import NAME

SECURE = SecureAgreement(k=2, restarts=4, finalists=2, min_cluster_size=3, sample=12, committee=7)
LISTED = 16 + NAME + len('"", ')
"""Bytes of another client's randomness and name."""


@dataclass(frozen=True)
class Counted:
    """Of a run: who held shares, and by client bytes sent, bytes received and signatures checked."""

    holders: frozenset[str]
    up: dict[str, int]
    down: dict[str, int]
    checked: Counter[str]
    exchanges: int

    def others(self, of: Any) -> set[int]:
        return {count for client, count in of.items() if client not in self.holders}


def counted(clients: int, monkeypatch: pytest.MonkeyPatch, settings: SecureAgreement = SECURE) -> Counted:
    run = AgreementRun(disagreeing(2, clients // 2, dimensions=24, strength=1.0), settings)
    checked: Counter[str] = Counter()
    owners: dict[int, str] = {}
    parties: dict[str, Party] = {name: context.party for name, context in run.driver.contexts.items()}
    for name, party in parties.items():
        party.roster = replace(party.roster)  # to know whose it is
        owners[id(party.roster)] = name

    def reading(offer: bytes, sender: str, roster: Any, context: bytes) -> bytes:
        checked[owners[id(roster)]] += 1
        return read_offer(offer, sender, roster, context)

    with monkeypatch.context() as patched:
        patched.setattr(session, "read_offer", reading)
        assert run.assign().k == 2
    costs = run.driver.costs
    holders = sorted(parties, key=costs.up.__getitem__)[-settings.committee :]
    return Counted(frozenset(holders), costs.up, costs.down, checked, costs.exchanges)


def test_ten_times_the_clients_are_names_and_randomness_to_who_holds_no_shares(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(assigning, "BATCH", 6)
    few, many = counted(24, monkeypatch), counted(72, monkeypatch)
    assert few.others(few.up) == many.others(many.up) and len(few.others(few.up)) == 1
    assert few.others(few.checked) == many.others(many.checked) == {SECURE.committee}
    more = max(many.others(many.down)) - max(few.others(few.down))
    assert 0.9 * 48 * LISTED <= more <= 48 * LISTED + 100
    for one, clients in ((few, 24), (many, 72)):
        assert len(one.checked) == clients and all(one.checked[holder] <= clients for holder in one.holders)


@pytest.mark.parametrize(
    ("clients", "settings"),
    [(24, {}), (40, {}), (40, {"threshold": "high", "min_cluster_size": 4}), (40, {"security": "active"})],
)
def test_bytes_are_those_of_the_formula(
    clients: int, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assigning, "BATCH", 9)
    clusterer = replace(SECURE, **settings)
    run, cost = counted(clients, monkeypatch, clusterer), SampledCost(clusterer, clients, 2, 24)
    assert cost.exchanges == run.exchanges
    assert run.others(run.up) == {cost.sent("client")}
    slack = 8 * 12 * 2 * clusterer.committee * (1 + len(cost.batches))
    assert 0 <= cost.sent("responder") - max(run.up.values()) <= slack
    assert 0 <= max(run.others(run.down)) - cost.received(NAME) <= 2000


def test_the_formula_is_of_samples_with_all_holders_and_others_beside() -> None:
    for clients, sample in ((128, 128), (300, 12)):
        with pytest.raises(ConfigError, match=r"clusterer\.sample"):
            SampledCost(SecureAgreement(sample=sample), clients, 2)


def test_a_client_without_shares_sends_the_same_of_any_number() -> None:
    sent = {SampledCost(SecureAgreement(), clients, 7).sent("client") for clients in (200, 1000, 10_000)}
    assert len(sent) == 1 and 220e3 < sent.pop() < 230e3
