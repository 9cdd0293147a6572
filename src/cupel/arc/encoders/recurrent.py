"""recurrent (ETRM²): the encoder's own state, refined over the demonstrations at every step.

Knows the refinement and its carry. Refuses to detach: gradient flows through all cycles of the
current call, and the caller detaches the carry alone, between calls.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cupel.arc.encoder_config import EncoderConfig
from cupel.arc.encoders.contract import Body, Demos, Encoder, Extras
from cupel.arc.encoders.layers import Form, Memory, ReadLayer
from cupel.arc.encoders.pairs import PairTransformer, TokenReader
from cupel.errors import ConfigError


class RecurrentEncoder(Encoder):
    """z_E = (z_H, z_L), both [B, C, W], refined by one shared stack f that reads the pairs.

        h_cycles times:  l_cycles times: z_L ← f(z_L + z_H + p, pairs);  z_H ← f(z_H + z_L, pairs)
        context = z_H;  carry = (z_H, z_L)

    p is a learned vector a position. A fresh slot starts from zeros. Keys and values of the pairs
    are computed once a call. Nothing is smoothed: a moving average would scale the gradient of
    the refinement by its rate.
    """

    def __init__(
        self, config: EncoderConfig, form: Form, *, hidden_size: int, n_context: int, vocab: int
    ) -> None:
        super().__init__(config, form, hidden_size=hidden_size, n_context=n_context)
        self.pairs = PairTransformer(form, vocab=vocab, layers=config.num_layers)
        self.reader = TokenReader(form, config.pair_tokens)
        self.positions = form.learned(self.written, form.width)
        self.stack = nn.ModuleList(ReadLayer(form, among=True) for _ in range(config.l_layers))

    def body(self, demos: Demos, extras: Extras) -> Body:
        """Refine the state of every slot; its slow half is the context."""
        state = extras.carry
        if state is None:
            state = self.initial_carry(demos.n_slots)
        expected = (demos.n_slots, 2, self.written, self.form.width)
        if tuple(state.shape) != expected:
            raise ConfigError(
                f"encoder: carry {tuple(state.shape)}; expected {expected}, as `initial_carry` "
                "returns it"
            )
        memories = self._memories(demos)
        slow, fast = state.to(self.form.dtype).unbind(1)
        positions = self.positions.to(self.form.dtype)
        for _ in range(self.config.h_cycles):
            for _ in range(self.config.l_cycles):
                fast = self._refine(fast + slow + positions, memories)
            slow = self._refine(slow + fast, memories)
        return Body(context=slow, carry=torch.stack([slow, fast], dim=1))

    def initial_carry(self, n_slots: int) -> Tensor:
        """Return zeros [B, 2, C', W] in the encoder's dtype and device."""
        return torch.zeros(
            (n_slots, 2, self.written, self.form.width),
            dtype=self.form.dtype,
            device=self.positions.device,
        )

    def _memories(self, demos: Demos) -> list[Memory]:
        pairs_UMW = self.reader(self.pairs(demos), demos.visible)
        visible_UM = demos.real[:, None].expand(-1, pairs_UMW.shape[1])
        return [
            layer.read.remember(pairs_UMW, visible_UM, demos.slot, demos.pair)
            for layer in self.stack
            if isinstance(layer, ReadLayer)
        ]

    def _refine(self, x_BCW: Tensor, memories: list[Memory]) -> Tensor:
        for layer, memory in zip(self.stack, memories, strict=True):
            x_BCW = layer(x_BCW, memory)
        return x_BCW
