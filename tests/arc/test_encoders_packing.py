"""Packed tokens attend as padded rows do, whatever the lengths."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cupel.arc.encoders.packing import Masking, Packing


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(0, 5), max_size=6), seed=st.integers(0, 99))
def test_packed_attention_is_masked_attention(lengths: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    keys = torch.zeros(len(lengths), 5, dtype=torch.bool)
    for row, length in enumerate(lengths):
        keys[row, torch.randperm(5, generator=generator)[:length]] = True
    query, key, value = torch.randn(3, len(lengths), 5, 2, 4, generator=generator)
    packing = Packing.of(keys)
    assert sum(rows * length for rows, length in packing.groups) == sum(lengths)
    packed = packing.attend(packing.take(query), packing.take(key), packing.take(value))
    found = packing.put(packed.flatten(1)).view(len(lengths), 5, 2, 4)
    wanted = Masking(keys=keys).attend(query, key, value)
    torch.testing.assert_close(found[keys], wanted[keys])
    assert not found[~keys].any()


def test_one_table_serves_every_row() -> None:
    keys = torch.tensor([[True, False, True], [False, True, False]])
    packing = Packing.of(keys)
    table = torch.arange(3)[None]
    assert packing.take(table).tolist() == [1, 0, 2]  # the short row first
