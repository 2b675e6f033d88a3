"""Gradients of single images by a prompt, for many images at once, without a pass through the text encoder for each.

An image's gradient by the class features is the outer product of its residual (predicted probabilities less its label)
and its feature. What that is by the prompt is a vector-Jacobian product of the text encoder; those of many images are
made in one batch. Or the whole Jacobian is made, a row for each number of a class feature, of all classes at once:
less work if there are many images.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from secfpp.models.backbone import Backbone, ClassTokens
from secfpp.models.compiling import uncompiled
from secfpp.models.scoring import cosine_logits

CHUNK = 16
"""Products in one batch; larger ones are slower where a cache is small."""
MANY = 4
"""Images for each number of a class feature from which on the Jacobian is less work than products are."""


class ImageGradients:
    """Gradients by one prompt.

    Args:
        backbone: the frozen model.
        tokens: the class names.
        prompt: float [n_ctx, text_dim].
        images: of how many gradients will be asked for; decides the way, and no result.
    """

    def __init__(self, backbone: Backbone, tokens: ClassTokens, prompt: Tensor, images: int) -> None:
        self._scale, self._prompt = backbone.logit_scale, prompt.detach().clone().requires_grad_()
        with uncompiled():  # gradients for many cotangents at once
            self._encoded = backbone.class_features(self._prompt[None], tokens)[0]
        self.texts = self._encoded.detach()
        whole = images >= MANY * self.texts.shape[1]
        self._jacobian = _jacobian(backbone, tokens, self._prompt.detach()) if whole else None

    def of(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Each image's gradient of its cross-entropy, float32 [n, n_ctx, text_dim], and that cross-entropy [n].

        Args:
            features: of the images, float32 [n, dim].
            labels: theirs, int64 [n].
        """
        residuals, losses = self._residuals(features, labels)
        found = torch.empty(len(labels), *self._prompt.shape, device=features.device)
        for at in range(0, len(labels), CHUNK):
            chunk = slice(at, at + CHUNK)
            found[chunk] = self._pulled(residuals[chunk, :, None] * features[chunk, None])
        return found, losses

    def mean(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of what `of` finds, float32 [n_ctx, text_dim], in one product, and each image's cross-entropy."""
        residuals, losses = self._residuals(features, labels)
        return self._pulled((residuals.T @ features)[None])[0] / max(1, len(labels)), losses

    def _residuals(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """What multiplies features in gradients by the class features, [n, n_cls], and the cross-entropies [n]."""
        logits = cosine_logits(features, self.texts, self._scale)
        residuals = torch.softmax(logits, dim=1) - F.one_hot(labels, len(self.texts))
        return self._scale * residuals, F.cross_entropy(logits, labels, reduction="none")

    def _pulled(self, cotangents: Tensor) -> Tensor:
        """Vector-Jacobian products, float32 [n, n_ctx, text_dim], of cotangents [n, n_cls, dim]."""
        if self._jacobian is not None:
            flat = cotangents.flatten(1) @ self._jacobian
            return flat.view(len(flat), *self._prompt.shape)
        pulled: Tensor
        (pulled,) = torch.autograd.grad(
            self._encoded, self._prompt, cotangents, retain_graph=True, is_grads_batched=True
        )
        return pulled


def _jacobian(backbone: Backbone, tokens: ClassTokens, prompt: Tensor) -> Tensor:
    """Float32 [n_cls * dim, n_ctx * text_dim]: each class has the prompt to itself, so that one row serves all."""
    contexts = prompt.expand(len(tokens.names), -1, -1).clone().requires_grad_()
    texts = backbone.single_class_features(contexts, tokens)
    n_cls, dim = texts.shape
    rows = torch.empty(n_cls, dim, prompt.numel(), device=texts.device)
    for at in range(0, dim, CHUNK):
        chosen = torch.eye(dim, device=texts.device)[at : at + CHUNK, None].expand(-1, n_cls, -1)
        (pulled,) = torch.autograd.grad(texts, contexts, chosen, retain_graph=True, is_grads_batched=True)
        rows[:, at : at + CHUNK] = pulled.flatten(2).transpose(0, 1)
    return rows.flatten(0, 1)


def shortened_sum(gradients: Tensor, clip: float) -> Tensor:
    """The sum over the first axis of float [n, ...], each shortened to L2 norm `clip`; float64."""
    exact = gradients.double()
    norms = exact.flatten(1).norm(dim=1)
    kept = clip / norms.clamp_min(clip)
    total: Tensor = (kept @ exact.flatten(1)).view(exact.shape[1:])
    return total
