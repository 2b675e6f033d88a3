import numpy as np
import pytest

from secfpp.algorithms.class_sums import EXPOSURE_PRIOR, SharedSums
from secfpp.algorithms.residuals import class_residuals, directions, spread
from secfpp.errors import ProtocolError
from secfpp.models.class_means import ClassSums, Scatter

N_CLASSES, DIM, Q = 9, 12, 4


def world(clients, images, seed=0, style=0.0):
    """Sums and scatter of clients, each with its own order of class names and its own style."""
    rng = np.random.default_rng(seed)
    centres = 2 * rng.standard_normal((N_CLASSES, DIM))
    mixing = np.diag(np.linspace(0.3, 1.0, DIM))
    found = []
    for order in clients:
        labels = np.repeat(np.arange(N_CLASSES), images)
        offset = style * rng.standard_normal(DIM)
        features = centres[np.asarray(order)[labels]] + offset + rng.standard_normal((len(labels), DIM)) @ mixing
        sums = ClassSums.of(features, labels, N_CLASSES)
        found.append((sums, Scatter.of(features, labels, sums)))
    classes = ClassSums(sum(s.sums for s, _ in found), sum(s.counts for s, _ in found))
    scatter = Scatter(sum(c.products for _, c in found), sum(c.freedom for _, c in found))
    exposure = float(np.mean([(s.counts / (s.counts + EXPOSURE_PRIOR)).sum() for s, _ in found]))
    return [s for s, _ in found], SharedSums(classes, len(found), scatter, exposure)


def products(clients, shared):
    z = np.stack([class_residuals(own, shared, Q, 1e-6) for own in clients])
    return (z @ z.T)[np.triu_indices(len(z), 1)] / spread(shared, Q)


def test_directions_whiten_what_is_within_classes_and_are_the_discriminants():
    _, shared = world([range(N_CLASSES)] * 4, 200)
    along = directions(shared, Q, 1e-6)
    within = along.T @ (shared.scatter.products / shared.scatter.freedom) @ along
    assert within == pytest.approx(np.eye(Q), abs=0.02)
    means = shared.classes.sums / shared.classes.counts[:, None]
    between = np.cov((means @ along).T)
    assert np.abs(between - np.diag(np.diag(between))).max() < 0.05 * between[0, 0]
    assert (np.diff(np.diag(between)) <= 0).all()
    without = SharedSums(shared.classes, 4)
    with pytest.raises(ProtocolError, match="scatter"):
        directions(without, Q, 0.1)


def test_clients_that_agree_have_products_of_the_spread_whatever_their_style():
    found = np.concatenate([products(*world([range(N_CLASSES)] * 12, 6, seed, style=3.0)) for seed in range(20)])
    assert -0.8 < np.mean(found) < 0  # everybody's mean holds a bit of each client
    assert np.std(found) == pytest.approx(1, rel=0.25)


def test_clients_that_mean_the_same_by_other_names_stand_out():
    turned = np.roll(np.arange(N_CLASSES), 1)
    clients, shared = world([range(N_CLASSES)] * 4 + [turned] * 4, 6)
    z = np.stack([class_residuals(own, shared, Q, 1e-6) for own in clients])
    gram = z @ z.T / spread(shared, Q)
    same = np.equal.outer(np.arange(8) < 4, np.arange(8) < 4) & ~np.eye(8, dtype=bool)
    assert gram[same].min() > 5 > -5 > gram[~same & ~np.eye(8, dtype=bool)].max()


def test_classes_that_a_side_lacks_are_zero():
    clients, shared = world([range(N_CLASSES)] * 4, 5)
    own = clients[0].only(np.arange(N_CLASSES) != 3)
    known = shared.classes.only(np.arange(N_CLASSES) != 5)
    z = class_residuals(own, SharedSums(known, 4, shared.scatter, shared.exposure), Q, 0.1).reshape(N_CLASSES, Q)
    assert not z[3].any() and not z[5].any() and np.abs(z[[0, 1, 2, 4]]).sum(1).min() > 0


def test_more_directions_than_there_are_leave_zeros():
    clients, shared = world([range(N_CLASSES)] * 4, 5)
    z = class_residuals(clients[0], shared, 16, 0.1).reshape(N_CLASSES, 16)
    assert not z[:, DIM:].any() and np.isfinite(z).all()


def test_where_no_class_is_shared_nothing_is_known_of_anybody():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(8, 6)), np.repeat(np.arange(2), 4)
    own = ClassSums.of(features, labels, 4)
    nothing = ClassSums(np.zeros((4, 6)), np.zeros(4))
    everybody = SharedSums(nothing, 5, Scatter.of(features, labels, own))
    assert directions(everybody, 3, 0.1).shape == (6, 0)
    assert not class_residuals(own, everybody, 3, 0.1).any() and spread(everybody, 3) == 0


def test_clients_of_a_process_find_the_directions_of_their_common_sums_once(monkeypatch):
    clients, shared = world([range(N_CLASSES)] * 5, 6)
    calls, svd = [], np.linalg.svd
    monkeypatch.setattr(np.linalg, "svd", lambda *given, **how: calls.append(1) or svd(*given, **how))
    found = [class_residuals(own, shared, Q, 0.1) for own in clients]
    assert len(calls) == 1
    assert len({own.tobytes() for own in found}) == 5
