"""The few test images that a report shows, kept as plain JSON so that it can be made again without the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from secfpp.data.federated import FederatedDataset
from secfpp.errors import DataError
from secfpp.experiment.report.plots import png_uri
from secfpp.runtime.evaluation import example_classes, example_images

if TYPE_CHECKING:
    from secfpp.runtime.trainer import RunResult

_URI = "data:image/png;base64,"


@dataclass(frozen=True)
class Samples:
    """Test images of a few classes in every domain.

    Attributes:
        names: all class names; label c of the data set means ``names[c]``.
        labels: the classes that are shown.
        rows: domain -> a PNG data URI for each of `labels` (None: the domain has no image of that class).
        seed: the seed of the data set they are from; None if unknown.
    """

    names: tuple[str, ...]
    labels: tuple[int, ...]
    rows: Mapping[str, tuple[str | None, ...]]
    seed: int | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes that are shown."""
        return tuple(self.names[label] for label in self.labels)

    def to_json(self) -> dict[str, Any]:
        """All of it as lists, strings and numbers."""
        rows = {domain: list(images) for domain, images in self.rows.items()}
        return {"names": list(self.names), "labels": list(self.labels), "rows": rows, "seed": self.seed}

    @classmethod
    def from_json(cls, content: Any) -> Samples:
        """What `to_json` gave.

        Raises:
            DataError: `content` is something else, or would show other than embedded PNG images.
        """
        if not isinstance(content, Mapping) or not isinstance(content.get("rows"), Mapping):
            raise _damaged("it has no table of images")
        names, labels, seed = content.get("names"), content.get("labels"), content.get("seed")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise _damaged(f"names = {names!r} is not a list of class names")
        if not isinstance(labels, list) or not all(type(c) is int and 0 <= c < len(names) for c in labels):
            raise _damaged(f"labels = {labels!r} are not positions in the {len(names)} class names")
        if seed is not None and type(seed) is not int:
            raise _damaged(f"seed = {seed!r} is not a whole number")
        for domain, images in content["rows"].items():
            if not isinstance(images, list) or len(images) != len(labels):
                raise _damaged(f"domain {domain!r} has not one image, or null, for each of the {len(labels)} labels")
            if not all(image is None or (isinstance(image, str) and image.startswith(_URI)) for image in images):
                raise _damaged(f"domain {domain!r} has something else than embedded PNG images")
        rows = {str(domain): tuple(images) for domain, images in content["rows"].items()}
        return cls(tuple(names), tuple(labels), rows, seed)


def sample_images(dataset: FederatedDataset, seed: int | None = None) -> Samples:
    """The images that `secfpp.runtime.evaluation.examples` classifies; `seed` is the one `dataset` was made with."""
    labels = example_classes(len(dataset.classes))
    rows = {
        domain: tuple(
            None if n is None else png_uri(split.images[n]) for n in example_images(split, len(dataset.classes))
        )
        for domain, split in dataset.test.items()
    }
    return Samples(tuple(dataset.classes), tuple(labels), rows, seed)


@dataclass(frozen=True)
class Guess:
    """What a prompt takes a shown image for: the class `name`, whether that is `right`, its `probability` (0..1)."""

    name: str
    right: bool
    probability: float


def guesses(samples: Samples, results: Sequence[RunResult]) -> dict[str, dict[str, tuple[Guess | None, ...]]]:
    """Predictions for the shown images: domain -> method -> one for each of the shown classes.

    Other seeds have other images, so only runs on the seed of `samples` count (the lowest one, if it is unknown).
    """
    seed = samples.seed if samples.seed is not None else min((result.seed for result in results), default=None)
    found: dict[str, dict[str, tuple[Guess | None, ...]]] = {domain: {} for domain in samples.rows}
    for result in (result for result in results if result.seed == seed):
        told = {
            (e.domain, e.label): Guess(samples.names[e.predicted], e.predicted == e.label, e.probability)
            for e in result.examples
            if e.predicted < len(samples.names)
        }
        for domain, images in samples.rows.items():
            row = tuple(
                told.get((domain, label)) if image else None
                for label, image in zip(samples.labels, images, strict=True)
            )
            if any(row):
                found[domain][result.method] = row
    return found


def _damaged(what: str) -> DataError:
    return DataError(f"The stored sample images cannot be used: {what}. Run the experiment anew to have them made")
