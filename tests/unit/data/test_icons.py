import numpy as np
import pytest

from secfpp.cachedir import sub_cache
from secfpp.data.catalog import datasets
from secfpp.data.federated import ClientData, FederatedDataset, Split
from secfpp.data.icons import IconSettings, load_icons
from secfpp.errors import ConfigError, DataError

SMALL = IconSettings(shots=3, validation_shots=2, test_shots=2, clients_per_domain=2, domains=("sketch", "pixel"))


def test_shape_of_the_default_benchmark_in_small():
    data = load_icons(SMALL, 0)
    assert len(data.classes) == 36 and list(data.classes) == sorted(data.classes)
    assert data.domains == ("sketch", "pixel")
    assert [c.name for c in data.clients] == ["sketch-0", "sketch-1", "pixel-0", "pixel-1"]
    for domain in data.domains:
        mine = [c for c in data.clients if c.domain == domain]
        assert sum(len(c.train) for c in mine) == 36 * 3
        assert sum(len(c.validation) for c in mine) == 36 * 2
        assert (sum(c.train.histogram(36) for c in mine) == 3).all()
        assert (data.test[domain].histogram(36) == 2).all()
        assert data.test[domain].images.shape == (72, 48, 48, 3)


def test_a_seed_gives_the_same_data_from_cache_and_from_scratch(monkeypatch, tmp_path):
    first = load_icons(SMALL, 1)
    monkeypatch.setenv("SECFPP_CACHE", str(tmp_path))
    fresh = load_icons(SMALL, 1)
    stored = load_icons(SMALL, 1)
    assert len(list(sub_cache("icons").glob("*.safetensors"))) == 1
    for other in (fresh, stored):
        assert np.array_equal(first.clients[0].train.images, other.clients[0].train.images)
        assert np.array_equal(first.test["pixel"].images, other.test["pixel"].images)
        assert first.facts == other.facts


def test_seeds_differ_and_a_damaged_cache_file_is_made_again(monkeypatch, tmp_path):
    monkeypatch.setenv("SECFPP_CACHE", str(tmp_path))
    first = load_icons(SMALL, 1)
    assert not np.array_equal(first.test["pixel"].images, load_icons(SMALL, 2).test["pixel"].images)
    for path in sub_cache("icons").glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:1000])
    assert np.array_equal(first.test["pixel"].images, load_icons(SMALL, 1).test["pixel"].images)


def test_rho_one_draws_alike_in_all_domains():
    from dataclasses import replace

    assert load_icons(replace(SMALL, rho=1.0), 0).facts["labels drawn alike in two domains"] == 1.0
    assert 0.1 < load_icons(SMALL, 0).facts["labels drawn alike in two domains"] < 0.7


def test_the_partition_changes_without_rendering_again(monkeypatch, tmp_path):
    from dataclasses import replace

    monkeypatch.setenv("SECFPP_CACHE", str(tmp_path))
    skewed, even = load_icons(replace(SMALL, alpha=0.05), 0), load_icons(replace(SMALL, alpha=1000.0), 0)
    assert len(list(sub_cache("icons").glob("*.safetensors"))) == 1
    assert np.array_equal(skewed.test["pixel"].images, even.test["pixel"].images)
    assert skewed.clients[0].train.histogram(36).max() == 3
    assert abs(len(even.clients[0].train) - len(even.clients[1].train)) < 40


def test_held_out_designer_uses_fewer_concepts_but_all_labels():
    from dataclasses import replace

    data = load_icons(replace(SMALL, designer="ri"), 0)
    assert len(data.classes) == 36 and data.facts["independent drawings"]["test"] >= 36


def test_all_bad_settings_are_named_at_once():
    with pytest.raises(ConfigError) as caught:
        IconSettings(rho=2.0, shots=0, alpha=-1.0, domains=("sketch", "opera"), designer="nobody")
    assert {p.key for p in caught.value.problems} == {
        "data.rho",
        "data.shots",
        "data.alpha",
        "data.domains",
        "data.designer",
    }
    assert "opera" in str(caught.value)


def test_catalog_row():
    row = datasets()["icons"]
    assert row.settings is IconSettings and row.load(SMALL, 0).name == "icons"


def test_a_split_needs_a_label_per_image():
    with pytest.raises(DataError, match="2 images but 3 labels"):
        Split(np.zeros((2, 4, 4, 3), np.uint8), np.zeros(3, np.int64))
    split = Split(np.zeros((2, 4, 4, 3), np.uint8), np.array([1, 1]))
    assert split.histogram(3).tolist() == [0, 2, 0]
    data = FederatedDataset("toy", ("a", "b"), (ClientData("x", "d", split, split),), {"d": split})
    assert data.domains == ("d",)
