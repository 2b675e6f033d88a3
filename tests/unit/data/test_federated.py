import numpy as np
import pytest

from secfpp.data.federated import ClientData, FederatedDataset, Split, hold_out
from secfpp.errors import ConfigError, DataError

SPLIT = Split(np.zeros((2, 4, 4, 3), np.uint8), np.array([0, 1]))


def toy(per_group, group=""):
    clients = [
        ClientData(f"{d}-{i}", d, SPLIT, SPLIT, group and f"{group}{i}") for d in "abc" for i in range(per_group)
    ]
    return FederatedDataset("toy", ("x", "y"), tuple(clients), dict.fromkeys("abc", SPLIT), facts={"why": "test"})


def names(clients):
    return [client.name for client in clients]


def test_a_client_belongs_to_its_domain_unless_it_says_otherwise():
    assert toy(2).groups == ("a", "b", "c")
    assert toy(2, "g").groups == ("g0", "g1")
    assert toy(2, "g").clients[3].true_group == "g1" and toy(2, "g").clients[3].domain == "b"


@pytest.mark.parametrize(
    ("per_group", "share", "held"), [(5, 0.3, 2), (5, 0.2, 1), (5, 0.01, 1), (10, 0.5, 5), (2, 0.5, 1)]
)
def test_newcomers_are_that_share_of_every_group(per_group, share, held):
    before = toy(per_group)
    after = hold_out(before, share, 0)
    assert sorted(names(after.clients) + names(after.newcomers)) == sorted(names(before.clients))
    for domain in "abc":
        assert sum(client.domain == domain for client in after.newcomers) == held
    assert after.test is before.test and after.facts == before.facts and after.groups == before.groups


def test_groups_count_not_domains():
    after = hold_out(toy(4, "g"), 0.3, 0)
    assert sorted(client.group for client in after.newcomers) == ["g0", "g1", "g2", "g3"]


def test_who_is_held_out_depends_on_the_seed_and_not_on_the_order_of_clients():
    data = toy(5)
    turned = FederatedDataset("toy", data.classes, data.clients[::-1], data.test)
    assert names(hold_out(data, 0.3, 1).newcomers) == names(hold_out(turned, 0.3, 1).newcomers)[::-1]
    assert len({tuple(names(hold_out(data, 0.3, seed).newcomers)) for seed in range(8)}) > 4


def test_newcomers_stay_newcomers():
    once = hold_out(toy(5), 0.2, 0)
    twice = hold_out(once, 0.2, 0)
    assert names(twice.newcomers)[:3] == names(once.newcomers) and len(twice.newcomers) == 6


def test_a_group_that_would_be_left_empty_is_named_with_the_remedy():
    with pytest.raises(DataError, match=r"none of the 1 of group 'a'.*clients_per_domain"):
        hold_out(toy(1), 0.3, 0)


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_shares_that_cannot_work_are_refused(share):
    with pytest.raises(ConfigError, match="share = "):
        hold_out(toy(5), share, 0)
