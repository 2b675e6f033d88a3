import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secfpp.data.partition import dirichlet_shares, largest_remainder, split_by_shares
from secfpp.errors import ConfigError, DataError
from secfpp.seeding import Seed


@settings(max_examples=60)
@given(
    st.integers(1, 12),
    st.integers(1, 9),
    st.floats(0.001, 100),
    st.integers(0, 40),
    st.integers(0, 6),
    st.integers(0, 10**6),
)
def test_it_always_ends_with_every_image_held_once_and_every_client_filled(classes, clients, alpha, per, least, seed):
    labels = np.repeat(np.arange(classes), per)
    shares = dirichlet_shares(classes, clients, alpha, Seed(seed))
    if len(labels) < least * clients:
        with pytest.raises(DataError, match="cannot be filled"):
            split_by_shares(labels, shares, Seed(seed), minimum=least)
        return
    held = split_by_shares(labels, shares, Seed(seed), minimum=least)
    assert sorted(np.concatenate(held).tolist()) == list(range(len(labels)))
    assert all(len(images) >= least for images in held)


def test_the_client_left_short_is_named():
    with pytest.raises(DataError, match="client c2 cannot be filled: 5 images for 3 clients"):
        split_by_shares(np.zeros(5, int), np.full((1, 3), 1 / 3), Seed(0), minimum=2, names=["c0", "c1", "c2"])


def test_alpha_sets_the_skew():
    def top(alpha):
        return dirichlet_shares(200, 5, alpha, Seed(0)).max(1).mean()

    assert top(0.05) > 0.85 and top(0.3) > 0.55 and top(100) < 0.3


def test_tiny_alpha_still_gives_shares():
    shares = dirichlet_shares(50, 4, 1e-300, Seed(1))
    assert np.allclose(shares.sum(1), 1)


def test_train_and_validation_follow_the_same_shares():
    shares = dirichlet_shares(10, 4, 0.3, Seed(2))
    big = split_by_shares(np.repeat(np.arange(10), 400), shares, Seed(3))
    small = split_by_shares(np.repeat(np.arange(10), 200), shares, Seed(4))
    for a, b in zip(big, small, strict=True):
        assert np.allclose(np.bincount(a // 400, minlength=10) / 2, np.bincount(b // 200, minlength=10), atol=1)


@given(st.integers(0, 1000), st.lists(st.floats(0.01, 1), min_size=1, max_size=8))
def test_largest_remainder_sums_up_and_stays_near(total, weights):
    shares = np.array(weights) / sum(weights)
    counts = largest_remainder(total, shares)
    assert counts.sum() == total and np.abs(counts - total * shares).max() < 1 + 1e-9


@pytest.mark.parametrize(("clients", "alpha"), [(0, 1.0), (3, 0.0), (3, -1.0), (3, float("nan"))])
def test_bad_settings_are_refused(clients, alpha):
    with pytest.raises(ConfigError):
        dirichlet_shares(3, clients, alpha, Seed(0))
