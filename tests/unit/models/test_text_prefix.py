from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import CLIPModel

from secfpp.errors import ConfigError
from secfpp.models.text_prefix import ClassTokens, PrefixTextEncoder, _pack
from support.tiny_clip import TinyClip, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
START, END = TOKENIZER.bos_token_id, TOKENIZER.eos_token_id
SHAPES = {
    "default": TinyClip(),
    "one layer": TinyClip(layers=1),
    "one head, gelu": TinyClip(heads=1, activation="gelu"),
    "deep, many heads": TinyClip(width=64, layers=5, heads=8),
    "other activation": TinyClip(activation="relu"),
    "legacy end, no projection down": TinyClip(legacy_end=True, projection=32),
    "77 places": TinyClip(context_length=77),
}


def class_tokens(lengths: Sequence[int], seed: int = 0) -> ClassTokens:
    """Random names of the given numbers of tokens."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.full((len(lengths), max(lengths) + 1), END)
    for i, length in enumerate(lengths):
        ids[i, :length] = torch.randint(START, (length,), generator=generator)
    return ClassTokens(tuple(f"class {i}" for i in range(len(lengths))), ids, torch.tensor(lengths))


def full_length(model: CLIPModel, prompts: Tensor, classes: ClassTokens) -> Tensor:
    """Hugging Face's own forward over every padded position, prompts put in where tokens are embedded.

    A prompt [n, d] stands before every class, one of [n_cls, n, d] has a context for each single class.
    """
    n = prompts.shape[-2]
    places = model.config.text_config.max_position_embeddings
    ids = torch.full((len(classes.names), places), END)
    ids[:, 0], ids[:, 1 : 1 + n] = START, 0
    ids[:, 1 + n : 1 + n + classes.ids.shape[1]] = classes.ids
    features = []
    for prompt in prompts:
        handle = model.text_model.embeddings.token_embedding.register_forward_hook(
            lambda module, args, out, prompt=prompt: torch.cat(
                [out[:, :1], prompt.expand(len(out), -1, -1), out[:, 1 + n :]], dim=1
            )
        )
        pooled = model.text_model(input_ids=ids).pooler_output
        handle.remove()
        features.append(F.normalize(model.text_projection(pooled), dim=-1))
    return torch.stack(features)


def compare(model: CLIPModel, prompts: Tensor, classes: ClassTokens, single: bool = False) -> tuple[float, float]:
    """Largest difference of the features, and of the prompt gradients relative to their size."""
    ours, theirs = prompts.clone().requires_grad_(), prompts.clone().requires_grad_()
    encoder = PrefixTextEncoder(model, START)
    if single:
        features, expected = encoder.single(ours, classes), full_length(model, theirs[None], classes)[0]
    else:
        features, expected = encoder(ours, classes), full_length(model, theirs, classes)
    assert features.shape == expected.shape
    direction = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    (features * direction).sum().backward()
    (expected * direction).sum().backward()
    gap = (ours.grad - theirs.grad).abs().max() / theirs.grad.abs().max()
    return float((features - expected).detach().abs().max()), float(gap)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_equals_the_full_length_forward_in_features_and_prompt_gradients(shape: TinyClip) -> None:
    model = shape.model(TOKENIZER)
    prompts = torch.randn(3, 5, shape.width, generator=torch.Generator().manual_seed(2))
    features, gradients = compare(model, prompts, class_tokens([1, 4, 2, 1, 7, 3, 3, 1, 2, 5, 1, 1, 6, 2]))
    assert features < 1e-5
    assert gradients < 1e-5


@settings(deadline=None, max_examples=25)
@given(
    lengths=st.lists(st.integers(1, 8), min_size=1, max_size=40),
    n_ctx=st.integers(1, 10),
    k=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_any_number_of_classes_of_any_length_is_exact(lengths: list[int], n_ctx: int, k: int, seed: int) -> None:
    prompts = torch.randn(k, n_ctx, 32, generator=torch.Generator().manual_seed(seed))
    features, gradients = compare(MODEL, prompts, class_tokens(lengths, seed))
    assert features < 1e-5
    assert gradients < 1e-5


MODEL = TinyClip().model(TOKENIZER)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_contexts_of_single_classes_equal_the_full_length_forward(shape: TinyClip) -> None:
    lengths = [1, 4, 2, 1, 7, 3, 3]
    contexts = torch.randn(len(lengths), 5, shape.width, generator=torch.Generator().manual_seed(2))
    features, gradients = compare(shape.model(TOKENIZER), contexts, class_tokens(lengths), single=True)
    assert features < 1e-5
    assert gradients < 1e-5


@settings(deadline=None, max_examples=25)
@given(lengths=st.lists(st.integers(1, 8), min_size=1, max_size=20), n_ctx=st.integers(1, 10), seed=st.integers(0, 99))
def test_single_contexts_of_any_number_of_classes_are_exact(lengths: list[int], n_ctx: int, seed: int) -> None:
    contexts = torch.randn(len(lengths), n_ctx, 32, generator=torch.Generator().manual_seed(seed))
    features, gradients = compare(MODEL, contexts, class_tokens(lengths, seed), single=True)
    assert features < 1e-5
    assert gradients < 1e-5


def test_one_context_for_all_is_the_same_context_for_each() -> None:
    encoder, classes = PrefixTextEncoder(MODEL, START), class_tokens([2, 1, 5])
    context = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    shared, single = encoder(context[None], classes)[0], encoder.single(context.expand(3, -1, -1), classes)
    torch.testing.assert_close(single, shared, atol=1e-6, rtol=0)


def test_a_name_may_fill_the_context_to_the_last_place() -> None:
    features, gradients = compare(MODEL, torch.randn(1, 6, 32), class_tokens([12, 1]))
    assert max(features, gradients) < 1e-5


def test_a_name_beyond_the_context_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"7 context vectors.*13 tokens.*need 21 places.*has 20"):
        PrefixTextEncoder(MODEL, START)(torch.zeros(1, 7, 32), class_tokens([12, 1]))
    with pytest.raises(ConfigError, match=r"7 context vectors.*13 tokens"):
        PrefixTextEncoder(MODEL, START).single(torch.zeros(2, 7, 32), class_tokens([12, 1]))


def test_prompts_of_a_batch_do_not_touch_each_other() -> None:
    encoder, classes = PrefixTextEncoder(MODEL, START), class_tokens([2, 1, 3])
    prompts = torch.randn(4, 3, 32, generator=torch.Generator().manual_seed(0))
    together = encoder(prompts, classes)
    for i in range(4):
        torch.testing.assert_close(together[i], encoder(prompts[i : i + 1], classes)[0], atol=1e-6, rtol=0)
    changed = prompts.clone()
    changed[1:] += 1
    torch.testing.assert_close(encoder(changed, classes)[0], together[0], atol=1e-6, rtol=0)


def test_features_have_unit_length_and_follow_the_order_of_the_classes() -> None:
    encoder, classes = PrefixTextEncoder(MODEL, START), class_tokens([3, 1, 2, 1])
    prompts = torch.randn(2, 3, 32)
    features = encoder(prompts, classes)
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(2, 4))
    order = [2, 0, 3, 1]
    shuffled = ClassTokens(tuple(classes.names[i] for i in order), classes.ids[order], classes.end[order])
    torch.testing.assert_close(encoder(prompts, shuffled), features[:, order], atol=1e-6, rtol=0)


def test_one_set_of_classes_serves_contexts_of_several_lengths() -> None:
    encoder, classes = PrefixTextEncoder(MODEL, START), class_tokens([2, 1])
    for n in (1, 4, 1):
        prompts = torch.randn(1, n, 32)
        torch.testing.assert_close(encoder(prompts, classes), full_length(MODEL, prompts, classes), atol=1e-5, rtol=0)


def test_weights_stay_frozen_and_half_precision_gives_float32_features() -> None:
    model = TinyClip().model(TOKENIZER)
    encoder, classes = PrefixTextEncoder(model, START), class_tokens([2, 1, 2])
    prompts = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    exact = encoder(prompts, classes)
    exact.sum().backward()
    assert all(weight.grad is None for weight in model.parameters())
    rough = PrefixTextEncoder(model.to(torch.bfloat16), START)(prompts, classes)
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).detach().abs().max() < 0.05


@given(st.lists(st.integers(1, 9), min_size=1, max_size=200))
def test_rows_hold_every_class_once_and_are_nearly_equal(lengths: list[int]) -> None:
    rows = _pack(lengths)
    assert sorted(c for row in rows for c in row) == list(range(len(lengths)))
    sums, counts = [sum(lengths[c] for c in row) for row in rows], [len(row) for row in rows]
    assert max(counts) - min(counts) <= 1
    assert max(sums) - min(sums) <= 2 * max(lengths)
