"""Rows of unequal length without padding between them: one long list of tokens, attended by row.

Knows which tokens are there, and rows of one length. Refuses to know what a layer computes. It
reads lengths back from the device, so it belongs on the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """Where the N tokens of R rows stand.

    Attributes:
        index: [N] places in the flattened [R · L], row after row, short rows first.
        groups: (rows, length) of consecutive rows of one length; their products add up to N.
        rows, length: R and L.
    """

    index: Tensor
    groups: tuple[tuple[int, int], ...]
    rows: int
    length: int

    @classmethod
    def of(cls, keys_RL: Tensor) -> Packing:
        """Return the packing of the tokens that are True."""
        rows, length = keys_RL.shape
        count_R = keys_RL.sum(1)
        order_R = count_R.argsort(stable=True)
        row_N, column_N = keys_RL[order_R].nonzero(as_tuple=True)
        lengths, multiples = count_R.unique(return_counts=True)  # type: ignore[no-untyped-call]
        pairs = zip(multiples.tolist(), lengths.tolist(), strict=True)
        return cls(
            index=order_R[row_N] * length + column_N,
            groups=tuple((n, size) for n, size in pairs if size > 0),
            rows=rows,
            length=length,
        )

    def take(self, x: Tensor) -> Tensor:
        """[R or 1, L, ...] -> [N, ...]."""
        return x.expand(self.rows, *x.shape[1:]).flatten(0, 1).index_select(0, self.index)

    def put(self, x_NW: Tensor) -> Tensor:
        """[N, W] -> [R, L, W], zeros where no token is."""
        width = x_NW.shape[1]
        empty = x_NW.new_zeros(self.rows * self.length, width)
        return empty.index_copy(0, self.index, x_NW).view(self.rows, self.length, width)

    def attend(self, query_NHd: Tensor, key_NHd: Tensor, value_NHd: Tensor) -> Tensor:
        """Attend within each row: [N, H, d] -> [N, H, d]."""
        sizes = [rows * length for rows, length in self.groups]
        parts = zip(*(torch.split(x, sizes) for x in (query_NHd, key_NHd, value_NHd)), strict=True)
        mixed = []
        for (rows, length), part in zip(self.groups, parts, strict=True):
            query, key, value = (x.unflatten(0, (rows, length)).transpose(1, 2) for x in part)
            read = F.scaled_dot_product_attention(query, key, value)
            mixed.append(read.transpose(1, 2).flatten(0, 1))
        return torch.cat(mixed) if mixed else value_NHd


@dataclass(frozen=True, slots=True, kw_only=True)
class Masking:
    """The same attention over padded rows, static in shape: padding is no key."""

    keys: Tensor

    def attend(self, query_RLHd: Tensor, key_RLHd: Tensor, value_RLHd: Tensor) -> Tensor:
        """Attend within each row: [R, L, H, d] -> [R, L, H, d]."""
        query, key, value = (x.transpose(1, 2) for x in (query_RLHd, key_RLHd, value_RLHd))
        mask = self.keys[:, None, None, :]
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2)
