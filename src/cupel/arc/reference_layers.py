"""The blocks of the padded computation: every position takes part, whatever stands on it.

Knows 1-D positions, unmasked attention and how weights of the fast path are taken over. Refuses to
know tasks and losses. Slow on purpose: nothing is packed, masked, fused or cast ahead.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cupel.arc.attention import NORM_EPS, Block
from cupel.arc.encoders.layers import PairBlock, ReadLayer
from cupel.arc.model_config import ROPE_THETA
from cupel.errors import ConfigError


def copied(weight: Tensor) -> nn.Parameter:
    """Return a parameter of its own with these values."""
    return nn.Parameter(weight.detach().clone())


def norm(x: Tensor) -> Tensor:
    """Divide by the root mean square of the last axis, in float32."""
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + NORM_EPS)).to(x.dtype)


class FlatRotation(NamedTuple):
    """Cosines and sines of the angles of flat positions, [T, head_size], float32."""

    cos: Tensor
    sin: Tensor


def flat_rotation(length: int, head_size: int) -> FlatRotation:
    """Return the angles of positions 0 ... length - 1, base 10,000 (RoFormer, arXiv:2104.09864)."""
    powers = torch.arange(0, head_size, 2, dtype=torch.float32) / head_size
    angles = torch.outer(torch.arange(length).float(), ROPE_THETA["1d"] ** -powers)
    angles = torch.cat([angles, angles], dim=-1)
    return FlatRotation(angles.cos(), angles.sin())


def rotated(x_NLHd: Tensor, turn: FlatRotation) -> Tensor:
    """Turn each pair (i, i + d/2) of every head, in the dtype of the tables."""
    cos, sin = turn.cos[:, None], turn.sin[:, None]
    low, high = x_NLHd.chunk(2, dim=-1)
    wide = x_NLHd.to(cos.dtype)
    return (wide * cos + torch.cat([-high, low], dim=-1).to(cos.dtype) * sin).to(x_NLHd.dtype)


class PlainSwiGLU(nn.Module):
    """down(silu(gate(x)) ⊙ up(x)), the weights cast at every call."""

    def __init__(self, gate_up: Tensor, down: Tensor) -> None:
        super().__init__()
        self.gate_up = copied(gate_up)
        self.down = copied(down)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to the last axis."""
        gate, up = F.linear(x, self.gate_up.to(x.dtype)).chunk(2, dim=-1)
        return F.linear(F.silu(gate) * up, self.down.to(x.dtype))


class PlainBlock(nn.Module):
    """x ← norm(x + attention(x)); x ← norm(x + SwiGLU(x)); padding attends and is attended."""

    def __init__(
        self, *, heads: int, qkv: Tensor, out: Tensor, gate_up: Tensor, down: Tensor
    ) -> None:
        super().__init__()
        self._heads = heads
        self.qkv = copied(qkv)
        self.out = copied(out)
        self.mlp = PlainSwiGLU(gate_up, down)

    @classmethod
    def of_core(cls, block: Block, heads: int) -> PlainBlock:
        """Return a block with the weights of a block of the core."""
        return cls(
            heads=heads, qkv=block.qkv, out=block.out, gate_up=block.gate_up, down=block.down
        )

    @classmethod
    def of_pair(cls, block: PairBlock, heads: int) -> PlainBlock:
        """Return a block with the weights of a block over a pair's tokens.

        Raises:
            ConfigError: the block has gains on its branches, which the padded computation lacks.
        """
        if not isinstance(block.attention_scale, nn.Identity):
            raise ConfigError(
                "reference_compat: encoder.layer_scale_init is set; the padded computation has no "
                "gains on its branches: compare an encoder with layer_scale_init 0"
            )
        mlp = block.mlp
        return cls(
            heads=heads,
            qkv=block.qkv.weight,
            out=block.out.weight,
            gate_up=mlp.gate_up.weight,
            down=mlp.down.weight,
        )

    def forward(self, x_NLD: Tensor, turn: FlatRotation) -> Tensor:
        """Apply the block to all L positions."""
        batch, length, width = x_NLD.shape
        qkv = F.linear(x_NLD, self.qkv.to(x_NLD.dtype))
        query, key, value = qkv.view(batch, length, 3, self._heads, -1).unbind(2)
        query, key = rotated(query, turn), rotated(key, turn)
        mixed = F.scaled_dot_product_attention(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        )
        mixed = mixed.transpose(1, 2).reshape(batch, length, width)
        x_NLD = norm(x_NLD + F.linear(mixed, self.out.to(x_NLD.dtype)))
        return norm(x_NLD + self.mlp(x_NLD))


class PlainRead(nn.Module):
    """A task's queries read its K demonstration vectors, absent ones masked, then think."""

    def __init__(self, layer: ReadLayer, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.query = copied(layer.read.query.weight)
        self.key_value = copied(layer.read.key_value.weight)
        self.out = copied(layer.read.out.weight)
        self.mlp = PlainSwiGLU(layer.mlp.gate_up.weight, layer.mlp.down.weight)

    def forward(self, x_BCD: Tensor, vector_BKD: Tensor, mask_BK: Tensor) -> Tensor:
        """Return the updated queries; those of a task without demonstrations read zeros."""
        key, value = F.linear(vector_BKD, self.key_value).chunk(2, dim=-1)
        query = self._split(F.linear(x_BCD, self.query))
        some_B = mask_BK.any(1)
        mask = (mask_BK | ~some_B[:, None])[:, None, None, :]
        read = F.scaled_dot_product_attention(
            query, self._split(key), self._split(value), attn_mask=mask
        )
        joined = read.transpose(1, 2).reshape(x_BCD.shape) * some_B[:, None, None]
        x_BCD = norm(x_BCD + F.linear(joined, self.out))
        return norm(x_BCD + self.mlp(x_BCD))

    def _split(self, x_NLD: Tensor) -> Tensor:
        batch, length, _ = x_NLD.shape
        return x_NLD.view(batch, length, self._heads, -1).transpose(1, 2)
