"""The layers encoders are made of: self-attention within a pair, cross-attention across a slot.

Knows channels, heads and masks. Refuses to know what a row or a slot means, and losses. Linear
layers are bias-free and norms have no gain, as in the decoder; weights stay in float32 and follow
the dtype of what they are applied to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cupel.arc.attention import Rotation, rms_norm, rotate, truncated_normal
from cupel.arc.encoder_config import EncoderConfig
from cupel.arc.encoders.packing import Masking, Packing
from cupel.arc.encoders.segments import segment_attention, show
from cupel.arc.model_config import CoreConfig
from cupel.errors import ConfigError


def choose_heads(width: int, num_heads: int) -> int:
    """Return how many heads a width is split into; 0 asks for the largest of 8, 4, 2, 1 that fits.

    Raises:
        ConfigError: a head would not hold a multiple of 4 channels, which 2-D positions need.
    """
    for heads in (num_heads,) if num_heads else (8, 4, 2, 1):
        if width % (4 * heads) == 0:
            return heads
    raise ConfigError(
        f"encoder width {width} with {num_heads or 1} heads: a head needs a multiple of 4 channels "
        "(half of them for the row, half for the column); change encoder.width or "
        "encoder.num_heads"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What all layers of one encoder share: its sizes, its block options, its random numbers."""

    width: int
    heads: int
    inner: int
    norm: str
    qk_norm: bool
    layer_scale_init: float
    dtype: torch.dtype
    generator: torch.Generator

    @classmethod
    def of(
        cls, config: EncoderConfig, width: int, *, dtype: torch.dtype, generator: torch.Generator
    ) -> Form:
        """Return the form of an encoder of this width.

        Raises:
            ConfigError: the width cannot be split into the heads.
        """
        heads = choose_heads(width, config.num_heads)
        core = CoreConfig(hidden_size=width, num_heads=heads, expansion=config.expansion)
        return cls(
            width=width,
            heads=heads,
            inner=core.inner_size,
            norm=config.norm,
            qk_norm=config.qk_norm,
            layer_scale_init=config.layer_scale_init,
            dtype=dtype,
            generator=generator,
        )

    def learned(self, *shape: int, std: float = 1.0) -> nn.Parameter:
        """Return a parameter drawn from a truncated normal."""
        return nn.Parameter(truncated_normal(shape, std=std, generator=self.generator))


class Linear(nn.Module):
    """x Wᵀ (+ b): standard deviation 1/√(inputs), or zeros; computed in the dtype of x."""

    def __init__(
        self, form: Form, inputs: int, outputs: int, *, bias: bool = False, zero: bool = False
    ) -> None:
        super().__init__()
        drawn = form.learned(outputs, inputs, std=1 / math.sqrt(inputs))
        self.weight = nn.Parameter(torch.zeros(outputs, inputs)) if zero else drawn
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Apply the map to the last axis."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)


class SwiGLU(nn.Module):
    """down(silu(gate(x)) ⊙ up(x)), arXiv:2002.05202."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.gate_up = Linear(form, form.width, 2 * form.inner)
        self.down = Linear(form, form.inner, form.width)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer to the last axis."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        mixed: Tensor = self.down(F.silu(gate) * up)
        return mixed


class LayerScale(nn.Module):
    """A learned gain a channel on a residual branch (CaiT, arXiv:2103.17239)."""

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.full((width,), start))

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled branch."""
        return x * self.gain.to(x.dtype)


def layer_scale(form: Form) -> nn.Module:
    """Return the gain of a residual branch; a start of 0 means that there is none."""
    if form.layer_scale_init == 0:
        return nn.Identity()
    return LayerScale(form.width, form.layer_scale_init)


def split_heads(x_NLW: Tensor, heads: int) -> Tensor:
    """[N, L, W] -> [N, H, L, W/H]."""
    rows, length, width = x_NLW.shape
    return x_NLW.reshape(rows, length, heads, width // heads).transpose(1, 2)


def join_heads(x_NHLd: Tensor) -> Tensor:
    """[N, H, L, d] -> [N, L, H·d]."""
    rows, heads, length, size = x_NHLd.shape
    return x_NHLd.transpose(1, 2).reshape(rows, length, heads * size)


class PairBlock(nn.Module):
    """Self-attention and SwiGLU over the tokens of one pair, post- or pre-norm.

        post: x ← norm(x + s₁ attend(x)); x ← norm(x + s₂ SwiGLU(x))
        pre:  x ← x + s₁ attend(norm(x)); x ← x + s₂ SwiGLU(norm(x))

    Tokens come padded or packed (`Packing`); how they attend within their row is an argument. What
    stands at padding positions is never read.
    """

    def __init__(self, form: Form) -> None:
        super().__init__()
        self._form = form
        self.qkv = Linear(form, form.width, 3 * form.width)
        self.out = Linear(form, form.width, form.width)
        self.mlp = SwiGLU(form)
        self.attention_scale = layer_scale(form)
        self.mlp_scale = layer_scale(form)

    def forward(self, x: Tensor, turn: Rotation, rows: Packing | Masking) -> Tensor:
        """Apply the block to tokens [..., W] with angles [..., 1, 1, d]."""
        if self._form.norm == "pre":
            x = x + self.attention_scale(self._attend(rms_norm(x), turn, rows))
            thought: Tensor = self.mlp_scale(self.mlp(rms_norm(x)))
            return x + thought
        x = rms_norm(x + self.attention_scale(self._attend(x, turn, rows)))
        return rms_norm(x + self.mlp_scale(self.mlp(x)))

    def _attend(self, x: Tensor, turn: Rotation, rows: Packing | Masking) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self._form.heads, -1))
        query_key, value = qkv[..., :2, :, :], qkv[..., 2, :, :]
        if self._form.qk_norm:
            query_key = rms_norm(query_key)
        query, key = rotate(query_key, turn).unbind(-3)
        mixed = rows.attend(query, key, value)
        out: Tensor = self.out(mixed.flatten(-2))
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Keys and values [R, H, N, d] of packed rows, with what is visible and whose they are."""

    key: Tensor
    value: Tensor
    visible: Tensor
    slot: Tensor


class SlotAttention(nn.Module):
    """Attention from a slot's queries [B, C, W] to all vectors of all its rows [R, N, W]."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self._heads = form.heads
        self.query = Linear(form, form.width, form.width)
        self.key_value = Linear(form, form.width, 2 * form.width)
        self.out = Linear(form, form.width, form.width)

    def remember(
        self,
        pairs_UNW: Tensor,
        visible_UN: Tensor,
        slot_R: Tensor,
        pair_R: Tensor | None = None,
    ) -> Memory:
        """Compute keys and values once a pair; they may be read many times.

        Args:
            pair_R: which pair a row shows; None: every row is a pair of its own, U = R.
        """
        key, value = show(self.key_value(pairs_UNW), pair_R).chunk(2, dim=-1)
        return Memory(
            key=split_heads(key, self._heads),
            value=split_heads(value, self._heads),
            visible=show(visible_UN, pair_R),
            slot=slot_R,
        )

    def forward(self, x_BCW: Tensor, memory: Memory) -> Tensor:
        """Return what each query read; zeros where its slot has nothing to read."""
        read = segment_attention(
            split_heads(self.query(x_BCW), self._heads),
            memory.key,
            memory.value,
            visible_RN=memory.visible,
            slot_R=memory.slot,
        )
        out: Tensor = self.out(join_heads(read))
        return out


class SelfAttention(nn.Module):
    """Attention among the vectors of one row, without positions and without padding."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self._heads = form.heads
        self.qkv = Linear(form, form.width, 3 * form.width)
        self.out = Linear(form, form.width, form.width)

    def forward(self, x_BCW: Tensor) -> Tensor:
        """Return what each vector read from the others."""
        query, key, value = (split_heads(x, self._heads) for x in self.qkv(x_BCW).chunk(3, dim=-1))
        out: Tensor = self.out(join_heads(F.scaled_dot_product_attention(query, key, value)))
        return out


class ReadLayer(nn.Module):
    """A slot's vectors read its rows, then one another (optional), then think.

    x ← norm(x + read(x, rows)); x ← norm(x + attend(x)); x ← norm(x + SwiGLU(x))
    """

    def __init__(self, form: Form, *, among: bool) -> None:
        super().__init__()
        self.read = SlotAttention(form)
        self.among = SelfAttention(form) if among else None
        self.mlp = SwiGLU(form)

    def forward(self, x_BCW: Tensor, memory: Memory) -> Tensor:
        """Return the updated vectors."""
        x_BCW = rms_norm(x_BCW + self.read(x_BCW, memory))
        if self.among is not None:
            x_BCW = rms_norm(x_BCW + self.among(x_BCW))
        return rms_norm(x_BCW + self.mlp(x_BCW))
