"""The padded computation of the public recursive models, on weights of the fast path.

Knows what those systems compute in a training step: 30 x 30 canvases, ten demonstration slots, all
of them encoded anew every step, padding that attends, flat positions, float64 stablemax over every
cell and metrics read back every step. Refuses to train for real: it exists so that the fast path
can be compared, in values where both mean the same and in seconds where they differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cupel.arc.encoders.contract import ContextScale
from cupel.arc.encoders.embedding import EmbeddingEncoder
from cupel.arc.encoders.layers import PairBlock, ReadLayer
from cupel.arc.encoders.pooled import StandardEncoder
from cupel.arc.halting import Carry, fresh_where
from cupel.arc.model import ARCModel
from cupel.arc.reference_batch import PaddedBatch, pad_items
from cupel.arc.reference_layers import (
    FlatRotation,
    PlainBlock,
    PlainRead,
    copied,
    flat_rotation,
    norm,
)
from cupel.arc.reference_losses import context_statistics, padded_loss
from cupel.arc.tokens import PAD
from cupel.errors import ConfigError

__all__ = ["PaddedBatch", "PaddedModel", "PaddedStep", "pad_items", "padded_loss"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddedStep:
    """One step of B slots.

    Attributes:
        loss: lm + 0.5 · q_halt, summed over slots and divided by their number; with gradient.
        logits: [B, S, 12].
        context: [B, C, D] before the scale of the embeddings.
        carry: states detached, `steps` counting this step, `halted` undecided.
        data: what stands in the slots.
        metrics: read back from the device.
    """

    loss: Tensor
    logits: Tensor
    context: Tensor
    carry: Carry
    data: PaddedBatch
    metrics: dict[str, float]


class PaddedEncoder(nn.Module):
    """Two tables, blocks over all 2·S tokens of all K slots, mean over non-PAD, queries that read.

    The vectors differ from those of the fast path where a pair has padding (here it is attended)
    and by positions (here one flat index over input and output).
    """

    def __init__(self, encoder: StandardEncoder) -> None:
        super().__init__()
        _check_standard(encoder)
        self._heads = encoder.form.heads
        channels = encoder.pairs.channels
        self.tables = nn.ParameterList(
            copied((encoder.pairs.tokens + channel) / math.sqrt(2)) for channel in channels
        )
        self.blocks = nn.ModuleList(
            PlainBlock.of_pair(block, self._heads)
            for block in encoder.pairs.blocks
            if isinstance(block, PairBlock)
        )
        self.pool = copied(encoder.pool.out.weight)
        self.queries = copied(encoder.set_stage.queries)
        self.reads = nn.ModuleList(
            PlainRead(layer, self._heads)
            for layer in encoder.set_stage.layers
            if isinstance(layer, ReadLayer)
        )

    def forward(self, batch: PaddedBatch) -> Tensor:
        """Return the context [B, C, D]."""
        slots, demos, cells = batch.demo_inputs.shape
        width = self.queries.shape[1]
        tokens = torch.cat([batch.demo_inputs, batch.demo_labels], dim=-1).flatten(0, 1)
        halves = (tokens[:, :cells], tokens[:, cells:])
        x = torch.cat(
            [F.embedding(half, t) for half, t in zip(halves, self.tables, strict=True)], 1
        )
        x = x * math.sqrt(width)
        turn = flat_rotation(2 * cells, width // self._heads)
        for block in self.blocks:
            x = block(x, turn)
        shown = (tokens != PAD)[..., None].to(x.dtype)
        mean = (x * shown).sum(1) / shown.sum(1).clamp(min=1)
        vector_BKD = F.linear(mean, self.pool).view(slots, demos, width)
        context = self.queries.expand(slots, -1, -1)
        for read in self.reads:
            context = read(context, vector_BKD, batch.demo_mask)
        return norm(context)


class PaddedTable(nn.Module):
    """One vector a puzzle at the first context position, zeros at the others."""

    def __init__(self, encoder: EmbeddingEncoder, n_context: int) -> None:
        super().__init__()
        config = encoder.config
        if config.context_scale != "raw" or config.context_tokens != 1 or config.width:
            raise ConfigError(
                "reference_compat: the padded table writes one raw vector; compare an embedding "
                "encoder with context_scale raw, context_tokens 1 and the decoder's width"
            )
        self._positions = n_context
        self.table = copied(encoder.table)

    def forward(self, batch: PaddedBatch) -> Tensor:
        """Return the context [B, C, D]."""
        return F.pad(
            F.embedding(batch.puzzle_ids, self.table)[:, None], (0, 0, 0, self._positions - 1)
        )


class PaddedModel(nn.Module):
    """Encoder or table, and the recursive core, with copies of a model's weights.

    The context is multiplied by √D like the token embeddings.
    """

    H_init: Tensor
    L_init: Tensor

    def __init__(self, model: ARCModel) -> None:
        """Take the weights over.

        Raises:
            ConfigError: the model has a part that the padded computation lacks.
        """
        super().__init__()
        core, encoder = model.core, model.encoder
        self.config = core.config
        self.encoder = _padded_encoder(encoder, self.config.n_context)
        self.embed_tokens = copied(core.embed_tokens)
        self.layers = nn.ModuleList(
            PlainBlock.of_core(block, self.config.num_heads) for block in core._blocks()
        )
        self.lm_head = copied(core.lm_head)
        self.q_weight, self.q_bias = copied(core.q_head.weight), copied(core.q_head.bias)
        self.register_buffer("H_init", core.H_init.clone())
        self.register_buffer("L_init", core.L_init.clone())

    def start(self, batch: PaddedBatch) -> tuple[Carry, PaddedBatch]:
        """Return a carry in which every slot is about to start."""
        slots, cells = batch.inputs.shape
        shape = (slots, self.config.n_context + cells, self.config.hidden_size)
        carry = Carry(
            z_H=self.H_init.expand(shape).clone(),
            z_L=self.L_init.expand(shape).clone(),
            steps=torch.zeros(slots, dtype=torch.int32),
            halted=torch.ones(slots, dtype=torch.bool),
        )
        return carry, batch

    def forward(self, carry: Carry, data: PaddedBatch, batch: PaddedBatch) -> PaddedStep:
        """Take one training step: halted slots take their row of the new batch, all are encoded."""
        fresh, _ = self.start(batch)
        steps = torch.where(carry.halted, 0, carry.steps) + 1
        z_H = fresh_where(carry.halted, fresh.z_H, carry.z_H)
        z_L = fresh_where(carry.halted, fresh.z_L, carry.z_L)
        names = [field.name for field in fields(PaddedBatch)]
        data = PaddedBatch(
            **{n: fresh_where(carry.halted, getattr(batch, n), getattr(data, n)) for n in names}
        )
        context = self.encoder(data)
        z_H, z_L = self._recur(z_H, z_L, self._inject(context, data.inputs))
        logits = F.linear(z_H, self.lm_head)[:, self.config.n_context :]
        q_halt = F.linear(z_H[:, 0], self.q_weight, self.q_bias)[:, 0].float()
        loss, metrics = padded_loss(logits, q_halt, data.labels)
        metrics |= context_statistics(context, data.puzzle_ids)
        metrics["steps"] = steps.float().mean().item()
        after = Carry(
            z_H=z_H.detach(), z_L=z_L.detach(), steps=steps, halted=torch.zeros_like(carry.halted)
        )
        return PaddedStep(
            loss=loss, logits=logits, context=context, carry=after, data=data, metrics=metrics
        )

    def _inject(self, context_BCD: Tensor, inputs_BS: Tensor) -> Tensor:
        tokens = F.embedding(inputs_BS, self.embed_tokens)
        return math.sqrt(self.config.hidden_size) * torch.cat([context_BCD, tokens], dim=1)

    def _recur(self, z_H: Tensor, z_L: Tensor, injected: Tensor) -> tuple[Tensor, Tensor]:
        turn = flat_rotation(injected.shape[1], self.config.head_size)
        for cycle in range(self.config.H_cycles):
            with torch.set_grad_enabled(cycle == self.config.H_cycles - 1):
                for _ in range(self.config.L_cycles):
                    z_L = self._stack(z_L + z_H + injected, turn)
                z_H = self._stack(z_H + z_L, turn)
        return z_H, z_L

    def _stack(self, x_BTD: Tensor, turn: FlatRotation) -> Tensor:
        for layer in self.layers:
            x_BTD = layer(x_BTD, turn)
        return x_BTD


def _padded_encoder(encoder: nn.Module, n_context: int) -> PaddedEncoder | PaddedTable:
    if isinstance(encoder, StandardEncoder):
        return PaddedEncoder(encoder)
    if isinstance(encoder, EmbeddingEncoder):
        return PaddedTable(encoder, n_context)
    raise ConfigError(
        f"reference_compat: no padded computation of {type(encoder).__name__}; use the kinds "
        "'standard' or 'embedding'"
    )


def _check_standard(encoder: StandardEncoder) -> None:
    config, scale = encoder.config, encoder.scale
    plain = (
        config.kind == "standard"
        and config.norm == "post"
        and config.pooling == "mean"
        and not config.qk_norm
        and not config.width
        and not config.context_tokens
    )
    if not (plain and isinstance(scale, ContextScale) and bool((scale.gain == 1).all())):
        raise ConfigError(
            "reference_compat: the padded encoder is post-norm, mean-pooled, of the decoder's "
            "width, its context normalised with gain 1; compare an encoder like that"
        )
