"""Laws of the predictor on two levels."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from secfpp.models.scoring import familiar_classes, redistributed

LOGITS = arrays(np.float64, (2, 3, 5), elements=st.floats(-30, 30))
MASKS = arrays(np.bool_, (2, 5))


def parts(domain: np.ndarray, personal: np.ndarray, familiar: np.ndarray, trust: float) -> tuple[torch.Tensor, ...]:
    tensors = [torch.from_numpy(array) for array in (domain, personal, familiar)]
    return (*tensors, redistributed(*tensors, trust))


@given(LOGITS, LOGITS, MASKS, st.floats(0, 1))
def test_what_is_not_familiar_keeps_its_probability(
    domain: np.ndarray, personal: np.ndarray, familiar: np.ndarray, trust: float
) -> None:
    before, _, mask, after = parts(domain, personal, familiar, trust)
    assert torch.isfinite(after).all()
    strange = ~mask[:, None].expand_as(after)
    assert torch.allclose(after.softmax(-1)[strange], before.softmax(-1)[strange], atol=1e-9)
    assert torch.equal(after[strange], before[strange])


@given(LOGITS, LOGITS, MASKS, st.floats(0, 1))
def test_familiar_classes_share_their_total_as_the_pool_says(
    domain: np.ndarray, personal: np.ndarray, familiar: np.ndarray, trust: float
) -> None:
    before, own, mask, after = parts(domain, personal, familiar, trust)
    pool = (1 - trust) * before + trust * own
    for client in range(len(mask)):
        if mask[client].any():
            share, expected = after[client][:, mask[client]], pool[client][:, mask[client]]
            assert torch.allclose(share.softmax(-1), expected.softmax(-1), atol=1e-9)
            total = before[client].softmax(-1)[:, mask[client]].sum(-1)
            assert torch.allclose(after[client].softmax(-1)[:, mask[client]].sum(-1), total, atol=1e-9)


@given(LOGITS, LOGITS)
def test_the_two_ends_are_the_two_prompts(domain: np.ndarray, personal: np.ndarray) -> None:
    everything = np.ones((2, 5), bool)
    before, own, _, trusted = parts(domain, personal, everything, 1.0)
    assert torch.allclose(trusted.softmax(-1), own.softmax(-1), atol=1e-9)
    assert torch.allclose(parts(domain, personal, everything, 0.0)[-1], before)
    assert torch.equal(parts(domain, personal, ~everything, 1.0)[-1], before)


def test_a_strange_class_is_lost_to_the_plain_personal_prompt_only() -> None:
    domain, personal = torch.tensor([[[1.0, 0.0, 2.0]]]), torch.tensor([[[9.0, 3.0, 0.0]]])
    familiar = torch.tensor([[True, True, False]])
    assert personal.argmax(-1).item() == 0
    assert redistributed(domain, personal, familiar, 1.0).argmax(-1).item() == 2


def test_familiar_is_what_is_at_least_half_as_frequent_as_in_an_even_mix() -> None:
    assert familiar_classes(np.array([0, 4, 5, 31]), 0.5).tolist() == [False, False, True, True]  # even: 10 each
    assert familiar_classes(np.array([0, 1, 1]), 0.0).tolist() == [False, True, True]
    assert familiar_classes(np.array([7, 7]), 1.0).all()
    assert not familiar_classes(np.zeros(3, int), 0.5).any()
