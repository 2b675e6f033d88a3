"""What clients are grouped by: numbers that describe a client's image features.

*Class residuals* say how a client's class means differ from everybody's, class by class. Content of a class and style
of a client cancel: what stays is disagreement about what a class's name means, and how style and class interplay.
Whether groups by it are of use is another question, see `secfpp.algorithms.grouping`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from secfpp.algorithms.class_sums import EXPOSURE_PRIOR, SharedSums
from secfpp.algorithms.training import ClientContext
from secfpp.errors import ProtocolError
from secfpp.models.class_means import ClassSums


def feature_descriptor(context: ClientContext) -> np.ndarray:
    """Mean of the client's class means of image features minus the public mean, float32 [projection].

    Each class the client has counts once, so that class skew cancels.
    """
    features, labels = context.features.cpu().numpy(), context.labels.cpu().numpy()
    means = [features[labels == label].mean(0) for label in np.unique(labels)]
    descriptor: np.ndarray = np.mean(means, axis=0) - context.backbone.public_mean()
    return descriptor.astype(np.float32)


@lru_cache(maxsize=4)  # clients that share a process share everybody's sums
def directions(everybody: SharedSums, count: int, shrinkage: float) -> np.ndarray:
    """The directions in which classes differ most, in units of their spread, float64 [dim, count].

    Linear discriminants of everybody's sums: all clients compute the same ones. None, where these have no class.

    Raises:
        ProtocolError: sums without scatter.
    """
    if everybody.scatter is None:
        raise ProtocolError("everybody's class sums came without their scatter")
    known = everybody.classes.counts > 0
    if not known.any():
        return np.zeros((everybody.classes.sums.shape[1], 0))
    means = everybody.classes.sums[known] / everybody.classes.counts[known, None]
    values, vectors = np.linalg.eigh(everybody.scatter.precision(shrinkage))
    whitening = vectors * np.sqrt(values)
    main = np.linalg.svd((means - means.mean(0)) @ whitening, full_matrices=False)[2][:count]
    largest = np.take_along_axis(main, np.abs(main).argmax(1)[:, None], 1)
    found: np.ndarray = whitening @ (main * np.sign(largest)).T  # signs are a convention, not the library's
    found.setflags(write=False)
    return found


def class_residuals(own: ClassSums, everybody: SharedSums, count: int, shrinkage: float) -> np.ndarray:
    """The descriptor, float64 [n_cls * count]; zero for classes that the client or everybody's sums lack.

    Per class: the client's mean less everybody's and less what the client's images differ by whatever their class,
    along `directions`, times n / sqrt(n + 2) for n images: so noise has the same size in all classes with many.
    """
    along = directions(everybody, count, shrinkage)
    own = own.only(everybody.classes.counts > 0)
    means = everybody.classes.sums / np.maximum(everybody.classes.counts, 1)[:, None]
    residuals = own.sums - own.counts[:, None] * (means + own.style(means, 1e-9))
    found = np.zeros((len(own.counts), count))
    found[:, : along.shape[1]] = residuals @ along / np.sqrt(own.counts + EXPOSURE_PRIOR)[:, None]
    return found.reshape(-1)


def spread(everybody: SharedSums, count: int) -> float:
    """Standard deviation of the inner product of two descriptors, if clients have nothing in common."""
    n_classes = int((everybody.classes.counts > 0).sum())
    return float(np.sqrt(count / max(n_classes, 1)) * everybody.exposure)
