"""The recursive core: one small stack refines an answer z_H and a latent z_L, again and again.

Knows one step of the recursion, from a context and a query's tokens to logits and a halt value.
Refuses to know encoders, slots, halting and losses. Everything in `forward` has static shapes and
nothing is read back from the device, so a step compiles to one graph.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cupel.arc.attention import Block, BlockWeights, Rotation, rotation, truncated_normal
from cupel.arc.model_config import VOCABULARY, CoreConfig
from cupel.errors import ConfigError

Q_HALT_BIAS = -5.0
"""The halt head starts by never halting."""


class CoreOutput(NamedTuple):
    """One step of the core.

    Attributes:
        z_H: answer state [B, C + S, D], detached.
        z_L: latent state [B, C + S, D], detached.
        logits: [B, S, 12] in the forward's dtype, with gradient.
        q: [B, 2] float32 halt and continue values, with gradient; halt is q[:, 0].
    """

    z_H: Tensor
    z_L: Tensor
    logits: Tensor
    q: Tensor


class TRMCore(nn.Module):
    """Tiny recursive model: z_L <- f(z_L + z_H + e), L_cycles times; z_H <- f(z_H + z_L).

    A round is L_cycles updates of z_L and one of z_H by the same stack f; a step is H_cycles
    rounds, of which only the last is differentiated; e is the injected context and query.

    Source: Jolicoeur-Martineau, "Less is More: Recursive Reasoning with Tiny Networks",
    arXiv:2510.04871, figure 3. Departures: docs/algorithms/arc-trm.md.
    """

    H_init: Tensor
    L_init: Tensor

    def __init__(self, config: CoreConfig, *, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size

        def draw(*shape: int, std: float) -> Tensor:
            return truncated_normal(shape, std=std, generator=generator)

        std = 1.0 / math.sqrt(width)
        self.embed_tokens = nn.Parameter(draw(VOCABULARY, width, std=std))
        self.layers = nn.ModuleList(Block(config, generator) for _ in range(config.L_layers))
        self.lm_head = nn.Parameter(draw(VOCABULARY, width, std=std))
        self.q_head = nn.Linear(width, 2, device="meta").to_empty(device="cpu")
        with torch.no_grad():
            self.q_head.weight.zero_()
            self.q_head.bias.fill_(Q_HALT_BIAS)
        self.register_buffer("H_init", draw(width, std=1.0))
        self.register_buffer("L_init", draw(width, std=1.0))

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the states and of the recursion."""
        return torch.bfloat16 if self.config.forward_dtype == "bfloat16" else torch.float32

    def initial_states(self, batch: int, side: int) -> tuple[Tensor, Tensor]:
        """Return (z_H, z_L) as a fresh item starts: [B, C + side * side, D]."""
        length = self.config.n_context + side * side
        z_H, z_L = (
            init.to(self.dtype).expand(batch, length, -1).clone()
            for init in (self.H_init, self.L_init)
        )
        return z_H, z_L

    def forward(
        self,
        z_H: Tensor,
        z_L: Tensor,
        context_BCD: Tensor,
        query_BS: Tensor,
        active_BS: Tensor | None = None,
    ) -> CoreOutput:
        """Take one step.

        Args:
            z_H, z_L: states [B, C + S, D] of the previous step, or `initial_states`.
            context_BCD: what the encoder made of the demonstrations, with gradient.
            query_BS: token ids of the query on a square canvas, S = side * side.
            active_BS: False on cells outside the puzzle's canvas; None when there are none.

        Raises:
            ConfigError: the context has another shape than the config says.
        """
        config = self.config
        batch, cells = query_BS.shape
        side = math.isqrt(cells)
        expected = (batch, config.n_context, config.hidden_size)
        if tuple(context_BCD.shape) != expected or side * side != cells:
            raise ConfigError(
                f"TRMCore: context {tuple(context_BCD.shape)} with {cells} query cells; expected "
                f"context {expected} and a square number of cells; see n_context and hidden_size"
            )
        injected = self._inject(context_BCD, query_BS)
        tables = rotation(
            config.rope,
            n_context=config.n_context,
            side=side,
            head_size=config.head_size,
            device=query_BS.device,
        )
        turn = Rotation(*(table[:, None, None] for table in tables))
        active = _active_positions(active_BS, config) if config.mask_padding else None
        weights = [layer.cast(self.dtype) for layer in self._blocks()]
        with torch.no_grad():
            for _ in range(config.H_cycles - 1):
                z_H, z_L = self._round(z_H, z_L, injected, weights, turn, active)
        z_H, z_L = self._round(z_H, z_L, injected, weights, turn, active)
        logits = F.linear(z_H[:, config.n_context :], self.lm_head.to(self.dtype))
        q = self.q_head(z_H[:, 0].float())
        return CoreOutput(z_H.detach(), z_L.detach(), logits, q)

    def _blocks(self) -> list[Block]:
        return [layer for layer in self.layers if isinstance(layer, Block)]

    def _inject(self, context_BCD: Tensor, query_BS: Tensor) -> Tensor:
        scale = math.sqrt(self.config.hidden_size)
        tokens = F.embedding(query_BS.long(), self.embed_tokens) * scale
        if self.config.scale_context:
            context_BCD = context_BCD * scale
        return torch.cat([context_BCD.to(self.dtype), tokens.to(self.dtype)], dim=1)

    def _round(
        self,
        z_H: Tensor,
        z_L: Tensor,
        injected: Tensor,
        weights: list[BlockWeights],
        turn: Rotation,
        active_BT: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        for _ in range(self.config.L_cycles):
            z_L = self._stack(z_L + (z_H + injected), weights, turn, active_BT)
        return self._stack(z_H + z_L, weights, turn, active_BT), z_L

    def _stack(
        self, x_BTD: Tensor, weights: list[BlockWeights], turn: Rotation, active_BT: Tensor | None
    ) -> Tensor:
        for layer, cast in zip(self.layers, weights, strict=True):
            x_BTD = layer(x_BTD, cast, turn, active_BT)
        return x_BTD


def _active_positions(active_BS: Tensor | None, config: CoreConfig) -> Tensor | None:
    """Put the always active context in front of the cells."""
    if active_BS is None:
        return None
    context = active_BS.new_ones(active_BS.shape[0], config.n_context)
    return torch.cat([context, active_BS], dim=1)
