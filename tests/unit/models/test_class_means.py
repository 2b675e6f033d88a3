import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from secfpp.models.class_means import ClassSums, Scatter, linear


def drawn(n=400, n_classes=4, dim=6, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(n_classes, size=n)
    centres = rng.standard_normal((n_classes, dim))
    mixing = rng.standard_normal((dim, dim))
    return centres[labels] + 0.3 * rng.standard_normal((n, dim)) @ mixing, labels


def test_scores_are_those_of_linear_discriminant_analysis():
    features, labels = drawn()
    sums = ClassSums.of(features, labels, 4)
    weights, bias = linear(sums.means(np.zeros(6), 0.0), Scatter.of(features, labels, sums).precision(1e-12))
    reference = LinearDiscriminantAnalysis(solver="lsqr").fit(features, labels)
    ours = features @ weights.T + bias
    theirs = reference.decision_function(features) - np.log(reference.priors_)
    assert np.array_equal(ours.argmax(1), theirs.argmax(1))  # they divide the scatter by n, we by its freedom
    assert (
        np.corrcoef((ours - ours.mean(1, keepdims=True)).ravel(), (theirs - theirs.mean(1, keepdims=True)).ravel())[
            0, 1
        ]
        > 0.99
    )


def test_a_class_without_images_falls_back_and_one_with_many_does_not():
    features, labels = drawn()
    kept = labels != 2
    sums = ClassSums.of(features[kept], labels[kept], 4)
    above = np.full((4, 6), 7.0)
    means = sums.means(above, 8.0)
    assert means[2] == pytest.approx(above[2])
    exact = features[labels == 1].mean(0)
    n = (labels == 1).sum()
    assert means[1] == pytest.approx((n * exact + 8 * above[1]) / (n + 8))


def test_sums_are_taken_apart_and_cut_to_classes():
    features, labels = drawn()
    whole, part = ClassSums.of(features, labels, 4), ClassSums.of(features[:50], labels[:50], 4)
    rest = ClassSums.of(features[50:], labels[50:], 4)
    assert (whole - part).sums == pytest.approx(rest.sums) and (whole - part).counts.tolist() == rest.counts.tolist()
    only = whole.only(np.array([True, False, True, False]))
    assert not only.sums[1].any() and only.counts[3] == 0 and only.counts[0] == whole.counts[0]
    assert whole.centre == pytest.approx(features.mean(0))


def test_style_is_the_shift_that_all_classes_share():
    features, labels = drawn()
    means = ClassSums.of(features, labels, 4).means(np.zeros(6), 0.0)
    shifted = ClassSums.of(features + 5.0, labels, 4)
    assert shifted.style(means, 1e-9) == pytest.approx(np.full(6, 5.0))
    assert np.linalg.norm(shifted.style(means, 1e9)) < 1e-4


@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_images_give_a_precision_all_the_same(n):
    features, labels = drawn(n)
    precision = Scatter.of(features, labels, ClassSums.of(features, labels, 4)).precision(0.1)
    assert np.isfinite(precision).all() and np.linalg.eigvalsh(precision).min() > 0


def test_the_covariance_is_rounder_with_fewer_images():
    features, labels = drawn(2000)
    conditions = []
    for n in (12, 100, 2000):
        sums = ClassSums.of(features[:n], labels[:n], 4)
        conditions.append(np.linalg.cond(Scatter.of(features[:n], labels[:n], sums).precision(0.001)))
    assert conditions == sorted(conditions)


def test_rounded_scatter_of_classes_that_hardly_spread_still_has_a_precision():
    rng = np.random.default_rng(0)
    rounding = rng.uniform(-1e-4, 1e-4, (12, 12))
    products = 1e-5 * np.eye(12) + rounding + rounding.T
    assert np.linalg.eigvalsh(products).min() < 0 < np.trace(products)
    assert np.linalg.eigvalsh(Scatter(products, 30.0).precision(0.1)).min() > 0


def test_noise_pulls_a_mean_to_where_it_is_likeliest():
    rng = np.random.default_rng(3)
    root = rng.standard_normal((3, 3))
    covariance = root @ root.T + np.eye(3)
    towards, counts, noise, pull = rng.standard_normal((2, 3)), np.array([4.0, 9.0]), 5.0, 2.0
    sums = rng.standard_normal((2, 3)) * 20
    found = ClassSums(sums, counts, noise).means(towards, pull, np.linalg.inv(covariance))
    for label, n in enumerate(counts):
        # the mean of n images, of which `pull` more lie at `towards`, seen under noise; classes lie as images do
        seen = covariance * (1 + pull / n) + noise**2 / n**2 * np.eye(3)
        expected = towards[label] + covariance @ np.linalg.solve(seen, sums[label] / n - towards[label])
        assert found[label] == pytest.approx(expected)


def test_without_noise_or_precision_means_are_pulled_as_ever():
    sums = ClassSums(np.ones((2, 3)), np.array([2.0, 0.0]))
    plain = sums.means(np.zeros(3), 1.0)
    assert np.array_equal(sums.means(np.zeros(3), 1.0, np.eye(3)), plain)
    assert np.array_equal(ClassSums(sums.sums, sums.counts, 3.0).means(np.zeros(3), 1.0), plain)


def test_a_class_that_is_not_there_stays_where_it_is_pulled_to_under_noise():
    towards = np.arange(6.0).reshape(2, 3)
    means = ClassSums(np.zeros((2, 3)), np.array([5.0, 0.0]), 2.0).means(towards, 0.0, np.eye(3))
    assert means[1] == pytest.approx(towards[1])


def test_a_noisy_scatter_is_as_round_as_its_noise_is_large():
    rng = np.random.default_rng(0)
    dim, noise = 40, 30.0
    exact = np.diag(np.linspace(1, 100, dim))
    upper = np.triu(rng.normal(size=(dim, dim)) * noise / np.sqrt(2), 1)
    noisy = exact + upper + upper.T + np.diag(rng.normal(size=dim) * noise)
    wanted = Scatter(exact, 1000).precision(0.1)
    errors = [np.linalg.norm(Scatter(noisy, 1000, told).precision(0.1) - wanted) for told in (0.0, noise)]
    assert errors[1] < errors[0]
    spread = [np.ptp(np.linalg.eigvalsh(Scatter(noisy, 1000, told).precision(0.1))) for told in (0.0, 3.0, noise)]
    assert spread[0] > spread[1] > spread[2]
