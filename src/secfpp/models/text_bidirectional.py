"""SigLIP's text tower for prompt learning (arXiv 2303.15343; SigLIP 2: arXiv 2502.14786).

A class is encoded as ``[ctx_1 .. ctx_n, name .., end, pad ..]`` over all places of the tower, without a mask, and its
feature is read at the last place, which is padding for all but the longest names. Every place sees every other, so
nothing is shared between classes and no padding can be cut. What is left to save is exact:

* in the first layer queries, keys and values of names and padding do not depend on the prompt, and those of the context
  are the same for all classes;
* the last layer needs keys and values only, except at the last place;
* weights are frozen, so a step has no gradients of them.

Shapes: ``k`` prompts of ``n`` context vectors, ``p`` places, width ``d``, heads ``h``.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from secfpp.errors import ConfigError
from secfpp.models.class_chunks import ClassChunks
from secfpp.models.compiling import CompiledBlock, Parts, turned_off
from secfpp.models.text_layers import Blocks, ClassTokens, Layer, affine

Names = tuple[Tensor, Tensor]  # states [n_cls, p - n, d] and their projections [n_cls, p - n, 3 d] in the first layer


class BidirectionalTextEncoder:
    """The text tower of a Hugging Face ``SiglipModel``, equal to its own forward on prompted classes.

    Args:
        model: a loaded ``transformers.SiglipModel``, already on its device and in its dtype.
        pad_id: the tokenizer's padding id.
    """

    def __init__(self, model: Any, pad_id: int) -> None:
        tower, config = model.text_model, model.config.text_config
        self._blocks = Blocks(tower, config)
        self.tokens = tower.embeddings.token_embedding.weight.detach()  # [vocabulary, d]
        self.positions = tower.embeddings.position_embedding.weight.detach()  # [p, d]
        self._norm, self._head, self._pad = affine(tower.final_layer_norm), affine(tower.head), pad_id
        self._plans: WeakKeyDictionary[ClassTokens, dict[int, Names]] = WeakKeyDictionary()
        self._chunks = ClassChunks(self.tokens.device)
        self._compiled: Parts | None = None

    def compile(self) -> None:
        """Have PyTorch compile the blocks for training steps of `__call__`, see `secfpp.models.compiling`."""
        self._compiled = CompiledBlock(self._block, along=2), CompiledBlock(self._last_block, along=2)

    def __call__(self, prompts: Tensor, classes: ClassTokens) -> Tensor:
        """Unit-length class features [k, n_cls, projection] of prompts [k, n, d]; differentiable in `prompts`.

        Raises:
            ConfigError: context and longest class name do not fit the model together.
        """
        plain = self._block, self._last_block
        parts = plain if self._compiled is None or turned_off() else self._compiled

        def some(part: ClassTokens, contexts: Tensor) -> Tensor:
            return self._encode(contexts[:, None], self._plan(part, contexts.shape[-2]), parts)

        return self._chunks.encoded(some, prompts, classes, self._bytes())

    def single(self, contexts: Tensor, classes: ClassTokens) -> Tensor:
        """Unit-length class features [n_cls, projection] with a context for each single class [n_cls, n, d].

        Raises:
            ConfigError: context and longest class name do not fit the model together.
        """
        plain = self._block, self._last_block

        def some(part: ClassTokens, contexts: Tensor) -> Tensor:
            return self._encode(contexts[None], self._plan(part, contexts.shape[-2]), plain)[0]

        return self._chunks.encoded_single(some, contexts, classes, self._bytes())

    def _bytes(self) -> int:
        """What one class of one prompt takes until the backward pass."""
        return len(self.positions) * self._blocks.bytes_per_token()

    def _encode(self, contexts: Tensor, names: Names, parts: Parts) -> Tensor:
        """Unit-length features [k, n_cls, projection] of contexts [k, n_cls or 1, n, d]; `parts`: block, last block."""
        states, projected = names
        contexts = contexts.to(self.tokens) + self.positions[: contexts.shape[-2]]
        first, *_ = self._blocks.layers
        x, qkv = _joined(contexts, states), _joined(self._blocks.project(contexts, first), projected)
        *earlier, end = self._blocks.layers
        block, last_block = parts
        for layer in earlier:
            x = block(x, qkv if layer is first else None, layer)
        last = last_block(x, None if earlier else qkv, end)
        features = F.linear(self._blocks.normalise(last, self._norm), *self._head).float()
        return F.normalize(features, dim=-1).view(len(contexts), len(states), -1)

    def _block(self, x: Tensor, qkv: Tensor | None, layer: Layer) -> Tensor:
        """A block but the last, [b, p, d] -> the same; the first one is given `qkv` [b, p, 3 d]."""
        if qkv is None:
            qkv = self._blocks.project(x, layer)
        x = x + F.linear(self._attend(*self._split_heads(qkv, 3)), *layer.out)
        return self._blocks.feed_forward(x, layer)

    def _last_block(self, x: Tensor, qkv: Tensor | None, layer: Layer) -> Tensor:
        """The last block at the last place only, [b, p, d] -> [b, d]; `qkv` if it is the first block too."""
        d = x.shape[-1]
        if qkv is None:
            normed, (weight, bias) = self._blocks.normalise(x, layer.norm1), layer.qkv
            query = F.linear(normed[:, -1:], weight[:d], bias[:d])
            key_values = F.linear(normed, weight[d:], bias[d:])
        else:
            query, key_values = qkv[:, -1:, :d], qkv[..., d:]
        seen = self._attend(*self._split_heads(query, 1), *self._split_heads(key_values, 2))
        return self._blocks.feed_forward(x[:, -1] + F.linear(seen[:, 0], *layer.out), layer)

    def _split_heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """[b, p, parts d] -> `parts` of [b, h, p, e]."""
        return tuple(x.unflatten(-1, (parts, self._blocks.heads, -1)).permute(2, 0, 3, 1, 4))

    @staticmethod
    def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention of all to all, [b, h, p, e] each -> [b, p, d]; the scale is already in the queries."""
        return F.scaled_dot_product_attention(query, key, value, scale=1.0).transpose(1, 2).flatten(2)

    @torch.no_grad()
    def _plan(self, classes: ClassTokens, n: int) -> Names:
        plans, p = self._plans.setdefault(classes, {}), len(self.positions)
        if n not in plans:
            longest = int(classes.end.max()) + 1
            if n + longest > p:
                raise ConfigError(
                    f"{n} context vectors and a class name of {longest} tokens need {n + longest} places, "
                    f"the model has {p}: use fewer context vectors"
                )
            ids = torch.full((len(classes.names), p - n), self._pad)
            width = min(classes.ids.shape[1], p - n)
            ids[:, :width] = classes.ids[:, :width]
            states = self.tokens[ids.to(self.tokens.device)] + self.positions[n:]
            plans[n] = states, self._blocks.project(states, self._blocks.layers[0])
        return plans[n]


def _joined(contexts: Tensor, names: Tensor) -> Tensor:
    """Contexts [k, n_cls or 1, n, w] in front of names [n_cls, m, w], [k n_cls, n + m, w]."""
    k, n_cls = len(contexts), len(names)
    before, after = contexts.expand(-1, n_cls, -1, -1), names.expand(k, -1, -1, -1)
    return torch.cat([before, after], dim=2).flatten(0, 1)
