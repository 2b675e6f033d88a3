"""A client's prompt with all that stays the same from image to image computed once: its class features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from secfpp.errors import ConfigError, DataError, Problem
from secfpp.models.novelty import novelty
from secfpp.models.pools import look, whole
from secfpp.models.prompt_checks import MEMORY, VISUAL
from secfpp.models.scoring import Visual, level_logits, redistributed

if TYPE_CHECKING:
    from secfpp.models.backbone import Backbone
    from secfpp.models.prompt_file import ClientPrompt, Level, Prior


class ReadyPrompt:
    """Predicts with `prompt` from image features; text is encoded when it is made, and never again.

    Args:
        prompt: what to predict with.
        model: the model that it was learned for.

    Raises:
        ConfigError: class names that the model refuses.
        DataError: another model than the prompt was learned for.
    """

    def __init__(self, prompt: ClientPrompt, model: Backbone) -> None:
        self.prompt, self.model = prompt, prompt.model(model)
        levels: tuple[Level, ...] = ("personal",) if prompt.domain_prompt is None else ("personal", "domain")
        self._texts = self._tensor(np.stack([prompt.class_features(model, level) for level in levels]))
        self._visual: Visual | None = None
        if prompt.visual_weights is not None:
            held = (getattr(prompt, name) for name in (*VISUAL, MEMORY))
            self._visual = Visual(*(self._tensor(array)[None] for array in held if array is not None))
        self._familiar = None if prompt.familiar is None else self._tensor(prompt.familiar)

    def seen(self, pixels: np.ndarray, model: Backbone | None = None) -> Tensor:
        """What `logits` takes of images uint8 [n, height, width, 3]: their features, for some pools with patches.

        Args:
            pixels: the images.
            model: the same model otherwise kept, if not the one that this was made with.
        """
        return look(model or self.model, pixels, self.prompt.pool is not None and self.prompt.pool.patches)

    def logits(self, features: Tensor) -> Tensor:
        """Logits of what is `seen` of images, most often features [n, projection], without any prior, [n, n_cls].

        Raises:
            DataError: features of another size than the prompt's visual part.
        """
        if self._visual is not None:
            self._require_size("visual_weights", features)
        scores = level_logits(features, self._texts[None], self.model.logit_scale, self._visual, self.prompt.pool)
        if self._familiar is None:
            return scores[0, 0]
        return redistributed(scores[:, 1], scores[:, 0], self._familiar[None], self.prompt.trust)[0]

    def probabilities(self, features: Tensor, prior: Prior | None = None) -> np.ndarray:
        """Probability of each class, float32 [n, n_cls].

        Args:
            features: what is `seen` of images.
            prior: as for `ClientPrompt.predict_proba`.

        Raises:
            ConfigError: class frequencies are asked for and not there.
            DataError: as for `logits`.
        """
        self.prompt.require_prior(prior)
        logits = self.logits(features).cpu().numpy()
        if self.prompt.log_prior is not None and prior != "uniform":
            logits = logits + self.prompt.log_prior
        shares = np.exp(logits - logits.max(1, keepdims=True))
        probabilities: np.ndarray = shares / shares.sum(1, keepdims=True)
        return probabilities

    def novelty(self, features: Tensor) -> np.ndarray:
        """How unlike the client's training images each image is, float32 [n], of image features [n, projection].

        Raises:
            ConfigError: a prompt that does not know what the client's images are like.
            DataError: features of another size than those of its images.
        """
        mean, spread = self.prompt.image_mean, self.prompt.image_spread
        if mean is None or spread is None:
            allowed = "unknown to this prompt: written by an earlier version, imported, or without what tells of images"
            raise ConfigError([Problem("novelty", self.prompt.client, allowed)])
        self._require_size("image_mean", features)
        return novelty(whole(features).cpu().numpy(), mean, spread).astype(np.float32)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.tensor(array, device=self.model.device)

    def _require_size(self, name: str, features: Tensor) -> None:
        """Refuse features of another size than an array is for."""
        if (size := getattr(self.prompt, name).shape[-1]) != features.shape[-1]:
            raise DataError(
                f"{name} is for image features of {size} numbers, but the model {self.model.spec.name!r} gives "
                f"{features.shape[-1]}: give the model that the prompt was learned for"
            )
