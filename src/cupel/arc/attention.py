"""The transformer block of the recursive core and the rotary positions it uses.

Knows norms, attention, SwiGLU and where a context vector or a cell stands. Refuses to know the
recursion, tokens and losses. Weights are kept in float32 and cast once per forward, not once per
call: one forward applies the same block some thirty times.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cupel.arc.model_config import ROPE_THETA, CoreConfig, Rope

NORM_EPS = 1e-5
_TRUNCATED_STD = 0.8796256610342398
"""Standard deviation of a unit normal truncated at two."""


class BlockWeights(NamedTuple):
    """The weights of one block in the dtype of the forward."""

    qkv: Tensor
    out: Tensor
    gate_up: Tensor
    down: Tensor


class Rotation(NamedTuple):
    """Cosines and sines of the rotary angles, [T, head_size], float32.

    The sines of the first half are negated: x · cos + swap(x) · sin turns every pair.
    """

    cos: Tensor
    sin: Tensor


def truncated_normal(shape: tuple[int, ...], *, std: float, generator: torch.Generator) -> Tensor:
    """Draw a normal truncated at two deviations whose standard deviation is exactly `std`."""
    scale = std / _TRUNCATED_STD
    values = torch.empty(shape)
    nn.init.trunc_normal_(values, std=scale, a=-2 * scale, b=2 * scale, generator=generator)
    return values


def rms_norm(x: Tensor) -> Tensor:
    """Divide by the root mean square of the last axis: no gain, float32 inside."""
    return F.rms_norm(x.float(), (x.shape[-1],), eps=NORM_EPS).to(x.dtype)


def rotation(
    kind: Rope, *, n_context: int, side: int, head_size: int, device: torch.device
) -> Rotation:
    """Return the rotary angles of `n_context` context positions and side x side cells.

    In 2d, the first half of the frequencies turns with the row and the second with the column;
    cell (r, c) stands at (r, c) whatever the side, so a grid keeps its angles in every bucket.
    Context vector i stands at (-1, i), in a row of its own above the canvas. In 1d position t of
    the flat sequence turns with t (context first).

    Source: RoFormer, arXiv:2104.09864; axial 2-D with base 100, arXiv:2403.13298.
    """
    places = torch.arange(n_context, device=device)
    cells = torch.arange(side * side, device=device)
    if kind == "1d":
        coordinates_TK = torch.cat([places, n_context + cells])[:, None]
    else:
        above = torch.stack([torch.full_like(places, -1), places], dim=-1)
        inside = torch.stack([cells // side, cells % side], dim=-1)
        coordinates_TK = torch.cat([above, inside])
    count = head_size // (2 * coordinates_TK.shape[1])
    powers = torch.arange(count, device=device, dtype=torch.float32) / count
    frequencies = torch.exp(-math.log(ROPE_THETA[kind]) * powers)
    angles = (coordinates_TK[:, :, None].float() * frequencies).flatten(1)
    cos, sin = angles.cos(), angles.sin()
    return Rotation(cos=torch.cat([cos, cos], dim=-1), sin=torch.cat([-sin, sin], dim=-1))


def rotate(x_d: Tensor, turn: Rotation) -> Tensor:
    """Turn each pair (i, i + d/2) of [..., d] by the angles that broadcast to it, in float32."""
    wide = x_d.float()
    low, high = wide.chunk(2, dim=-1)
    swapped = torch.cat([high, low], dim=-1)
    return torch.addcmul(wide * turn.cos, swapped, turn.sin).to(x_d.dtype)


class Block(nn.Module):
    """x <- norm(x + attention(x)); x <- norm(x + SwiGLU(x)); no biases, no gains."""

    def __init__(self, config: CoreConfig, generator: torch.Generator) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.inner_size
        self._heads = config.num_heads
        self.qkv = _matrix(3 * width, width, generator)
        self.out = _matrix(width, width, generator)
        self.gate_up = _matrix(2 * inner, width, generator)
        self.down = _matrix(width, inner, generator)

    def cast(self, dtype: torch.dtype) -> BlockWeights:
        """Return the weights in the forward's dtype; gradients flow back to float32."""
        return BlockWeights(
            self.qkv.to(dtype), self.out.to(dtype), self.gate_up.to(dtype), self.down.to(dtype)
        )

    def forward(
        self, x_BTD: Tensor, weights: BlockWeights, turn: Rotation, active_BT: Tensor | None
    ) -> Tensor:
        """Apply the block.

        Args:
            turn: angles [T, 1, 1, d] of the positions.
            active_BT: False where a position takes no part; None when all do.
        """
        x_BTD = rms_norm(x_BTD + self._attend(x_BTD, weights, turn, active_BT))
        gate, up = F.linear(x_BTD, weights.gate_up).chunk(2, dim=-1)
        return rms_norm(x_BTD + F.linear(F.silu(gate) * up, weights.down))

    def _attend(
        self, x_BTD: Tensor, weights: BlockWeights, turn: Rotation, active_BT: Tensor | None
    ) -> Tensor:
        batch, length, width = x_BTD.shape
        qkv = F.linear(x_BTD, weights.qkv).view(batch, length, 3, self._heads, -1)
        query, key = rotate(qkv[:, :, :2], turn).unbind(2)
        value = qkv[:, :, 2]
        mask = None if active_BT is None else active_BT[:, None, None, :]
        mixed = F.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attn_mask=mask
        )
        mixed = mixed.transpose(1, 2).reshape(batch, length, width)
        if active_BT is not None:
            mixed = mixed * active_BT[:, :, None]
        return F.linear(mixed, weights.out)


def _matrix(rows: int, columns: int, generator: torch.Generator) -> nn.Parameter:
    std = 1.0 / math.sqrt(columns)
    return nn.Parameter(truncated_normal((rows, columns), std=std, generator=generator))
