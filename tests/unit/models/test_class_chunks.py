from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from secfpp.models.class_chunks import ClassChunks
from secfpp.models.text_bidirectional import BidirectionalTextEncoder
from secfpp.models.text_layers import ClassTokens
from secfpp.models.text_prefix import PrefixTextEncoder
from support.tiny_clip import TinyClip, tiny_tokenizer
from support.tiny_siglip import TinySiglip

TOKENIZER = tiny_tokenizer()
LENGTHS = [1, 4, 2, 1, 7, 3, 3, 1, 2]


def class_tokens(lengths: list[int], end: int, beyond: int) -> ClassTokens:
    generator = torch.Generator().manual_seed(0)
    ids = torch.full((len(lengths), max(lengths) + 1), end)
    for row, length in zip(ids, lengths, strict=True):
        row[:length] = torch.randint(3, beyond, (length,), generator=generator)
    return ClassTokens(tuple(map(str, range(len(lengths)))), ids, torch.tensor(lengths))


def clip() -> tuple[Any, ClassTokens]:
    model = TinyClip(layers=4).model(TOKENIZER)
    return PrefixTextEncoder(model, TOKENIZER.bos_token_id), class_tokens(LENGTHS, TOKENIZER.eos_token_id, 500)


def siglip() -> tuple[Any, ClassTokens]:
    return BidirectionalTextEncoder(TinySiglip(layers=4).model(50), 1), class_tokens(LENGTHS, 1, 50)


def kept(run: Callable[[], Tensor]) -> int:
    """Bytes of what a forward pass keeps for the backward pass beside its result."""
    sizes: dict[int, int] = {}
    tensors = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        tensors.append(tensor)  # so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(sizes.values())


@pytest.mark.parametrize("make", [clip, siglip])
@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("chunks", [2, 4, 9])
def test_chunks_give_the_features_and_gradients_of_the_whole(make: Any, single: bool, chunks: int) -> None:
    encoder, classes = make()
    prompts = torch.randn(9 if single else 2, 3, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    encode = encoder.single if single else encoder
    whole = encode(prompts, classes)
    direction = torch.randn(whole.shape, generator=torch.Generator().manual_seed(1))
    (expected,) = torch.autograd.grad(whole, prompts, direction)
    asked: list[float] = []
    parts = encoder._chunks.parts
    encoder._chunks.parts = lambda classes, each: asked.append(each) or parts(classes, each)
    encode(prompts, classes)
    encoder._chunks.bound = encoder._chunks.chunk = 9 * asked[0] / chunks
    features = encode(prompts, classes)
    (found,) = torch.autograd.grad(features, prompts, direction)
    assert len(parts(classes, asked[0])) == chunks
    torch.testing.assert_close(features, whole, atol=1e-6, rtol=0)
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("make", [clip, siglip])
def test_chunks_keep_next_to_nothing(make: Any) -> None:
    encoder, classes = make()
    prompts = torch.randn(2, 3, 32).requires_grad_()
    whole = kept(lambda: encoder(prompts, classes))
    encoder._chunks.bound = encoder._chunks.chunk = 1
    assert kept(lambda: encoder(prompts, classes)) < whole / 20


@pytest.mark.parametrize("make", [clip, siglip])
def test_what_a_class_is_said_to_take_is_near_what_it_takes(make: Any) -> None:
    encoder, classes = make()
    asked: list[float] = []
    parts = encoder._chunks.parts
    encoder._chunks.parts = lambda classes, each: asked.append(each) or parts(classes, each)
    prompts = torch.randn(64, 3, 32).requires_grad_()
    found = kept(lambda: encoder(prompts, classes))
    assert 0.5 < 64 * 9 * asked[0] / found < 1.5


@pytest.mark.parametrize("make", [clip, siglip])
def test_many_gradients_at_once_go_through_chunks(make: Any) -> None:
    """As differentially private steps take them, of single images."""
    encoder, classes = make()
    prompt = torch.randn(1, 3, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    directions = torch.randn(5, 1, 9, encoder(prompt, classes).shape[-1], generator=torch.Generator().manual_seed(1))

    def gradients() -> Tensor:
        found: Tensor = torch.autograd.grad(
            encoder(prompt, classes), prompt, directions, retain_graph=True, is_grads_batched=True
        )[0]
        return found

    whole = gradients()
    encoder._chunks.bound = encoder._chunks.chunk = 1
    assert (gradients() - whole).abs().max() < 1e-5 * whole.abs().max()


@pytest.mark.parametrize("make", [clip, siglip])
def test_many_prompts_are_encoded_some_at_a_time(make: Any) -> None:
    encoder, classes = make()
    prompts = torch.randn(7, 3, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    whole = encoder(prompts, classes)
    (expected,) = torch.autograd.grad(whole.square().sum(-1)[..., ::2].sum() + whole[..., ::3].sum(), prompts)
    asked: list[float] = []
    parts, encode, sizes = encoder._chunks.parts, encoder._encode, []
    encoder._chunks.parts = lambda classes, each: asked.append(each) or parts(classes, each)
    encoder._encode = lambda prompts, *how: sizes.append(len(prompts)) or encode(prompts, *how)
    encoder(prompts[:1], classes)
    encoder._chunks.bound = encoder._chunks.chunk = 3.5 * 9 * asked[0]
    sizes.clear()
    features = encoder(prompts, classes)
    assert sizes == [3, 3, 1]
    (found,) = torch.autograd.grad(features.square().sum(-1)[..., ::2].sum() + features[..., ::3].sum(), prompts)
    torch.testing.assert_close(features, whole, atol=1e-6, rtol=0)
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_without_gradients_chunks_are_encoded_once() -> None:
    encoder, classes = siglip()
    encoder._chunks.bound = encoder._chunks.chunk = 1
    runs = []
    encode = encoder._encode
    encoder._encode = lambda *given: runs.append(1) or encode(*given)
    encoder(torch.zeros(1, 3, 32), classes)
    assert len(runs) == 9
    with torch.no_grad():
        encoder(torch.zeros(1, 3, 32, requires_grad=True), classes)
    assert len(runs) == 18


@given(st.integers(1, 300), st.floats(0.1, 1000), st.integers(1, 5000), st.integers(1, 10))
def test_parts_hold_every_class_once_and_fit_a_chunk(count: int, each: float, bound: int, finer: int) -> None:
    classes = ClassTokens(tuple(map(str, range(count))), torch.arange(count)[:, None], torch.zeros(count))
    parts = ClassChunks(torch.device("cpu"), bound, bound / finer).parts(classes, each)
    assert tuple(name for part in parts for name in part.names) == classes.names
    assert torch.equal(torch.cat([part.ids for part in parts]), classes.ids)
    sizes = [len(part.names) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    if count * each <= bound:
        assert len(parts) == 1
    else:
        assert max(sizes) == 1 or max(sizes) * each <= bound / finer + each


def test_the_same_parts_are_given_again() -> None:
    encoder, classes = siglip()
    chunks = ClassChunks(torch.device("cpu"), 100)
    assert chunks.parts(classes, 50)[0] is chunks.parts(classes, 50)[0]
    assert len(chunks.parts(classes, 1)) == 1
    assert encoder._chunks.bound == 3 * 2**30
