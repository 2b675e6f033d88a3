"""A model whose image tower is no plain vision transformer: how it is put together, and how it runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

from secfpp.models.open_clip.architecture import Architecture
from secfpp.models.open_clip.resnet import ModifiedResNet


class PooledTransformer(nn.Module):
    """The image tower of a ``CLIPModel`` whose feature is that of the class token or the mean of its patches."""

    def __init__(self, model: Any, shape: Architecture) -> None:
        super().__init__()
        self.vision_model, self.visual_projection = model.vision_model, model.visual_projection
        self._shape = shape
        if not shape.norm_first:
            self.vision_model.pre_layrnorm = nn.Identity()

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels [n, 3, size, size] -> the feature of the whole image [n, projection]."""
        hidden, norm = self._hidden(pixels), self.vision_model.post_layernorm
        if not self._shape.averaged:
            pooled = norm(hidden[:, 0])
        elif self._shape.norm_last:
            pooled = norm(hidden[:, 1:].mean(dim=1))
        else:
            pooled = norm(hidden[:, 1:]).mean(dim=1)
        features: Tensor = self.visual_projection(pooled)
        return features

    def patches(self, pixels: Tensor) -> Tensor:
        """Pixels [n, 3, size, size] -> features of each patch [n, patches, projection], normalised and projected."""
        features: Tensor = self.visual_projection(self.vision_model.post_layernorm(self._hidden(pixels)[:, 1:]))
        return features

    def _hidden(self, pixels: Tensor) -> Tensor:
        hidden: Tensor = self.vision_model(pixel_values=pixels).last_hidden_state
        return hidden


class OpenClipModel(nn.Module):
    """A text tower of transformers beside another image tower, with what a ``CLIPModel`` has of both.

    Args:
        text: has the ``text_model`` and the ``text_projection`` of a ``CLIPModel``.
        visual: the image tower.
        shape: of both.
        logit_scale: the logarithm of the factor of cosines.
        logit_bias: what the model adds to every score.
    """

    def __init__(
        self,
        text: Any,
        visual: ModifiedResNet | PooledTransformer,
        shape: Architecture,
        logit_scale: Tensor,
        logit_bias: float,
    ) -> None:
        super().__init__()
        self.text_model, self.text_projection, self.visual = text.text_model, text.text_projection, visual
        self.logit_scale, self.logit_bias, self.shape = nn.Parameter(logit_scale), logit_bias, shape
        vision = SimpleNamespace(**shape.image.fields(), image_size=shape.image_size, patch_size=shape.patch_size)
        self.config = SimpleNamespace(text_config=self.text_model.config, vision_config=vision)
