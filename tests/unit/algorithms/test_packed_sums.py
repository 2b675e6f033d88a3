import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secfpp.algorithms.class_sums import packed, packed_size, unpacked
from secfpp.models.class_means import ClassSums, Scatter

N_CLASSES, DIM = 4, 5


def client(seed, n=20):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n, DIM))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    labels = rng.integers(N_CLASSES, size=n)
    sums = ClassSums.of(features, labels, N_CLASSES)
    return sums, Scatter.of(features, labels, sums)


@pytest.mark.parametrize("with_scatter", [True, False])
def test_the_mean_of_vectors_gives_the_sums_of_all(with_scatter):
    clients = [client(seed) for seed in range(3)]
    vectors = [packed(sums, scatter if with_scatter else None, 50.0) for sums, scatter in clients]
    assert all(vector.shape == (packed_size(N_CLASSES, DIM, with_scatter),) for vector in vectors)
    found = unpacked(np.mean(vectors, 0), 3, N_CLASSES, DIM, 50.0)
    assert found.members == 3
    assert found.classes.sums == pytest.approx(sum(sums.sums for sums, _ in clients))
    assert found.classes.counts == pytest.approx(sum(sums.counts for sums, _ in clients))
    if not with_scatter:
        assert found.scatter is None
        return
    assert found.scatter.products == pytest.approx(sum(scatter.products for _, scatter in clients))
    assert found.scatter.freedom == pytest.approx(sum(scatter.freedom for _, scatter in clients))
    exposures = [(sums.counts / (sums.counts + 2)).sum() for sums, _ in clients]
    assert found.exposure == pytest.approx(np.mean(exposures))


@given(st.integers(1, 300), st.integers(0, 50))
def test_a_vector_is_no_longer_than_twice_the_images(n, seed):
    sums, scatter = client(seed, n)
    assert np.linalg.norm(packed(sums, scatter, 1.0)) <= 2 * n
