"""Segment reductions against the plain computation, one slot after the other."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from cupel.arc.encoders.segments import segment_attention, segment_mean

SLOTS = st.lists(st.integers(0, 3), min_size=1, max_size=7)


@settings(max_examples=40, deadline=None)
@given(slots=SLOTS, scale=st.sampled_from([0.0, 1.0, 60.0]), seed=st.integers(0, 99))
def test_segment_attention_is_attention_over_the_slots_long_sequence(
    slots: list[int], scale: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows, tokens = len(slots), 3
    query = torch.randn(4, 2, 5, 4, generator=generator) * scale
    key, value = torch.randn(2, rows, 2, tokens, 4, generator=generator)
    visible = torch.rand(rows, tokens, generator=generator) < 0.6
    slot = torch.tensor(slots)
    out = segment_attention(query, key, value, visible_RN=visible, slot_R=slot)
    for b in range(4):
        own = slot == b
        keep = visible[own].flatten()
        k, v = (x[own].transpose(0, 1).flatten(1, 2)[:, keep] for x in (key, value))
        if keep.any():
            torch.testing.assert_close(
                out[b], scaled_dot_product_attention(query[b], k, v), rtol=1e-4, atol=1e-5
            )
        else:
            assert torch.count_nonzero(out[b]) == 0


@given(slots=SLOTS, seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_segment_mean_is_the_mean_of_the_real_rows(slots: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(len(slots), 3, generator=generator)
    real = torch.rand(len(slots), generator=generator) < 0.7
    slot = torch.tensor(slots)
    mean = segment_mean(x, slot, real, 4)
    for b in range(4):
        own = x[(slot == b) & real]
        expected = own.mean(0) if len(own) else torch.zeros(3)
        torch.testing.assert_close(mean[b], expected)


def test_gradients_of_segment_attention_match_those_of_plain_attention() -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (1, 2, 3, 4)
    query, key, value = (
        torch.randn(shape, generator=generator, requires_grad=True) for _ in range(3)
    )
    visible = torch.tensor([[True, False, True]])
    ours = segment_attention(
        query, key, value, visible_RN=visible, slot_R=torch.zeros(1, dtype=torch.long)
    )
    plain = scaled_dot_product_attention(query, key, value, attn_mask=visible[:, None, None])
    weight = torch.randn(shape, generator=generator)
    for a, b in zip(
        torch.autograd.grad((ours * weight).sum(), [query, key, value]),
        torch.autograd.grad((plain * weight).sum(), [query, key, value]),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
