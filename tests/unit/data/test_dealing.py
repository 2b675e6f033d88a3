from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

from secfpp.data.dealing import tables
from secfpp.data.folders import FolderSettings, load_folder
from secfpp.data.icons import IconSettings, load_icons
from secfpp.data.partitions.by_domain import ByDomain
from secfpp.data.partitions.dirichlet import Dirichlet
from secfpp.data.partitions.iid import IID
from secfpp.data.partitions.pathological import Pathological
from secfpp.data.partitions.shards import Shards
from secfpp.data.sources import SourceSettings, share_out
from secfpp.errors import ConfigError, DataError

CLASSES = tuple("abcdefg")
SETTINGS = SourceSettings(shots=12, validation_shots=6, test_shots=2, clients_per_domain=2)
ICONS = IconSettings(shots=6, validation_shots=4, test_shots=2, clients_per_domain=2, domains=("sketch", "pixel"))
MIXING = [Dirichlet(), IID(), Shards(), Pathological()]


def pictures(settings):
    """Images whose first value is their source, whose second their class, whose third their number."""
    return {
        source: {
            part: np.array([[[[i, thing, n]]] for thing in range(len(CLASSES)) for n in range(count)], np.uint8)
            for part, count in settings.images.items()
        }
        for i, source in enumerate("xyz")
    }


@pytest.mark.parametrize("partition", MIXING, ids=repr)
def test_a_partition_that_mixes_leaves_one_domain_with_everybodys_test_images(partition):
    settings = replace(SETTINGS, partition=partition)
    data = share_out("toy", CLASSES, pictures(settings), settings, 0, {})
    assert data.domains == data.groups == ("all",) and {client.domain for client in data.clients} == {"all"}
    assert [client.name for client in data.clients] == [f"client-{i}" for i in range(6)]
    assert data.test["all"].histogram(7).tolist() == [6] * 7
    for part, count in (("train", 12), ("validation", 6)):
        images = np.concatenate([getattr(client, part).images for client in data.clients])
        assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images) == 3 * 7 * count
        for client in data.clients:
            split = getattr(client, part)
            assert (split.images[:, 0, 0, 1] == split.labels).all()
    if isinstance(partition, IID):
        assert all(set(client.train.images[:, 0, 0, 0].tolist()) == {0, 1, 2} for client in data.clients)


def test_within_domains_each_keeps_its_own_clients_and_images():
    settings = replace(SETTINGS, partition=ByDomain(Pathological()))
    data = share_out("toy", CLASSES, pictures(settings), settings, 0, {})
    assert data.domains == ("x", "y", "z")
    for number, source in enumerate("xyz"):
        mine = [client for client in data.clients if client.domain == source]
        assert [client.name for client in mine] == [f"{source}-0", f"{source}-1"]
        assert all((client.train.images[..., 0] == number).all() for client in mine)
        first, second = (set(client.train.labels.tolist()) for client in mine)
        assert not first & second and len(first | second) == 7


def test_a_single_domain_keeps_its_name_whatever_the_partition():
    (table,) = tables(IID(), ["fashion"], 3)
    assert table.domain == "fashion" and table.names == ("fashion-0", "fashion-1", "fashion-2")
    (table,) = tables(IID(), ["a", "b"], 6)
    assert table.names[0] == "client-00" and table.names[-1] == "client-11"


@pytest.mark.parametrize("partition", [*MIXING, ByDomain(Pathological()), ByDomain(IID())], ids=repr)
def test_icons_are_the_same_pictures_however_they_are_dealt(partition):
    usual, other = (load_icons(replace(ICONS, partition=p), 0) for p in (ByDomain(), partition))

    def held(data):
        return sorted(image.tobytes() for client in data.clients for image in client.train.images)

    assert held(usual) == held(other)
    assert len(other.clients) == len(usual.clients) == 4
    assert sum(map(len, other.test.values())) == sum(map(len, usual.test.values()))


def test_icons_whose_meanings_cross_styles_are_not_mixed_but_may_be_dealt_otherwise_within():
    with pytest.raises(ConfigError, match=r"data\.partition\.kind = 'iid': mixes styles"):
        replace(ICONS, alignment=0.0, partition=IID())
    across = replace(ICONS, alignment=0.0)
    usual, other = (load_icons(replace(across, partition=p), 0) for p in (ByDomain(), ByDomain(Pathological())))
    assert usual.groups and set(other.groups) == set(usual.groups)
    first, second = (set(client.train.labels.tolist()) for client in other.clients[:2])
    assert not first & second


@pytest.mark.parametrize("settings", [SourceSettings, IconSettings, partial(FolderSettings, root="photos")])
def test_a_name_where_python_wants_a_partition_is_refused(settings):
    with pytest.raises(ConfigError, match=r"data\.partition = 'iid': a partition such as secfpp\.IID\(\)"):
        settings(partition="iid")


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for domain in "xy":
        for name in "abcd":
            (tmp_path / domain / name).mkdir(parents=True)
            for i in range(20):
                Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(tmp_path / domain / name / f"{i}.png")
    return FolderSettings(root=str(tmp_path), layout="domain/class", clients_per_domain=2, size=8)


@pytest.mark.parametrize("partition", MIXING, ids=repr)
def test_own_images_of_domains_can_be_mixed(folder, partition):
    data = load_folder(replace(folder, partition=partition))
    assert data.domains == ("all",) and len(data.clients) == 4
    assert sum(len(c.train) for c in data.clients) == 2 * 4 * 12
    assert sum(len(c.validation) for c in data.clients) == len(data.test["all"]) == 2 * 4 * 4
    if isinstance(partition, Pathological):
        assert sorted(len(set(c.train.labels.tolist())) for c in data.clients) == [1, 1, 1, 1]


def test_own_images_of_a_domain_can_be_divided_by_class(folder):
    data = load_folder(replace(folder, partition=ByDomain(Pathological())))
    assert data.domains == ("x", "y")
    assert [len(set(c.train.labels.tolist())) for c in data.clients] == [2, 2, 2, 2]


def test_images_that_have_clients_are_not_dealt_again(folder):
    with pytest.raises(DataError, match=r"are client 'x''s, so that data\.partition = 'iid' has nothing to deal"):
        load_folder(replace(folder, layout="client/class", partition=IID()))


def test_too_few_own_images_for_the_clients_say_how_many_clients_would_do(folder):
    with pytest.raises(DataError, match=r"all domains: too few images for 80 clients: set .* to at most 16"):
        load_folder(replace(folder, clients_per_domain=40, partition=IID()))
