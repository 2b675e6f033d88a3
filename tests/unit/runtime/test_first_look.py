from __future__ import annotations

from dataclasses import replace

import pytest

from secfpp.algorithms.zero_shot import ZeroShot
from secfpp.data.icons import IconSettings, load_icons
from secfpp.models.backbone import load_backbone
from secfpp.runtime.first_look import FirstLook, first_look
from secfpp.runtime.trainer import train


def test_it_is_the_figure_of_the_method() -> None:
    data = load_icons(IconSettings(domains=("sketch", "pixel"), clients_per_domain=2, shots=8, test_shots=4), 0)
    model = load_backbone("mini", device="cpu")
    found = first_look(data, model)
    own = train(data, model, ZeroShot(), method="zero_shot", rounds=1, seed=0).metrics["own_domain"]
    assert list(found.accuracy.values()) == pytest.approx([own[2], own[0]], abs=1e-4)  # clients are sorted by name
    assert found.chance == pytest.approx(100 / 36) and found.near_chance() == []
    few = first_look(data, model, most=20)
    assert set(few.images.values()) == {20} and set(found.images.values()) == {144}


def test_names_that_belong_to_other_labels_are_near_chance() -> None:
    data = load_icons(IconSettings(domains=("sketch",), clients_per_domain=2, shots=8, test_shots=4), 0)
    turned = replace(data, classes=(*data.classes[7:], *data.classes[:7]))
    assert first_look(turned, load_backbone("mini", device="cpu")).near_chance() == ["sketch"]


def test_chance_has_its_errors() -> None:
    found = FirstLook({"a": 10.0, "b": 22.0, "c": 22.0}, {"a": 1000, "b": 50, "c": 500}, 10.0)
    assert found.near_chance() == ["a", "b"]
