"""However images are dealt, a round trains and is measured."""

import numpy as np
import pytest

from secfpp.data.icons import IconSettings, load_icons
from secfpp.data.partitions.by_domain import ByDomain
from secfpp.data.partitions.iid import IID
from secfpp.data.partitions.pathological import Pathological
from secfpp.experiment.spec.variants import variants
from secfpp.runtime.trainer import train
from support.method_runs import make

DOMAINS = ("sketch", "pixel")


def dealt(partition, **changes):
    settings = {"shots": 6, "validation_shots": 6, "test_shots": 2, "clients_per_domain": 4, "domains": DOMAINS}
    return load_icons(IconSettings(partition=partition, **settings | changes), 0)


@pytest.mark.parametrize("name", ["promptfl", "secfpp+clear"])
@pytest.mark.parametrize(
    ("partition", "disjoint"),
    [
        (ByDomain(Pathological()), True),
        (Pathological(), True),
        (Pathological(classes=9), False),
        (IID(), False),
    ],
    ids=repr,
)
def test_a_round_trains_and_neighbours_are_measured_where_classes_are_disjoint(name, partition, disjoint, backbone):
    data = dealt(partition)
    algorithm = variants()[name] if name in variants() else make(name)
    result = train(data, backbone, algorithm, method=name, seed=0, rounds=1)
    assert np.isfinite(result.prompts).all() and len(result.clients) == 8
    assert ("neighbour" in result.metrics) == ("neighbour_selected" in result.metrics) == disjoint
    assert set(result.domains) == (set(DOMAINS) if isinstance(partition, ByDomain) else {"all"})
    assert np.isfinite(result.metrics["own"]).all() and np.isfinite(result.metrics["own_domain"]).all()
    if disjoint:
        assert np.isfinite(result.metrics["neighbour"]).all()


def test_groups_found_on_shares_go_without_where_no_class_has_three_holders(backbone):
    result = train(dealt(Pathological()), backbone, make("secfpp"), method="secfpp", seed=0, rounds=1)
    assert result.assignment is None or len(set(result.assignment)) == 1
    assert np.isfinite(result.metrics["own"]).all()
