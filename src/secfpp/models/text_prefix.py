"""CLIP's text tower for prompt learning, with the shared prefix computed once per prompt.

A class is encoded as ``[start, ctx_1 .. ctx_n, name .., end]`` and its feature is read at the end
token. The tower is causal, which allows three exact savings against a padded full-length forward:

* what follows the end token is never computed;
* the start token and the context come first, so their keys and values serve every class name of
  a prompt; the start token's own are the same for all prompts and computed when a model is loaded;
* the last layer needs keys and values only, except at the end tokens; in the first layer the name
  tokens' queries, keys and values do not depend on the prompt.

Names differ in length, so they are packed side by side into rows of nearly equal length with a
block-diagonal causal mask: almost no padding reaches the linear layers.

With a context of its own for each single class no prefix is shared: there is a prompt for each class then, in front of
one row that holds that class's name alone.

Shapes: ``k`` prompts, ``n`` context vectors, ``r`` rows of ``w`` name tokens with at most ``m`` names
each, width ``d``, heads ``h``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from secfpp.errors import ConfigError
from secfpp.models.class_chunks import ClassChunks
from secfpp.models.compiling import CompiledBlock, Parts, turned_off
from secfpp.models.text_layers import Blocks, ClassTokens, Layer, affine

ROW = 32  # name tokens a row should hold: short rows pad linear layers, long ones waste attention


@dataclass(frozen=True)
class _Suffixes:
    """Class names laid out in rows for one context length; all tensors are constants."""

    states: Tensor  # [r * w, d] embedded name tokens, positions added; or [k, w, d], each prompt's own
    qkv: Tensor  # [r * w, 3 d] their projections in the first layer; or [k, w, 3 d]
    causal: Tensor  # [n, 1 + n] 0 where a context token may look, -inf elsewhere
    mask: Tensor  # [r, w, 1 + n + w] the same for name tokens
    end_mask: Tensor  # [r, m, 1 + n + w] the rows of `mask` at the end tokens
    ends: Tensor  # [r * m] place of each end token among the r * w tokens; spare slots repeat place 0
    slots: Tensor  # [n_cls] where in `ends` each class is

    @property
    def shape(self) -> tuple[int, int, int]:
        """(r, w, m)."""
        return self.mask.shape[0], self.mask.shape[1], self.end_mask.shape[1]


def _pack(lengths: list[int]) -> list[list[int]]:
    """Deal classes of the given suffix lengths into rows of nearly equal sums and equal counts."""
    order = sorted(range(len(lengths)), key=lambda c: -lengths[c])
    n_rows = max(1, round(sum(lengths) / ROW))
    rows: list[list[int]] = [[] for _ in range(min(n_rows, len(order)))]
    for place, c in enumerate(order):
        turn, column = divmod(place, len(rows))
        rows[column if turn % 2 == 0 else len(rows) - 1 - column].append(c)
    return rows


class PrefixTextEncoder:
    """The text tower of a Hugging Face ``CLIPModel``, equal to its own forward on prompted classes.

    Args:
        model: a loaded ``transformers.CLIPModel``, already on its device and in its dtype.
        start_id: the tokenizer's start-of-text id.
    """

    def __init__(self, model: Any, start_id: int) -> None:
        tower, config = model.text_model, model.config.text_config
        self._blocks = Blocks(tower, config)
        self.tokens = tower.embeddings.token_embedding.weight.detach()  # [vocabulary, d]
        self.positions = tower.embeddings.position_embedding.weight.detach()  # [context_length, d]
        self._norm = affine(tower.final_layer_norm)
        self._projection = model.text_projection.weight.detach()
        self._start = self._start_states(start_id)
        self._chunks = ClassChunks(self.tokens.device)
        self._plans: WeakKeyDictionary[ClassTokens, dict[tuple[int, bool], _Suffixes]] = WeakKeyDictionary()
        self._compiled: Parts | None = None

    def compile(self) -> None:
        """Have PyTorch compile the blocks for training steps of `__call__`, see `secfpp.models.compiling`."""
        self._compiled = CompiledBlock(self._block, along=2), CompiledBlock(self._last_block)

    def __call__(self, prompts: Tensor, classes: ClassTokens) -> Tensor:
        """Unit-length class features [k, n_cls, projection] of prompts [k, n, d]; differentiable in `prompts`.

        Raises:
            ConfigError: context and longest class name do not fit the model together.
        """
        plain = self._block, self._last_block
        parts = plain if self._compiled is None or turned_off() else self._compiled

        def some(part: ClassTokens, prompts: Tensor) -> Tensor:
            return self._encode(prompts, self._plan(part, prompts.shape[1], single=False), parts)

        tokens = float((classes.end + 1).float().mean())
        return self._chunks.encoded(some, prompts, classes, tokens * self._blocks.bytes_per_token())

    def single(self, contexts: Tensor, classes: ClassTokens) -> Tensor:
        """Unit-length class features [n_cls, projection] with a context for each single class [n_cls, n, d].

        Raises:
            ConfigError: context and longest class name do not fit the model together.
        """
        plain = self._block, self._last_block

        def some(part: ClassTokens, contexts: Tensor) -> Tensor:
            features = self._encode(
                contexts, self._plan(part, contexts.shape[1], single=True), plain
            )  # [n_cls, w, projection]
            return features[torch.arange(len(features)), part.end]

        tokens = contexts.shape[1] + int(classes.end.max()) + 1
        return self._chunks.encoded_single(some, contexts, classes, tokens * self._blocks.bytes_per_token())

    def _encode(self, prompts: Tensor, plan: _Suffixes, parts: Parts) -> Tensor:
        """Unit-length features [k, slots, projection] at the slots of `plan`; `parts` are block and last block."""
        k, n, _ = prompts.shape
        context = prompts.to(self.tokens) + self.positions[1 : 1 + n]
        x = torch.cat([context, plan.states.expand(k, -1, -1)], dim=1)  # [k, n + r w, d]
        *earlier, last = zip(self._blocks.layers, self._start, strict=True)
        block, last_block = parts
        for depth, (layer, start) in enumerate(earlier):
            x = block(x, None if depth else context, layer, start, n, plan)
        x = last_block(x, *last, n, plan)
        features = F.linear(self._blocks.normalise(x[:, plan.slots], self._norm), self._projection)
        return F.normalize(features.float(), dim=-1)

    def _block(self, x: Tensor, context: Tensor | None, layer: Layer, start: Tensor, n: int, plan: _Suffixes) -> Tensor:
        """A block but the last, [k, n + r w, d] -> the same; the first one is given `context` [k, n, d] too."""
        if context is None:
            qkv = self._blocks.project(x, layer)
        else:
            qkv = torch.cat([self._blocks.project(context, layer), plan.qkv.expand(len(x), -1, -1)], dim=1)
        return self._blocks.feed_forward(x + F.linear(self._attend(qkv, start, n, plan), *layer.out), layer)

    def _attend(self, qkv: Tensor, start: Tensor, n: int, plan: _Suffixes) -> Tensor:
        """Attention of context and names, [k, n + r w, 3 d] -> [k, n + r w, d]."""
        r, w, _ = plan.shape
        context, names = self._split_heads(qkv, 3).split([n, r * w], dim=3)  # [3, k, h, tokens, e]
        prefix = torch.cat([start.expand(-1, len(qkv), -1, -1, -1), context[1:]], dim=3)
        seen_by_context = _attention(context[0], prefix, plan.causal)
        query, own = names.unflatten(3, (r, w)).split([1, 2])
        seen_by_names = _attention(query[0], self._row_keys(prefix, own), plan.mask)
        seen = torch.cat([seen_by_context, seen_by_names.flatten(2, 3)], dim=2)  # [k, h, n + r w, e]
        return seen.transpose(1, 2).flatten(2)

    def _last_block(self, x: Tensor, layer: Layer, start: Tensor, n: int, plan: _Suffixes) -> Tensor:
        """The last block at the end tokens only, [k, n + r w, d] -> [k, r m, d]."""
        d, (r, w, m) = x.shape[-1], plan.shape
        normed, (weight, bias) = self._blocks.normalise(x, layer.norm1), layer.qkv
        key_values = self._split_heads(F.linear(normed, weight[d:], bias[d:]), 2)
        prefix, names = key_values.split([n, r * w], dim=3)
        prefix = torch.cat([start.expand(-1, len(x), -1, -1, -1), prefix], dim=3)
        at_ends = n + plan.ends
        query = self._split_heads(F.linear(normed[:, at_ends], weight[:d], bias[:d]), 1)[0].unflatten(2, (r, m))
        seen = _attention(query, self._row_keys(prefix, names.unflatten(3, (r, w))), plan.end_mask)
        seen = seen.flatten(2, 3).transpose(1, 2).flatten(2)
        return self._blocks.feed_forward(x[:, at_ends] + F.linear(seen, *layer.out), layer)

    def _split_heads(self, x: Tensor, parts: int) -> Tensor:
        """[k, tokens, parts d] -> [parts, k, h, tokens, e]."""
        return x.view(*x.shape[:2], parts, self._blocks.heads, -1).permute(2, 0, 3, 1, 4)

    @staticmethod
    def _row_keys(prefix: Tensor, own: Tensor) -> Tensor:
        """Keys and values each row sees: [2, k, h, 1 + n, e] and [2, k, h, r, w, e] -> [2, k, h, r, 1 + n + w, e]."""
        shared = prefix.unsqueeze(3).expand(-1, -1, -1, own.shape[3], -1, -1)
        return torch.cat([shared, own], dim=4)

    @torch.no_grad()
    def _start_states(self, start_id: int) -> list[Tensor]:
        """The start token's key and value [2, 1, h, 1, e] in every layer; it sees nothing but itself."""
        states, d = [], self.tokens.shape[-1]
        x = self.tokens[start_id] + self.positions[0]
        for layer in self._blocks.layers:
            key_value = self._blocks.project(x, layer)[d:]
            states.append(key_value.view(2, 1, self._blocks.heads, 1, -1))
            x = self._blocks.feed_forward(x + F.linear(key_value[d:], *layer.out), layer)
        return states

    @torch.no_grad()
    def _plan(self, classes: ClassTokens, n: int, single: bool) -> _Suffixes:
        plans = self._plans.setdefault(classes, {})
        if (n, single) not in plans:
            longest = int(classes.end.max()) + 1
            if 1 + n + longest > len(self.positions):
                raise ConfigError(
                    f"{n} context vectors and a class name of {longest} tokens need {1 + n + longest} places, "
                    f"the model has {len(self.positions)}: use fewer context vectors"
                )
            plans[n, single] = self._one_by_one(classes, n) if single else self._lay_out(classes, n)
        return plans[n, single]

    def _one_by_one(self, classes: ClassTokens, n: int) -> _Suffixes:
        """A row for each prompt with the name of its class; every token is a slot, since ends differ by prompt."""
        w = int(classes.end.max()) + 1
        device, dtype = self.tokens.device, self.tokens.dtype
        states = self.tokens[classes.ids[:, :w].to(device)] + self.positions[1 + n : 1 + n + w]
        mask = _causal(w, 1 + n + w).to(device, dtype)[None]
        places = torch.arange(w, device=device)
        return _Suffixes(
            states=states,
            qkv=self._first_projections(states),
            causal=_causal(n, 1 + n).to(device, dtype),
            mask=mask,
            end_mask=mask,
            ends=places,
            slots=places,
        )

    def _lay_out(self, classes: ClassTokens, n: int) -> _Suffixes:
        lengths = [int(end) + 1 for end in classes.end]
        rows = _pack(lengths)
        r, w, m = len(rows), max(sum(lengths[c] for c in row) for row in rows), max(map(len, rows))
        ids, places = torch.zeros(r, w, dtype=torch.long), torch.zeros(r, w, dtype=torch.long)
        ends, slots = torch.zeros(r, m, dtype=torch.long), torch.zeros(len(lengths), dtype=torch.long)
        mask = torch.full((r, w, 1 + n + w), float("-inf"))
        mask[:, :, : 1 + n] = 0.0
        for i, row in enumerate(rows):
            at = 0
            for j, c in enumerate(row):
                length = lengths[c]
                span = slice(at, at + length)
                ids[i, span], places[i, span] = classes.ids[c, :length], torch.arange(length)
                mask[i, span, 1 + n + at : 1 + n + at + length] = _causal(length, length)
                ends[i, j], slots[c] = at + length - 1, i * m + j
                at += length
        device, dtype = self.tokens.device, self.tokens.dtype
        end_mask = mask.gather(1, ends.unsqueeze(-1).expand(-1, -1, mask.shape[-1]))
        ends = (ends + w * torch.arange(r).unsqueeze(1)).flatten()
        states = self.tokens[ids.flatten().to(device)] + self.positions[1 + n + places.flatten().to(device)]
        return _Suffixes(
            states=states,
            qkv=self._first_projections(states),
            causal=_causal(n, 1 + n).to(device, dtype),
            mask=mask.to(device, dtype),
            end_mask=end_mask.to(device, dtype),
            ends=ends.to(device),
            slots=slots.to(device),
        )

    def _first_projections(self, states: Tensor) -> Tensor:
        return self._blocks.project(states, self._blocks.layers[0])


def _causal(queries: int, keys: int) -> Tensor:
    """Additive mask [queries, keys] in which the last query sees every key, the one before all but one, and so on."""
    return torch.full((queries, keys), float("-inf")).triu(1 + keys - queries)


def _attention(query: Tensor, key_values: Tensor, mask: Tensor) -> Tensor:
    """Softmax attention [..., q, e] over [2, ..., s, e]; the scale is already in the queries."""
    key, value = key_values.unbind()
    weights = torch.matmul(query.contiguous(), key.transpose(-1, -2)).add_(mask)
    weights = torch.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
    return torch.matmul(weights, value)
