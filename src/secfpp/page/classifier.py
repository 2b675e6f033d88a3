"""Answers about images that were sent: classes, novelty, and the closest of the user's own examples."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from secfpp.errors import DataError
from secfpp.grey_depth import GreyWindow
from secfpp.images import files_in, read_content
from secfpp.models.backbone import Backbone
from secfpp.models.pools import whole
from secfpp.models.prompt_file import ClientPrompt, Prior
from secfpp.page.answers import Answer, Failure, Neighbour, Prediction, Score

THUMBNAIL = 112
"""Side in pixels of an example's picture."""


@dataclass(frozen=True)
class Upload:
    """A file that was sent: its name, and its content."""

    name: str
    content: bytes


@dataclass(frozen=True, eq=False)
class Examples:
    """The user's own images, to show which of them a new one is close to.

    Attributes:
        folder: where they are.
        paths: their files.
        labels: the class that each one's folders say.
        features: of unit length, float32 [n, projection].
        pictures: the middle of each at `THUMBNAIL` pixels, as JPEG.
    """

    folder: Path
    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    features: np.ndarray
    pictures: tuple[bytes, ...]

    @classmethod
    def of(cls, folder: Path, prompt: ClientPrompt, model: Backbone, grey_window: GreyWindow | None = None) -> Examples:
        """All images below `folder`, encoded; their features are cached as those of training images are.

        Raises:
            DataError: no such folder, no image there, more than fit in memory, or files that cannot be read.
        """
        if not folder.is_dir():
            raise DataError(f"--examples {folder}: no such folder")
        paths = files_in([folder])
        pixels = prompt.pixels(paths, grey_window)
        labels = tuple(_label(path.relative_to(folder), prompt.classes) for path in paths)
        pictures = tuple(_encoded(image, "JPEG", THUMBNAIL) for image in pixels)
        return cls(folder, tuple(paths), labels, model.features(pixels).cpu().numpy(), pictures)

    def closest(self, features: np.ndarray, count: int) -> list[Neighbour]:
        """The `count` closest ones, or all if there are fewer, to an image with `features` [projection]."""
        similarity = self.features @ features
        return [
            Neighbour(
                example=self.paths[i].relative_to(self.folder).as_posix(),
                label=self.labels[i],
                similarity=round(float(np.clip(similarity[i], -1, 1)), 6),
                picture=f"/examples/{i}",
            )
            for i in np.argsort(-similarity, kind="stable")[:count]
        ]


class Classifier:
    """Classifies images as `secfpp predict` does; nothing of them is kept.

    Args:
        prompt: what to predict with.
        model: the model that it was learned for.
        prior: as for `ClientPrompt.predict_proba`.
        grey_window: as for `ClientPrompt.pixels`.
        examples: own images to compare with, if any.

    Raises:
        ConfigError: a prior that the prompt does not know, or class names that the model refuses.
        DataError: another model than the prompt was learned for.
    """

    def __init__(
        self,
        prompt: ClientPrompt,
        model: Backbone,
        prior: Prior | None = None,
        grey_window: GreyWindow | None = None,
        examples: Examples | None = None,
    ) -> None:
        prompt.require_prior(prior)
        self.prompt, self.examples = prompt, examples
        self.prior: Prior = prior or ("uniform" if prompt.log_prior is None else "own")
        self._ready, self._model = prompt.ready(model), model.keeping_nothing()
        self._grey_window = grey_window

    def answer(
        self, uploads: Sequence[Upload], *, top: int | None = None, neighbours: int = 0, picture: bool = False
    ) -> Answer:
        """What there is to say of each file, in order; one that is no image does not keep others from an answer.

        Args:
            uploads: at least one.
            top: how many classes to list for each; all if not given.
            neighbours: how many examples to list for each.
            picture: add what the model saw.
        """
        found: dict[int, Prediction | Failure] = {}
        read: dict[int, tuple[np.ndarray, str]] = {}
        for index, upload in enumerate(uploads):
            try:
                read[index] = read_content(
                    upload.content, self.prompt.image_size, self._grey_window, self.prompt.grey_window
                )
            except DataError as error:
                found[index] = Failure(image=upload.name, error=str(error))
        if read:
            pixels = np.stack([image for image, _ in read.values()])
            seen = self._ready.seen(pixels, self._model)
            features, scores = whole(seen), self._ready.probabilities(seen, self.prior)
            threshold = self.prompt.novelty_threshold
            novelty = None if threshold is None else self._ready.novelty(features)
            for row, (index, (image, told)) in enumerate(read.items()):
                best = self._best(scores[row], top)
                value = None if novelty is None else round(float(novelty[row]), 6)
                near = self.examples.closest(features[row].cpu().numpy(), neighbours) if self.examples else []
                found[index] = Prediction(
                    image=uploads[index].name,
                    label=best[0].label,
                    probability=best[0].probability,
                    top=best,
                    novelty=value,
                    unlike_training=None if novelty is None or threshold is None else bool(novelty[row] > threshold),
                    neighbours=near,
                    picture=_data_uri(image) if picture else None,
                    warning=told or None,
                )
        return Answer(
            client=self.prompt.client,
            prior=self.prior,
            novelty_threshold=self.prompt.novelty_threshold,
            images=[found[index] for index in range(len(uploads))],
        )

    def _best(self, scores: np.ndarray, top: int | None) -> list[Score]:
        order = np.argsort(-scores, kind="stable")[:top]
        return [Score(label=self.prompt.classes[i], probability=round(float(scores[i]), 6)) for i in order]


def _label(path: Path, classes: Sequence[str]) -> str:
    """The class that an example's folders name, the nearest one first; else the folder that it lies in."""
    names = [part.replace("_", " ") for part in reversed(path.parent.parts)]
    return next((name for name in names if name in classes), names[0] if names else "")


def _encoded(image: np.ndarray, kind: str, size: int | None = None) -> bytes:
    """An image uint8 [height, width, 3] as a file of this `kind`, at most `size` pixels wide and high."""
    from PIL import Image

    picture, file = Image.fromarray(image), BytesIO()
    if size:
        picture.thumbnail((size, size))
    picture.save(file, kind)
    return file.getvalue()


def _data_uri(image: np.ndarray) -> str:
    return "data:image/png;base64," + base64.b64encode(_encoded(image, "PNG")).decode()
