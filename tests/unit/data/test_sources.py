from dataclasses import replace

import numpy as np
import pytest

from secfpp.data.sources import PARTS, SourceSettings, share_out
from secfpp.errors import ConfigError

CLASSES = tuple("abcdefg")
SETTINGS = SourceSettings(shots=6, validation_shots=3, test_shots=2, clients_per_domain=3)


def pictures(sources):
    """Images whose first value is their source, whose second their class, whose third their number."""
    return {
        source: {
            part: np.array(
                [[[[i, thing, n]]] for thing in range(len(CLASSES)) for n in range(SETTINGS.images[part])], np.uint8
            )
            for part in PARTS
        }
        for i, source in enumerate(sources)
    }


def names_of(split):
    """Class shown -> the one name that it goes by."""
    pairs = {(int(image[0, 0, 1]), int(label)) for image, label in zip(split.images, split.labels, strict=True)}
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_every_picture_is_held_once_in_its_source_under_one_name(shift):
    data = share_out("toy", CLASSES, pictures("xy"), replace(SETTINGS, label_shift=shift), 0, {"why": 1})
    assert data.domains == data.groups == ("x", "y") and data.facts == {"why": 1}
    assert [client.name for client in data.clients] == ["x-0", "x-1", "x-2", "y-0", "y-1", "y-2"]
    for number, source in enumerate("xy"):
        mine = [client for client in data.clients if client.domain == source]
        for part, per_class in (("train", 6), ("validation", 3)):
            images = np.concatenate([getattr(client, part).images for client in mine])
            assert len(np.unique(images.reshape(len(images), -1), axis=0)) == len(images) == 7 * per_class
            assert (images[..., 0] == number).all()
        named = names_of(data.test[source])
        assert all(names_of(client.train).items() <= named.items() for client in mine)
        assert sum(thing != name for thing, name in named.items()) in ((0,) if not shift else (0, 3, 6))


def test_names_go_round_or_stay():
    plain, shifted = (
        share_out("toy", CLASSES, pictures("xy"), replace(SETTINGS, label_shift=shift), 0, {}) for shift in (0.0, 1.0)
    )
    assert names_of(plain.test["x"]) == names_of(plain.test["y"]) == {i: i for i in range(7)}
    x, y = names_of(shifted.test["x"]), names_of(shifted.test["y"])
    assert sum(x[thing] != y[thing] for thing in x) == 6


def test_the_seed_decides_who_holds_what():
    first, again, other = (share_out("toy", CLASSES, pictures("x"), SETTINGS, seed, {}) for seed in (0, 0, 1))
    assert np.array_equal(first.clients[0].train.images, again.clients[0].train.images)
    assert first.clients[0].train.images.tobytes() != other.clients[0].train.images.tobytes()


def test_all_bad_settings_are_named_at_once():
    with pytest.raises(ConfigError) as caught:
        SourceSettings(shots=0, validation_shots=0, test_shots=0, clients_per_domain=0, alpha=-1.0, label_shift=2.0)
    assert len(caught.value.problems) == 6
