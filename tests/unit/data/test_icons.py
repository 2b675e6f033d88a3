import json
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version

import numpy as np
import pytest

from secfpp.cachedir import sub_cache
from secfpp.data import icon_style
from secfpp.data.catalog import datasets
from secfpp.data.federated import ClientData, FederatedDataset, Split
from secfpp.data.icons import IconSettings, load_icons
from secfpp.data.pools import pool_digest
from secfpp.errors import ConfigError, DataError

SMALL = IconSettings(shots=3, validation_shots=2, test_shots=2, clients_per_domain=2, domains=("sketch", "pixel"))
ACROSS = replace(SMALL, alignment=0.0, domains=("chalk", "sketch", "pixel"))


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
    assert load_icons(replace(SMALL, rho=1.0), 0).facts["labels drawn alike in two domains"] == 1.0
    assert 0.1 < load_icons(SMALL, 0).facts["labels drawn alike in two domains"] < 0.7


def test_the_partition_changes_without_rendering_again(monkeypatch, tmp_path):
    monkeypatch.setenv("SECFPP_CACHE", str(tmp_path))
    skewed, even = load_icons(replace(SMALL, alpha=0.05), 0), load_icons(replace(SMALL, alpha=1000.0), 0)
    assert len(list(sub_cache("icons").glob("*.safetensors"))) == 1
    assert np.array_equal(skewed.test["pixel"].images, even.test["pixel"].images)
    assert skewed.clients[0].train.histogram(36).max() == 3
    assert abs(len(even.clients[0].train) - len(even.clients[1].train)) < 40


def test_held_out_designer_uses_fewer_concepts_but_all_labels():
    data = load_icons(replace(SMALL, designer="ri"), 0)
    assert len(data.classes) == 36 and data.facts["independent drawings"]["test"] >= 36


DRAWN = "cefab49177d857fdcaa973bc35d19e1b7771e5d5a67fb876b971a76b7212e472"


def test_with_every_knob_off_the_data_are_those_of_before_there_were_knobs(monkeypatch, tmp_path):
    monkeypatch.setenv("SECFPP_CACHE", str(tmp_path))
    known, drawn = [], []

    def rasters(glyphs):
        known[:] = glyphs
        return np.arange(len(known))

    def pictures(masks, style, seed, strength=1.0):
        drawn.append(f"{style} {seed.value} {strength}: {' '.join(str(known[mask]) for mask in masks)}")
        return np.repeat(len(drawn) + np.arange(len(masks), dtype=np.uint8), 48 * 48 * 3).reshape(-1, 48, 48, 3)

    monkeypatch.setattr(icon_style, "rasterise", rasters)
    monkeypatch.setattr(icon_style, "render", pictures)
    data = load_icons(SMALL, 0)
    held = [c.name + str(s.images[:, 0, 0, 0]) + str(s.labels) for c in data.clients for s in (c.train, c.validation)]
    tests = [name + str(split.images[:, 0, 0, 0]) + str(split.labels) for name, split in data.test.items()]
    assert sha256("\n".join([*drawn, *held, *tests]).encode()).hexdigest() == DRAWN


def test_with_every_knob_off_the_cache_has_the_name_of_before_there_were_knobs(monkeypatch, tmp_path):
    monkeypatch.setenv("SECFPP_CACHE", str(tmp_path))
    load_icons(SMALL, 0)
    kept = {"rho": 0.4, "shots": 3, "validation_shots": 2, "test_shots": 2, "domains": SMALL.domains, "designer": ""}
    key = [1, 0, kept, pool_digest(), version("QtAwesome"), version("pillow")]
    assert [f.stem for f in sub_cache("icons").iterdir()] == [sha256(json.dumps(key).encode()).hexdigest()[:24]]


def shown_alike(a, b):
    """Whether two splits hold the same images of each class."""
    return all(np.array_equal(a.images[a.labels == c], b.images[b.labels == c]) for c in range(36))


def test_conventions_across_styles():
    data = load_icons(ACROSS, 0)
    assert set(data.domains) == {f"{c.domain.partition('/')[0]}/{c.true_group}" for c in data.clients}
    for group in ("c1", "c2", "c3"):
        members = [c for c in data.clients if c.true_group == group]
        assert len({c.domain.partition("/")[0] for c in members}) == len(members) == 2
    assert all(split.histogram(36).tolist() == [2] * 36 for split in data.test.values())
    for style in ACROSS.domains:  # no picture is held twice
        images = np.concatenate([c.train.images for c in data.clients if c.name.startswith(style)])
        assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images) == 36 * 3


def test_test_pictures_of_a_style_are_named_by_each_convention_in_its_way():
    data = load_icons(replace(ACROSS, label_shift=1.0, rho=1.0), 0)
    for style in ACROSS.domains:
        (name, first), (_, second) = [(d, s) for d, s in data.test.items() if d.startswith(style)]
        assert not shown_alike(first, second), name
        same = {image.tobytes() for image in first.images} & {image.tobytes() for image in second.images}
        assert len(same) == 72  # rho 1: the same pictures under other names


def test_some_clients_keep_their_style_s_convention_and_others_do_not():
    data = load_icons(replace(ACROSS, alignment=0.5), 3)
    own = [
        c.domain == f"{s}/c{i}" for i, s in enumerate(ACROSS.domains, 1) for c in data.clients if c.name[:5] == s[:5]
    ]
    assert sum(own) == 3 and {c.true_group for c in data.clients} == {"c1", "c2", "c3"}


def test_who_holds_what_decides_the_pictures_where_conventions_cross_styles(monkeypatch, tmp_path):
    monkeypatch.setenv("SECFPP_CACHE", str(tmp_path))
    for alpha in (0.05, 1000.0):
        load_icons(replace(ACROSS, alpha=alpha), 0)
    assert len(list(sub_cache("icons").glob("*.safetensors"))) == 2


def test_names_that_go_round_change_labels_and_nothing_else():
    plain, shifted = (load_icons(replace(SMALL, rho=1.0, label_shift=shift), 0) for shift in (0.0, 1.0))
    assert plain.facts["labels drawn alike in two domains"] == 1.0
    assert shifted.facts["labels drawn alike in two domains"] == 0.0
    assert plain.facts["independent drawings"] == shifted.facts["independent drawings"]
    half = load_icons(replace(SMALL, rho=1.0, label_shift=0.5), 0)
    assert half.facts["labels drawn alike in two domains"] == 0.5


def test_weaker_styles_are_nearer_to_each_other():
    def gap(strength):
        test = load_icons(replace(SMALL, rho=1.0, style_strength=strength), 0).test
        return np.abs(test["sketch"].images.mean((0, 3)) - test["pixel"].images.mean((0, 3))).mean()

    assert gap(0.0) < gap(0.5) < gap(1.0)


def test_all_bad_settings_are_named_at_once():
    with pytest.raises(ConfigError) as caught:
        IconSettings(rho=2.0, style_strength=-1.0, label_shift=7.0, shots=0, alpha=-1.0, designer="nobody")
    with pytest.raises(ConfigError, match="opera") as domains:
        IconSettings(alignment=0.5, domains=("opera",))
    assert {p.key for p in domains.value.problems} == {"data.alignment", "data.domains"}
    assert {p.key for p in caught.value.problems} == {
        "data.rho",
        "data.shots",
        "data.alpha",
        "data.designer",
        "data.style_strength",
        "data.label_shift",
    }


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
