"""The whole model: an encoder that reads demonstrations and the recursive core that answers.

Knows how a batch and a carry become one step's output, and which parameters are whose. Refuses to
know losses, halting rules and optimizers. The context is encoded anew in every training step, so
the encoder gets a gradient from every slot; nothing between it and the loss is ever detached.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cupel.arc.decoder import TRMCore
from cupel.arc.encoders import build_encoder
from cupel.arc.encoders.contract import Encoded
from cupel.arc.halting import Carry, fresh_where
from cupel.arc.model_config import VOCABULARY, ModelConfig
from cupel.arc.slots import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOutput:
    """One step of B slots.

    Attributes:
        logits: [B, S, 12], with gradient.
        q_halt: [B] float32, > 0 where the model holds its answer to be right; with gradient.
        carry: what the slots carry out, detached; `steps` counts this step, `halted` is undecided.
        context: [B, C, D] the encoder's output, with gradient.
        encoder_losses: unweighted terms by name, one value a slot [B].
    """

    logits: Tensor
    q_halt: Tensor
    carry: Carry
    context: Tensor
    encoder_losses: dict[str, Tensor]


class ARCModel(nn.Module):
    """An encoder and a recursive core.

    Args:
        generator: draws every initial weight.
    """

    def __init__(self, config: ModelConfig, *, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        self.core = TRMCore(config.core, generator=generator)
        self.encoder = build_encoder(
            config.encoder,
            hidden_size=config.core.hidden_size,
            n_context=config.core.n_context,
            vocab=VOCABULARY,
            generator=generator,
            dtype=self.core.dtype,
        )

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return the encoder's parameters, the optimizer's group "encoder"."""
        return list(self.encoder.parameters())

    def inner_parameters(self) -> list[nn.Parameter]:
        """Return the core's parameters, the optimizer's group "inner"."""
        return list(self.core.parameters())

    def compile_core(self) -> None:
        """Compile the core's step to one graph per canvas side; parameter names do not change."""
        self.core.compile(fullgraph=True, dynamic=False)

    def start(self, batch: Batch) -> Carry:
        """Return the carry before the first step: every slot halted, so every slot starts."""
        slots, device = batch.n_slots, batch.query.device
        z_H, z_L = self.core.initial_states(slots, batch.side)
        return Carry(
            z_H=z_H,
            z_L=z_L,
            steps=torch.zeros(slots, dtype=torch.int32, device=device),
            halted=torch.ones(slots, dtype=torch.bool, device=device),
        )

    def encode(
        self,
        batch: Batch,
        carry: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Encoded:
        """Encode the demonstrations of every slot.

        Args:
            carry: the encoder's own state, for recurrent kinds.
            generator: draws the latent noise of variational kinds in training.
        """
        encoded: Encoded = self.encoder(
            batch.pair_tokens,
            batch.demo_slot,
            batch.n_slots,
            batch.side,
            carry,
            batch.puzzle_ids,
            demo_pair=batch.demo_pair,
            generator=generator,
        )
        return encoded

    def forward(
        self,
        batch: Batch,
        carry: Carry | None = None,
        *,
        encoded: Encoded | None = None,
        generator: torch.Generator | None = None,
    ) -> StepOutput:
        """Take one step: halted slots start afresh, the others go on from their carry.

        Args:
            carry: None is `start(batch)`.
            encoded: an encoding of this very batch, to be used instead of encoding it again (for
                evaluation: in training it would starve the encoder of gradient).
        """
        carry = self._begin(batch, carry)
        if encoded is None:
            encoded = self.encode(batch, carry.encoder, generator=generator)
        output = self.core(carry.z_H, carry.z_L, encoded.context, batch.query, batch.active)
        return StepOutput(
            logits=output.logits,
            q_halt=output.q[:, 0],
            carry=Carry(
                z_H=output.z_H,
                z_L=output.z_L,
                steps=carry.steps + 1,
                halted=torch.zeros_like(carry.halted),
                encoder=None if encoded.carry is None else encoded.carry.detach(),
            ),
            context=encoded.context,
            encoder_losses=encoded.losses,
        )

    def _begin(self, batch: Batch, carry: Carry | None) -> Carry:
        fresh = self.start(batch)
        if carry is None:
            return fresh
        halted = carry.halted
        return Carry(
            z_H=fresh_where(halted, fresh.z_H, carry.z_H),
            z_L=fresh_where(halted, fresh.z_L, carry.z_L),
            steps=torch.where(halted, 0, carry.steps),
            halted=halted,
            encoder=self._begin_encoder(halted, carry.encoder),
        )

    def _begin_encoder(self, halted_B: Tensor, carry: Tensor | None) -> Tensor | None:
        if carry is None:
            return None
        fresh = self.encoder.initial_carry(halted_B.shape[0])
        return carry if fresh is None else fresh_where(halted_B, fresh.to(carry.dtype), carry)
