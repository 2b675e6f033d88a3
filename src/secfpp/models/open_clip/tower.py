"""A model whose image tower is no plain vision transformer: how it is put together, and how it runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

from secfpp.models.open_clip.architecture import Architecture, ResNet
from secfpp.models.open_clip.resnet import ModifiedResNet


class ResNetClip(nn.Module):
    """A text tower of transformers beside a ResNet, with the parts that a ``CLIPModel`` has."""

    def __init__(self, text: Any, shape: Architecture, image: ResNet, logit_scale: Tensor) -> None:
        super().__init__()
        self.text_model, self.text_projection = text.text_model, text.text_projection
        self.visual = ModifiedResNet(image, shape.image_size, shape.projection)
        self.logit_scale = nn.Parameter(logit_scale)
        vision = SimpleNamespace(
            hidden_size=image.width, num_hidden_layers=list(image.stages), num_attention_heads=image.heads,
            image_size=shape.image_size,
        )  # fmt: skip
        self.config = SimpleNamespace(
            text_config=text.config, vision_config=vision, projection_dim=shape.projection
        )


class PooledTransformer:
    """The image tower of a ``CLIPModel`` whose feature is that of the class token or the mean of its patches."""

    def __init__(self, model: Any, averaged: bool, norm_last: bool) -> None:
        self._vision, self._projection = model.vision_model, model.visual_projection
        self._averaged, self._norm_last = averaged, norm_last

    def __call__(self, pixels: Tensor) -> Tensor:
        """Pixels [n, 3, size, size] -> the feature of the whole image [n, projection]."""
        hidden, norm = self._hidden(pixels), self._vision.post_layernorm
        if not self._averaged:
            pooled = norm(hidden[:, 0])
        elif self._norm_last:
            pooled = norm(hidden[:, 1:].mean(dim=1))
        else:
            pooled = norm(hidden[:, 1:]).mean(dim=1)
        features: Tensor = self._projection(pooled)
        return features

    def patches(self, pixels: Tensor) -> Tensor:
        """Pixels [n, 3, size, size] -> features of each patch [n, patches, projection], normalised and projected."""
        features: Tensor = self._projection(self._vision.post_layernorm(self._hidden(pixels)[:, 1:]))
        return features

    def _hidden(self, pixels: Tensor) -> Tensor:
        hidden: Tensor = self._vision(pixel_values=pixels).last_hidden_state
        return hidden
